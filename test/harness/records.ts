import { crc32 } from 'node:zlib'
import { mix32 } from './random.ts'

/**
 * Records that describe themselves (reliability.md §4): whoever finds one can say which it is and whether a byte of it changed.
 *
 *   < R run:8hex producer:4hex seq:12hex key:8hex class:1hex length:6hex  body  crc32:8hex >
 *
 * The body is a stream of 64 printable characters seeded by the id; `<`, `>` and newline never occur inside, so records can be
 * told apart in raw concatenation as well as line by line, and a reader finds the next one after damage.
 */
export interface RecordId {
  readonly run: number
  readonly producer: number
  readonly seq: number
}

/** Bytes around the body: marks, header, CRC. */
export const OVERHEAD = 50
const HEADER = 41
const ALPHABET = new TextEncoder().encode('0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz+/')
const OPEN = 0x3c
const CLOSE = 0x3e
const NEWLINE = 0x0a

/** Body sizes that sit on and beside the bounds of the code under test; `max` makes a record of Firehose's 1,024,000 bytes. */
export const SIZE_CLASSES = {
  empty: 0,
  one: 1,
  kib: 1024,
  row: 65_536,
  belowMax: 1_024_000 - OVERHEAD - 1,
  max: 1_024_000 - OVERHEAD,
} as const
const CLASS_OF: ReadonlyMap<number, number> = new Map(Object.values(SIZE_CLASSES).map((size, i) => [size, i + 1]))

/** '<8 hex><4 hex><12 hex>': how ids are written in the record and in reports. */
export function idText(id: RecordId): string {
  return id.run.toString(16).padStart(8, '0') + id.producer.toString(16).padStart(4, '0') + id.seq.toString(16).padStart(12, '0')
}

function fillBody(into: Uint8Array, from: number, length: number, id: RecordId): void {
  let state = mix32(id.run ^ mix32(id.producer ^ mix32(id.seq)))
  let word = 0
  for (let i = 0; i < length; i++) {
    const lane = i % 5
    if (lane === 0) word = mix32((state = (state + 0x9e3779b9) | 0))
    into[from + i] = ALPHABET[(word >>> (lane * 6)) & 63] ?? 0
  }
}

/** The record of that id with a body of so many bytes. The same arguments give the same bytes. */
export function makeRecord(id: RecordId, bodyBytes: number): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(bodyBytes + OVERHEAD)
  const key = mix32(id.producer)
  const head =
    '<R' +
    idText(id) +
    key.toString(16).padStart(8, '0') +
    (CLASS_OF.get(bodyBytes) ?? 0).toString(16) +
    bodyBytes.toString(16).padStart(6, '0')
  new TextEncoder().encodeInto(head, out)
  fillBody(out, HEADER, bodyBytes, id)
  const crc = crc32(out.subarray(0, HEADER + bodyBytes))
  new TextEncoder().encodeInto(crc.toString(16).padStart(8, '0') + '>', out.subarray(HEADER + bodyBytes))
  return out
}

export interface Parsed {
  /** null: no header could be read. */
  readonly id: RecordId | null
  /** Header, length, CRC and every body byte are as made. */
  readonly ok: boolean
  readonly raw: Uint8Array
  /** Newlines directly after the record. */
  readonly newlines: number
}

const HEX = /^[0-9a-f]+$/
function readHeader(b: Uint8Array, at: number): { id: RecordId; length: number; key: number } | null {
  if (b.length - at < OVERHEAD || b[at + 1] !== 0x52) return null
  const text = Buffer.from(b.buffer, b.byteOffset + at + 2, HEADER - 2).toString('latin1')
  if (!HEX.test(text)) return null
  const hex = (from: number, to: number): number => parseInt(text.slice(from, to), 16)
  return { id: { run: hex(0, 8), producer: hex(8, 12), seq: hex(12, 24) }, key: hex(24, 32), length: hex(33, 39) }
}

function intact(b: Uint8Array, at: number, h: { id: RecordId; length: number; key: number }): boolean {
  const body = at + HEADER
  const made = makeRecord(h.id, h.length)
  const found = b.subarray(at, body + h.length + OVERHEAD - HEADER)
  return found.length === made.length && Buffer.compare(found, made) === 0
}

/** Splits a whole object body (raw or newline-delimited) into records; bytes that belong to none come out as `{ id: null, ok: false }`. */
export function* parseRecords(bytes: Uint8Array): Generator<Parsed> {
  let at = 0
  while (at < bytes.length) {
    const h = bytes[at] === OPEN ? readHeader(bytes, at) : null
    const end = h === null ? -1 : at + OVERHEAD + h.length
    if (h !== null && end <= bytes.length && bytes[end - 1] === CLOSE) {
      let next = end
      while (bytes[next] === NEWLINE) next++
      yield { id: h.id, ok: intact(bytes, at, h), raw: bytes.subarray(at, end), newlines: next - end }
      at = next
    } else {
      const resync = bytes.indexOf(OPEN, at + 1)
      const stop = resync === -1 ? bytes.length : resync
      yield { id: h?.id ?? null, ok: false, raw: bytes.subarray(at, stop), newlines: 0 }
      at = stop
    }
  }
}
