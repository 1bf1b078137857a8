/**
 * One row of the log: a frame that holds the records of one partition that became durable together.
 *
 *     0  u32 magic    4 u32 CRC-32 of everything from 8 on    8 u16 version  10 u16 flags (1 = headers)
 *    12  u32 count   16 f64 base offset   24 f64 append time (ms)  32 u32 leader epoch  36 u32 bytes of records
 *    40  keyStart[count] keyEnd[] valueStart[] valueEnd[] (headerStart[] headerEnd[]): u32 each, then the bytes
 *
 * Little-endian throughout. The tables stand at a multiple of 4, so that decoding makes typed-array views of one
 * copied buffer: no object and no string a record.
 */
import { crc32 } from 'node:zlib'
import { endianness } from 'node:os'
import { NONE, type RecordBatch } from '../../sdk/batch.ts'
import { crc32Combine } from '../../sdk/crc32.ts'

const MAGIC = 0x474c_4948 // "HILG"
const VERSION = 1
const HEADERS = 1
const HEAD = 40
const CRC_FROM = 8

if (endianness() !== 'LE') throw new Error('the embedded log needs a little-endian machine')

/** The records [from, to) of a put. */
export interface Segment {
  readonly batch: RecordBatch
  readonly from: number
  readonly to: number
  /** Bytes of keys, values and headers. */
  readonly bytes: number
}
/** What the log gives to a row. */
export interface RowStamp {
  readonly baseOffset: number
  readonly appendTimeMs: number
  readonly leaderEpoch: number
}

/** A row whose bytes are not what was written: a broken disk, a foreign writer, a bug. Never skipped. */
export class CorruptRowError extends Error {
  constructor(where: string, what: string) {
    super(`the log is corrupt: ${where}: ${what}; nothing was skipped. Restore this stream from a backup, or delete it`)
    this.name = 'CorruptRowError'
  }
}

/** Bytes of keys, values and headers of the records [from, to). */
export function recordBytes(b: RecordBatch, from: number, to: number): number {
  let sum = 0
  for (let i = from; i < to; i++) sum += oneRecordBytes(b, i)
  return sum
}
export function oneRecordBytes(b: RecordBatch, i: number): number {
  const key = b.keyEnd[i] === NONE ? 0 : (b.keyEnd[i] ?? 0) - (b.keyStart[i] ?? 0)
  const value = b.valueEnd[i] === NONE ? 0 : (b.valueEnd[i] ?? 0) - (b.valueStart[i] ?? 0)
  return key + value + (b.headerStart && b.headerEnd ? (b.headerEnd[i] ?? 0) - (b.headerStart[i] ?? 0) : 0)
}

/** Makes one row of the segments, which must agree on having headers, at the start of what `memory` gives for its length. */
export function encodeRow(
  segments: readonly Segment[],
  stamp: RowStamp,
  memory: (bytes: number) => ArrayBuffer = (n) => new ArrayBuffer(n),
): Uint8Array<ArrayBuffer> {
  let count = 0
  let bytes = 0
  for (const s of segments) {
    count += s.to - s.from
    bytes += s.bytes
  }
  const headers = segments[0]?.batch.headerStart !== undefined
  const columns = headers ? 6 : 4
  const length = HEAD + columns * 4 * count + bytes
  const frame = Buffer.from(memory(length), 0, length)
  const tables = new Uint32Array(frame.buffer, HEAD, columns * count)
  const body = frame.subarray(HEAD + columns * 4 * count)
  let row = 0
  let at = 0
  for (const s of segments) {
    at = placeSegment(s, tables, count, row, body, at)
    row += s.to - s.from
  }
  frame.writeUInt32LE(MAGIC, 0)
  frame.writeUInt16LE(VERSION, 8)
  frame.writeUInt16LE(headers ? HEADERS : 0, 10)
  frame.writeUInt32LE(count, 12)
  frame.writeDoubleLE(stamp.baseOffset, 16)
  frame.writeDoubleLE(stamp.appendTimeMs, 24)
  frame.writeUInt32LE(stamp.leaderEpoch, 32)
  frame.writeUInt32LE(bytes, 36)
  frame.writeUInt32LE(crc32(frame.subarray(CRC_FROM)), 4)
  return frame
}

/** Copies one segment's bytes to `at` and its table entries to `row`; answers where the next one starts. */
function placeSegment(s: Segment, tables: Uint32Array, count: number, row: number, body: Uint8Array, at: number): number {
  const { batch: b, from, to } = s
  const whole = extent(s)
  if (whole !== null) {
    // the records stand back to back in the caller's buffer: one copy, and the tables are shifted
    body.set(b.bytes.subarray(whole, whole + s.bytes), at)
    const shift = at - whole
    column(tables, row, b.keyStart, from, to, shift, b.keyEnd)
    column(tables, count + row, b.keyEnd, from, to, shift, b.keyEnd)
    column(tables, 2 * count + row, b.valueStart, from, to, shift, b.valueEnd)
    column(tables, 3 * count + row, b.valueEnd, from, to, shift, b.valueEnd)
    if (b.headerStart && b.headerEnd) {
      column(tables, 4 * count + row, b.headerStart, from, to, shift)
      column(tables, 5 * count + row, b.headerEnd, from, to, shift)
    }
    return at + s.bytes
  }
  const put = (start: number, end: number, column: number, i: number): void => {
    tables[column * count + i] = end === NONE ? 0 : at
    if (end !== NONE) {
      body.set(b.bytes.subarray(start, end), at)
      at += end - start
    }
    tables[(column + 1) * count + i] = end === NONE ? NONE : at
  }
  for (let i = from; i < to; i++) {
    const r = row + i - from
    put(b.keyStart[i] ?? 0, b.keyEnd[i] ?? NONE, 0, r)
    put(b.valueStart[i] ?? 0, b.valueEnd[i] ?? NONE, 2, r)
    if (b.headerStart && b.headerEnd) put(b.headerStart[i] ?? 0, b.headerEnd[i] ?? 0, 4, r)
  }
  return at
}

/** Where the records' bytes start, if they fill one range without holes; else null. */
function extent(s: Segment): number | null {
  const { batch: b, from, to } = s
  let low = NONE
  let high = 0
  for (let i = from; i < to; i++) {
    const keyEnd = b.keyEnd[i] ?? NONE
    if (keyEnd !== NONE) {
      if (keyEnd > high) high = keyEnd
      if ((b.keyStart[i] ?? 0) < low) low = b.keyStart[i] ?? 0
    }
    const valueEnd = b.valueEnd[i] ?? NONE
    if (valueEnd !== NONE) {
      if (valueEnd > high) high = valueEnd
      if ((b.valueStart[i] ?? 0) < low) low = b.valueStart[i] ?? 0
    }
    if (b.headerStart && b.headerEnd) {
      if ((b.headerEnd[i] ?? 0) > high) high = b.headerEnd[i] ?? 0
      if ((b.headerStart[i] ?? 0) < low) low = b.headerStart[i] ?? 0
    }
  }
  if (low === NONE) return s.bytes === 0 ? 0 : null
  return high - low === s.bytes ? low : null
}

function column(into: Uint32Array, at: number, of: Uint32Array, from: number, to: number, shift: number, ends?: Uint32Array): void {
  for (let i = from; i < to; i++) {
    const v = of[i] ?? 0
    const absent = ends !== undefined && ends[i] === NONE
    into[at + i - from] = absent ? (of === ends ? NONE : 0) : v + shift
  }
}

export interface Row extends RowStamp {
  readonly batch: RecordBatch
}

const nothing = (): void => {}

/** Room for what a row does not hold itself, where the reader has it: positions and arrivals, and what happens at release. */
export interface RowRoom {
  /** Twice as many as records. */
  readonly numbers: Float64Array
  release(): void
}

/** Reads a row back. `frame` is a private copy (offset a multiple of 4); the batch is made of views of it. */
export function decodeRow(frame: Uint8Array, where: string, room?: RowRoom): Row {
  if (frame.length < HEAD) throw new CorruptRowError(where, `a row of ${frame.length} bytes is shorter than its head`)
  const view = new DataView(frame.buffer, frame.byteOffset, frame.length)
  const magic = view.getUint32(0, true)
  if (magic !== MAGIC) throw new CorruptRowError(where, `magic ${magic.toString(16)} instead of ${MAGIC.toString(16)}`)
  const headers = (view.getUint16(10, true) & HEADERS) !== 0
  const count = view.getUint32(12, true)
  const bytes = view.getUint32(36, true)
  const columns = headers ? 6 : 4
  // the sum of the records' part is told to whoever needs it next
  const start = Math.min(HEAD + columns * 4 * count, frame.length)
  const body = crc32(frame.subarray(start))
  const sum = crc32Combine(crc32(frame.subarray(CRC_FROM, start)), body, frame.length - start)
  if (sum !== view.getUint32(4, true)) throw new CorruptRowError(where, `checksum ${sum}, written ${view.getUint32(4, true)}`)
  const version = view.getUint16(8, true)
  if (version !== VERSION) throw new CorruptRowError(where, `row version ${version}, this hydrant reads ${VERSION}`)
  if (HEAD + columns * 4 * count + bytes !== frame.length) {
    throw new CorruptRowError(where, `${count} records and ${bytes} bytes do not fill a row of ${frame.length} bytes`)
  }
  const baseOffset = view.getFloat64(16, true)
  const appendTimeMs = view.getFloat64(24, true)
  const tables = new Uint32Array(frame.buffer, frame.byteOffset + HEAD, columns * count)
  const numbers = room && room.numbers.length >= 2 * count ? room.numbers : new Float64Array(2 * count)
  const position = numbers.subarray(0, count)
  for (let i = 0; i < count; i++) position[i] = baseOffset + i
  const batch: RecordBatch = {
    count,
    bytes: frame.subarray(start),
    keyStart: tables.subarray(0, count),
    keyEnd: tables.subarray(count, 2 * count),
    valueStart: tables.subarray(2 * count, 3 * count),
    valueEnd: tables.subarray(3 * count, 4 * count),
    ...(headers ? { headerStart: tables.subarray(4 * count, 5 * count), headerEnd: tables.subarray(5 * count) } : {}),
    position,
    arrivalMs: numbers.subarray(count, 2 * count).fill(appendTimeMs),
    crc32: body,
    release: room ? () => room.release() : nothing,
  }
  return { baseOffset, appendTimeMs, leaderEpoch: view.getUint32(32, true), batch }
}
