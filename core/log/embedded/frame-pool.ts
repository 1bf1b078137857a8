/** Memory of rows that were read and given back. */
import { limits } from '../../limits.ts'

const SMALLEST = 64 * 1024

/**
 * A fresh buffer for every row costs page faults, and its memory outside the heap drives the garbage collector into a full
 * collection every 20 MB (measured: a third of the cost of reading). Sizes are powers of two; what is larger than all of the
 * pool, or comes back when it is full, is left to the collector. A batch that is never released is too: only its reuse is lost.
 */
export class FramePool {
  readonly #max: number
  readonly #free = new Map<number, ArrayBuffer[]>()
  #bytes = 0

  constructor(max: number = limits.logReadPoolBytes) {
    this.#max = max
  }

  /** At least so many bytes; what stands in them is not defined. */
  take(bytes: number): ArrayBuffer {
    const size = Math.max(SMALLEST, 2 ** Math.ceil(Math.log2(Math.max(bytes, 1))))
    const known = this.#free.get(size)?.pop()
    if (known === undefined) return Buffer.allocUnsafeSlow(size > this.#max ? bytes : size).buffer
    this.#bytes -= size
    return known
  }

  /** Nobody may look at it any more. */
  give(buffer: ArrayBuffer): void {
    const size = buffer.byteLength
    if (size < SMALLEST || this.#bytes + size > this.#max || !Number.isInteger(Math.log2(size))) return
    this.#bytes += size
    const list = this.#free.get(size)
    if (list) list.push(buffer)
    else this.#free.set(size, [buffer])
  }
}
