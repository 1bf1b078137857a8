import { attempts, RetryExhaustedError, type EffectScope, type SinkHandle } from '../delivery/attempts.ts'
import type { AttemptContext } from '../sdk/sink.ts'
import { OutOfRangeError } from '../sdk/log.ts'
import { limits } from '../limits.ts'
import type { Lane, LaneRead, LaneState } from '../stream/source.ts'
import { LaneBook, type OpenCut } from './book.ts'
import { ControlError, type PipelineOperator, type PipelineStatus, type ReplayFrom } from './control.ts'
import type { Entry, RunningPipeline, Shared } from './running.ts'
import { namesOf } from './deliver.ts'
import { lifeMs } from './doubt.ts'
import { sourceBytes } from './encode.ts'
import { parseNote, type Note } from './note.ts'
import { applyYaml, type SpecWriter } from './yaml-spec.ts'
import type { PipelineRecord } from '../registry/registry.ts'
import type { PipelineSpec } from './spec.ts'

const ASK_MS = 5_000
/** A rejected record in Firehose's error format, beside its bytes in base64. */
const ERROR_LINE_BYTES = 512
const BACKUP = /:backup$/
const isBackup = (name: string): boolean => BACKUP.test(name)

/** What the operator's commands need of the manager. */
export interface Pipelines extends SpecWriter {
  readonly entries: ReadonlyMap<string, Entry>
  write(entry: Entry, change: Partial<PipelineRecord>): Promise<void>
  locked<T>(name: string, fn: () => Promise<T>): Promise<T>
}

/** Step 13 of docs/exactly-once.md: the only code that moves a position or forgets a cut because somebody said so. */
export class Operator implements PipelineOperator {
  readonly #m: Pipelines
  readonly #drainMs: number
  /** Reads the configuration file again. */
  readonly #yaml: () => Promise<ReadonlyMap<string, PipelineSpec>>

  constructor(m: Pipelines, o: { drainMs: number; yaml: () => Promise<ReadonlyMap<string, PipelineSpec>> }) {
    this.#m = m
    this.#drainMs = o.drainMs
    this.#yaml = o.yaml
  }
  get #shared(): Shared {
    return this.#m.shared
  }

  async status(): Promise<readonly PipelineStatus[]> {
    const all: PipelineStatus[] = []
    for (const entry of this.#m.entries.values()) {
      all.push(await statusOf(entry, entry.main, entry.stored.record.name))
      if (entry.backup) all.push(await statusOf(entry, entry.backup, entry.backup.name))
    }
    return all.toSorted((a, b) => (a.name < b.name ? -1 : 1))
  }

  async pause(name: string): Promise<void> {
    await this.#locked(name, async ({ entry, running }) => {
      if (!isBackup(name)) await this.#m.write(entry, { paused: true })
      await Promise.all(running.map((p) => p.lanes.pause(this.#deadline())))
    })
  }

  async resume(name: string): Promise<void> {
    await this.#locked(name, async ({ entry, running }) => {
      if (!isBackup(name)) await this.#m.write(entry, { paused: false })
      await Promise.all(running.map((p) => p.lanes.resume()))
    })
  }

  async apply(name: string, o: { force: boolean }): Promise<{ specHash: string; changed: boolean }> {
    return this.#locked(name, async ({ entry }) => {
      if (entry.stored.record.origin !== 'yaml')
        throw new ControlError('invalid', `${name} was made through the API: use UpdateDestination`)
      const spec = (await this.#yaml()).get(name)
      if (!spec) throw new ControlError('not-found', `the configuration file has no pipeline "${name}"`)
      return applyYaml(this.#m, entry, spec, o.force)
    })
  }

  async replay(
    name: string,
    from: ReplayFrom,
    o: { shard?: string },
  ): Promise<{ lineage: number; shards: readonly { shard: string; from: number }[] }> {
    return this.#whileStopped(name, o.shard, async (p, lanes) => {
      // all are looked at before the first is rewritten
      const plan = await Promise.all(lanes.map((lane) => this.#replayOf(p, lane, from)))
      if (plan.every((x) => x.position >= x.stable)) {
        const ends = plan.map((x) => `${x.lane.shard} ends at ${x.stable}`).join(', ')
        throw new ControlError(
          'invalid',
          `replaying ${name}: nothing is there to deliver again (${ends}). A delivery stream keeps what is not delivered yet, nothing else.`,
        )
      }
      for (const { lane, lineage, counter, position, leaderEpoch } of plan) {
        const note: Note = { pipelineId: p.pipelineId, lineage, topicId: lane.topicId, position, counter, cuts: [] }
        await rewrite(lane, new LaneBook(note, leaderEpoch, true))
        await this.#shared.registry.initialised(p.pipelineId, lane.topicId, lane.shard)
      }
      const shards = plan.map((x) => ({ shard: x.lane.shard, from: x.position }))
      return { lineage: Math.max(...plan.map((x) => x.lineage)), shards }
    })
  }

  async #replayOf(p: RunningPipeline, lane: Lane, from: ReplayFrom) {
    const asked = await this.#positionOf(p, lane, from)
    // from here on nothing above it is trimmed; a trim under way may still have passed it, so the log is asked after
    p.lanes.hold(lane.shard, asked)
    const { leaderEpoch, logStart, stable } = await lane.bounds()
    const position = from === 'earliest' ? Math.max(asked, logStart) : asked
    if (position < logStart || position > stable) {
      throw new ControlError(
        'invalid',
        `replaying ${p.name} ${lane.shard} from ${position}: the log holds positions ${logStart} to ${stable}`,
      )
    }
    const known = await this.#lastNote(p, lane)
    return { lane, position, stable, leaderEpoch, lineage: known.lineage + 1, counter: known.counter }
  }

  async release(
    name: string,
    o: { force: boolean; shard?: string },
  ): Promise<{ shards: readonly { shard: string; released: number; message: string }[] }> {
    return this.#whileStopped(name, o.shard, async (p, lanes) => {
      const shards: { shard: string; released: number; message: string }[] = []
      for (const lane of lanes) shards.push(await this.#releaseOf(p, lane, o.force))
      return { shards }
    })
  }

  async #releaseOf(p: RunningPipeline, lane: Lane, force: boolean): Promise<{ shard: string; released: number; message: string }> {
    const { shard } = lane
    const stored = await lane.saved()
    if (!stored || stored.note === '') throw new ControlError('invalid', `${p.name} ${shard} has no note to release: use replay`)
    const note = parseNote(stored.note)
    if (note.cuts.length === 0) return { shard, released: 0, message: 'nothing is recorded, nothing was changed' }
    const book = new LaneBook(note, stored.leaderEpoch, true)
    const found = force ? [] : await this.#effects(p, lane, book)
    if (found.length > 0) {
      const what = `releasing ${p.name} ${shard}: ${found.join('; ')}`
      throw new ControlError('conflict', `${what}. \`--force\` gives up on that: records of these cuts may then be delivered twice.`)
    }
    const lineage = force ? note.lineage + 1 : note.lineage
    await rewrite(lane, new LaneBook({ ...note, lineage, cuts: [] }, stored.leaderEpoch, true))
    const range = `positions ${note.position} to ${book.end}`
    const message = force
      ? `lineage ${lineage}: what was already delivered of ${range} will be delivered again`
      : `proved that nothing of ${range} was delivered`
    return { shard, released: note.cuts.length, message }
  }

  /** Uploads aborted, the longest life of an attempt (its time-out and the time for its size) waited out, then the store is asked for every name of every cut. */
  async #effects(p: RunningPipeline, lane: Lane, book: LaneBook): Promise<string[]> {
    const { host } = this.#shared
    const names: { handle: SinkHandle; key: string; cut: OpenCut }[] = []
    let longestMs = 0
    for (const cut of book.cuts) {
      const flow = await p.flow(cut.specHash)
      const bytes = await bodyBytes(lane, cut, { buffer: p.spec.buffer.sizeBytes + limits.pieceBytes, staged: flow.stages.length > 0 })
      for (const { handle, key, kind } of namesOf({ pipelineId: p.pipelineId, lane }, book, cut, flow)) {
        names.push({ handle: bounded(handle), key, cut })
        longestMs = Math.max(longestMs, lifeMs(handle, kind === 'rejects' ? 2 * bytes + cut.records * ERROR_LINE_BYTES : bytes))
      }
    }
    const ask = <T>(n: (typeof names)[number], operation: string, work: (c: AttemptContext) => Promise<T>): Promise<T> =>
      attempts(n.handle, this.#scope(p, lane, book, n.cut), { operation, timeoutMs: n.handle.timeoutMs }, work)
    try {
      for (const n of names) await ask(n, 'abort', (c) => n.handle.sink.abortUploads(n.key, c))
      await host.clock.sleep(longestMs, lane.lease.signal)
      const found: string[] = []
      for (const n of names) {
        const stored = await ask(n, 'head', (c) => n.handle.sink.head(n.key, c))
        if (stored) found.push(`"${n.key}" exists (end ${stored.metadata['end'] ?? 'unknown'})`)
      }
      return found
    } catch (e) {
      if (!(e instanceof RetryExhaustedError)) throw e
      throw new ControlError(
        'conflict',
        `releasing ${p.name} ${lane.shard}: the sink cannot be asked: ${e.message}. Nothing was changed; try later, or \`--force\`.`,
      )
    }
  }

  #scope(p: RunningPipeline, lane: Lane, book: LaneBook, cut: OpenCut): EffectScope {
    const { host, events, log } = this.#shared
    const { start, end } = cut
    const { stream, shard, topicId } = lane
    return {
      host,
      events,
      log,
      pipeline: p.name,
      lease: lane.lease,
      signal: lane.lease.signal,
      cut: { pipelineId: p.pipelineId, lineage: book.lineage, topicId, stream, shard, start, end },
      recovered: true,
      turn: () => Promise.resolve(),
      mayAct: () => {},
    }
  }

  async #lastNote(p: RunningPipeline, lane: Lane): Promise<{ lineage: number; counter: number }> {
    const stored = await lane.saved()
    const checkpoint = await this.#shared.registry.lastCheckpoint(p.pipelineId, lane.topicId, lane.shard)
    let lineage = 0
    let counter = 0
    for (const text of [stored?.note, checkpoint?.note]) {
      const note = text === undefined ? null : readable(text)
      if (!note || note.pipelineId !== p.pipelineId) continue
      lineage = Math.max(lineage, note.lineage)
      counter = Math.max(counter, note.counter)
    }
    // without any note the former lineage is unknown: one that was certainly never used
    return lineage > 0 ? { lineage, counter } : { lineage: Math.floor(this.#shared.host.clock.now() / 1000), counter: 0 }
  }

  async #positionOf(p: RunningPipeline, lane: Lane, from: ReplayFrom): Promise<number> {
    if (from !== 'earliest' && 'position' in from) return from.position
    return this.#shared.streams.positionAt(p.topic, lane.shard, from)
  }

  #find(name: string): { entry: Entry; running: RunningPipeline[] } {
    const entry = this.#m.entries.get(name.replace(BACKUP, ''))
    if (!entry) throw new ControlError('not-found', `there is no pipeline "${name}"`)
    if (!entry.main) throw new ControlError('not-active', `the pipeline "${name}" does not run here: it is not in the configuration`)
    const running = isBackup(name) ? [entry.backup] : [entry.main, entry.backup]
    return { entry, running: running.filter((p) => p !== null) }
  }

  #deadline(): AbortSignal {
    return AbortSignal.timeout(this.#drainMs)
  }
  #locked<T>(name: string, fn: (x: { entry: Entry; running: RunningPipeline[] }) => Promise<T>): Promise<T> {
    return this.#m.locked(name.replace(BACKUP, ''), () => fn(this.#find(name)))
  }

  /** The lanes of one pipeline (not of its backup, unless named) are stopped, handed over, and run again if they ran. */
  #whileStopped<T>(name: string, shard: string | undefined, fn: (p: RunningPipeline, lanes: readonly Lane[]) => Promise<T>): Promise<T> {
    return this.#locked(name, ({ running }) => {
      const [p] = running
      if (!p) throw new ControlError('not-found', `there is no pipeline "${name}"`)
      return p.lanes.whileStopped(shard, this.#deadline(), (lanes) => {
        if (lanes.length > 0) return fn(p, lanes)
        throw new ControlError('not-found', shard === undefined ? `${name} has no shard here` : `${name} has no shard "${shard}" here`)
      })
    })
  }
}

/** An operator waits for the answer: a sink that cannot be asked is said, not waited for. */
function bounded(h: SinkHandle): SinkHandle {
  return { ...h, retry: { ...h.retry, durationMs: ASK_MS } }
}

/**
 * Bytes that the body of a recorded cut has at most: its records, with what stands between them. Where stages may make more of them, or
 * the log no longer holds them, it counts as large as the buffer lets one grow.
 */
async function bodyBytes(lane: Lane, cut: OpenCut, o: { buffer: number; staged: boolean }): Promise<number> {
  let bytes = cut.records
  let whole = true
  for (let at = cut.start; at < cut.end;) {
    let got: LaneRead
    try {
      got = await lane.read(at, { maxBytes: limits.pieceBytes, maxWaitMs: 0, signal: lane.lease.signal })
    } catch (e) {
      if (!(e instanceof OutOfRangeError)) throw e
      whole = false
      break
    }
    for (const b of got.batches) {
      bytes += sourceBytes(b)
      b.release()
    }
    whole = got.next > at
    if (!whole) break
    at = got.next
  }
  return whole && !o.staged ? bytes : Math.max(bytes, o.buffer)
}

async function rewrite(lane: Lane, book: LaneBook): Promise<void> {
  const saved = await lane.save((): LaneState => book.serialize().state)
  if (saved !== 'saved') throw new ControlError('conflict', `writing the position of ${lane.shard}: ${saved}`)
}

function readable(text: string): Note | null {
  try {
    return parseNote(text)
  } catch {
    return null // a foreign note has no lineage of ours
  }
}

async function statusOf(entry: Entry, p: RunningPipeline | null, name: string): Promise<PipelineStatus> {
  const { pipelineId, origin, status, paused, specHash } = entry.stored.record
  return {
    name,
    pipelineId: p?.pipelineId ?? pipelineId,
    origin,
    status,
    paused,
    lineage: p?.lanes.lineage ?? 0,
    specHash,
    sink: p ? p.spec.sink.type : 'not configured',
    lanes: p ? await p.lanes.status() : [],
  }
}
