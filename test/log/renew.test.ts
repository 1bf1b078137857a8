import { readFileSync } from 'node:fs'
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

/** Resident bytes of what is mapped of the files below `path`; only Linux says. */
function mapped(path: string): number {
  const lines = readFileSync('/proc/self/smaps', 'utf8').split('\n')
  let below = false
  let kib = 0
  for (const line of lines) {
    if (/^[0-9a-f]+-[0-9a-f]+ /.test(line)) below = line.includes(path)
    else if (below && line.startsWith('Rss:')) kib += Number(/\d+/.exec(line)?.[0])
  }
  return kib * 1024
}

test('rows that are removed unread do not stay mapped', async () => {
  const { log, path } = await openLog({}, { readMapBytes: 1_000_000 })
  const t = await log.createTopic('t', { partitions: 1 })
  for (let row = 0; row < 80; row++) await log.append(t, 0, put(row), { signal: never })
  await log.trimBefore(t, 0, 79 * 50)
  await log.append(t, 0, put(80), { signal: never }) // behind the renewal
  if (process.platform === 'linux') expect(mapped(path)).toBeLessThan(1_000_000)
})
