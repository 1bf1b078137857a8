/**
 * Memory outside the heap that is used again. A fresh buffer costs page faults, and V8 answers 8 MB of them with a full collection
 * (measured: a third of the cost of reading, a tenth of a gzip).
 */
const SMALLEST = 64 * 1024

/**
 * Sizes are powers of two. What is larger than all of the pool, comes back when it is full, or never comes back, is left to the
 * collector: only its reuse is lost. So whoever is not certain that nobody looks at a buffer any more, just drops it.
 */
export class BufferPool {
  readonly #max: () => number
  readonly #smallest: number
  readonly #free = new Map<number, ArrayBuffer[]>()
  /** What was taken and has not come back. */
  readonly #out = new WeakSet<ArrayBufferLike>()
  #bytes = 0

  /** `max`: bytes that may wait for their next use. `smallest`: of what is taken, a power of two. */
  constructor(max: number | (() => number), smallest = SMALLEST) {
    this.#smallest = smallest
    this.#max = typeof max === 'number' ? () => max : max
  }
  /** Bytes that wait for their next use. */
  get freeBytes(): number {
    return this.#bytes
  }

  /** At least so many bytes; what stands in them is not defined. */
  take(bytes: number): ArrayBuffer {
    const size = bytes <= this.#smallest ? this.#smallest : 2 ** Math.ceil(Math.log2(bytes))
    let buffer = this.#free.get(size)?.pop()
    if (buffer === undefined) buffer = Buffer.allocUnsafeSlow(size > this.#max() ? Math.max(bytes, 1) : size).buffer
    else this.#bytes -= size
    this.#out.add(buffer)
    return buffer
  }

  /** It was taken here and has not come back. */
  owns(buffer: ArrayBufferLike): buffer is ArrayBuffer {
    return this.#out.has(buffer)
  }

  /** Nobody may look at it any more. Throws when it is not out: whoever had it next would share it. */
  give(buffer: ArrayBufferLike): void {
    if (!this.owns(buffer)) throw new Error(`giving back ${buffer.byteLength} bytes that are not out of this pool`)
    this.#out.delete(buffer)
    const size = buffer.byteLength
    if (size < this.#smallest || this.#bytes + size > this.#max() || !Number.isInteger(Math.log2(size))) return
    this.#bytes += size
    const list = this.#free.get(size)
    if (list) list.push(buffer)
    else this.#free.set(size, [buffer])
  }

  /**
   * Lets go of what waits beyond so many bytes, the largest first: to the collector, which comes when it likes, or to `free`, where it is
   * certain that everybody who ever had a buffer is done with it.
   */
  shrink(bytes: number, free: (buffer: ArrayBuffer) => void = () => {}): void {
    if (this.#bytes <= bytes) return
    for (const size of [...this.#free.keys()].toSorted((a, b) => b - a)) {
      const list = this.#free.get(size)
      for (let buffer = list?.pop(); buffer !== undefined; buffer = list?.pop()) {
        this.#bytes -= size
        free(buffer)
        if (this.#bytes <= bytes) return
      }
    }
  }
}

/**
 * Gives a buffer's memory back to the system now, not when the collector comes. Only for memory that was never shown to anybody else:
 * a native call that is under way on it would write into freed memory.
 */
export function freeNow(buffer: ArrayBufferLike): void {
  if (buffer instanceof ArrayBuffer) buffer.transfer(0)
}
