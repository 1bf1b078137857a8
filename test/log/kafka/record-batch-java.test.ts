import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { plain, readSet } from './support.ts'

/** Written and read by Kafka's own classes: JavaBatches.java makes the file. */
interface Case {
  readonly name: string
  readonly bytes: string
  readonly records: readonly (readonly [number, number, string | null, string | null, readonly (readonly [string, string | null])[]])[]
}
const cases = JSON.parse(readFileSync(new URL('java-batches.json', import.meta.url), 'utf8')) as Case[]
const raw = (b64: string | null): Uint8Array | null => (b64 === null ? null : Buffer.from(b64, 'base64'))

function found(name: string): { bytes: Uint8Array; records: unknown[] } {
  const c = cases.find((x) => x.name === name)
  if (c === undefined) throw new Error(`java-batches.json has no case ${name}`)
  const records = c.records.map(([offset, ms, key, value, headers]) =>
    plain({ offset, ms, key: raw(key), value: raw(value), headers: headers.map(([n, v]) => [n, raw(v)] as const) }),
  )
  return { bytes: Buffer.from(c.bytes, 'base64'), records }
}

test.each(['none', 'gzip', 'snappy', 'lz4', 'zstd'])('%s: two batches of a Java producer, holes, nulls and headers', async (name) => {
  const { bytes, records } = found(name)
  expect(records.length).toBe(34)
  const read = await readSet(bytes)
  expect(read.records).toEqual(records)
  expect(read.parts).toEqual([{ count: 34, next: 1510, leaderEpoch: 11 }])
  const late = await readSet(bytes, { from: 1502, maxBytes: 1 })
  expect(late.records).toEqual(records.slice(26))
  const between = await readSet(bytes, { from: 1031 })
  expect(between.records).toEqual(records.slice(11))
})

test('LogAppendTime: the log’s time, not the producer’s', async () => {
  const { bytes, records } = found('append time')
  expect((await readSet(bytes)).records).toEqual(records)
})

test('transactions: what was aborted and the markers are left out, and what the same producer commits later is not', async () => {
  const { bytes, records } = found('transactions')
  expect(records.length).toBe(8)
  const aborted = [{ producerId: 7, firstOffset: 100 }]
  const read = await readSet(bytes, { from: 100, aborted })
  expect(read.records).toEqual(records.slice(2))
  expect(read.next).toBe(111)
  // batch by batch, and from the middle: the same
  expect((await readSet(bytes, { from: 100, aborted, maxBytes: 1 })).records).toEqual(records.slice(2))
  expect((await readSet(bytes, { from: 103, aborted })).records).toEqual(records.slice(3))
  expect((await readSet(bytes, { from: 100 })).records).toEqual(records)
})

test.each(['v0', 'v1'])('message format %s is refused and says so', async (name) => {
  await expect(readSet(found(name).bytes)).rejects.toThrow(
    new RegExp(`topic events partition 3: the record batch at offset \\d: its message format is ${name}, read is v2 \\(written before`),
  )
})
