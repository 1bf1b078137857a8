import type { Compressor, Emit } from './compressors.ts'

type Snappy = { compress(input: Uint8Array, o: { copyOutputData: boolean }): Promise<Uint8Array> }
let loading: Promise<Snappy> | null = null
/** The native module is loaded by the first object that needs it. */
function load(): Promise<Snappy> {
  return (loading ??= import('snappy'))
}

/** snappy-java's SnappyOutputStream: `\x82SNAPPY\0`, version 1, compatible with 1. */
const xerialHeader = Buffer.from('82534e41505059000000000100000001', 'hex')
const xerialBlock = 32 * 1024
/**
 * Hadoop's BlockCompressorStream with its 256 KiB buffer gathers bufferSize - (bufferSize / 6 + 32) bytes, so that a block that does
 * not compress still fits the buffer of the decompressor.
 */
const hadoopBlock = 256 * 1024 - (Math.floor((256 * 1024) / 6) + 32)

/** snappy-java framing: the header, then [int32be length][raw snappy] for every 32 KiB. */
export function xerialSnappyCompressor(emit: Emit): Compressor {
  return new BlockCompressor(xerialHeader, xerialBlock, false, emit)
}
/** Hadoop framing: [int32be raw length][int32be length][raw snappy] for every block; an empty object has no bytes. */
export function hadoopSnappyCompressor(emit: Emit): Compressor {
  return new BlockCompressor(Buffer.alloc(0), hadoopBlock, true, emit)
}

class BlockCompressor implements Compressor {
  readonly keepsPieces = false
  readonly unit: number
  readonly #emit: Emit
  readonly #rawLength: boolean
  #header: Buffer | null
  #aborted = false

  constructor(header: Buffer, unit: number, rawLength: boolean, emit: Emit) {
    this.unit = unit
    this.#header = header
    this.#rawLength = rawLength
    this.#emit = emit
  }

  async press(piece: Uint8Array): Promise<void> {
    const snappy = await load()
    const blocks: Promise<Uint8Array>[] = []
    for (let at = 0; at < piece.length; at += this.unit) {
      // a block copied out is freed with its promise; an external buffer a block costs twice the time at 32 KiB
      blocks.push(snappy.compress(piece.subarray(at, at + this.unit), { copyOutputData: true }))
    }
    const pressed = await Promise.all(blocks)
    if (this.#aborted) throw new Error('compressing: aborted')
    await this.#emit(this.#frame(pressed, piece.length))
  }

  async end(): Promise<void> {
    if (this.#header && this.#header.length > 0) await this.#emit(this.#frame([], 0))
  }

  abort(): void {
    this.#aborted = true
  }

  #frame(blocks: readonly Uint8Array[], rawBytes: number): Uint8Array {
    const header = this.#header
    this.#header = null
    const overhead = this.#rawLength ? 8 : 4
    const size = blocks.reduce((sum, b) => sum + overhead + b.length, header?.length ?? 0)
    const out = Buffer.allocUnsafeSlow(size)
    let at = header ? header.copy(out) : 0
    let left = rawBytes
    for (const block of blocks) {
      if (this.#rawLength) at = out.writeUInt32BE(Math.min(left, this.unit), at)
      at = out.writeUInt32BE(block.length, at)
      out.set(block, at)
      at += block.length
      left -= this.unit
    }
    return out
  }
}
