import { attempts } from '../delivery/attempts.ts'
import type { Lane, LaneState } from '../stream/source.ts'
import { LaneBook, type OpenCut } from './book.ts'
import { ControlError, type PipelineOperator, type PipelineStatus, type ReplayFrom } from './control.ts'
import type { Entry, RunningPipeline, Shared } from './running.ts'
import { tokenOf } from './names.ts'
import { parseNote, type Note } from './note.ts'
import { applyYaml, type SpecWriter } from './yaml-spec.ts'
import type { PipelineRecord } from '../registry/registry.ts'
import type { PipelineSpec } from './spec.ts'
import type { SinkHandle } from '../delivery/attempts.ts'

/** What the operator's commands need of the manager. */
export interface Pipelines extends SpecWriter {
  readonly entries: ReadonlyMap<string, Entry>
  write(entry: Entry, change: Partial<PipelineRecord>): Promise<void>
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
      if (entry.backup) all.push(await statusOf(entry, entry.backup, `${entry.stored.record.name}:backup`))
    }
    return all.toSorted((a, b) => (a.name < b.name ? -1 : 1))
  }

  async pause(name: string): Promise<void> {
    const { entry, running } = this.#find(name)
    await this.#m.write(entry, { paused: true })
    await Promise.all(running.map((p) => p.lanes.pause(AbortSignal.timeout(this.#drainMs))))
  }

  async resume(name: string): Promise<void> {
    const { entry, running } = this.#find(name)
    await this.#m.write(entry, { paused: false })
    await Promise.all(running.map((p) => p.lanes.resume()))
  }

  async apply(name: string, o: { force: boolean }): Promise<{ specHash: string; changed: boolean }> {
    const { entry } = this.#find(name)
    if (entry.stored.record.origin !== 'yaml') throw new ControlError('invalid', `${name} was made through the API: use UpdateDestination`)
    const spec = (await this.#yaml()).get(name)
    if (!spec) throw new ControlError('not-found', `the configuration file has no pipeline "${name}"`)
    return applyYaml(this.#m, entry, spec, o.force)
  }

  async replay(
    name: string,
    from: ReplayFrom,
    o: { shard?: string },
  ): Promise<{ lineage: number; shards: readonly { shard: string; from: number }[] }> {
    return this.#whileStopped(name, async (p) => {
      const shards: { shard: string; from: number }[] = []
      let highest = 0
      for (const lane of this.#lanesOf(p, o.shard)) {
        const position = await this.#positionOf(p, lane, from)
        const { leaderEpoch, logStart, stable } = await lane.bounds()
        if (position < logStart || position > stable) {
          throw new ControlError('invalid', `replaying ${name} ${lane.shard} from ${position}: the log holds [${logStart}, ${stable}]`)
        }
        const known = await this.#lastNote(p, lane)
        const lineage = known.lineage + 1
        const note: Note = { pipelineId: p.pipelineId, lineage, topicId: lane.topicId, position, counter: known.counter, cuts: [] }
        await rewrite(lane, new LaneBook(note, leaderEpoch, true))
        await this.#shared.registry.initialised(p.pipelineId, lane.topicId, lane.shard)
        highest = Math.max(highest, lineage)
        shards.push({ shard: lane.shard, from: position })
      }
      return { lineage: highest, shards }
    })
  }

  async release(
    name: string,
    o: { force: boolean; shard?: string },
  ): Promise<{ shards: readonly { shard: string; released: number; message: string }[] }> {
    return this.#whileStopped(name, async (p) => {
      const shards: { shard: string; released: number; message: string }[] = []
      for (const lane of this.#lanesOf(p, o.shard)) {
        const stored = await lane.saved()
        if (!stored || stored.note === '') throw new ControlError('invalid', `${name} ${lane.shard} has no note to release: use replay`)
        const note = parseNote(stored.note)
        const book = new LaneBook(note, stored.leaderEpoch, true)
        const found = o.force ? [] : await this.#effects(p, lane, book)
        if (found.length > 0) {
          throw new ControlError(
            'conflict',
            `releasing ${name} ${lane.shard}: ${found.join('; ')}. \`--force\` gives up on that: records of these cuts may then be delivered twice.`,
          )
        }
        const lineage = o.force ? note.lineage + 1 : note.lineage
        await rewrite(lane, new LaneBook({ ...note, lineage, cuts: [] }, stored.leaderEpoch, true))
        const range = `positions ${note.position} to ${book.end}`
        const message = o.force
          ? `lineage ${lineage}: what was already delivered of ${range} will be delivered again`
          : `proved that nothing of ${range} was delivered`
        shards.push({ shard: lane.shard, released: note.cuts.length, message })
      }
      return { shards }
    })
  }

  /** Uploads aborted, the longest life of an attempt waited out, then the store is asked for every name of every cut. */
  async #effects(p: RunningPipeline, lane: Lane, book: LaneBook): Promise<string[]> {
    const { host } = this.#shared
    const names: { handle: SinkHandle; key: string; cut: OpenCut }[] = []
    for (const cut of book.cuts) {
      const flow = await p.flow(cut.specHash)
      const { pipelineId } = p
      const token = (index: string): string =>
        tokenOf({ pipelineId, lineage: book.lineage, topicId: lane.topicId, shard: lane.shard, start: cut.start }, '', index)
      names.push({ handle: flow.sink, key: flow.objectKey({ token: token('0'), arrivalMs: cut.arrivalMs }), cut })
      for (const type of ['decompression-failed', 'processing-failed']) {
        const key = flow.rejectsKey({ token: token(`rejects:${type}`), arrivalMs: cut.arrivalMs, type })
        if (flow.stages.length > 0) names.push({ handle: flow.rejects, key, cut })
      }
      const backup = flow.rejectsKey({ token: token('backup'), arrivalMs: cut.arrivalMs, type: 'delivery-failed' })
      if (cut.givenUp) names.push({ handle: flow.rejects, key: backup, cut })
    }
    const signal = AbortSignal.timeout(60_000 + this.#drainMs)
    const scope = (cut: OpenCut) => ({
      host,
      events: this.#shared.events,
      log: this.#shared.log,
      pipeline: p.name,
      lease: lane.lease,
      signal,
      cut: {
        pipelineId: p.pipelineId,
        lineage: book.lineage,
        topicId: lane.topicId,
        stream: lane.stream,
        shard: lane.shard,
        start: cut.start,
        end: cut.end,
      },
      recovered: true,
      turn: () => Promise.resolve(),
      mayAct: () => {},
    })
    for (const { handle, key, cut } of names) {
      await attempts(handle, scope(cut), { operation: 'abort', timeoutMs: handle.timeoutMs }, (c) => handle.sink.abortUploads(key, c))
    }
    await host.clock.sleep(Math.max(0, ...names.map((n) => n.handle.timeoutMs)), signal)
    const found: string[] = []
    for (const { handle, key, cut } of names) {
      const stored = await attempts(handle, scope(cut), { operation: 'head', timeoutMs: handle.timeoutMs }, (c) => handle.sink.head(key, c))
      if (stored) found.push(`"${key}" exists (end ${stored.metadata['end'] ?? 'unknown'})`)
    }
    return found
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
    const entry = this.#m.entries.get(name.replace(/:backup$/, ''))
    if (!entry) throw new ControlError('not-found', `there is no pipeline "${name}"`)
    if (!entry.main) throw new ControlError('not-active', `the pipeline "${name}" does not run here: it is not in the configuration`)
    const running = name.endsWith(':backup') ? [entry.backup] : [entry.main, entry.backup]
    return { entry, running: running.filter((p) => p !== null) }
  }

  #lanesOf(p: RunningPipeline, shard: string | undefined): Lane[] {
    const lanes = p.lanes.idleLanes(shard)
    if (lanes.length === 0)
      throw new ControlError('not-found', shard === undefined ? `${p.name} has no shard here` : `${p.name} has no shard "${shard}" here`)
    return lanes
  }

  /** The lanes of one pipeline (not of its backup, unless named) are stopped, rewritten, and run again if they ran. */
  async #whileStopped<T>(name: string, fn: (p: RunningPipeline) => Promise<T>): Promise<T> {
    const { entry, running } = this.#find(name)
    const p = running[0]
    if (!p) throw new ControlError('not-found', `there is no pipeline "${name}"`)
    await p.lanes.pause(AbortSignal.timeout(this.#drainMs))
    try {
      return await fn(p)
    } finally {
      if (!entry.stored.record.paused) await p.lanes.resume()
    }
  }
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
