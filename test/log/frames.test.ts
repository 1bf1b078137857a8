import { expect, test } from 'vitest'
import { batchOf, sliceBatch, type RecordBatch } from '../../core/sdk/batch.ts'
import { CorruptRowError, decodeRow, encodeRow, recordBytes, type Segment } from '../../core/log/embedded/frames.ts'
import { seen } from './contract.ts'

const text = (s: string): Uint8Array => Buffer.from(s)
const segment = (batch: RecordBatch, from = 0, to = batch.count): Segment => ({ batch, from, to, bytes: recordBytes(batch, from, to) })
const stamp = { baseOffset: 2 ** 40, appendTimeMs: 1_795_000_000_123, leaderEpoch: 7 }

function scattered(): RecordBatch {
  // record 0 stands behind record 1, and a byte belongs to nobody
  return {
    ...batchOf([{ value: text('') }, { value: text('') }]),
    bytes: Buffer.from('BBB.aa'),
    keyEnd: Uint32Array.of(0xffffffff, 2),
    keyStart: Uint32Array.of(0, 1),
    valueStart: Uint32Array.of(4, 0),
    valueEnd: Uint32Array.of(6, 3),
  }
}

test('segments of several puts become one row, whatever their buffers look like', () => {
  const many = batchOf(Array.from({ length: 9 }, (_, i) => ({ key: i % 2 ? text(`k${i}`) : null, value: i === 4 ? null : text(`v${i}`) })))
  const row = decodeRow(encodeRow([segment(many, 2, 6), segment(scattered()), segment(sliceBatch(many, 7, 9))], stamp), 'here')
  expect(row).toMatchObject(stamp)
  const part = (offset: number, key: string | null, value: string | null): unknown => ({
    offset: stamp.baseOffset + offset,
    key,
    value,
    headers: '',
    arrivalMs: stamp.appendTimeMs,
  })
  expect(seen([row.batch])).toEqual([
    part(0, null, 'v2'),
    part(1, 'k3', 'v3'),
    part(2, null, null),
    part(3, 'k5', 'v5'),
    part(4, null, 'aa'),
    part(5, 'B', 'BBB'),
    part(6, 'k7', 'v7'),
    part(7, null, 'v8'),
  ])
  expect(row.batch.bytes.buffer).toBe(row.batch.keyStart.buffer)
})

test('headers are kept', () => {
  const b = {
    ...batchOf([{ value: text('one') }, { value: text('two') }]),
    headerStart: Uint32Array.of(0, 3),
    headerEnd: Uint32Array.of(2, 3),
  }
  expect(seen([decodeRow(encodeRow([segment(b)], stamp), 'here').batch]).map((s) => [s.value, s.headers])).toEqual([
    ['one', 'on'],
    ['two', ''],
  ])
})

test('an empty value, a null value and records without bytes', () => {
  const b = batchOf([{ value: null }, { value: null, key: null }])
  expect(seen([decodeRow(encodeRow([segment(b)], stamp), 'here').batch]).map((s) => s.value)).toEqual([null, null])
})

test('any flipped bit and any cut is noticed', () => {
  const frame = encodeRow([segment(batchOf([{ key: text('key'), value: text('value') }]))], stamp)
  for (let i = 0; i < frame.length * 8; i++) {
    const bad = Uint8Array.from(frame)
    bad[i >> 3] = (bad[i >> 3] ?? 0) ^ (1 << (i & 7))
    expect(() => decodeRow(bad, 'there'), `bit ${i}`).toThrow(CorruptRowError)
  }
  for (let length = 0; length < frame.length; length++) expect(() => decodeRow(frame.slice(0, length), 'there')).toThrow(/there/)
})
