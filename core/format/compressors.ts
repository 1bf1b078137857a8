import { constants, createDeflateRaw, createGzip, createZstdCompress, type DeflateRaw, type Gzip, type ZstdCompress } from 'node:zlib'
import { limits } from '../limits.ts'
import { freeNow } from '../sdk/pool.ts'

const chunkSize = limits.compressorChunkBytes

/** Has copied the chunk of output when it resolves; awaited before the next one. */
export type Emit = (chunk: Uint8Array) => Promise<void>

/** Turns pieces of one object into its stored bytes. Calls are sequential, except that abort may come at any time. */
export interface Compressor {
  /** true: a pressed piece belongs to the output and must not be touched again. */
  readonly keepsPieces: boolean
  /** Every piece but the last is a multiple of this. */
  readonly unit: number
  /** The piece must stay as it is until this settles; output that it caused is emitted by then. */
  press(piece: Uint8Array): Promise<void>
  end(): Promise<void>
  /** Frees native memory; a pending press or end rejects. */
  abort(): void
}

/** `keep` takes ownership of a piece. */
export function storedCompressor(keep: (piece: Uint8Array) => Promise<void>): Compressor {
  return { keepsPieces: true, unit: 1, press: keep, end: () => Promise.resolve(), abort: () => {} }
}

/**
 * A zlib stream fed whole pieces. Each write runs in the libuv pool and calls back when all of the piece was consumed; the output
 * of one piece (at most about its size) is held until the writer took it, so memory is bounded whatever the writer does.
 *
 * The stream hands out a buffer of chunkSize view by view and then makes a new one. When the views of a buffer that we were given are as
 * long as all of it, it is ours alone, and goes at once: left to the collector, they are what drives it.
 */
export class StreamCompressor implements Compressor {
  readonly keepsPieces = false
  readonly unit = 1
  readonly #stream: Gzip | DeflateRaw | ZstdCompress
  readonly #emit: Emit
  #out: Uint8Array[] = []
  /** The buffer that the stream fills, and how much of it we were given. */
  #filling: ArrayBufferLike | null = null
  #given = 0
  #error: Error | null = null
  #reject: ((e: Error) => void) | null = null
  #ended: (() => void) | null = null

  constructor(stream: Gzip | DeflateRaw | ZstdCompress, emit: Emit) {
    this.#stream = stream
    this.#emit = emit
    stream.on('data', (chunk: Uint8Array) => this.#out.push(chunk))
    stream.on('end', () => this.#ended?.())
    stream.on('error', (e: Error) => this.#fail(e))
    stream.on('close', () => this.#fail(new Error('compressing: the stream was closed')))
  }

  async press(piece: Uint8Array): Promise<void> {
    await this.#step((done) => {
      this.#stream.write(piece, (e) => (e ? this.#fail(e) : done()))
    })
  }

  async end(): Promise<void> {
    await this.#step((done) => {
      this.#ended = done
      this.#stream.end()
    })
  }

  abort(): void {
    this.#stream.destroy()
    this.#fail(new Error('compressing: aborted'))
    this.#out = []
  }

  #fail(e: Error): void {
    this.#error ??= e
    this.#reject?.(this.#error)
  }

  async #step(start: (done: () => void) => void): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      if (this.#error) return reject(this.#error)
      this.#reject = reject
      start(resolve)
    })
    this.#reject = null
    const out = this.#out
    this.#out = []
    for (const chunk of out) {
      await this.#emit(chunk)
      this.#copied(chunk)
    }
  }

  #copied({ buffer, length }: Uint8Array): void {
    this.#given = buffer === this.#filling ? this.#given + length : length
    this.#filling = buffer
    if (this.#given === buffer.byteLength) freeNow(buffer)
  }
}

/** RFC 1952, one member. mtime is 0; the OS byte is set to 3 (Unix), since zlib writes the system it was built for. */
export function gzipCompressor(level: number, emit: Emit): Compressor {
  let at = 0
  return new StreamCompressor(createGzip({ level, chunkSize }), (chunk) => {
    if (at <= 9 && at + chunk.length > 9) chunk[9 - at] = 3
    at += chunk.length
    return emit(chunk)
  })
}

/** RFC 1951 without a wrapper: the body of a zip entry. */
export function deflateCompressor(level: number, emit: Emit): Compressor {
  return new StreamCompressor(createDeflateRaw({ level, chunkSize }), emit)
}

/** RFC 8878, one frame. Without the optional content checksum (4 % of the time): the object's own CRC-32 covers the stored bytes. */
export function zstdCompressor(level: number, emit: Emit): Compressor {
  const params = { [constants.ZSTD_c_compressionLevel]: level }
  return new StreamCompressor(createZstdCompress({ chunkSize, params }), emit)
}
