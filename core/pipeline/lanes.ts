import type { Logger } from '../sdk/sink.ts'
import type { Host } from '../sdk/host.ts'
import { errorKind, errorMessage } from '../sdk/errors.ts'
import type { Registry } from '../registry/registry.ts'
import type { Lane, LaneHandler } from '../stream/source.ts'
import type { Events } from '../telemetry/events.ts'
import { bodyWriter, type MemoryShare } from './budget.ts'
import type { LaneContext, LaneProgress } from './context.ts'
import type { LaneStatus } from './control.ts'
import { stopFor } from './deliver.ts'
import type { Flow } from './flow.ts'
import { runLane } from './pipeline.ts'
import type { BufferSpec } from './spec.ts'

const RESTART_MAX_MS = 30_000

/** What the lanes of one pipeline (or of one backup) share. */
export interface LanesOptions {
  readonly pipeline: string
  readonly pipelineId: string
  readonly host: Host
  readonly events: Events
  readonly log: Logger
  readonly registry: Registry
  readonly memory: MemoryShare
  readonly spillDir: string
  readonly onGap: 'stop' | 'skip'
  readonly ordered: boolean
  readonly openCuts: number
  readonly unguarded: boolean
  current(): Promise<{ flow: Flow; buffer: BufferSpec }>
  flow(specHash: string): Promise<Flow>
  /** Starts are written: lanes begin after it. */
  readonly ready: Promise<void>
  /** Deletion: where each shard ends; null = go on for ever. */
  until(shard: string): number | null
}

interface Running {
  readonly lane: Lane
  hard: AbortController
  drain: AbortController
  hurry: AbortController
  readonly progress: LaneProgress
  /** Between launch and the end of the supervision. */
  active: boolean
  done: Promise<void>
}

/** I14: a sink that keeps order gets one cut at a time. */
export function openCutsOf(ordered: boolean, most: number): number {
  return ordered ? 1 : most
}

/** Runs a lane for every shard that the source assigns, starts it again after passing faults, stops it where an operator must look. */
export class Lanes implements LaneHandler {
  readonly #o: LanesOptions
  readonly #running = new Map<string, Running>()
  readonly #waiting: (() => void)[] = []
  #paused: boolean
  /** Pause, resume and rewriting come one after the other. */
  #actions: Promise<unknown> = Promise.resolve()

  constructor(o: LanesOptions, paused: boolean) {
    this.#o = o
    this.#paused = paused
  }

  assigned(lane: Lane): Promise<void> {
    const progress: LaneProgress = {
      state: 'starting',
      position: lane.resume?.position ?? 0,
      head: 0,
      cutMs: null,
      fillMs: null,
      openCuts: 0,
      reason: null,
      doubt: null,
      lineage: 1,
    }
    const done = Promise.resolve()
    const [hard, drain, hurry] = [new AbortController(), new AbortController(), new AbortController()]
    const r: Running = { lane, hard, drain, hurry, progress, active: false, done }
    this.#running.set(lane.shard, r)
    if (this.#paused) progress.state = 'paused'
    else this.#launch(r, lane.resume)
    for (const wake of this.#waiting.splice(0)) wake()
    return Promise.resolve()
  }

  /** Resolves when so many shards are assigned here, or when the signal aborts. */
  async have(shards: number, signal: AbortSignal): Promise<void> {
    while (this.#running.size < shards && !signal.aborted) {
      await new Promise<void>((resolve) => {
        this.#waiting.push(resolve)
        signal.addEventListener('abort', () => resolve(), { once: true })
      })
    }
  }

  async revoking(lane: Lane, deadline: AbortSignal): Promise<void> {
    const r = this.#of(lane)
    if (r) await this.#stop(r, deadline)
  }

  lost(lane: Lane): void {
    const r = this.#of(lane)
    if (!r) return
    r.hard.abort(new Error(`the lease of ${lane.shard} was lost`))
    this.#running.delete(lane.shard)
  }

  #of(lane: Lane): Running | undefined {
    const r = this.#running.get(lane.shard)
    return r?.lane.lease.id === lane.lease.id ? r : undefined
  }

  #launch(r: Running, resume: Lane['resume']): void {
    r.hard = new AbortController()
    r.drain = new AbortController()
    r.hurry = new AbortController()
    r.active = true
    // what is trimmed and shown follows the stored position, also when an operator has set it back
    if (resume) r.progress.position = resume.position
    Object.assign(r.progress, { reason: null, cutMs: null, fillMs: null, openCuts: 0 })
    r.done = this.#supervise(r, resume).finally(() => (r.active = false))
  }

  /** Never rejects: a lane that ends says why in its status and in an event. */
  async #supervise(r: Running, first: Lane['resume']): Promise<void> {
    const { events, pipeline } = this.#o
    const { shard } = r.lane
    const signal = AbortSignal.any([r.hard.signal, r.lane.lease.signal])
    let resume = first
    await this.#o.ready
    for (let failures = 0; ; failures++) {
      const since = this.#o.host.clock.monotonic()
      try {
        await runLane(this.#context(r, signal), resume)
        r.progress.state = this.#paused ? 'paused' : 'stopped'
        events.emit({ type: 'lane.ended', pipeline, shard })
        return
      } catch (e) {
        const stop = stopFor(this.#context(r, signal), e)
        if (stop) {
          Object.assign(r.progress, { state: 'stopped', reason: stop.message })
          events.emit({ type: 'lane.stopped', pipeline, shard, code: stop.code, message: stop.message })
          return
        }
        if (signal.aborted || errorKind(e) === 'lease-lost' || r.drain.signal.aborted) {
          Object.assign(r.progress, { state: 'stopped', reason: errorMessage(e) })
          events.emit({ type: 'lane.ended', pipeline, shard })
          return
        }
        if (this.#o.host.clock.monotonic() - since > RESTART_MAX_MS) failures = 0
        const again = await this.#again(r, e, failures, signal)
        if (!again) return
        resume = again.resume
      }
    }
  }

  /** After a passing fault: waits, then reads back what is stored until that works. null: the lane is to end. */
  async #again(r: Running, e: unknown, failures: number, signal: AbortSignal): Promise<{ resume: Lane['resume'] } | null> {
    const { host, log, pipeline } = this.#o
    const ending = AbortSignal.any([signal, r.drain.signal])
    let reason = e
    for (let n = failures; ; n++) {
      const delayMs = Math.min(RESTART_MAX_MS, 100 * 2 ** Math.min(n, 20))
      Object.assign(r.progress, { state: 'waiting', reason: errorMessage(reason) })
      const stack = reason instanceof Error ? reason.stack : undefined
      log.warn(
        { pipeline, shard: r.lane.shard, err: errorMessage(reason), stack, delayMs },
        'lane failed; it starts again from what is stored',
      )
      try {
        await host.clock.sleep(delayMs, ending)
        return { resume: await r.lane.saved() }
      } catch (again) {
        if (ending.aborted) {
          r.progress.state = 'stopped'
          return null
        }
        reason = again
      }
    }
  }

  #context(r: Running, signal: AbortSignal): LaneContext {
    const o = this.#o
    return {
      pipeline: o.pipeline,
      pipelineId: o.pipelineId,
      lane: r.lane,
      host: o.host,
      events: o.events,
      log: o.log,
      registry: o.registry,
      memory: o.memory,
      writer: () => bodyWriter(o.memory, o.host, o.spillDir),
      current: () => o.current(),
      flow: (hash) => o.flow(hash),
      onGap: o.onGap,
      maxOpenCuts: openCutsOf(o.ordered, o.openCuts),
      signal,
      drain: r.drain.signal,
      hurry: r.hurry.signal,
      until: () => o.until(r.lane.shard),
      progress: (p) => void Object.assign(r.progress, p),
      unguarded: o.unguarded,
    }
  }

  /** Ends the open cut, delivers what is recorded, as far as that needs no waiting for a sink; at the deadline everything is aborted and awaited. */
  async #stop(r: Running, deadline: AbortSignal): Promise<void> {
    r.drain.abort(new Error('the lane is draining'))
    const late = (): void => r.hard.abort(new Error('the drain time is over'))
    if (deadline.aborted) late()
    else deadline.addEventListener('abort', late, { once: true })
    await r.done
    deadline.removeEventListener('abort', late)
  }

  #inTurn<T>(fn: () => Promise<T>): Promise<T> {
    const mine = this.#actions.then(fn, fn)
    this.#actions = mine.catch(() => {})
    return mine
  }

  pause(deadline: AbortSignal): Promise<void> {
    return this.#inTurn(() => this.#pause(deadline))
  }
  async #pause(deadline: AbortSignal): Promise<void> {
    this.#paused = true
    await Promise.all([...this.#running.values()].map((r) => this.#stop(r, deadline)))
    for (const r of this.#running.values()) if (r.progress.state !== 'stopped' || r.progress.reason === null) r.progress.state = 'paused'
  }
  /** Starts every lane that does not run again, from what is stored. */
  resume(): Promise<void> {
    return this.#inTurn(() => this.#resume())
  }
  async #resume(): Promise<void> {
    this.#paused = false
    for (const r of this.#running.values()) {
      if (r.active) continue
      const resume = await r.lane.saved()
      if (this.#running.get(r.lane.shard) === r) this.#launch(r, resume)
    }
  }
  /** Stops the lanes, hands those of a shard (or all) to `fn`, which may rewrite what is stored, and runs them again if they ran. */
  whileStopped<T>(shard: string | undefined, deadline: AbortSignal, fn: (lanes: readonly Lane[]) => Promise<T>): Promise<T> {
    return this.#inTurn(async () => {
      const paused = this.#paused
      await this.#pause(deadline)
      try {
        const all = [...this.#running.values()].map((r) => r.lane)
        return await fn(all.filter((l) => shard === undefined || l.shard === shard))
      } finally {
        if (!paused) await this.#resume()
      }
    })
  }
  /** Nothing at or above `position` of the shard is trimmed from now on: an operator is about to set it back. */
  hold(shard: string, position: number): void {
    const r = this.#running.get(shard)
    if (r) r.progress.position = Math.min(r.progress.position, position)
  }
  /** Resolves when every lane has ended (drained to `until`, or aborted at the deadline). */
  async ended(deadline: AbortSignal): Promise<void> {
    await Promise.all(
      [...this.#running.values()].map(async (r) => {
        const late = (): void => r.hard.abort(new Error('the drain time is over'))
        r.hurry.abort(new Error('the lane is waited for'))
        deadline.addEventListener('abort', late, { once: true })
        if (deadline.aborted) late()
        await r.done
      }),
    )
  }
  /** Shards that still have recorded cuts. */
  get openCuts(): { shard: string; cuts: number }[] {
    return [...this.#running].flatMap(([shard, r]) => (r.progress.openCuts > 0 ? [{ shard, cuts: r.progress.openCuts }] : []))
  }
  get positions(): ReadonlyMap<string, number> {
    return new Map([...this.#running].map(([shard, r]) => [shard, r.progress.position]))
  }

  async status(): Promise<LaneStatus[]> {
    const now = this.#o.host.clock.now()
    const one = async (r: Running): Promise<LaneStatus> => {
      const { state, position, openCuts, reason, doubt } = r.progress
      const head = r.lane.lease.live() ? (await r.lane.bounds()).stable : r.progress.head
      const lagRecords = Math.max(0, head - position)
      const freshnessMs = lagRecords === 0 ? 0 : Math.max(0, now - (await oldest(r)))
      return { shard: r.lane.shard, state, position, head, lagRecords, freshnessMs, openCuts, reason: doubt ?? reason }
    }
    const all = await Promise.all([...this.#running.values()].map(one))
    return all.toSorted((a, b) => (a.shard < b.shard ? -1 : 1))
  }
  get lineage(): number {
    return Math.max(1, ...[...this.#running.values()].map((r) => r.progress.lineage))
  }
}

/** Arrival of the oldest record that is not delivered: also of a lane that reads nothing (freshness must not vanish when it is needed). */
async function oldest(r: Running): Promise<number> {
  const known = r.progress.cutMs ?? r.progress.fillMs
  if (known !== null || !r.lane.lease.live()) return known ?? Infinity
  const { logStart, stable } = await r.lane.bounds()
  if (r.progress.position >= stable) return Infinity
  const got = await r.lane.read(Math.max(logStart, r.progress.position), { maxBytes: 1, maxWaitMs: 0, signal: r.lane.lease.signal })
  const ms = got.batches[0]?.arrivalMs[0] ?? Infinity
  for (const b of got.batches) b.release()
  return ms
}
