import { expect, test } from 'vitest'
import { errorLines, errorOutputType, type RejectedRecord } from '../../core/format/error-record.ts'
import type { Rejection } from '../../core/sdk/batch.ts'

const rejection: Rejection = {
  origin: 0,
  sub: 0,
  stage: 'decompress',
  code: 'Decompression.MalformedGzip',
  message: 'a "quoted"\nü',
  attempts: 1,
}
const record = (raw: Uint8Array): RejectedRecord => ({ rejection, raw, arrivalMs: 1495072949453 })

test("a line has Firehose's fields in its order, times are numbers and no clock is read", () => {
  // a view into the middle of a buffer, as batches give
  const raw = Buffer.from('xx{"a":1}xx').subarray(2, 9)
  expect(Buffer.concat([...errorLines([record(raw)])]).toString()).toBe(
    '{"rawData":"eyJhIjoxfQ==","errorCode":"Decompression.MalformedGzip","errorMessage":"a \\"quoted\\"\\nü","attemptsMade":1,' +
      '"arrivalTimestamp":1495072949453,"attemptEndingTimestamp":1495072949453}\n',
  )
  expect(Buffer.concat([...errorLines([record(raw)], { attemptEndingMs: 7 })]).toString()).toContain('"attemptEndingTimestamp":7}')
})

test('many records: whole lines in bounded chunks', () => {
  const random = Buffer.alloc(1000, 'r')
  const chunks = [...errorLines(Array.from({ length: 2000 }, () => record(random)))]
  expect(chunks.length).toBeGreaterThan(5)
  for (const c of chunks) {
    expect(c.length).toBeLessThan(300 * 1024)
    expect(c.at(-1)).toBe(10)
  }
  const lines = Buffer.concat(chunks).toString().trimEnd().split('\n')
  expect(lines).toHaveLength(2000)
  expect(new Set(lines).size).toBe(1)
  expect([...errorLines([])]).toEqual([])
})

test('the error type of a stage', () => {
  expect(errorOutputType('decompress')).toBe('decompression-failed')
  for (const stage of ['deaggregate', 'transform', 'partition', 'deliver'] as const)
    expect(errorOutputType(stage)).toBe('processing-failed')
})
