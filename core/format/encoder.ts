import { limits } from '../limits.ts'
import { NONE, type WorkBatch } from '../sdk/batch.ts'
import { exactly } from './body.ts'
import { checkFormat } from './compression.ts'
import { type Compressor, type Emit, gzipCompressor, storedCompressor, zstdCompressor } from './compressors.ts'
import { Pour } from './pour.ts'
import { hadoopSnappyCompressor, xerialSnappyCompressor } from './snappy.ts'
import type { Body, BodyWriter, Compression, Encoder, FormatSpec } from './types.ts'
import { zipCompressor } from './zip.ts'

export interface EncoderOptions {
  /** Uncompressed bytes that are gathered and compressed at once; default limits.pieceBytes. */
  readonly pieceBytes?: number
  /** Name of the one entry of a zip: a UUID made from the object's token, so that a replay writes the same bytes. Needed for zip. */
  readonly entryName?: string
}

const newline = Buffer.from('\n')
const nothing = Buffer.alloc(0)
/** Below this a loop over bytes beats the call of a native copy. */
const tinyBytes = 24

/**
 * Encodes one object. The bytes are a function of (records, spec, entryName, pieceBytes): how the records were spread over add()
 * calls does not show, because pieces are cut at fixed places of the uncompressed stream.
 * Throws ConfigError when the spec does not fit together; add and finish reject with the compressor's or the writer's error.
 */
export function createEncoder(spec: FormatSpec, out: BodyWriter, o: EncoderOptions = {}): Encoder {
  checkFormat(spec)
  return new PieceEncoder(spec, out, o)
}

const compressors: Readonly<Record<Exclude<Compression, 'none'>, (level: number, o: EncoderOptions, emit: Emit) => Compressor>> = {
  gzip: (level, _o, emit) => gzipCompressor(level, emit),
  zstd: (level, _o, emit) => zstdCompressor(level, emit),
  snappy: (_level, _o, emit) => xerialSnappyCompressor(emit),
  hadoop_snappy: (_level, _o, emit) => hadoopSnappyCompressor(emit),
  zip: (level, o, emit) => {
    if (o.entryName === undefined) throw new Error('encoding zip: the name of the entry is missing')
    return zipCompressor(o.entryName, level, emit)
  },
}

/**
 * Values are copied once, into a piece; a full piece is compressed in the libuv pool while the next one fills. At most two pieces
 * exist. An error of a piece is kept and thrown by the call that follows.
 */
class PieceEncoder implements Encoder {
  bytes = 0
  records = 0
  readonly #out: BodyWriter
  /** What a compressor makes; pieces that are stored as they are go to the writer themselves. */
  readonly #pour: Pour
  readonly #compressor: Compressor
  readonly #size: number
  /** Put before every record but the first. */
  readonly #between: Buffer
  /** Put after every record. */
  readonly #after: Buffer
  #piece: Uint8Array | null = null
  #spare: Uint8Array | null = null
  #at = 0
  #pressing: Promise<void> = Promise.resolve()
  readonly #abort = Promise.withResolvers<never>()
  #state: 'open' | 'finished' | 'aborted' = 'open'

  constructor(spec: FormatSpec, out: BodyWriter, o: EncoderOptions) {
    this.#out = out
    this.#abort.promise.catch(() => {}) // heard by whoever waits when it happens
    const pieceBytes = o.pieceBytes ?? limits.pieceBytes
    this.#pour = new Pour(out, pieceBytes)
    const open = (to: Emit): Emit => {
      return (chunk) => {
        this.#mustBeOpen()
        return to(chunk)
      }
    }
    this.#compressor =
      spec.compression === 'none'
        ? storedCompressor(open((piece) => out.write(piece)))
        : compressors[spec.compression](
            spec.level ?? 1,
            o,
            open((chunk) => this.#pour.add(chunk)),
          )
    const { unit } = this.#compressor
    this.#size = Math.max(1, Math.floor(pieceBytes / unit)) * unit
    this.#between = spec.delimiter === undefined ? nothing : Buffer.from(spec.delimiter, 'base64')
    this.#after = spec.type === 'ndjson' ? newline : nothing
  }

  async add(b: WorkBatch): Promise<void> {
    this.#mustBeOpen()
    const bytes = Buffer.from(b.bytes.buffer, b.bytes.byteOffset, b.bytes.byteLength)
    const verbatim = this.#between.length === 0 && this.#after.length === 0
    for (let i = 0; i < b.count;) {
      i = verbatim ? this.#fillRuns(b, bytes, i) : this.#fill(b, bytes, i)
      if (i < b.count) await this.#cross(b, bytes, i++)
    }
  }

  async finish(): Promise<Body> {
    this.#mustBeOpen()
    if (this.#at > 0) await this.#press()
    await this.#orAbort(this.#pressing)
    await this.#orAbort(this.#compressor.end())
    await this.#orAbort(this.#pour.end())
    this.#mustBeOpen()
    // nothing is pressed any more
    for (const piece of [this.#piece, this.#spare]) if (piece) this.#out.give(piece)
    this.#piece = this.#spare = null
    const body = await this.#out.finish()
    this.#state = 'finished'
    return body
  }

  async abort(): Promise<void> {
    if (this.#state !== 'open') return
    this.#state = 'aborted'
    this.#abort.reject(new Error('encoding an object: it was aborted'))
    this.#compressor.abort()
    // dropped, not given back: a native thread may still read one
    this.#piece = this.#spare = null
    await this.#out.abort()
  }

  /** A writer that does not answer must not hold what waits for it after an abort. */
  #orAbort<T>(work: Promise<T>): Promise<T> {
    return Promise.race([work, this.#abort.promise])
  }

  #mustBeOpen(): void {
    if (this.#state !== 'open') throw new Error(`encoding an object: it was ${this.#state}`)
  }

  /** Copies whole records [from, …) with what goes between them, while they fit; returns the first that does not. */
  #fill(b: WorkBatch, bytes: Buffer, from: number): number {
    const { count, valueStart, valueEnd } = b
    const piece = this.#room()
    const between = this.#between
    const after = this.#after
    let at = this.#at
    let first = this.records === 0
    let i = from
    for (; i < count; i++) {
      const start = valueStart[i] ?? 0
      const end = valueEnd[i] ?? NONE
      const length = end === NONE ? 0 : end - start
      const before = first ? 0 : between.length
      if (at + before + length + after.length > this.#size) break
      for (let j = 0; j < before; j++) piece[at++] = between[j] ?? 0
      if (length > tinyBytes) at += bytes.copy(piece, at, start, end)
      else for (let j = 0; j < length; j++) piece[at++] = bytes[start + j] ?? 0
      for (let j = 0; j < after.length; j++) piece[at++] = after[j] ?? 0
      first = false
    }
    this.#filled(at, i - from)
    return i
  }

  /** The same when nothing goes between the values: those that lie back to back are copied at once. */
  #fillRuns(b: WorkBatch, bytes: Buffer, from: number): number {
    const { count, valueStart, valueEnd } = b
    const piece = this.#room()
    let at = this.#at
    let i = from
    while (i < count) {
      const room = this.#size - at
      let start = valueStart[i] ?? 0
      let end = start
      let next = i
      for (; next < count; next++) {
        const stop = valueEnd[next] ?? NONE
        const begin = valueStart[next] ?? 0
        if (stop === NONE || stop === begin) continue
        if (start === end) start = end = begin
        if (begin !== end || stop - start > room) break
        end = stop
      }
      if (next === i) break
      at += bytes.copy(piece, at, start, end)
      i = next
    }
    this.#filled(at, i - from)
    return i
  }

  #filled(at: number, records: number): void {
    this.bytes += at - this.#at
    this.#at = at
    this.records += records
  }

  /** One record that does not fit into what is left of the piece. */
  async #cross(b: WorkBatch, bytes: Buffer, i: number): Promise<void> {
    if (this.records > 0) await this.#put(this.#between, 0, this.#between.length)
    const end = b.valueEnd[i] ?? NONE
    if (end !== NONE) await this.#put(bytes, b.valueStart[i] ?? 0, end)
    await this.#put(this.#after, 0, this.#after.length)
    this.records++
  }

  async #put(from: Buffer, start: number, end: number): Promise<void> {
    for (let at = start; at < end;) {
      if (this.#at === this.#size) await this.#press()
      const n = from.copy(this.#room(), this.#at, at, Math.min(end, at + this.#size - this.#at))
      this.#at += n
      this.bytes += n
      at += n
    }
  }

  #room(): Uint8Array {
    return (this.#piece ??= this.#out.take(this.#size))
  }

  /** Hands the piece to the compressor once the one before it is done, and goes on with the other. */
  async #press(): Promise<void> {
    await this.#orAbort(this.#pressing)
    const piece = this.#room()
    const full = piece.subarray(0, this.#at)
    if (this.#compressor.keepsPieces) {
      const own = exactly(full)
      this.#piece = own === full ? null : piece
      this.#pressing = this.#compressor.press(own)
    } else {
      this.#piece = this.#spare
      this.#spare = piece
      this.#pressing = this.#compressor.press(full)
    }
    this.#pressing.catch(() => {}) // whoever calls next awaits it and gets the error; it must not count as unhandled until then
    this.#at = 0
  }
}
