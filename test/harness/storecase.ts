import { startScriptedS3, type S3Fault, type S3Operation, type ScriptedS3 } from '../services/scripted-s3.ts'
import { assertClean, audit } from './audit.ts'
import { FirehoseClient, load } from './client.ts'
import type { PipelineConfig } from './config.ts'
import { Home } from './daemon.ts'
import { Outcomes } from './outcomes.ts'
import type { Store } from './stores.ts'

/** One way in which a store misbehaves: this fault, on the first `times` requests of this operation. */
export interface StoreCase {
  readonly fault: S3Fault
  readonly operation: S3Operation
  readonly times: number
}
export const FAULTS = [
  'reset', '500', 'slow-down', '429', 'late', 'hang',
  'applied-no-answer', 'applied-500', 'error-in-200', 'applied-error-in-200', 'applied-truncated',
] as const satisfies readonly S3Fault[] // prettier-ignore
export const OPERATIONS = ['put', 'create', 'part', 'complete', 'head'] as const satisfies readonly S3Operation[]

/** Answers to HEAD have no body, and a truncated answer to it is a whole one; bodies of other answers carry the ETag where they end. */
export function possible(c: StoreCase): boolean {
  return c.operation !== 'head' || !/200|truncated/.test(c.fault)
}
export const nameOf = (c: StoreCase): string => `${c.fault} on ${c.operation}, ${c.times === 1 ? 'once' : `${c.times} times`}`

const BUCKET = 'lake'
const credentials = { accessKey: 'test', secretKey: 'testtest' }
export function scriptedStore(s3: ScriptedS3): Store {
  return {
    sink: { type: 's3', target: BUCKET, endpoint: s3.url, credentials },
    place: { kind: 's3', url: s3.url, bucket: BUCKET, credentials },
  }
}

interface Running {
  readonly c: StoreCase
  readonly s3: ScriptedS3
  readonly store: Store
  readonly stream: string
  readonly log: Outcomes
}

function pipelineOf(r: Running): PipelineConfig {
  const parts = r.c.operation === 'create' || r.c.operation === 'part' || r.c.operation === 'complete'
  return {
    name: r.stream,
    size: parts ? '6MiB' : '16KiB',
    interval: parts ? '2s' : '100ms',
    // a store that answers after a second is late
    sink: {
      ...r.store.sink,
      timeout: '400ms',
      options: { part_size: '5MiB', conditional_writes: 'require', request_timeout: '600ms' },
      retry: { base: '5ms', max: '50ms' },
    },
  }
}

/**
 * Runs the cases side by side in one daemon, each with a pipeline and a store of its own: send, let the faults happen, drain, audit.
 * Rejects when a fault did not happen as often as asked, or an audit is not clean. One answer a case: null or what was wrong.
 */
export async function runStoreCases(cases: readonly StoreCase[], seed: number): Promise<(string | null)[]> {
  const home = await Home.make()
  const running: Running[] = []
  const client = new FirehoseClient({ url: `http://127.0.0.1:${home.ports.api}` })
  try {
    for (const [i, c] of cases.entries()) {
      const s3 = await startScriptedS3({ buckets: [BUCKET] })
      s3.fail(c.operation, c.fault, { times: c.times })
      running.push({ c, s3, store: scriptedStore(s3), stream: `s${i}`, log: new Outcomes((seed + i) >>> 0) })
    }
    await home.configure({ pipelines: running.map(pipelineOf), memory: '256MiB', drain: '60s' })
    const d = await home.start().ready()
    await Promise.all(running.map((r) => send(client, r, seed)))
    await d.drained(120_000)
    await d.drain()
    return await Promise.all(running.map(judge))
  } finally {
    client.close()
    await home.remove()
    for (const r of running) await r.s3.stop()
  }
}

async function send(client: FirehoseClient, r: Running, seed: number): Promise<void> {
  const parts = pipelineOf(r).size === '6MiB'
  const o = { stream: r.stream, log: r.log, seed }
  if (parts) await load(client, { ...o, records: 7, batch: 3, sizes: [1_000_000], producers: 1 })
  await load(client, { ...o, records: parts ? 50 : 400, batch: 20, firstProducer: 5 })
}

const isApplied = (c: StoreCase): boolean => c.fault === 'late' || c.fault.startsWith('applied')

async function judge(r: Running): Promise<string | null> {
  const happened = r.s3.requests.filter((x) => x.fault !== null).length
  const asked = r.s3.requests.filter((x) => x.operation === r.c.operation).length
  // what was done in spite of its answer is found by HEAD and not asked for again: then each request of the case must have met the fault
  const enough = happened === r.c.times || (isApplied(r.c) && happened === asked && happened > 0)
  if (!enough) return `${nameOf(r.c)}: it happened ${happened} times\n${r.s3.logs}`
  const log = r.s3.logs
  r.s3.reset()
  try {
    assertClean(await audit({ outcomes: r.log, delivered: [r.store.place], compression: 'none' }), nameOf(r.c))
    return null
  } catch (e) {
    return `${e instanceof Error ? e.message : String(e)}\n${log}`
  }
}
