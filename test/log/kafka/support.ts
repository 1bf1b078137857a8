import { NONE, valueOf, type RecordBatch } from '../../../core/sdk/batch.ts'
import { BufferPool } from '../../../core/sdk/pool.ts'
import { slicedCrc32c } from '../../../core/log/kafka/crc32c.ts'
import { AT } from '../../../core/log/kafka/record-batch.ts'
import { RecordSetDecoder, type AbortedTransaction, type RecordSet } from '../../../core/log/kafka/record-batch-decoder.ts'
import { encodeRecordBatch, NO_PRODUCER, type EncodeOptions } from '../../../core/log/kafka/record-batch-encoder.ts'

/** A record as tests write it; headers in their order. */
export interface Rec {
  readonly offset: number
  readonly ms: number
  readonly key: Uint8Array | null
  readonly value: Uint8Array | null
  readonly headers: readonly (readonly [string, Uint8Array | null])[]
}
const text = (b: Uint8Array | null): string | null => (b === null ? null : Buffer.from(b).toString('latin1'))

/** The same as plain data, for toEqual. */
export function plain(r: Rec): unknown[] {
  return [r.offset, r.ms, text(r.key), text(r.value), r.headers.map(([name, value]) => [name, text(value)])]
}

export function varint(n: number): number[] {
  const out: number[] = []
  let v = BigInt.asUintN(64, (BigInt(n) << 1n) ^ (BigInt(n) >> 63n))
  for (; v > 127n; v >>= 7n) out.push(Number(v & 127n) | 128)
  return [...out, Number(v)]
}
const sized = (b: Uint8Array | null): number[] => (b === null ? varint(-1) : [...varint(b.length), ...b])

export function headerBytes(headers: Rec['headers']): Uint8Array {
  if (headers.length === 0) return new Uint8Array(0)
  return Uint8Array.from([...varint(headers.length), ...headers.flatMap(([name, value]) => [...sized(Buffer.from(name)), ...sized(value)])])
}

/** A batch of the records, scattered: gaps between the fields, so that only the columns say where they are. */
export function batchOf(records: readonly Rec[]): RecordBatch {
  const n = records.length
  const table = (): Uint32Array => new Uint32Array(n)
  const b = {
    count: n,
    keyStart: table(),
    keyEnd: table(),
    valueStart: table(),
    valueEnd: table(),
    headerStart: table(),
    headerEnd: table(),
    position: Float64Array.from(records, (r) => r.offset),
    arrivalMs: Float64Array.from(records, (r) => r.ms),
    release: () => {},
  }
  const parts: number[] = []
  const put = (bytes: Uint8Array | null, start: Uint32Array, end: Uint32Array, i: number): void => {
    parts.push(0xee)
    start[i] = parts.length
    for (const c of bytes ?? []) parts.push(c)
    end[i] = bytes === null ? NONE : parts.length
  }
  for (const [i, r] of records.entries()) {
    put(r.value, b.valueStart, b.valueEnd, i)
    put(headerBytes(r.headers), b.headerStart, b.headerEnd, i)
    put(r.key, b.keyStart, b.keyEnd, i)
  }
  const bytes = Uint8Array.from(parts)
  const { headerStart, headerEnd, ...bare } = b
  return records.some((r) => r.headers.length > 0) ? { ...bare, headerStart, headerEnd, bytes } : { ...bare, bytes }
}

function headersOf(b: RecordBatch, i: number): Rec['headers'] {
  const start = b.headerStart?.[i] ?? 0
  const end = b.headerEnd?.[i] ?? 0
  if (start === end) return []
  let at = start
  const int = (): number => {
    let v = 0n
    for (let shift = 0n; ; shift += 7n) {
      const c = b.bytes[at++] ?? 0
      v |= BigInt(c & 127) << shift
      if (c < 128) return Number((v >> 1n) ^ -(v & 1n))
    }
  }
  const bytes = (): Uint8Array | null => {
    const n = int()
    return n < 0 ? null : b.bytes.slice(at, (at += n))
  }
  return Array.from({ length: int() }, () => [Buffer.from(bytes() ?? []).toString(), bytes()] as const)
}

export function recordsOf(b: RecordBatch): Rec[] {
  return Array.from({ length: b.count }, (_, i) => ({
    offset: b.position[i] ?? -1,
    ms: b.arrivalMs[i] ?? -1,
    key: b.keyEnd[i] === NONE ? null : b.bytes.slice(b.keyStart[i], b.keyEnd[i]),
    value: valueOf(b, i)?.slice() ?? null,
    headers: headersOf(b, i),
  }))
}

export const memory = new BufferPool(64 << 20)
export const tools = { crc32c: slicedCrc32c, memory }

export interface Read {
  readonly records: unknown[]
  readonly next: number
  readonly parts: { count: number; next: number; leaderEpoch: number }[]
  readonly cutBytes: number
}
export interface ReadOptions {
  readonly from?: number
  readonly aborted?: readonly AbortedTransaction[]
  readonly maxBytes?: number
}

/** Reads all of a set; checks that the set is released once, and that every buffer came back. */
export async function readSet(bytes: Uint8Array, o: ReadOptions = {}): Promise<Read> {
  let released = 0
  const pool = new Counted(64 << 20)
  const set: RecordSet = {
    topic: 'events',
    partition: 3,
    bytes,
    from: o.from ?? 0,
    aborted: o.aborted ?? [],
    release: () => released++,
  }
  const d = new RecordSetDecoder(set, { crc32c: slicedCrc32c, memory: pool })
  const batches: RecordBatch[] = []
  const parts: Read['parts'] = []
  let next = set.from
  const read = async (): Promise<Read> => {
    while (!d.done) {
      const part = await d.read(o.maxBytes ?? 1 << 20)
      if (part.batch !== null) batches.push(part.batch)
      parts.push({ count: part.batch?.count ?? 0, next: part.next, leaderEpoch: part.leaderEpoch })
      next = part.next
    }
    return { records: batches.flatMap(recordsOf).map(plain), next, parts, cutBytes: d.cutBytes }
  }
  const [result] = await Promise.allSettled([read()])
  d.close()
  for (const b of batches) {
    b.release()
    b.release() // only the first counts
  }
  if (released !== 1) throw new Error(`the record set was released ${released} times`)
  if (pool.out !== 0) throw new Error(`${pool.out} buffers did not come back`)
  if (result.status === 'rejected') throw result.reason
  return result.value
}
/** Counts what was taken and has not come back. */
export class Counted extends BufferPool {
  out = 0
  override take(bytes: number): ArrayBuffer {
    this.out++
    return super.take(bytes)
  }
  override give(buffer: ArrayBufferLike): void {
    this.out--
    super.give(buffer)
  }
}

/** One batch of the records with their own offsets: encoded by us, then given a base offset. */
export async function stored(records: readonly Rec[], o: Partial<EncodeOptions> & { leaderEpoch?: number } = {}): Promise<Uint8Array> {
  const { leaderEpoch = 0, ...encode } = o
  const e = await encodeRecordBatch(batchOf(records), 0, records.length, { stamp: NO_PRODUCER, compression: 'none', ...tools, ...encode })
  const bytes = e.bytes.slice()
  e.release()
  return patched(bytes, (v) => {
    v.setBigInt64(AT.baseOffset, BigInt(records[0]?.offset ?? 0))
    v.setInt32(AT.leaderEpoch, leaderEpoch)
  })
}

/** Changes an encoded batch and makes its sum right again. */
export function patched(bytes: Uint8Array, change: (view: DataView, bytes: Uint8Array) => void): Uint8Array {
  const copy = Uint8Array.from(bytes)
  const view = new DataView(copy.buffer)
  change(view, copy)
  view.setUint32(AT.crc, slicedCrc32c(copy.subarray(AT.attributes)))
  return copy
}

export function rec(offset: number, value: string | null, o: Partial<Rec> = {}): Rec {
  return { offset, ms: 1_795_000_000_000 + offset, key: null, value: value === null ? null : Buffer.from(value), headers: [], ...o }
}
