import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { FirehoseClient, put } from '../harness/client.ts'
import { Home } from '../harness/daemon.ts'
import { forward } from '../harness/forward.ts'
import { readObjects } from '../harness/objects.ts'
import { Outcomes } from '../harness/outcomes.ts'
import { idText, makeRecord, parseRecords } from '../harness/records.ts'
import { fileStore, s3Store, type Store } from '../harness/stores.ts'
import { requireService } from '../services/require.ts'
import type { Versitygw } from '../services/versitygw.ts'

const startS3 = await requireService('versitygw', 'isolation of pipelines')
const PHASES = 6
const PHASE_MS = 10_000
const NAMES = Array.from({ length: 10 }, (_, i) => `p${i}`)

describe.skipIf(!startS3)('ten pipelines, nine with a hanging store', () => {
  let s3: Versitygw
  let home: Home
  beforeAll(async () => {
    if (!startS3) return
    s3 = await startS3({ keepAlive: true })
    home = await Home.make()
  })
  afterAll(async () => {
    await home.remove()
    await s3.stop()
  })

  test('the freshness of the tenth stays: p99 within 5 %', async () => {
    const line = await forward(s3.url)
    const tenth = fileStore(home.folder)
    const stores: Store[] = []
    for (const _ of NAMES.slice(1)) stores.push(await s3Store(s3, line.url))
    await home.configure({
      pipelines: [tenth, ...stores].map((s, i) => ({
        name: NAMES[i] ?? '',
        size: '1MiB',
        interval: '1s',
        sink: { ...s.sink, timeout: '2s' },
      })),
    })
    const d = await home.start().ready()
    const client = new FirehoseClient({ url: d.url, connections: 16 })
    const samples: Phase[] = []
    for (let i = 0; i < PHASES; i++) {
      // healthy and faulted by turns, each from an empty backlog, so that the machine's moods hit both
      const hung = i % 2 === 1
      line.mode(hung ? 'hang' : 'pass')
      samples.push(await phase(client, hung, i))
      line.mode('pass')
      await d.drained(60_000)
    }
    client.close()
    await d.drain()
    await line.close()
    const delivered = await deliveryTimes(tenth)
    const p99 = (hung: boolean): number =>
      percentile(
        samples.filter((s) => s.hung === hung).flatMap((s) => freshness(s, delivered)),
        0.99,
      )
    const [healthy, faulted] = [p99(false), p99(true)]
    process.stderr.write(`p99 freshness of the tenth: ${healthy.toFixed(0)} ms healthy, ${faulted.toFixed(0)} ms with nine hanging\n`)
    expect(faulted).toBeLessThanOrEqual(healthy * 1.05)
  })
})

interface Phase {
  readonly hung: boolean
  /** Id of the tenth pipeline's record → when it was acknowledged. */
  readonly acked: ReadonlyMap<string, number>
}

/** All ten get the same steady load. */
async function phase(client: FirehoseClient, hung: boolean, producer: number): Promise<Phase> {
  const acked = new Map<string, number>()
  const logs = NAMES.map((_, i) => new Outcomes(i))
  const end = performance.now() + PHASE_MS
  while (performance.now() < end) {
    const next = performance.now() + 50
    await Promise.all(
      NAMES.map(async (name, i) => {
        const log = logs[i]
        if (!log) return
        // each phase has its own producer: ids are unique over all phases
        const ids = log.issue(producer, 10)
        const r = await put(client, name, { ids, records: ids.map((id) => makeRecord(id, 1000)) }, log)
        if (r.refused !== null) throw new Error(`${name}: ${r.refused}`)
        if (i === 0) for (const id of ids) acked.set(idText(id), Date.now())
      }),
    )
    await new Promise((r) => void setTimeout(r, Math.max(0, next - performance.now())))
  }
  return { hung, acked }
}

/** Id → when its object got its name (a link changes the file's ctime). */
async function deliveryTimes(s: Store): Promise<ReadonlyMap<string, number>> {
  const times = new Map<string, number>()
  if (s.place.kind !== 'folder') throw new Error('the tenth writes files')
  for await (const o of readObjects(s.place)) {
    const { ctimeMs } = await stat(join(s.place.root, o.key))
    for (const r of parseRecords(o.bytes)) if (r.id) times.set(idText(r.id), ctimeMs)
  }
  return times
}

function freshness(p: Phase, delivered: ReadonlyMap<string, number>): number[] {
  return [...p.acked].map(([id, at]) => {
    const seen = delivered.get(id)
    if (seen === undefined) throw new Error(`${id} was not delivered`)
    return seen - at
  })
}

function percentile(of: readonly number[], q: number): number {
  const sorted = of.toSorted((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))] ?? NaN
}
