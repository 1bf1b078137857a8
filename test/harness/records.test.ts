import { describe, expect, test } from 'vitest'
import { idText, makeRecord, OVERHEAD, parseRecords, SIZE_CLASSES } from './records.ts'

const id = (seq: number, producer = 3) => ({ run: 0xfeed0001, producer, seq })
const join = (...parts: (Uint8Array | string)[]): Uint8Array =>
  Buffer.concat(parts.map((p) => (typeof p === 'string' ? Buffer.from(p) : p)))

describe('self-describing records', () => {
  test('every size class comes back from raw concatenation, in order, byte for byte', () => {
    const made = Object.values(SIZE_CLASSES).map((size, i) => makeRecord(id(i), size))
    const read = [...parseRecords(join(...made))]
    expect(read.map((r) => r.ok)).toEqual(made.map(() => true))
    expect(read.map((r) => r.id && idText(r.id))).toEqual(made.map((_, i) => idText(id(i))))
    expect(read.map((r) => Buffer.compare(r.raw, made[read.indexOf(r)] ?? Buffer.alloc(0)))).toEqual(made.map(() => 0))
  })

  test('the largest class is the largest record that Firehose takes', () => {
    expect(makeRecord(id(1), SIZE_CLASSES.max).length).toBe(1_024_000)
    expect(makeRecord(id(1), 0).length).toBe(OVERHEAD)
  })

  test('newlines between are counted, none is inside', () => {
    const [a, b] = [makeRecord(id(1), 5000), makeRecord(id(2), 7)]
    expect(a.includes(0x0a)).toBe(false)
    expect([...parseRecords(join(a, '\n', b, '\n'))].map((r) => [r.ok, r.newlines])).toEqual([
      [true, 1],
      [true, 1],
    ])
  })

  test('one changed byte anywhere is seen, and the next record is still found', () => {
    const [a, b] = [makeRecord(id(1), 40), makeRecord(id(2), 40)]
    for (let i = 0; i < a.length; i++) {
      const bad = new Uint8Array(a)
      bad[i] = (bad[i] ?? 0) ^ 1
      const read = [...parseRecords(join(bad, b))]
      expect(read.filter((r) => r.ok).map((r) => r.id?.seq)).toEqual([2])
      expect(read.some((r) => !r.ok)).toBe(true)
    }
  })

  test('a record cut short and foreign bytes are not ok', () => {
    const a = makeRecord(id(1), 100)
    for (const cut of [1, 20, OVERHEAD, 149]) expect([...parseRecords(a.subarray(0, cut))].map((r) => r.ok)).toEqual([false])
    expect([...parseRecords(join('xx', a, 'y'))].map((r) => r.ok)).toEqual([false, true, false])
  })

  test('a body of another id with a right CRC is not ok', () => {
    const [a, other] = [makeRecord(id(1), 64), makeRecord(id(2), 64)]
    const mixed = join(a.subarray(0, 41), other.subarray(41))
    expect([...parseRecords(mixed)].map((r) => r.ok)).toEqual([false])
  })
})
