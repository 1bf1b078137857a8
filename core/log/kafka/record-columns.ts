/** The records of a batch, read into columns. The hot loop of reading from Kafka: no object and no string a record. */
import { NONE } from '../../sdk/batch.ts'

/** What a Date can hold: a producer that counts in nanoseconds must not stop whoever formats its times. */
const LATEST_MS = 8.64e15

/** Room for so many records; `rows` are filled. One piece of memory: the f64 columns, then the u32 ones. */
export class Columns {
  rows = 0
  /** The first row that has headers made those before it have none; until then the header columns are not written. */
  headers = false
  readonly position: Float64Array
  readonly arrivalMs: Float64Array
  readonly keyStart: Uint32Array
  readonly keyEnd: Uint32Array
  readonly valueStart: Uint32Array
  readonly valueEnd: Uint32Array
  readonly headerStart: Uint32Array
  readonly headerEnd: Uint32Array
  static readonly bytesEach = 2 * 8 + 6 * 4

  /** The first `count * bytesEach` bytes of the buffer. */
  constructor(buffer: ArrayBuffer, count: number) {
    const table = (n: number): Uint32Array => new Uint32Array(buffer, 16 * count + n * 4 * count, count)
    this.position = new Float64Array(buffer, 0, count)
    this.arrivalMs = new Float64Array(buffer, 8 * count, count)
    this.keyStart = table(0)
    this.keyEnd = table(1)
    this.valueStart = table(2)
    this.valueEnd = table(3)
    this.headerStart = table(4)
    this.headerEnd = table(5)
  }
}

/** What the head of a batch says about its records. */
export interface RecordsHead {
  readonly baseOffset: number
  readonly lastOffsetDelta: number
  readonly count: number
  /** Deltas of the records count from here; unless `appendMs` says when the log took all of them. */
  readonly baseTimestampMs: number
  readonly appendMs: number | null
}

/** Reads varints (zigzag, 7 bits a byte, the lowest first). After a bad one `bad` stays set and all that follow are worth nothing. */
export class Varints {
  at = 0
  bad = false
  readonly bytes: Uint8Array
  constructor(bytes: Uint8Array) {
    this.bytes = bytes
  }

  /** 32 bits, at most 5 bytes. */
  int(): number {
    const b = this.bytes
    let c = b[this.at++]!
    let v = c & 127
    for (let shift = 7; c > 127; shift += 7) {
      if (shift > 28) {
        this.bad = true
        return 0
      }
      c = b[this.at++]!
      v |= (c & 127) << shift
    }
    return (v >>> 1) ^ -(v & 1)
  }

  /** 64 bits, at most 10 bytes; exact below 2^53. */
  long(): number {
    const b = this.bytes
    const from = this.at
    let c = b[this.at++]!
    let v = c & 127
    let shift = 7
    for (; c > 127 && shift < 28; shift += 7) {
      c = b[this.at++]!
      v |= (c & 127) << shift
    }
    if (c <= 127) return (v >>> 1) ^ -(v & 1)
    const negative = (v & 1) === 1 // beyond 2^53 the lowest bit is lost
    for (let unit = 2 ** 28; c > 127; unit *= 128) {
      if (this.at - from === 10) {
        this.bad = true
        return 0
      }
      c = b[this.at++]!
      v += (c & 127) * unit
    }
    return negative ? -(v + 1) / 2 : v / 2
  }
}

/**
 * Reads the records in bytes[start, end) behind the rows that are filled, leaving out those below `from`; there is
 * room for all of them. Answers null, or what is wrong:
 * then the rows behind the filled ones are worth nothing. Offsets in the columns count from the start of `bytes`.
 */
export function readRecords(
  v: Varints,
  span: { readonly start: number; readonly end: number },
  head: RecordsHead,
  from: number,
  into: Columns,
): string | null {
  const { start, end } = span
  const { baseOffset, lastOffsetDelta, count, baseTimestampMs, appendMs } = head
  const { position, arrivalMs, keyStart, keyEnd, valueStart, valueEnd } = into
  const bytes = v.bytes
  let row = into.rows
  let delta = -1
  v.at = start
  for (let i = 0; i < count; i++) {
    const length = v.int()
    const next = v.at + length
    if (length < 0 || next > end) return `record ${i} of ${count} is said to have ${length} bytes, ${end - v.at} are there`
    v.at++ // attributes: none is in use
    const timestamp = v.long()
    const before = delta
    delta = v.int()
    const keyLength = v.int()
    const key = v.at
    if (keyLength > 0) v.at += keyLength
    const valueLength = v.int()
    const value = v.at
    if (valueLength > 0) v.at += valueLength
    if (v.bad || keyLength < -1 || valueLength < -1 || v.at >= next) return `record ${i} of ${count} does not fit its ${length} bytes`
    if (delta <= before || delta > lastOffsetDelta) {
      return `record ${i} of ${count} stands at offset +${delta} behind +${before}, the last one is +${lastOffsetDelta}`
    }
    const headers = v.at
    const plain = bytes[headers] === 0 && headers + 1 === next
    if (!plain && !headersFill(v, next)) return `the headers of record ${i} of ${count} do not fit its ${length} bytes`
    v.at = next
    if (baseOffset + delta < from) continue
    position[row] = baseOffset + delta
    arrivalMs[row] = Math.max(-LATEST_MS, Math.min(LATEST_MS, appendMs ?? baseTimestampMs + timestamp))
    keyStart[row] = key
    keyEnd[row] = keyLength < 0 ? NONE : key + keyLength
    valueStart[row] = value
    valueEnd[row] = valueLength < 0 ? NONE : value + valueLength
    if (!plain || into.headers) putHeaders(into, row, headers, plain ? headers : next)
    row++
  }
  if (v.at !== end) return `${end - v.at} bytes stand behind the last of its ${count} records`
  into.rows = row
  return null
}

function putHeaders(into: Columns, row: number, start: number, end: number): void {
  if (!into.headers) {
    into.headerStart.fill(0, 0, row)
    into.headerEnd.fill(0, 0, row)
    into.headers = true
  }
  into.headerStart[row] = start
  into.headerEnd[row] = end
}

/** From the count at v.at on there are headers that end exactly at `end`. */
export function headersFill(v: Varints, end: number): boolean {
  const count = v.int()
  if (v.bad || count < 0 || count > (end - v.at) / 2) return false
  for (let i = 0; i < count; i++) {
    const name = v.int()
    if (v.bad || name < 0 || v.at + name >= end) return false
    v.at += name
    const value = v.int()
    if (v.bad || value < -1 || v.at + value > end) return false
    if (value > 0) v.at += value
  }
  return v.at === end
}
