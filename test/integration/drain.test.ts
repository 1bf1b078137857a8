import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { assertClean, audit } from '../harness/audit.ts'
import { FirehoseClient, load } from '../harness/client.ts'
import type { DaemonConfig } from '../harness/config.ts'
import { Home, type Daemon } from '../harness/daemon.ts'
import { forward, type Forwarder } from '../harness/forward.ts'
import { Outcomes } from '../harness/outcomes.ts'
import { fileStore, s3Store, type Store } from '../harness/stores.ts'
import { requireService } from '../services/require.ts'
import type { Proxy, Toxiproxy } from '../services/toxiproxy.ts'
import type { Versitygw } from '../services/versitygw.ts'

const startS3 = await requireService('versitygw', 'SIGTERM with slow and dead stores')
const startToxiproxy = await requireService('toxiproxy', 'SIGTERM with slow and dead stores')
const STREAM = 'events'

let home: Home
let client: FirehoseClient
let log: Outcomes
beforeEach(async () => {
  home = await Home.make()
  client = new FirehoseClient({ url: `http://127.0.0.1:${home.ports.api}`, timeoutMs: 10_000 })
  log = new Outcomes(Math.floor(Math.random() * 2 ** 32))
})
afterEach(async () => {
  client.close()
  await home.remove()
})

/** SIGTERM while clients send; resolves with the exit code, when all clients have their answers. */
async function termUnderLoad(d: Daemon): Promise<{ code: number | null; ms: number }> {
  const stop = new AbortController()
  const sending = load(client, { stream: STREAM, log, seed: 3, producers: 4, until: stop.signal, rate: 2_000, batch: 20 })
  await d.until((s) => s.some((p) => p.lanes.some((l) => l.position > 500 || l.lagRecords > 500)), 20_000, 'load')
  const from = performance.now()
  const exit = await d.stop()
  stop.abort()
  await sending
  return { code: exit.code, ms: performance.now() - from }
}

const auditOf = async (s: Store): Promise<void> => {
  const r = assertClean(await audit({ outcomes: log, delivered: [s.place], compression: 'none' }), 'drain')
  expect(r.accepted).toBeGreaterThan(400)
}

const config = (s: Store, o: Partial<DaemonConfig> = {}): DaemonConfig => ({
  pipelines: [{ name: STREAM, size: '64KiB', interval: '900s', sink: s.sink }],
  ...o,
})

/** Exit code 0 means: no cut is open, nothing has to be done again. What was accepted and not read is in the log. */
async function expectNothingOpen(): Promise<void> {
  const d = await home.start({ debug: true }).ready()
  await d.until((s) => s.every((p) => p.lanes.every((l) => l.state === 'running')), 10_000, 'running')
  expect(
    d
      .events()
      .filter((e) => e['event'] === 'lane.started')
      .map((e) => e['recoveredCuts']),
  ).toEqual([0])
  await d.kill()
}

test('SIGTERM with a healthy store: open cuts are delivered, exit code 0', async () => {
  const store = fileStore(home.folder)
  await home.configure(config(store))
  const { code } = await termUnderLoad(await home.start().ready())
  expect(code).toBe(0)
  await expectNothingOpen()
  await home.finish()
  await auditOf(store)
})

describe.skipIf(!startS3 || !startToxiproxy)('SIGTERM with a store that is', () => {
  let s3: Versitygw
  let toxiproxy: Toxiproxy
  let line: Forwarder
  let proxy: Proxy
  let store: Store
  beforeAll(async () => {
    if (!startS3 || !startToxiproxy) return
    s3 = await startS3({ keepAlive: true })
    toxiproxy = await startToxiproxy()
  })
  afterAll(async () => {
    await toxiproxy.stop()
    await s3.stop()
  })
  beforeEach(async () => {
    line = await forward(s3.url)
    proxy = await toxiproxy.proxy(line.url)
    store = await s3Store(s3, proxy.url)
  })
  afterEach(async () => {
    await proxy.remove()
    await line.close()
  })

  test('slow: open cuts are delivered within drain_timeout, exit code 0', async () => {
    const slow = await proxy.toxic('latency', 'downstream', { latency: 300 })
    await home.configure(config(store))
    const { code } = await termUnderLoad(await home.start().ready())
    expect(code).toBe(0)
    await expectNothingOpen()
    await slow.remove()
    await home.finish()
    await auditOf(store)
  })

  test('dead: waits for it no longer, ends with another code, and the next life delivers all', async () => {
    await proxy.enable(false)
    await home.configure(config(store, { drain: '1s' }))
    const { code, ms } = await termUnderLoad(await home.start().ready())
    expect(code).not.toBe(0)
    expect(ms).toBeLessThan(10_000)
    await proxy.enable(true)
    await home.finish()
    await auditOf(store)
  })

  test('hanging: ends at drain_timeout, else the same', async () => {
    line.mode('hang')
    await home.configure(config(store, { drain: '1s' }))
    const { code, ms } = await termUnderLoad(await home.start().ready())
    expect(code).not.toBe(0)
    expect(ms).toBeLessThan(10_000)
    line.mode('pass')
    await home.finish()
    await auditOf(store)
  })
})

test('while it drains it takes nothing and says so', async () => {
  // a delivery that hangs at its first effect keeps the daemon draining
  const store = fileStore(home.folder)
  await home.configure(config(store, { drain: '3s' }))
  const d = await home.start({ failpoints: 'object.part.before:hang@*' }).ready()
  await load(client, { stream: STREAM, log, seed: 4, records: 100 })
  expect((await fetch(`${d.adminUrl}/health/ready`)).status).toBe(200)
  d.signal('SIGTERM')
  for (const end = performance.now() + 2_000; ;) {
    const ready = await fetch(`${d.adminUrl}/health/ready`).catch(() => null)
    if (ready?.status === 503) break
    expect(performance.now(), 'readiness did not turn false').toBeLessThan(end)
  }
  const r = await load(client, { stream: STREAM, log, seed: 5, records: 20, batch: 20, producers: 1, firstProducer: 10 })
  expect(r).toMatchObject({ ok: 0, refusals: 1 })
  expect((await d.ended(15_000)).code).not.toBe(0)
  await home.finish()
  assertClean(await audit({ outcomes: log, delivered: [store.place], compression: 'none' }), 'drain')
})

const create = (bucket: string): Promise<unknown> =>
  client.must('CreateDeliveryStream', {
    DeliveryStreamName: STREAM,
    ExtendedS3DestinationConfiguration: {
      RoleARN: 'arn:aws:iam::000000000000:role/r',
      BucketARN: `arn:aws:s3:::${bucket}`,
      BufferingHints: { SizeInMBs: 128, IntervalInSeconds: 900 },
    },
  })
const statusOf = async (): Promise<string> => {
  const a = await client.call('DescribeDeliveryStream', { DeliveryStreamName: STREAM })
  if (a.status !== 200) return String(a.body['__type'])
  return (a.body['DeliveryStreamDescription'] as { DeliveryStreamStatus: string }).DeliveryStreamStatus
}
const until = async (wanted: string): Promise<void> => {
  for (const end = performance.now() + 20_000; ;) {
    const s = await statusOf()
    if (s === wanted) return
    expect(performance.now(), `${s}, not ${wanted}`).toBeLessThan(end)
    await new Promise((r) => void setTimeout(r, 20))
  }
}

describe('DeleteDeliveryStream', () => {
  test('delivers what was accepted before the name is gone; puts are refused meanwhile', async () => {
    const root = join(home.folder, 'buckets')
    await home.configure({ pipelines: [], buckets: { type: 'file', target: root } })
    const d = await home.start().ready()
    await create('lake')
    await until('ACTIVE')
    await load(client, { stream: STREAM, log, seed: 6, records: 3_000 })
    await client.must('DeleteDeliveryStream', { DeliveryStreamName: STREAM })
    const late = await load(client, { stream: STREAM, log, seed: 7, records: 20, batch: 20, producers: 1, firstProducer: 10 })
    expect(late).toMatchObject({ ok: 0, refusals: 1 })
    await until('ResourceNotFoundException')
    const r = await audit({ outcomes: log, delivered: [{ kind: 'folder', root: join(root, 'lake') }], compression: 'none' })
    expect(assertClean(r, 'delete').accepted).toBe(3_000)
    await d.drain()
  })

  test('with AllowForceDelete discards at once, and counts', async () => {
    await home.configure({ pipelines: [], buckets: { type: 'file', target: join(home.folder, 'buckets') } })
    const d = await home.start({ failpoints: 'object.part.before:hang@*' }).ready()
    await create('lake')
    await until('ACTIVE')
    await load(client, { stream: STREAM, log, seed: 8, records: 700 })
    await client.must('DeleteDeliveryStream', { DeliveryStreamName: STREAM, AllowForceDelete: true })
    await until('ResourceNotFoundException')
    const metrics = await (await fetch(`${d.adminUrl}/metrics`)).text()
    const discarded = [...metrics.matchAll(/^hydrant_discarded_records_total\{.*\} (\d+)/gm)].reduce((n, m) => n + Number(m[1]), 0)
    expect(discarded, metrics).toBe(700)
    const place = { kind: 'folder', root: join(home.folder, 'buckets', 'lake') } as const
    assertClean(await audit({ outcomes: log, delivered: [place], compression: 'none', dropped: 700 }), 'force')
  })
})
