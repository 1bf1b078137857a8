import { exactly } from './body.ts'
import type { BodyWriter } from './types.ts'

/**
 * Gathers a compressor's output in blocks of the writer's memory, which come back when the object is stored. The copy is a hundredth of
 * the compressor's time; without it every object would be made of the compressor's own buffers, each of them new.
 */
export class Pour {
  readonly #out: BodyWriter
  readonly #blockBytes: number
  #block: Uint8Array | null = null
  #at = 0

  constructor(out: BodyWriter, blockBytes: number) {
    this.#out = out
    this.#blockBytes = blockBytes
  }

  /** Has copied the chunk when it resolves; awaited before the next. */
  async add(chunk: Uint8Array): Promise<void> {
    for (let from = 0; from < chunk.length;) {
      const block = (this.#block ??= this.#out.take(this.#blockBytes))
      const n = Math.min(chunk.length - from, block.length - this.#at)
      block.set(chunk.subarray(from, from + n), this.#at)
      from += n
      this.#at += n
      if (this.#at < block.length) continue
      this.#block = null
      this.#at = 0
      await this.#out.write(block)
    }
  }

  /** The rest, in memory of its own size. */
  async end(): Promise<void> {
    const block = this.#block
    if (block === null) return
    const rest = block.subarray(0, this.#at)
    this.#block = null
    this.#at = 0
    const own = exactly(rest)
    if (own !== rest) this.#out.give(block)
    await this.#out.write(own)
  }
}
