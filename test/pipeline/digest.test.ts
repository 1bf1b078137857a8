import { crc32 } from 'node:zlib'
import { expect, test } from 'vitest'
import { batchOf, sliceBatch, type RecordBatch } from 'hydrant/sdk'
import { DELIVERED, DROPPED, OutcomeDigest, RecordDigest, REJECTED } from '../../core/pipeline/digest.ts'
import { Seeded } from '../simulation/scheduler.ts'

type Rec = { value: Uint8Array | null; key?: Uint8Array | null; position: number; arrivalMs: number }
function records(seed: number, n: number): Rec[] {
  const r = new Seeded(seed)
  const bytes = (): Uint8Array => r.bytes(r.int(5) === 0 ? 0 : r.int(50))
  return Array.from({ length: n }, (_, i) => ({
    value: r.chance(0.1) ? null : bytes(),
    key: r.chance(0.5) ? null : bytes(),
    position: 1000 + i * 2,
    arrivalMs: 1_795_370_000_000 + i,
  }))
}
function digest(batches: RecordBatch[]): string {
  const d = new RecordDigest()
  for (const b of batches) d.add(b)
  return d.value()
}
/** The definition, record by record: shares no code with the digest. */
function byDefinition(all: Rec[]): string {
  let h = 0
  let c = 0
  for (const r of all) {
    const b = Buffer.alloc(28)
    b.writeBigUInt64LE(BigInt(r.position), 0)
    b.writeBigUInt64LE(BigInt(r.arrivalMs), 8)
    b.writeInt32LE(r.key ? r.key.length : -1, 16)
    b.writeInt32LE(r.value ? r.value.length : -1, 20)
    b.writeInt32LE(-1, 24)
    h = crc32(b, h)
    if (r.key) c = crc32(r.key, c)
    if (r.value) c = crc32(r.value, c)
  }
  return h.toString(16).padStart(8, '0') + c.toString(16).padStart(8, '0')
}

test('is what its definition says', () => {
  for (let seed = 1; seed < 50; seed++) {
    const all = records(seed, 1 + (seed % 40))
    expect(digest([batchOf(all)])).toBe(byDefinition(all))
  }
})
test('does not depend on how the records were batched', () => {
  const r = new Seeded(3)
  const all = records(9, 200)
  const whole = digest([batchOf(all)])
  for (let i = 0; i < 50; i++) {
    const batches: RecordBatch[] = []
    for (let at = 0; at < all.length;) {
      const n = 1 + r.int(30)
      batches.push(r.chance(0.5) ? batchOf(all.slice(at, at + n)) : sliceBatch(batchOf(all), at, Math.min(all.length, at + n)))
      at += n
    }
    expect(digest(batches)).toBe(whole)
  }
})
test('sees a moved boundary, a null, a position, an arrival', () => {
  const base: Rec[] = [{ value: Buffer.from('ab'), key: null, position: 1, arrivalMs: 5 }, { value: Buffer.from('c'), key: null, position: 2, arrivalMs: 5 }] // prettier-ignore
  const others: Rec[][] = [
    [
      { ...base[0]!, value: Buffer.from('a') },
      { ...base[1]!, value: Buffer.from('bc') },
    ],
    [{ ...base[0]!, key: Buffer.from('') }, base[1]!],
    [{ ...base[0]!, position: 0 }, base[1]!],
    [base[0]!, { ...base[1]!, arrivalMs: 6 }],
    [base[1]!, base[0]!],
  ]
  const all = [base, ...others].map((x) => digest([batchOf(x)]))
  expect(new Set(all).size).toBe(all.length)
})
function of(steps: [0 | 1 | 2, number][]): string {
  const d = new OutcomeDigest()
  for (const [o, n] of steps) d.add(o, n)
  return d.value()
}

test('outcomes: the same runs in other steps are the same, another order is not', () => {
  expect(of([[DELIVERED, 3], [DELIVERED, 2], [REJECTED, 1]])).toBe(of([[DELIVERED, 5], [REJECTED, 0], [REJECTED, 1]])) // prettier-ignore
  expect(of([[DELIVERED, 5], [REJECTED, 1]])).not.toBe(of([[REJECTED, 1], [DELIVERED, 5]])) // prettier-ignore
  expect(of([[DELIVERED, 5], [REJECTED, 1]])).not.toBe(of([[DELIVERED, 5], [DROPPED, 1]])) // prettier-ignore
})
