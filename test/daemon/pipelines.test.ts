import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { startScriptedS3 } from '../services/scripted-s3.ts'
import { Daemons, type Running } from './support.ts'

const daemons = new Daemons()
const start = (...args: Parameters<Daemons['start']>): Promise<Running> => daemons.start(...args)
const end = (r: Running, drainMs?: number): Promise<void> => daemons.stop(r, drainMs)
beforeEach(() => daemons.begin())
afterEach(() => daemons.end())
const values = (name: string, n: number): string[] => Array.from({ length: n }, (_, i) => `${name}-${i}`)
const yaml = (o: { prefix?: string; shards?: number; interval?: string; size?: string; path?: string; more?: string } = {}): string => `
pipelines:
  ev:
    source: {direct_put: {shards: ${o.shards ?? 1}}}
    format: {type: ndjson, compression: gzip}
    buffer: {size: ${o.size ?? '1MiB'}, interval: ${o.interval ?? '0s'}}
    sink: {type: file, path: ${o.path ?? './out'}, prefix: "${o.prefix ?? 'ev/'}", error_prefix: "rejected/"}
${o.more ?? ''}`
const s3 = (name: string, more: object = {}): object => ({
  DeliveryStreamName: name,
  ExtendedS3DestinationConfiguration: {
    RoleARN: 'arn:aws:iam::000000000000:role/r', BucketARN: 'arn:aws:s3:::b', Prefix: `${name}/`, BufferingHints: { SizeInMBs: 1, IntervalInSeconds: 0 },
    ProcessingConfiguration: { Enabled: true, Processors: [{ Type: 'AppendDelimiterToRecord' }] }, ...more,
  },
}) // prettier-ignore

test('row 6: a stream that is deleted and created again under its name delivers all its new data', async () => {
  const d = await start('')
  await d.call('CreateDeliveryStream', s3('a'))
  await d.put('a', values('old', 20))
  await d.event('position.advanced')
  const gone = until(d, async () => (await d.call('DescribeDeliveryStream', { DeliveryStreamName: 'a' })).status === 400)
  await d.call('DeleteDeliveryStream', { DeliveryStreamName: 'a' })
  await gone
  expect((await d.call('CreateDeliveryStream', s3('a'))).status).toBe(200)
  await d.put('a', values('new', 20))
  await d.event('position.advanced')
  await end(d)
  expect((await daemons.folder.lines('data/buckets')).toSorted()).toEqual([...values('old', 20), ...values('new', 20)].toSorted())
})

const refusal = (message: string): object => ({ status: 400, body: { __type: 'InvalidArgumentException', message } })

test('a stream whose objects would leave the folder of its bucket is refused, as is a bucket without a name', async () => {
  const d = await start('buckets: {at-a-store: {endpoint: "http://127.0.0.1:9"}}')
  expect(await d.call('CreateDeliveryStream', s3('a', { Prefix: '/../../' }))).toEqual(
    refusal('Prefix cannot be used: the bucket b is a folder, and it is an absolute path.'),
  )
  expect(await d.call('CreateDeliveryStream', s3('a', { BucketARN: 'arn:aws:s3:::..' }))).toEqual(
    refusal('BucketARN is not valid: bucket "..": expected 1 to 255 letters, digits, _ . - and neither . nor ..'),
  )
  const elsewhere = s3('a', { Prefix: '/../../', BucketARN: 'arn:aws:s3:::at-a-store' })
  expect((await d.call('CreateDeliveryStream', elsewhere)).status).toBe(200)
})

test('what was never used is in the metrics, at 0', async () => {
  const d = await start(yaml())
  await d.call('CreateDeliveryStream', s3('made'))
  const lines = async (of: RegExp): Promise<string[]> =>
    (await (await fetch(`${d.daemon.admin}/metrics`)).text()).split('\n').filter((l) => of.test(l))
  await until(d, async () => new Set(d.events.flatMap((e) => (e.type === 'lane.started' ? [e.pipeline] : []))).size === 2)
  expect((await lines(/^hydrant_(accepted|delivered)_records_total\{/)).toSorted()).toEqual([
    'hydrant_accepted_records_total{stream="ev"} 0',
    'hydrant_accepted_records_total{stream="made"} 0',
    'hydrant_delivered_records_total{pipeline="ev"} 0',
    'hydrant_delivered_records_total{pipeline="made"} 0',
  ])
  for (const name of ['ev', 'made']) {
    const delivered = d.event('position.advanced', (e) => e.pipeline === name)
    await d.put(name, ['first'])
    await delivered
  }
  expect((await lines(/^hydrant_breaker_open\{/)).toSorted()).toEqual([
    'hydrant_breaker_open{sink="file",endpoint="",target="./out"} 0',
    'hydrant_breaker_open{sink="file",endpoint="",target="data/buckets/b"} 0',
  ])
})

/** Asks again after every event; deletions end without one of their own. */
async function until(d: Running, done: () => Promise<boolean>): Promise<void> {
  for (let i = 0; i < 200; i++) {
    if (await done()) return
    await Promise.race([d.event('request.handled'), new Promise((r) => setTimeout(r, 50))])
  }
  throw new Error('not done after 200 looks')
}

test('deleting drains what was put; AllowForceDelete discards and counts', async () => {
  const d = await start('')
  await d.call('CreateDeliveryStream', s3('a', { BufferingHints: { SizeInMBs: 1, IntervalInSeconds: 900 } }))
  await d.put('a', values('kept', 30))
  const drained = d.event('cut.delivered')
  await d.call('DeleteDeliveryStream', { DeliveryStreamName: 'a' })
  expect((await drained).records).toBe(30)
  expect((await d.call('PutRecord', { DeliveryStreamName: 'a', Record: { Data: 'YQ==' } })).status).toBe(400)
  await d.call('CreateDeliveryStream', s3('b', { BufferingHints: { SizeInMBs: 1, IntervalInSeconds: 900 } }))
  await d.put('b', values('gone', 7))
  const discarded = d.event('records.discarded')
  await d.call('DeleteDeliveryStream', { DeliveryStreamName: 'b', AllowForceDelete: true })
  expect(await discarded).toMatchObject({ from: 0, to: 7, reason: 'force' })
  await end(d)
  expect((await daemons.folder.lines('data/buckets')).toSorted()).toEqual(values('kept', 30).toSorted())
})

test('row 10: main and backup hold the same records, from the first one on', async () => {
  const more =
    '    backup: {records: all, format: {type: ndjson}, buffer: {size: 1MiB, interval: 60s}, sink: {type: file, path: ./raw, prefix: "raw/"}}\n'
  const first = await start(yaml({ more, interval: '60s' }))
  await first.put('ev', values('a', 40))
  await end(first)
  const second = await start(yaml({ more, interval: '60s' }))
  await second.put('ev', values('b', 40))
  await end(second)
  const all = [...values('a', 40), ...values('b', 40)].toSorted()
  expect((await daemons.folder.lines('out')).toSorted()).toEqual(all)
  expect((await daemons.folder.lines('raw')).toSorted()).toEqual(all)
})

test('a changed YAML spec is put in force with the next version; an older one is refused until it is forced (row 36)', async () => {
  const a = await start(yaml({ prefix: 'a/' }))
  await end(a)
  const b = await start(yaml({ prefix: 'b/' }))
  expect((await b.call('DescribeDeliveryStream', { DeliveryStreamName: 'ev' })).body).toMatchObject({
    DeliveryStreamDescription: { VersionId: '2' },
  })
  await end(b)
  const again = await start(yaml({ prefix: 'a/' }))
  expect(again.events).toContainEqual(expect.objectContaining({ type: 'warning', code: 'OlderSpec' }))
  await again.put('ev', ['still-b'])
  await again.event('position.advanced')
  expect((await daemons.folder.files('out')).every((f) => f.includes('/b/'))).toBe(true)
  expect((await again.admin('/pipelines/ev/apply', { force: true })).status).toBe(200)
  await again.put('ev', ['back-to-a'])
  await again.event('position.advanced')
  expect((await daemons.folder.files('out')).some((f) => f.includes('/a/'))).toBe(true)
})

test('pause keeps what is put, resume delivers it', async () => {
  const d = await start(yaml())
  expect((await d.admin('/pipelines/ev/pause', {})).status).toBe(200)
  await d.put('ev', values('a', 10))
  expect(await daemons.folder.files('out')).toEqual([])
  const delivered = d.event('position.advanced')
  expect((await d.admin('/pipelines/ev/resume', {})).status).toBe(200)
  expect((await delivered).position).toBe(10)
})

test('replay delivers everything again under new names; without it nothing moves', async () => {
  const d = await start(yaml({ interval: '1s' }))
  await d.put('ev', values('a', 25))
  await d.event('position.advanced', (e) => e.position === 25)
  const again = d.event('position.advanced', (e) => e.position === 25)
  const { body } = await d.admin('/pipelines/ev/replay', { from: 'earliest' })
  expect(body).toMatchObject({ lineage: 2 })
  await again
  const lines = await daemons.folder.lines('out')
  expect(lines.length).toBe(50)
  expect(new Set(lines).size).toBe(25)
})

describe('row 12: a sink that cannot work', () => {
  test('release proves that nothing was delivered, then another target takes the cuts: each id once', async () => {
    const { mkdir, writeFile } = await import('node:fs/promises')
    await mkdir(`${daemons.folder.path}/wrong`)
    await writeFile(`${daemons.folder.path}/wrong/ev`, 'a file where a folder has to be')
    const wrong = yaml({ path: './wrong' }).replace('prefix: "ev/"', 'timeout: 100ms, prefix: "ev/"')
    const d = await start(wrong)
    const all = values(`a${'x'.repeat(100_000)}`, 12)
    await d.put('ev', all)
    await d.event('cut.recorded')
    await end(d)
    const fixed = await start(wrong.replace('path: ./wrong', 'path: ./out'))
    const from = performance.now()
    const released = await fixed.admin('/pipelines/ev/release', { force: false })
    // an attempt may live for its time-out of 100 ms and a second for each MiB of the cut
    expect(performance.now() - from).toBeGreaterThan(1_000)
    expect(released).toMatchObject({ status: 200 })
    await fixed.event('position.advanced')
    await end(fixed)
    expect((await daemons.folder.lines('out')).toSorted()).toEqual(all.toSorted())
  })
  test('release refuses where an object stands', async () => {
    const d = await start(yaml({ interval: '1s' }).replace('prefix: "ev/"', 'timeout: 100ms, prefix: "ev/"'))
    await d.put('ev', ['x'])
    await d.event('position.advanced')
    const r = await d.admin('/pipelines/ev/release', { force: false })
    expect(r).toMatchObject({ status: 200, body: { shards: [{ released: 0 }] } })
  })
})

test('a pipeline that left the configuration keeps its data and is named', async () => {
  const d = await start(yaml({ interval: '60s' }))
  await d.admin('/pipelines/ev/pause', {})
  await d.put('ev', values('a', 5))
  await end(d)
  const without = await start('')
  expect(without.events).toContainEqual(expect.objectContaining({ type: 'warning', code: 'NotConfigured' }))
  await end(without)
  const back = await start(yaml({ interval: '1s' }))
  const delivered = back.event('position.advanced')
  await back.admin('/pipelines/ev/resume', {})
  await delivered
  expect((await daemons.folder.lines('out')).toSorted()).toEqual(values('a', 5).toSorted())
})

test('row 33: a folder restored from a backup gets new ids and delivers what comes after its positions', async () => {
  const { cp, rm } = await import('node:fs/promises')
  const d = await start(yaml())
  await d.put('ev', values('before', 10))
  await d.event('position.advanced')
  await end(d)
  await cp(`${daemons.folder.path}/data`, `${daemons.folder.path}/copy`, { recursive: true })
  await rm(`${daemons.folder.path}/data`, { recursive: true })
  await cp(`${daemons.folder.path}/copy`, `${daemons.folder.path}/data`, { recursive: true })
  await expect(daemons.folder.start(yaml())).rejects.toThrow('--restored')
  const restored = await start(yaml(), { restored: true })
  await restored.put('ev', values('after', 10))
  await restored.event('position.advanced')
  await end(restored)
  expect((await daemons.folder.lines('out')).toSorted()).toEqual([...values('before', 10), ...values('after', 10)].toSorted())
})

test('row 22: a restart with a quarter of the memory finishes the 16 cuts that were recorded', async () => {
  const s3 = await startScriptedS3()
  try {
    const sink = `sink: {type: s3, bucket: lake, endpoint: "${s3.url}", region: us-east-1, credentials: {access_key: a, secret_key: s}, retry: {base: 5ms}, prefix: "ev/", error_prefix: "rejected/"}`
    const config = yaml({ size: '1MiB', interval: '0s' })
      .replace('compression: gzip', 'compression: none')
      .replace(/sink: .*/, sink)
    const d = await start(config, { memory: '64MiB' })
    await d.put('ev', ['first'])
    await d.event('position.advanced')
    // the store breaks after the lane has left probation: cuts are recorded and wait
    s3.fail('any', 'slow-down', { times: 1e9 })
    const body = 'x'.repeat(2_000)
    const all = ['first']
    let cuts = 0
    const full = d.event('cut.recorded', () => ++cuts === 16)
    for (let i = 0; i < 24; i++) {
      const some = Array.from({ length: 450 }, (_, n) => `r${i}-${n}-${body}`)
      all.push(...some)
      await d.put('ev', some)
    }
    await full
    await end(d, 50)
    s3.reset()
    const small = await start(config, { memory: '16MiB' })
    const done = small.event('position.advanced', (e) => e.position === all.length)
    await done
    expect(small.events).toContainEqual(expect.objectContaining({ type: 'lane.started', recoveredCuts: 16 }))
    const used = Math.max(...small.events.map((e) => (e.type === 'memory.changed' ? e.usedBytes : 0)))
    expect(used).toBeLessThanOrEqual(16 * 1024 * 1024)
    await end(small)
    const lines = [...s3.objects.values()].flatMap((o) => Buffer.from(o.body).toString().split('\n')).filter((l) => l !== '')
    expect(lines.toSorted()).toEqual(all.toSorted())
  } finally {
    await s3.stop()
  }
}, 60_000)

test('row 10: a shard that is added under load loses none of its records', async () => {
  const d = await start(yaml({ interval: '1s' }))
  await d.put('ev', values('one', 10))
  expect((await d.admin('/pipelines/ev/pause', {})).status).toBe(200)
  await d.addShards('ev', 3)
  const all = values('one', 10)
  for (let i = 0; i < 9; i++) {
    const some = values(`more${i}`, 10)
    all.push(...some)
    await d.put('ev', some)
  }
  await d.admin('/pipelines/ev/resume', {})
  await end(d)
  expect((await daemons.folder.lines('out')).toSorted()).toEqual(all.toSorted())
})

test('more shards in the configuration are made at the next start; fewer are not, and it is said', async () => {
  const all = values('one', 10)
  const one = await start(yaml({ interval: '1s' }))
  await one.put('ev', all)
  await end(one)
  const three = await start(yaml({ interval: '0s', shards: 3 }))
  const reached = new Set<string>()
  const done = three.event('position.advanced', (e) => reached.add(e.shard).size === 3)
  for (let i = 0; i < 3; i++) {
    all.push(...values(`three${i}`, 10))
    await three.put('ev', values(`three${i}`, 10))
  }
  await done
  await end(three)
  const again = await start(yaml({ interval: '1s' }))
  expect(again.events).toContainEqual(expect.objectContaining({ type: 'warning', code: 'FewerShards' }))
  await end(again)
  expect((await daemons.folder.lines('out')).toSorted()).toEqual(all.toSorted())
})
