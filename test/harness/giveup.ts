import { setTimeout } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import { requireService } from '../services/require.ts'
import { startScriptedS3, type ScriptedS3 } from '../services/scripted-s3.ts'
import type { Versitygw } from '../services/versitygw.ts'
import { assertClean, audit, type AuditResult } from './audit.ts'
import { FirehoseClient, load } from './client.ts'
import type { SinkConfig } from './config.ts'
import { Home, type Daemon } from './daemon.ts'
import { forward, type Forwarder } from './forward.ts'
import { Outcomes } from './outcomes.ts'
import { seedOf } from './random.ts'
import { fileStore, s3Store, type Store } from './stores.ts'
import { scriptedStore } from './storecase.ts'

/** retry.duration of all cases. */
const GIVE_UP_MS = 300
const RETRY = { base: '5ms', max: '50ms', duration: `${GIVE_UP_MS}ms` }

interface Bench {
  readonly home: Home
  readonly client: FirehoseClient
  readonly log: Outcomes
  readonly backup: Store
}

/** One pipeline that gives up to a folder; the audit wants every record in the sink or there, never in both. */
async function bench<T>(sink: SinkConfig, work: (b: Bench) => Promise<T>): Promise<T> {
  const home = await Home.make()
  const client = new FirehoseClient({ url: `http://127.0.0.1:${home.ports.api}` })
  const backup = fileStore(home.folder)
  const options = sink.type === 's3' ? { options: { conditional_writes: 'require' } } : {}
  const full = { ...sink, ...options, timeout: '300ms', retry: RETRY }
  try {
    const rejected = { records: 'rejected', sink: backup.sink } as const
    await home.configure({ pipelines: [{ name: 'events', size: '8KiB', interval: '100ms', sink: full, backup: rejected }] })
    return await work({ home, client, log: new Outcomes(seedOf()), backup })
  } finally {
    client.close()
    await home.remove()
  }
}
const send = (b: Bench, records: number): Promise<unknown> =>
  load(b.client, { stream: 'events', log: b.log, seed: 7, producers: 1, records, batch: 20 })
async function judge(b: Bench, store: Store): Promise<AuditResult> {
  return assertClean(
    await audit({ outcomes: b.log, delivered: [store.place], rejected: [b.backup.place], compression: 'none' }),
    'giving up',
  )
}
const undecided = (d: Daemon): Promise<unknown> =>
  d.until(
    (all) => all.some((p) => p.lanes.some((l) => l.reason?.startsWith('waits to learn whether the object exists') === true)),
    15_000,
    'undecided',
  )
const kept = async (d: Daemon, ms: number): Promise<void> => {
  await setTimeout(ms)
  await undecided(d)
}

/** The first put meets `first`; from then on every connection is reset. */
function mute(s3: ScriptedS3, first: 'applied-no-answer' | 'reset'): void {
  s3.fail('put', first)
  s3.fail('put', 'reset', { times: 1e9 })
  // probation asks once before it
  s3.fail('head', 'reset', { nth: 2, times: 1e9 })
  s3.fail('list', 'reset', { times: 1e9 })
}

/** A store that cannot be asked when the retries are over. */
export function givingUp(o: { muteMs: number; flapMs: number }): void {
  describe('giving up to the backup', async () => {
    for (const first of ['applied-no-answer', 'reset'] as const) {
      for (const killed of [false, true]) {
        const then = first === 'reset' ? 'the cut is given up when it answers "not there"' : 'what it had stored stays delivered'
        test(`a store that resets connections for longer than retry.duration${killed ? ', and a kill meanwhile' : ''}: ${then}`, async () => {
          const s3 = await startScriptedS3()
          try {
            await bench(scriptedStore(s3).sink, async (b) => {
              mute(s3, first)
              let d = await b.home.start().ready()
              await send(b, 20)
              await undecided(d)
              if (killed) {
                await d.kill()
                s3.reset()
                s3.fail('any', 'reset', { times: 1e9 })
                d = await b.home.start().ready()
                await undecided(d)
              }
              await kept(d, o.muteMs)
              s3.reset()
              await send(b, 60)
              await d.drained()
              await d.drain()
              const r = await judge(b, scriptedStore(s3))
              expect(r.rejected).toBe(first === 'reset' ? 20 : 0)
              expect(r.delivered + r.rejected).toBe(80)
            })
          } finally {
            await s3.stop()
          }
        })
      }
    }

    test('a store that refuses connections all the time: given up in time', async () => {
      const s3 = await startScriptedS3()
      const line = await forward(s3.url)
      const store = scriptedStore(s3)
      line.mode('refuse')
      try {
        await bench({ ...store.sink, endpoint: line.url }, async (b) => {
          const d = await b.home.start().ready()
          const from = performance.now()
          await send(b, 20)
          await d.drained(10_000)
          expect(performance.now() - from).toBeGreaterThan(GIVE_UP_MS)
          expect(performance.now() - from).toBeLessThan(5_000)
          await d.drain()
          expect(await judge(b, store)).toMatchObject({ delivered: 0, rejected: 20 })
        })
      } finally {
        await line.close()
        await s3.stop()
      }
    })

    const startS3 = await requireService('versitygw', 'giving up while a real S3 server comes and goes')
    test.skipIf(!startS3)(
      'a real store that comes and goes under load, in the midst of puts',
      { timeout: 60_000 + 3 * o.flapMs },
      async () => {
        const s3 = await startS3?.({ keepAlive: true })
        if (!s3) return
        try {
          await comesAndGoes(s3, o.flapMs)
        } finally {
          await s3.stop()
        }
      },
    )
  })
}

async function comesAndGoes(s3: Versitygw, ms: number): Promise<void> {
  const line: Forwarder = await forward(s3.url)
  const store = await s3Store(s3, line.url)
  try {
    await bench(store.sink, async (b) => {
      const d = await b.home.start().ready()
      const stop = new AbortController()
      const sending = load(b.client, { stream: 'events', log: b.log, seed: 8, until: stop.signal, rate: 1_000, batch: 20 })
      const until = performance.now() + ms
      for (let n = 0; performance.now() < until; n++) {
        line.mode('pass')
        await setTimeout(900)
        line.mode((['reset', 'refuse', 'hang'] as const)[n % 3]!)
        await setTimeout(700)
      }
      line.mode('pass')
      stop.abort()
      await sending
      await d.drained()
      await d.drain()
      const r = await judge(b, store)
      expect(r.rejected).toBeGreaterThan(0)
      expect(r.delivered).toBeGreaterThan(0)
    })
  } finally {
    await line.close()
  }
}
