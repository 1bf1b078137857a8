/** What a record batch is compressed with: into memory that comes back, bounded before the bytes are believed. */
import {
  constants,
  gunzip,
  gunzipSync,
  gzip,
  gzipSync,
  zstdCompress,
  zstdCompressSync,
  zstdDecompress,
  zstdDecompressSync,
} from 'node:zlib'
import { limits } from '../../limits.ts'
import { freeNow, type BufferPool } from '../../sdk/pool.ts'
import { lz4Bound, lz4Decode } from './lz4.ts'
import type { Codec } from './record-batch.ts'

/** A batch inflates to more than limits.kafkaBatchBytes. */
export class TooLargeError extends Error {
  constructor(what: string) {
    super(`${what}, the limit is ${limits.kafkaBatchBytes} bytes`)
    this.name = 'TooLargeError'
  }
}

/** Bytes, and what to do when nobody looks at them any more. */
export interface Loose {
  readonly bytes: Uint8Array
  readonly free: () => void
}
const nothing = (): void => {}

type Snappy = {
  uncompressSync(input: Uint8Array, o: { copyOutputData: boolean }): string | Uint8Array
  compressSync(input: Uint8Array, o: { copyOutputData: boolean }): Uint8Array
}
let snappy: Promise<Snappy> | null = null
/** The native module is loaded by the first batch that needs it. */
function loadSnappy(): Promise<Snappy> {
  return (snappy ??= import('snappy'))
}

/** Inflates what one batch holds; rejects when it is not of this codec, and with TooLargeError before it grows beyond the limit. */
export async function inflate(codec: Codec, bytes: Uint8Array, memory: BufferPool): Promise<Loose> {
  if (codec === 'gzip') return viaZlib(gunzipSync, gunzip, bytes, gzipSize(bytes))
  if (codec === 'zstd') return viaZlib(zstdDecompressSync, zstdDecompress, bytes, 16 * bytes.length)
  if (codec === 'lz4') return inflateLz4(bytes, memory)
  if (codec === 'snappy') return inflateSnappy(bytes, memory, await loadSnappy())
  return { bytes, free: nothing }
}

/** RFC 1952, ISIZE: a guess that is right for every producer, and for a lie no more than deflate can do. */
function gzipSize(bytes: Uint8Array): number {
  if (bytes.length < 18) return 0
  const isize = new DataView(bytes.buffer, bytes.byteOffset).getUint32(bytes.length - 4, true)
  return Math.min(isize, 1_032 * bytes.length)
}

interface Options {
  readonly chunkSize: number
  readonly maxOutputLength?: number
  readonly level?: number
  readonly params?: Record<number, number>
}
type Sync = (input: Uint8Array, o: Options) => Uint8Array
type Async = (input: Uint8Array, o: Options, done: (error: Error | null, result: Uint8Array) => void) => void

/**
 * A call with the size of its answer known makes one buffer instead of a list that is put together (a third of the time), and a buffer
 * as large as nobody needs costs nothing where it is not written to.
 */
async function viaZlib(sync: Sync, async: Async, bytes: Uint8Array, guess: number): Promise<Loose> {
  const max = limits.kafkaBatchBytes
  const o = { maxOutputLength: max, chunkSize: ownChunk(Math.min(guess + 64, max)) }
  try {
    return owned(bytes.length < limits.kafkaPoolBatchBytes ? sync(bytes, o) : await pooled(async, bytes, o), o)
  } catch (e) {
    if ((e as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE') throw new TooLargeError('it inflates to more than is read')
    throw e
  }
}
function pooled(async: Async, bytes: Uint8Array, o: Options): Promise<Uint8Array> {
  return new Promise((resolve, reject) => async(bytes, o, (e, result) => (e ? reject(e) : resolve(result))))
}
/** At least so much, and a size that only a buffer of its own has: not cut from Node's shared block, whose size is a multiple of 8. */
function ownChunk(bytes: number): number {
  return Math.max(bytes, Buffer.poolSize) | 7
}
/** What came in one chunk is ours alone, and goes at once: left to the collector it is what drives it. */
function owned(bytes: Uint8Array, { chunkSize }: Options): Loose {
  return { bytes, free: bytes.buffer.byteLength === chunkSize ? () => freeNow(bytes.buffer) : nothing }
}

function take(memory: BufferPool, bytes: number): { readonly room: Uint8Array; readonly free: () => void } {
  if (bytes > limits.kafkaBatchBytes) throw new TooLargeError(`it inflates to ${bytes} bytes`)
  const buffer = memory.take(bytes)
  return { room: new Uint8Array(buffer, 0, bytes), free: () => memory.give(buffer) }
}

function inflateLz4(bytes: Uint8Array, memory: BufferPool): Loose {
  const { room, free } = take(memory, lz4Bound(bytes))
  try {
    return { bytes: room.subarray(0, lz4Decode(bytes, room)), free }
  } catch (e) {
    free()
    throw e
  }
}

/** snappy-java's framing, which Java's producers write: a head of 16 bytes, then [i32 length][block] … */
const XERIAL = Buffer.from('82534e4150505900', 'hex')
const XERIAL_HEAD = 16

function snappyBlocks(bytes: Uint8Array): Uint8Array[] {
  if (bytes.length < XERIAL_HEAD || !XERIAL.equals(bytes.subarray(0, XERIAL.length))) return [bytes]
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  const blocks: Uint8Array[] = []
  for (let at = XERIAL_HEAD; at < bytes.length;) {
    const length = at + 4 > bytes.length ? -1 : view.getInt32(at)
    if (length < 0 || at + 4 + length > bytes.length) {
      throw new Error(`the Snappy frame is cut off: a block of ${length} bytes at ${at}, all are ${bytes.length}`)
    }
    blocks.push(bytes.subarray(at + 4, at + 4 + length))
    at += 4 + length
  }
  return blocks
}

/** Size of a raw block (format_description.txt of snappy, §1): a varint in front. A byte of a block makes 64 at most. */
function snappySize(block: Uint8Array): number {
  let size = 0
  for (let i = 0; i < 5; i++) {
    const c = block[i]
    if (c === undefined) break
    size += (c & 127) * 2 ** (7 * i)
    if (c > 127) continue
    if (size > 64 * block.length) break
    return size
  }
  throw new Error(`a Snappy block of ${block.length} bytes begins with no length that it could have`)
}

function inflateSnappy(bytes: Uint8Array, memory: BufferPool, native: Snappy): Loose {
  const blocks = snappyBlocks(bytes)
  const { room, free } = take(
    memory,
    blocks.reduce((sum, b) => sum + snappySize(b), 0),
  )
  try {
    let at = 0
    for (const block of blocks) {
      // copied out by the native side: a buffer of its own would cost more than the work on it
      const out = native.uncompressSync(block, { copyOutputData: true })
      if (typeof out === 'string') throw new Error('the Snappy library answered a string')
      room.set(out, at)
      at += out.length
    }
    return { bytes: room.subarray(0, at), free }
  } catch (e) {
    free()
    throw e
  }
}

/** What hydrant writes with. LZ4 is read only: zstd at level 1 is smaller for the same time. */
export type WriteCodec = Exclude<Codec, 'lz4'>

/** Level 1 of gzip and zstd; a raw Snappy block, which every client reads. */
export async function deflate(codec: WriteCodec, bytes: Uint8Array): Promise<Loose> {
  if (codec === 'gzip') return press(gzipSync, gzip, bytes, { level: 1 })
  if (codec === 'zstd') return press(zstdCompressSync, zstdCompress, bytes, { params: { [constants.ZSTD_c_compressionLevel]: 1 } })
  if (codec === 'snappy') return { bytes: (await loadSnappy()).compressSync(bytes, { copyOutputData: true }), free: nothing }
  return { bytes, free: nothing }
}
async function press(sync: Sync, async: Async, bytes: Uint8Array, level: Pick<Options, 'level' | 'params'>): Promise<Loose> {
  const o = { ...level, chunkSize: ownChunk(bytes.length >>> 1) }
  return owned(bytes.length < limits.kafkaPoolBatchBytes ? sync(bytes, o) : await pooled(async, bytes, o), o)
}
