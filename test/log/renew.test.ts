import { expect, test } from 'vitest'
import { batchOf, valueOf } from '../../core/sdk/batch.ts'
import { openLog } from './helper.ts'

const never = new AbortController().signal
const text = (row: number, i: number): string => `row ${row} record ${i} ${'x'.repeat(2_000)}`
const put = (row: number) => batchOf(Array.from({ length: 50 }, (_, i) => ({ value: Buffer.from(text(row, i)) })))

test('the map is made anew while rows are read, written and trimmed: every record is there, in order, once', async () => {
  // every row read is larger than what may stay mapped
  const { log } = await openLog({}, { readMapBytes: 50_000 })
  const t = await log.createTopic('t', { partitions: 2 })
  const rows = 30
  const reader = async (partition: number): Promise<string[]> => {
    const seen: string[] = []
    for (let from = 0; seen.length < rows * 50;) {
      const r = await log.read(t, partition, from, { maxBytes: 100_000, maxWaitMs: 5_000, signal: never })
      for (const b of r.batches) {
        for (let i = 0; i < b.count; i++) seen.push(Buffer.from(valueOf(b, i) ?? []).toString())
        b.release()
      }
      from = r.next
      if (from % 250 === 0) await log.trimBefore(t, partition, from)
      await log.offsetAt(t, partition, { timestampMs: 0 })
    }
    return seen
  }
  const writer = async (partition: number): Promise<void> => {
    for (let row = 0; row < rows; row++) await log.append(t, partition, put(row), { signal: never })
  }
  const [first, second] = await Promise.all([reader(0), reader(1), writer(0), writer(1)])
  const all = Array.from({ length: rows * 50 }, (_, n) => text(Math.floor(n / 50), n % 50))
  expect(first).toEqual(all)
  expect(second).toEqual(all)
})
