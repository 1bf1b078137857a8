import { setTimeout } from 'node:timers/promises'
import { gzipSync } from 'node:zlib'
import { FAIL_POINTS } from '../../core/host/failpoints.ts'
import type { Versitygw } from '../services/versitygw.ts'
import { assertClean, audit, type AuditInput, type AuditResult } from './audit.ts'
import { FirehoseClient, load, put } from './client.ts'
import type { PipelineConfig } from './config.ts'
import { Home, type Daemon, type Engine } from './daemon.ts'
import { forward, type Forwarder } from './forward.ts'
import { editNotes } from './notes.ts'
import { leftovers, type Place } from './objects.ts'
import { Outcomes } from './outcomes.ts'
import { makeRecord } from './records.ts'
import { fileStore, s3Store, type Store } from './stores.ts'

/** One combination of the kill matrix. */
export type KillCase = {
  /** A fail point with its side, such as `cut.after`. */
  edge: string
  sink: 's3' | 'file'
  form: 'none' | 'gzip' | 'zstd'
  cut: 'size' | 'interval'
}
export const EDGES: readonly string[] = FAIL_POINTS.flatMap((p) => [`${p}.before`, `${p}.after`])

/** Cases that an S3 server takes part in. */
export function needsS3(c: KillCase): boolean {
  return c.sink === 's3' || /^(decide|backup\.put)\./.test(c.edge)
}

/** The file sink writes a sidecar, a temporary file and a link (create, part, complete), never in one put. Everything else can be reached. */
export function reachable(c: KillCase): boolean {
  return !(c.sink === 'file' && c.edge.startsWith('object.put.'))
}

function needed(s3: Versitygw | null): Versitygw {
  if (!s3) throw new Error('this case needs an S3 server')
  return s3
}

interface Setup {
  readonly c: KillCase
  readonly seed: number
  readonly home: Home
  readonly client: FirehoseClient
  readonly log: Outcomes
  readonly main: Store
  readonly backup: Store
  readonly s3: Versitygw | null
  readonly change: Change
}
/** What the two lives differ in, and how the case is otherwise than the matrix has it. */
export interface Change {
  readonly level?: number
  readonly size?: string
  readonly first?: Engine
  readonly last?: Engine
  /** Between the two lives, and when the second has delivered everything. */
  look?(at: 'between' | 'end', delivered: Place): Promise<void>
}
const STREAM = 'events'

function pipeline(s: Setup, o: Partial<PipelineConfig> = {}): PipelineConfig {
  const { c } = s
  const big = multipart(c)
  return {
    name: STREAM,
    compression: c.form,
    ...(s.change.level === undefined ? {} : { level: s.change.level }),
    size: c.cut === 'size' ? (big ? '8MiB' : (s.change.size ?? '16KiB')) : '256MiB',
    interval: c.cut === 'size' ? '900s' : big ? '1500ms' : '150ms',
    sink: { ...s.main.sink, ...(big ? { options: { part_size: '5MiB' } } : {}) },
    ...o,
  }
}

/** Only a body above one part is uploaded in parts. */
function multipart(c: KillCase): boolean {
  return c.sink === 's3' && /^object\.(create|part|complete)\./.test(c.edge)
}

/** Kill at the edge, start again, deliver the rest, audit. Rejects when the edge was not reached or the audit is not clean. */
export async function runKillCase(c: KillCase, seed: number, s3: Versitygw | null, change: Change = {}): Promise<AuditResult> {
  const home = await Home.make()
  const place = (): Promise<Store> => (c.sink === 'file' ? Promise.resolve(fileStore(home.folder)) : s3Store(needed(s3)))
  const client = new FirehoseClient({ url: `http://127.0.0.1:${home.ports.api}`, timeoutMs: 10_000 })
  const s: Setup = { c, seed, home, client, s3, log: new Outcomes(seed), main: await place(), backup: await place(), change }
  home.runBy(change.first ?? {})
  try {
    const extra = await scenarioOf(c)(s)
    const result = await audit({ outcomes: s.log, delivered: [s.main.place], rejected: [s.backup.place], compression: c.form, ...extra })
    assertClean(result, `${JSON.stringify(c)} seed ${seed}`)
    if (result.accepted === 0) throw new Error(`${JSON.stringify(c)}: nothing was accepted, so nothing was shown`)
    const left = (await leftovers(s.main.place)) + (await leftovers(s.backup.place)) + result.probes
    if (left > 0) throw new Error(`${JSON.stringify(c)} seed ${seed}: ${left} temporary files, open uploads or probe objects are left`)
    return result
  } finally {
    client.close()
    await home.remove()
  }
}

type Scenario = (s: Setup) => Promise<Partial<AuditInput>>
function scenarioOf(c: KillCase): Scenario {
  const point = c.edge.slice(0, c.edge.lastIndexOf('.'))
  if (point === 'verify') return killedTwice
  if (point === 'adopt') return lostNote
  if (point === 'decide' || point === 'backup.put') return givenUp
  return point === 'reject.put' ? rejects : plain
}

/** Sends while the daemon lives, at most 20 s. */
async function loadUntilDead(s: Setup, d: Daemon, firstProducer: number, o: { rate?: number; withinMs?: number } = {}): Promise<void> {
  const stop = new AbortController()
  void d.exited.then(() => stop.abort())
  const big = multipart(s.c)
  const sending = load(s.client, {
    stream: STREAM,
    log: s.log,
    seed: s.seed,
    firstProducer,
    until: stop.signal,
    records: big ? 40 : 20_000,
    rate: big ? 400 : (o.rate ?? 2_000),
    batch: big ? 4 : 20,
    ...(big ? { sizes: [900_000, 1_000_000] } : {}),
  })
  try {
    await d.killed(o.withinMs ?? 20_000)
  } finally {
    stop.abort()
    await sending
  }
}

/** A last life without faults: a little more load, then all is delivered. */
async function lastLife(s: Setup): Promise<void> {
  await s.change.look?.('between', s.main.place)
  s.home.runBy(s.change.last ?? {})
  await s.home.finish(() => load(s.client, { stream: STREAM, log: s.log, seed: s.seed, firstProducer: 100, records: 60, batch: 20 }))
  await s.change.look?.('end', s.main.place)
}

const plain: Scenario = async (s) => {
  await s.home.configure({ pipelines: [pipeline(s)] })
  const d = s.home.start({ failpoints: `${s.c.edge}:kill@1` })
  if (await d.readyOrDead()) await loadUntilDead(s, d, 0)
  await d.killed()
  await lastLife(s)
  return {}
}

/** `verify` needs something that is already there: the first kill leaves an object whose position was not saved. */
const killedTwice: Scenario = async (s) => {
  await s.home.configure({ pipelines: [pipeline(s)] })
  await loadUntilDead(s, await s.home.start({ failpoints: 'advance.before:kill@1' }).ready(), 0)
  await s.home.start({ failpoints: `${s.c.edge}:kill@1` }).killed()
  await lastLife(s)
  return {}
}

/**
 * `adopt` needs an object whose cut the note does not know: the lane's state is put back to what it was before its first cut (as a
 * broker that lost its tail would), and the cuts of the next life end elsewhere.
 */
const lostNote: Scenario = async (s) => {
  const small = { size: '8KiB', interval: '900s' }
  await s.home.configure({ pipelines: [pipeline(s, small)] })
  await loadUntilDead(s, await s.home.start({ failpoints: 'cut.before:kill@1' }).ready(), 0)
  const before = await editNotes(s.home)
  await loadUntilDead(s, await s.home.start({ failpoints: 'advance.before:kill@1' }).ready(), 10)
  await editNotes(s.home, before)
  await s.home.configure({ pipelines: [pipeline(s, s.c.cut === 'size' ? { size: '20KiB' } : {})] })
  const d = s.home.start({ failpoints: `${s.c.edge}:kill@1` })
  await loadUntilDead(s, d, 20)
  await lastLife(s)
  return {}
}

/**
 * An S3 store that is away under load, and a backup of the case's kind; then it comes back: what was given up must be in the backup
 * only. Form none: it refuses connections from the start, so nothing can stand there. gzip: it resets them for longer than
 * retry.duration, again and again, in the midst of puts: whether they stand there must be learned first.
 */
const givenUp: Scenario = async (s) => {
  const backup = { records: 'rejected', sink: s.backup.sink } as const
  const { sink, place } = s.c.sink === 's3' ? s.main : await s3Store(needed(s.s3))
  const line = await forward(sink.endpoint ?? '')
  const retry = { base: '5ms', max: '20ms', duration: '200ms' }
  await s.home.configure({ pipelines: [pipeline(s, { sink: { ...sink, endpoint: line.url, timeout: '300ms', retry }, backup })] })
  const d = s.home.start({ failpoints: `${s.c.edge}:kill@1` })
  try {
    if (s.c.form === 'none') line.mode('refuse')
    await d.ready()
    const over = new AbortController()
    // what a reset put has stored is not given up: it may take some outages until one hits before the store has it
    const sending = loadUntilDead(s, d, 0, { rate: 500, withinMs: 40_000 }).finally(() => over.abort())
    if (s.c.form !== 'none') await flap(line, d, over.signal)
    await sending
  } finally {
    await line.close()
  }
  await s.home.configure({ pipelines: [pipeline(s, { sink, backup })] })
  await lastLife(s)
  return { delivered: [place] }
}

const OUTAGE_MS = 600
/** Time to learn: HEAD, the longest life of an attempt, HEAD again. */
const UP_MS = 1_200
async function flap(line: Forwarder, d: Daemon, over: AbortSignal): Promise<void> {
  const pause = (ms: number): Promise<unknown> => setTimeout(ms, undefined, { signal: over }).catch(() => {})
  await Promise.race([d.exited, d.until((all) => all.some((p) => p.lanes.some((l) => l.position > 0)), 15_000, 'first delivery')])
  while (!over.aborted) {
    line.mode('reset')
    await pause(OUTAGE_MS)
    line.mode('pass')
    await pause(UP_MS)
  }
}

/** Every third record is not gzip: it must be in the rejects object, as it came, and the others delivered. */
const rejects: Scenario = async (s) => {
  await s.home.configure({
    pipelines: [pipeline(s, { decompress: true, backup: { records: 'rejected', sink: s.backup.sink } })],
  })
  const d = s.home.start({ failpoints: `${s.c.edge}:kill@1` })
  await d.ready()
  for (let i = 0; i < 400 && d.alive; i++) await putMixed(s, 20)
  await d.killed()
  await s.home.finish(() => putMixed(s, 20))
  return { stages: true }
}

async function putMixed(s: Setup, n: number): Promise<void> {
  const ids = s.log.issue(0, n)
  const records = ids.map((id) => {
    const plainText = makeRecord(id, 200)
    return id.seq % 3 === 0 ? plainText : gzipSync(plainText)
  })
  await put(s.client, STREAM, { ids, records }, s.log)
}
