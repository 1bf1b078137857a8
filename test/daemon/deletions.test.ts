import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Shared } from '../../core/pipeline/running.ts'
import { Daemons, type Running } from './support.ts'

// What a hostile reading of the manager found, each shown once.
const daemons = new Daemons()
const start = (...args: Parameters<Daemons['start']>): Promise<Running> => daemons.start(...args)
const end = (r: Running, drainMs?: number): Promise<void> => daemons.stop(r, drainMs)
beforeEach(() => daemons.begin())
afterEach(() => daemons.end())
const values = (name: string, n: number): string[] => Array.from({ length: n }, (_, i) => `${name}-${i}`)
const s3 = (name: string): object => ({
  DeliveryStreamName: name,
  ExtendedS3DestinationConfiguration: {
    RoleARN: 'arn:aws:iam::000000000000:role/r', BucketARN: 'arn:aws:s3:::b', Prefix: `${name}/`, BufferingHints: { SizeInMBs: 1, IntervalInSeconds: 900 },
    ProcessingConfiguration: { Enabled: true, Processors: [{ Type: 'AppendDelimiterToRecord' }] },
  },
}) // prettier-ignore
const yaml = (more = '', sink = 'path: ./out'): string => `
pipelines:
  ev:
    source: {direct_put: {shards: 1}}
    format: {type: ndjson}
    buffer: {size: 1MiB, interval: 0s}
    sink: {type: file, ${sink}, prefix: "ev/", error_prefix: "rejected/"}
${more}`
const backup = (records: 'all' | 'rejected'): string => {
  const more = records === 'all' ? 'buffer: {size: 1MiB, interval: 0s}, format: {type: ndjson}, ' : ''
  return `    backup: {records: ${records}, ${more}sink: {type: file, path: ./raw, prefix: "raw/"}}\n`
}

test('a daemon that stops while a stream is being deleted drains the rest at its next start', async () => {
  let shared: Shared | null = null
  const d = await start('', { test: { shared: (s) => (shared = s) } })
  await d.call('CreateDeliveryStream', s3('a'))
  await d.admin('/pipelines/a/pause', {})
  await d.put('a', values('a', 30))
  // as a crash right after the deletion was written would leave it
  const stored = await shared!.registry.pipeline('a')
  await end(d)
  const fresh = await start('', { test: { shared: (s) => (shared = s) } })
  await shared!.registry.putPipeline({ ...stored!.record, status: 'DELETING', paused: false }, stored!.version)
  await end(fresh)
  const again = await start('')
  const drained = await again.event('cut.delivered')
  expect(drained.records).toBe(30)
  await end(again)
  expect((await daemons.folder.lines('data/buckets')).toSorted()).toEqual(values('a', 30).toSorted())
})

test('a crash between the end of a deletion and its record leaves a daemon that starts', async () => {
  let shared: Shared | null = null
  const d = await start('', { test: { shared: (s) => (shared = s) } })
  await d.call('CreateDeliveryStream', s3('a'))
  const stored = await shared!.registry.pipeline('a')
  await shared!.registry.putPipeline({ ...stored!.record, status: 'DELETING' }, stored!.version)
  await shared!.streams.delete(stored!.record.topic)
  await end(d, 500)
  const again = await start('')
  expect((await again.call('DescribeDeliveryStream', { DeliveryStreamName: 'a' })).body['__type']).toBe('ResourceNotFoundException')
  expect((await again.call('CreateDeliveryStream', s3('a'))).status).toBe(200)
})

test('a backup that is switched on later holds everything from then on; off and on again, from the second time on', async () => {
  const a = await start(yaml(backup('rejected')))
  await a.put('ev', values('a', 5))
  await a.event('position.advanced')
  await end(a)
  const b = await start(yaml(backup('all')))
  const both = Promise.all(['ev', 'ev:backup'].map((p) => b.event('position.advanced', (e) => e.pipeline === p)))
  await b.put('ev', values('b', 5))
  await both
  expect((await daemons.folder.lines('raw')).toSorted()).toEqual(values('b', 5).toSorted())
  await end(b)
  const off = await start(yaml(backup('rejected')))
  await off.put('ev', values('off', 5))
  await off.event('position.advanced')
  await end(off)
  const c = await start(yaml(backup('all')))
  const again = Promise.all(['ev', 'ev:backup'].map((p) => c.event('position.advanced', (e) => e.pipeline === p)))
  await c.put('ev', values('c', 5))
  await again
  await end(c)
  expect((await daemons.folder.lines('raw')).toSorted()).toEqual([...values('b', 5), ...values('c', 5)].toSorted())
  expect((await daemons.folder.lines('out')).length).toBe(20)
})

test('replaying where nothing is left says so and changes nothing', async () => {
  const d = await start(yaml())
  await d.put('ev', values('a', 5))
  await d.event('position.advanced')
  const r = await d.admin('/pipelines/ev/replay', { from: { position: 5 } })
  expect(r.status).toBeGreaterThanOrEqual(400)
  expect(JSON.stringify(r.body)).toContain('nothing is there to deliver again')
  expect(JSON.stringify((await d.admin('/pipelines')).body)).toContain('"lineage":1')
})

test('pause and resume at once leave the lane running', async () => {
  const d = await start(yaml())
  await Promise.all([d.admin('/pipelines/ev/pause', {}), d.admin('/pipelines/ev/resume', {}), d.admin('/pipelines/ev/pause', {})])
  await d.admin('/pipelines/ev/resume', {})
  const delivered = d.event('position.advanced')
  await d.put('ev', ['x'])
  expect((await delivered).position).toBe(1)
})
