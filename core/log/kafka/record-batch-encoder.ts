/** Writes records as one record batch for a Produce request. */
import { NONE, type RecordBatch } from '../../sdk/batch.ts'
import type { BufferPool } from '../../sdk/pool.ts'
import { limits } from '../../limits.ts'
import type { Crc32c } from './crc32c.ts'
import { deflate, type WriteCodec } from './record-batch-codecs.ts'
import { AT, CODECS, MAGIC, readI64, TRANSACTIONAL } from './record-batch.ts'
import { headersFill, Varints } from './record-columns.ts'

/** The idempotent producer's part of a batch. */
export interface BatchStamp {
  /** -1: not idempotent; then epoch and sequence are -1 too. */
  readonly producerId: number
  readonly producerEpoch: number
  /** Of the first record; the others follow. */
  readonly baseSequence: number
}
export const NO_PRODUCER: BatchStamp = { producerId: -1, producerEpoch: -1, baseSequence: -1 }

export interface EncodeOptions {
  readonly stamp: BatchStamp
  readonly compression: WriteCodec
  /** One time for all records; absent: each has its own arrivalMs. A topic with LogAppendTime replaces either. */
  readonly timestampMs?: number
  readonly transactional?: boolean
  readonly crc32c: Crc32c
  readonly memory: BufferPool
}
export interface EncodedBatch {
  readonly bytes: Uint8Array
  /** Nobody sends it any more. */
  release(): void
}

/** Zigzag varint of n: its bytes. */
function sizeOf(n: number): number {
  const v = (n << 1) ^ (n >> 31)
  return v >>> 7 === 0 ? 1 : v >>> 14 === 0 ? 2 : v >>> 21 === 0 ? 3 : v >>> 28 === 0 ? 4 : 5
}
function put(out: Uint8Array, at: number, n: number): number {
  let v = (n << 1) ^ (n >> 31)
  for (; v >>> 7 !== 0; v >>>= 7) out[at++] = (v & 127) | 128
  out[at++] = v
  return at
}
/** The same for 64 bits, n a safe integer. */
function zigzag(n: number): number {
  return n < 0 ? -2 * n - 1 : 2 * n
}
function sizeOfLong(n: number): number {
  if (n === (n | 0)) return sizeOf(n)
  let bytes = 1
  for (let v = zigzag(n); v >= 128; v = Math.floor(v / 128)) bytes++
  return bytes
}
function putLong(out: Uint8Array, at: number, n: number): number {
  if (n === (n | 0)) return put(out, at, n)
  let v = zigzag(n)
  for (; v >= 128; v = Math.floor(v / 128)) out[at++] = (v % 128) + 128
  out[at++] = v
  return at
}

/** Up to here a loop is faster than a call. */
const TINY = 24

/**
 * The records [from, to) as one batch with offsets from 0: the broker gives the real ones. Rejects with RangeError where there is no
 * record, one too many bytes for a batch, a time that is no safe integer, or headers that are not Kafka's encoding.
 */
export async function encodeRecordBatch(b: RecordBatch, from: number, to: number, o: EncodeOptions): Promise<EncodedBatch> {
  if (from < 0 || to > b.count || from >= to) throw new RangeError(`encoding the records [${from}, ${to}) of a batch of ${b.count}`)
  const lengths = new Int32Array(to - from)
  const base = o.timestampMs ?? b.arrivalMs[from] ?? 0
  let latest = base
  let total = 0
  for (let i = from; i < to; i++) {
    const ms = o.timestampMs ?? b.arrivalMs[i] ?? 0
    if (!Number.isSafeInteger(ms) || !Number.isSafeInteger(2 * (ms - base))) {
      throw new RangeError(`encoding record ${i} of time ${ms} behind ${base}: whole milliseconds can be written`)
    }
    if (ms > latest) latest = ms
    const length = recordLength(b, i, i - from, ms - base)
    lengths[i - from] = length
    total += sizeOf(length) + length
  }
  if (total > limits.kafkaBatchBytes - AT.records) {
    throw new RangeError(`encoding ${to - from} records of ${total} bytes as one Kafka batch: the limit is ${limits.kafkaBatchBytes}`)
  }
  const buffer = o.memory.take(AT.records + total)
  const bytes = new Uint8Array(buffer, 0, AT.records + total)
  const at = putRecords(b, { from, to, base, timestampMs: o.timestampMs }, lengths, bytes)
  if (at !== bytes.length) throw new Error(`encoding ${to - from} records: ${at} bytes came out, ${bytes.length} were counted`)
  const plain: EncodedBatch = { bytes, release: () => o.memory.give(buffer) }
  const whole = o.compression === 'none' ? plain : await compressed(plain, o)
  putHead(whole.bytes, { count: to - from, base, latest }, o)
  return whole
}

/** Bytes of the record behind its length. */
function recordLength(b: RecordBatch, i: number, offset: number, ms: number): number {
  const keyEnd = b.keyEnd[i]!
  const valueEnd = b.valueEnd[i]!
  const key = keyEnd === NONE ? -1 : keyEnd - b.keyStart[i]!
  const value = valueEnd === NONE ? -1 : valueEnd - b.valueStart[i]!
  const headers = b.headerStart && b.headerEnd ? b.headerEnd[i]! - b.headerStart[i]! : 0
  const lengths = sizeOfLong(ms) + sizeOf(offset) + sizeOf(key) + sizeOf(value)
  return 1 + lengths + Math.max(key, 0) + Math.max(value, 0) + Math.max(headers, 1)
}

interface Span {
  readonly from: number
  readonly to: number
  readonly base: number
  readonly timestampMs: number | undefined
}
function putRecords(b: RecordBatch, { from, to, base, timestampMs }: Span, lengths: Int32Array, out: Uint8Array): number {
  const source = Buffer.from(b.bytes.buffer, b.bytes.byteOffset, b.bytes.length)
  const check = new Varints(b.bytes)
  let at: number = AT.records
  const copy = (start: number, end: number): void => {
    if (end - start > TINY) at += source.copy(out, at, start, end)
    else for (let i = start; i < end; i++) out[at++] = source[i]!
  }
  const field = (start: number, end: number): void => {
    at = put(out, at, end === NONE ? -1 : end - start)
    if (end !== NONE) copy(start, end)
  }
  for (let i = from; i < to; i++) {
    at = put(out, at, lengths[i - from]!)
    out[at++] = 0 // attributes
    at = putLong(out, at, (timestampMs ?? b.arrivalMs[i]!) - base)
    at = put(out, at, i - from)
    field(b.keyStart[i]!, b.keyEnd[i]!)
    field(b.valueStart[i]!, b.valueEnd[i]!)
    const start = b.headerStart?.[i] ?? 0
    const end = b.headerEnd?.[i] ?? 0
    if (start === end) {
      out[at++] = 0
      continue
    }
    check.at = start
    if (!headersFill(check, end)) throw new RangeError(`encoding record ${i}: its ${end - start} bytes of headers are not Kafka's encoding`)
    copy(start, end)
  }
  return at
}

async function compressed(plain: EncodedBatch, o: EncodeOptions): Promise<EncodedBatch> {
  try {
    const small = await deflate(o.compression, plain.bytes.subarray(AT.records))
    const buffer = o.memory.take(AT.records + small.bytes.length)
    const bytes = new Uint8Array(buffer, 0, AT.records + small.bytes.length)
    bytes.set(small.bytes, AT.records)
    small.free()
    return { bytes, release: () => o.memory.give(buffer) }
  } finally {
    plain.release()
  }
}

function putHead(bytes: Uint8Array, r: { count: number; base: number; latest: number }, o: EncodeOptions): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  view.setBigInt64(AT.baseOffset, 0n)
  view.setInt32(AT.length, bytes.length - AT.leaderEpoch)
  view.setInt32(AT.leaderEpoch, -1)
  view.setInt8(AT.magic, MAGIC)
  view.setInt16(AT.attributes, CODECS.indexOf(o.compression) | (o.transactional === true ? TRANSACTIONAL : 0))
  view.setInt32(AT.lastOffsetDelta, r.count - 1)
  view.setBigInt64(AT.baseTimestamp, BigInt(r.base))
  view.setBigInt64(AT.maxTimestamp, BigInt(r.latest))
  view.setInt32(AT.count, r.count)
  restamp(bytes, o.stamp, o.crc32c)
}

/** Gives an encoded batch to another producer id, epoch or sequence: after the broker's log has lost the old one's state. */
export function restamp(bytes: Uint8Array, stamp: BatchStamp, crc32c: Crc32c): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  view.setBigInt64(AT.producerId, BigInt(stamp.producerId))
  view.setInt16(AT.producerEpoch, stamp.producerEpoch)
  view.setInt32(AT.baseSequence, stamp.baseSequence)
  view.setUint32(AT.crc, crc32c(bytes.subarray(AT.attributes)))
}

/** The stamp of an encoded batch. */
export function stampOf(bytes: Uint8Array): BatchStamp {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  return {
    producerId: readI64(view, AT.producerId),
    producerEpoch: view.getInt16(AT.producerEpoch),
    baseSequence: view.getInt32(AT.baseSequence),
  }
}
