import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { requireService } from '../services/require.ts'
import { startScriptedS3, type S3Fault } from '../services/scripted-s3.ts'
import type { Toxiproxy } from '../services/toxiproxy.ts'
import type { Versitygw } from '../services/versitygw.ts'
import { assertClean, audit } from './audit.ts'
import { FirehoseClient, load } from './client.ts'
import { Home, type Daemon } from './daemon.ts'
import { forward } from './forward.ts'
import { Outcomes } from './outcomes.ts'
import { seedOf } from './random.ts'
import { s3Store } from './stores.ts'
import { nameOf, runStoreCases, scriptedStore, type StoreCase } from './storecase.ts'

const AT_ONCE = 8

/** Scripted faults, eight pipelines with eight stores in one daemon at a time. */
export function scriptedFaults(cases: readonly StoreCase[]): void {
  const seed = seedOf()
  const groups = Array.from({ length: Math.ceil(cases.length / AT_ONCE) }, (_, i) => cases.slice(i * AT_ONCE, (i + 1) * AT_ONCE))
  describe(`a store that misbehaves, seed ${seed}`, () => {
    test.each(groups.map((g) => [g.map(nameOf).join(' | '), g] as const))('%s', async (_, group) => {
      const wrong = (await runStoreCases(group, seed)).filter((w) => w !== null)
      expect(wrong.join('\n\n')).toBe('')
    })
  })
}

type Toxic = readonly [what: string, type: string, stream: 'upstream' | 'downstream', attributes: Record<string, number>]
const TOXICS: readonly Toxic[] = [
  ['slow answers', 'latency', 'downstream', { latency: 150, jitter: 100 }],
  ['answers later than the time-out', 'latency', 'downstream', { latency: 1_500 }],
  ['a narrow line', 'bandwidth', 'upstream', { rate: 20 }],
  ['requests reset', 'reset_peer', 'upstream', { timeout: 0 }],
  ['requests cut', 'limit_data', 'upstream', { bytes: 2_000 }],
  ['answers lost after the request was applied', 'limit_data', 'downstream', { bytes: 26 }],
]

/** A real store behind a bad network, one trouble after the other under load, `ms` each. */
export function badNetwork(ms: number): void {
  describe('versitygw behind a bad network', async () => {
    const startS3 = await requireService('versitygw', 'a bad network before a real S3 server')
    const startToxiproxy = await requireService('toxiproxy', 'a bad network before a real S3 server')
    let s3: Versitygw | null = null
    let toxiproxy: Toxiproxy | null = null
    beforeAll(async () => {
      if (!startS3 || !startToxiproxy) return
      s3 = await startS3({ keepAlive: true })
      toxiproxy = await startToxiproxy()
    })
    afterAll(async () => {
      await toxiproxy?.stop()
      await s3?.stop()
    })

    const timeout = 60_000 + (TOXICS.length + 3) * ms * 3
    test.skipIf(!startS3 || !startToxiproxy)('every trouble in turn, under load', { timeout }, async () => {
      if (s3 && toxiproxy) await everyTrouble(s3, toxiproxy, ms)
    })
  })
}

function fresh(d: Daemon, after: string): Promise<unknown> {
  return d.until((s) => s.every((p) => p.lanes.every((l) => l.freshnessMs < 2_000)), 30_000, `recovered from: ${after}`)
}

async function everyTrouble(s3: Versitygw, toxiproxy: Toxiproxy, ms: number): Promise<void> {
  const line = await forward(s3.url)
  const proxy = await toxiproxy.proxy(line.url)
  const store = await s3Store(s3, proxy.url)
  const sink = { ...store.sink, timeout: '500ms' }
  const home = await Home.make({ pipelines: [{ name: 'events', size: '64KiB', interval: '100ms', compression: 'gzip', sink }] })
  const client = new FirehoseClient({ url: `http://127.0.0.1:${home.ports.api}` })
  const log = new Outcomes(seedOf())
  const stop = new AbortController()
  try {
    const d = await home.start().ready()
    const sending = load(client, { stream: 'events', log, seed: 1, until: stop.signal, rate: 1_000, batch: 20 })
    for (const [what, type, stream, attributes] of TOXICS) {
      const toxic = await proxy.toxic(type, stream, attributes)
      await new Promise((r) => void setTimeout(r, ms))
      await toxic.remove()
      await fresh(d, what)
    }
    for (const trouble of ['reset', 'refuse', 'hang'] as const) {
      line.mode(trouble)
      await new Promise((r) => void setTimeout(r, ms))
      line.mode('pass')
      await fresh(d, trouble)
    }
    stop.abort()
    await sending
    await d.drained()
    await d.drain()
    assertClean(await audit({ outcomes: log, delivered: [store.place], compression: 'gzip' }), 'a bad network')
  } finally {
    stop.abort()
    client.close()
    await home.remove()
    await line.close()
  }
}

/** A store that refuses everything is asked at most 20 times a second, however many lanes wait for it; when it heals, all arrives. */
export function trickle(faults: readonly S3Fault[], ms: number, { pipelines, shards }: { pipelines: number; shards: number }): void {
  const names = Array.from({ length: pipelines }, (_, i) => `events-${i}`)
  test.each(faults)(`a store that answers everything with %s, ${pipelines * shards} lanes: at most 20 requests a second`, async (fault) => {
    const s3 = await startScriptedS3()
    const store = scriptedStore(s3)
    const sink = { ...store.sink, timeout: '300ms', options: { conditional_writes: 'require' } }
    const home = await Home.make({ pipelines: names.map((name) => ({ name, shards, size: '8KiB', interval: '50ms', sink })) })
    const client = new FirehoseClient({ url: `http://127.0.0.1:${home.ports.api}` })
    const log = new Outcomes(seedOf())
    const total = 4_000
    s3.fail('any', fault, { times: Number.MAX_SAFE_INTEGER })
    try {
      const d = await home.start().ready()
      const each = { log, seed: 2, producers: 2, records: total / pipelines, batch: 20 }
      await Promise.all(names.map((stream, i) => load(client, { ...each, stream, firstProducer: i * 2 })))
      await new Promise((r) => void setTimeout(r, ms))
      const times = s3.requests.map((r) => r.atMs)
      const most = Math.max(0, ...times.map((t) => times.filter((u) => u >= t && u < t + 1_000).length))
      process.stderr.write(`${fault}, ${pipelines * shards} lanes: ${times.length} requests, at most ${most} in a second\n`)
      expect(times.length).toBeGreaterThan(0)
      expect(most).toBeLessThanOrEqual(20)
      s3.reset()
      await d.drained(60_000)
      await d.drain()
      s3.reset()
      const r = assertClean(
        await audit({ outcomes: log, delivered: [store.place], compression: 'none', shards: pipelines * shards }),
        'trickle',
      )
      expect(r.accepted).toBe(total)
    } finally {
      client.close()
      await home.remove()
      await s3.stop()
    }
  })
}
