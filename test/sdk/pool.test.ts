import { expect, test } from 'vitest'
import { BufferPool, freeNow } from '../../core/sdk/pool.ts'
import { Seeded } from '../simulation/scheduler.ts'

const KiB = 1024

test('property: what is out is out once, whatever comes back in which order, and no more waits than may', () => {
  const max = 700 * KiB
  const pool = new BufferPool(max)
  const r = new Seeded(3)
  const out: { buffer: ArrayBuffer; mark: number }[] = []
  let again = 0
  const seen = new WeakSet<ArrayBuffer>()
  for (let mark = 1; mark < 3_000; mark++) {
    if (out.length < 12 && r.int(2) === 0) {
      const bytes = r.int(300 * KiB)
      const buffer = pool.take(bytes)
      expect(buffer.byteLength).toBeGreaterThanOrEqual(bytes)
      if (seen.has(buffer)) again++
      seen.add(buffer)
      new Float64Array(buffer, 0, 1)[0] = mark
      out.push({ buffer, mark })
    } else {
      const [one] = out.splice(r.int(Math.max(1, out.length)), 1)
      if (!one) continue
      expect(pool.owns(one.buffer)).toBe(true)
      if (r.int(10) > 0) pool.give(one.buffer) // else it is dropped: nobody else may ever have it
      else if (out.length < 11) out.push(one)
    }
    for (const { buffer, mark: own } of out) expect(new Float64Array(buffer, 0, 1)[0]).toBe(own)
    expect(pool.freeBytes).toBeLessThanOrEqual(max)
  }
  expect(again).toBeGreaterThan(500)
})

test('what is not out is refused: a stranger, and whatever comes back twice', () => {
  const pool = new BufferPool(KiB * KiB)
  const other = new BufferPool(KiB * KiB)
  expect(() => pool.give(new ArrayBuffer(64 * KiB))).toThrow('not out of this pool')
  expect(() => pool.give(other.take(1))).toThrow('65536 bytes that are not out')
  const buffer = pool.take(1)
  pool.give(buffer)
  expect(pool.owns(buffer)).toBe(false)
  expect(() => pool.give(buffer)).toThrow('not out of this pool')
  expect(pool.take(1)).toBe(buffer)
})

test('the bound may fall: shrink lets the largest go first, and what is larger than the bound is never kept', () => {
  let max = 512 * KiB
  const pool = new BufferPool(() => max)
  const all = [256 * KiB, 128 * KiB, 64 * KiB].map((n) => pool.take(n))
  for (const b of all) pool.give(b)
  expect(pool.freeBytes).toBe(448 * KiB)
  pool.shrink(200 * KiB)
  expect(pool.freeBytes).toBe(192 * KiB)
  max = 100 * KiB
  const large = pool.take(101 * KiB)
  pool.give(large)
  expect(pool.freeBytes).toBeLessThanOrEqual(192 * KiB)
  expect(pool.take(101 * KiB)).not.toBe(large)
})

test('what shrink lets go of is freed where the caller says how, and nothing else is', () => {
  const pool = new BufferPool(KiB * KiB)
  const [a, b] = [pool.take(256 * KiB), pool.take(64 * KiB)]
  pool.give(a)
  pool.give(b)
  pool.shrink(64 * KiB, freeNow)
  expect([a.byteLength, b.byteLength, pool.freeBytes]).toEqual([0, 64 * KiB, 64 * KiB])
  expect(pool.take(1)).toBe(b)
})

test('memory that is freed at once is gone from every view', () => {
  const bytes = new Uint8Array(100)
  freeNow(bytes.buffer)
  expect([bytes.length, bytes.buffer.byteLength]).toEqual([0, 0])
})
