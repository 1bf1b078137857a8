import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { requireService } from '../services/require.ts'
import type { Versitygw } from '../services/versitygw.ts'
import { assertClean, audit, table } from './audit.ts'
import { FirehoseClient, load } from './client.ts'
import { Home } from './daemon.ts'
import { Outcomes } from './outcomes.ts'
import { rng, seedLine, seedOf } from './random.ts'
import { fileStore, s3Store, type Store } from './stores.ts'

/** Of the two pipelines. */
const SHARDS = [1, 3] as const
const LONGEST_LIFE_MS = 1_200

/** kill -9 at random times, start-up and recovery included, while clients send all the time: an audit at the end. */
export function randomKills(o: { kills: number; project: string; file: string }): void {
  const seed = seedOf()
  describe(`${o.kills} random kills under load`, async () => {
    const start = await requireService('versitygw', 'random kills with the S3 sink')
    let s3: Versitygw | null = null
    beforeAll(async () => {
      process.stderr.write(`${seedLine(seed, o.project, o.file)}\n`)
      s3 = start && (await start({ keepAlive: true }))
    })
    afterAll(() => s3?.stop())

    test('nothing accepted is lost, doubled or damaged', { timeout: o.kills * 10_000 }, async () => {
      const home = await Home.make()
      const stores: Store[] = [fileStore(home.folder), s3 ? await s3Store(s3) : fileStore(home.folder)]
      await home.configure({
        pipelines: stores.map((s, i) => ({
          name: `events-${i}`,
          compression: i === 0 ? 'none' : 'gzip',
          shards: SHARDS[i] ?? 1,
          size: i === 0 ? '32KiB' : '256KiB',
          interval: i === 0 ? '150ms' : '70ms',
          sink: s.sink,
        })),
      })
      const client = new FirehoseClient({ url: `http://127.0.0.1:${home.ports.api}`, timeoutMs: 5_000 })
      const logs = stores.map((_, i) => new Outcomes((seed + i) >>> 0))
      const stop = new AbortController()
      const sending = logs.map((log, i) =>
        load(client, { stream: `events-${i}`, log, seed, until: stop.signal, rate: 400, batch: 10, sizes: [0, 1, 100, 1024, 5000] }),
      )
      try {
        const random = rng(seed)
        for (let i = 0; i < o.kills; i++) await oneLife(home, random.float() * LONGEST_LIFE_MS, random.below(4) === 0)
        await home.finish(() => {
          stop.abort()
          return Promise.all(sending)
        })
        for (const [i, s] of stores.entries()) await auditOne(s, i, logs[i], seed)
      } finally {
        stop.abort()
        await Promise.allSettled(sending)
        client.close()
        await home.remove()
      }
    })
  })
}

/** A quarter of the lives end before they are ready. */
async function oneLife(home: Home, ms: number, early: boolean): Promise<void> {
  const d = home.start()
  if (!early) await d.ready()
  await new Promise((r) => void setTimeout(r, ms))
  expect(d.alive, `the daemon ended by itself:\n${d.output.slice(-20).join('\n')}`).toBe(true)
  await d.kill()
}

async function auditOne(s: Store, i: number, log: Outcomes | undefined, seed: number): Promise<void> {
  if (!log) throw new Error('no log')
  const r = await audit({ outcomes: log, delivered: [s.place], compression: i === 0 ? 'none' : 'gzip', shards: SHARDS[i] ?? 1 })
  assertClean(r, `random kills, seed ${seed}`)
  process.stderr.write(`${s.place.kind}, seed ${seed}\n${table(r)}\n`)
  expect(r.accepted).toBeGreaterThan(100)
  expect(r.probes).toBe(0)
}
