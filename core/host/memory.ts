/**
 * Memory that comes back. A fresh buffer for everything large costs page faults, and memory outside the heap drives the garbage collector into
 * full collections (measured: a third of the cost of a put, and of reading the log). Blocks are powers of two. What is larger than all of the
 * pool, or comes back when it is full, is left to the collector; so is a block that is never given back: only its reuse is lost.
 */
export class BlockPool {
  readonly #smallest: number
  readonly #max: number
  readonly #free = new Map<number, ArrayBuffer[]>()
  #bytes = 0

  /** `max` = bytes kept for later. */
  constructor(o: { smallest: number; max: number }) {
    this.#smallest = o.smallest
    this.#max = o.max
  }

  /** Bytes that wait for their next use. */
  get keptBytes(): number {
    return this.#bytes
  }

  /** At least so many bytes; what stands in them is not defined. */
  take(bytes: number): ArrayBuffer {
    const size = bytes <= this.#smallest ? this.#smallest : 2 ** Math.ceil(Math.log2(bytes))
    const known = this.#free.get(size)?.pop()
    if (known === undefined) return Buffer.allocUnsafeSlow(size > this.#max ? bytes : size).buffer
    this.#bytes -= size
    return known
  }

  /** Once for what was taken, when nobody will look at it any more. */
  give(block: ArrayBuffer): void {
    const size = block.byteLength
    if (size < this.#smallest || this.#bytes + size > this.#max || !Number.isInteger(Math.log2(size))) return
    this.#bytes += size
    const list = this.#free.get(size)
    if (list) list.push(block)
    else this.#free.set(size, [block])
  }
}
