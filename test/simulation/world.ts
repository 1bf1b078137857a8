import { crc32 } from 'node:zlib'
import {
  batchOf,
  type AttemptContext,
  type Committed,
  type Host,
  type Lease,
  type ObjectSink,
  type OutObject,
  type Saved,
  type Stored,
} from 'hydrant/sdk'
import { OutOfRangeError } from '../../core/sdk/log.ts'
import { RetryableError } from '../../core/sdk/errors.ts'
import { Breaker, Slots } from '../../core/delivery/breaker.ts'
import type { SinkHandle } from '../../core/delivery/attempts.ts'
import type { SinkSpec } from '../../core/delivery/types.ts'
import { bodyWriter, MemoryBudget } from '../../core/pipeline/budget.ts'
import { crc32Base64 } from '../../core/format/body.ts'
import type { LaneContext } from '../../core/pipeline/context.ts'
import { stopFor } from '../../core/pipeline/deliver.ts'
import { buildFlow, type Flow } from '../../core/pipeline/flow.ts'
import { encodeIdentity, identityOf } from '../../core/pipeline/identity.ts'
import { openCutsOf } from '../../core/pipeline/lanes.ts'
import { runLane } from '../../core/pipeline/pipeline.ts'
import type { PipelineSpec } from '../../core/pipeline/spec.ts'
import { Registry } from '../../core/registry/registry.ts'
import type { Lane } from '../../core/stream/source.ts'
import type { HydrantEvent } from '../../core/telemetry/events.ts'
import type { Stage } from '../../core/transform/types.ts'
import { MemoryMeta } from './meta.ts'
import { Seeded, VirtualClock } from './scheduler.ts'

const PUT_TIMEOUT_MS = 1_000
const quiet = { debug() {}, info() {}, warn() {}, error() {} }

export interface StoredObject {
  readonly bytes: Uint8Array
  readonly metadata: Readonly<Record<string, string>>
  readonly by: number
}
/**
 * What a store may do instead of answering, decided before each call: refuse says that it did nothing; fail does nothing and does not say
 * so; applied does it; late does it within the longest life of an attempt, whatever has become of the process.
 */
export type StoreFault = 'refuse' | 'fail' | 'applied' | 'late' | 'hang' | null

/** All that outlives a process: the log, the group's positions, the registry, the store. */
export class World {
  readonly clock = new VirtualClock()
  readonly random: Seeded
  readonly meta = new MemoryMeta()
  readonly records: { value: Uint8Array; arrivalMs: number }[] = []
  readonly objects = new Map<string, StoredObject>()
  committed: Committed | null = null
  /** Every state that was ever stored, in order. */
  readonly history: Committed[] = []
  logStart = 0
  /** Where the leader epoch of the recorded cuts ends; null = it goes on. */
  epochEnd: number | null = null
  topicId = 't0'
  pipelineId = 'p0'
  /** Adds `n` to the head that readers are told, without the records being durable (row 9). */
  shownBeyondStable = 0
  lives = 0
  readonly events: HydrantEvent[] = []
  /** Keys of bodies that changed while a put, perhaps a late one, held their pieces. Empty, whatever happens. */
  readonly spoiled: string[] = []
  /** Set by a test: what the next store call does. */
  storeFault: (call: { op: 'put' | 'head'; key: string; life: Life }) => StoreFault = () => null
  /** How long after its failure a `late` put shows. */
  lateMs: () => number = () => this.random.int(PUT_TIMEOUT_MS)
  saveFault: (life: Life) => { result: Saved; apply: boolean; delayMs: number } = () => ({ result: 'saved', apply: true, delayMs: 1 })
  /** Called when a fail point is reached; true = the process dies here. */
  crash: (point: string, life: Life) => boolean = () => false
  onAppend: (() => void)[] = []
  /** Watchers: an object became visible; a state was stored; a put is under way (after its effect() and before it shows). */
  onStored: (metadata: Readonly<Record<string, string>>) => void = () => {}
  onCommit: (c: Committed) => void = () => {}
  onEvent: (e: HydrantEvent) => void = () => {}
  onPut: (metadata: Readonly<Record<string, string>>, sleep: (ms: number) => Promise<void>) => Promise<void> = () => Promise.resolve()

  constructor(seed: number) {
    this.random = new Seeded(seed)
  }
  append(value: string): void {
    this.records.push({ value: Buffer.from(value), arrivalMs: this.clock.now() })
    for (const wake of this.onAppend.splice(0)) wake()
  }
  /** Every line of every object that is no rejects object, with how often it stands there. */
  delivered(): Map<string, number> {
    const seen = new Map<string, number>()
    for (const [key, o] of this.objects) {
      if (key.startsWith('errors/')) continue
      for (const line of Buffer.from(o.bytes).toString().split('\n')) if (line !== '') seen.set(line, (seen.get(line) ?? 0) + 1)
    }
    return seen
  }
  /** The same of all objects, also of those that cuts were given up to. */
  anywhere(): Map<string, number> {
    const seen = new Map<string, number>()
    for (const o of this.objects.values())
      for (const line of Buffer.from(o.bytes).toString().split('\n')) if (line !== '') seen.set(line, (seen.get(line) ?? 0) + 1)
    return seen
  }
  rejected(): Map<string, number> {
    const seen = new Map<string, number>()
    for (const [key, o] of this.objects) {
      if (!key.startsWith('errors/')) continue
      for (const line of Buffer.from(o.bytes).toString().split('\n')) {
        if (line === '') continue
        const raw = Buffer.from((JSON.parse(line) as { rawData: string }).rawData, 'base64').toString()
        seen.set(raw, (seen.get(raw) ?? 0) + 1)
      }
    }
    return seen
  }
}

async function misbehave(f: StoreFault): Promise<void> {
  if (f === 'refuse') throw new RetryableError('Refused', 'the store refuses', { applied: 'no' })
  if (f === 'fail') throw new RetryableError('Test', 'no answer came')
  if (f === 'hang') await new Promise(() => {})
}

/** `giveUpMs`: retry.duration, with a backup. */
export function specOf(o: { size?: number; intervalMs?: number; prefix?: string; giveUpMs?: number }): PipelineSpec {
  const spec = plainSpec(o)
  if (o.giveUpMs === undefined) return spec
  return {
    ...spec,
    sink: { ...spec.sink, retry: { durationMs: o.giveUpMs, baseMs: 50, maxMs: 200 } },
    rejects: { ...spec.sink, type: 'backup' },
  }
}
function plainSpec(o: { size?: number; intervalMs?: number; prefix?: string }): PipelineSpec {
  return {
    name: 's',
    source: { type: 'direct_put', shards: 1 },
    stages: { deaggregate: null, decompress: false, extractMessages: false },
    format: { type: 'ndjson', compression: 'none' },
    buffer: { sizeBytes: o.size ?? 200, intervalMs: o.intervalMs ?? 1000 },
    sink: {
      type: 'mem',
      options: {},
      prefix: o.prefix ?? 'out/',
      errorPrefix: 'errors/',
      fileExtension: '',
      timeZone: 'UTC',
      retry: { durationMs: null, baseMs: 5, maxMs: 50 },
      timeoutMs: PUT_TIMEOUT_MS,
      concurrency: 8,
    },
    rejects: null,
    backup: null,
  }
}

/** One process: dies at a fail point, after which nothing it still does has any effect. */
export class Life {
  readonly world: World
  readonly n: number
  alive = true
  /** A zombie still acts on the store although its lease has ended. */
  zombie = false
  readonly end = new AbortController()
  readonly drain = new AbortController()
  readonly hurry = new AbortController()
  readonly died = Promise.withResolvers<'died'>()
  readonly reached = new Map<string, number>()
  readonly #o: LifeOptions
  #queue: Promise<unknown> = Promise.resolve()

  constructor(world: World, o: LifeOptions = {}) {
    this.world = world
    this.n = ++world.lives
    this.#o = o
  }
  kill(): void {
    this.alive = false
    this.died.resolve('died')
  }
  /** A call of a dead process never comes back. */
  async living(): Promise<void> {
    if (!this.alive) await new Promise(() => {})
  }

  get host(): Host {
    const { world } = this
    return {
      clock: world.clock,
      random: world.random,
      fs: null as never,
      failpoint: async (point) => {
        await this.living()
        this.reached.set(point, (this.reached.get(point) ?? 0) + 1)
        if (world.crash(point, this)) {
          this.kill()
          await this.living()
        }
      },
    }
  }

  sink(): ObjectSink {
    const { world } = this
    const stored = (key: string): Stored | null => {
      const o = world.objects.get(key)
      return o ? { location: key, size: o.bytes.length, metadata: o.metadata } : null
    }
    return {
      put: async (o: OutObject, c: AttemptContext) => {
        await c.failpoint('object.put.before')
        await c.effect()
        await this.living()
        const fault = world.storeFault({ op: 'put', key: o.key, life: this })
        if (fault !== 'applied' && fault !== 'late') await misbehave(fault)
        const chunks: Uint8Array[] = []
        for await (const piece of o.open()) chunks.push(piece)
        const show = (): void => {
          const bytes = Buffer.concat(chunks)
          if (crc32Base64(crc32(bytes)) !== o.crc32) world.spoiled.push(o.key)
          if (world.objects.has(o.key)) return
          world.onStored(o.metadata)
          world.objects.set(o.key, { bytes, metadata: o.metadata, by: this.n })
        }
        if (fault === 'late') {
          world.clock.timer(world.lateMs(), show)
          throw new RetryableError('Reset', 'the connection was reset')
        }
        await world.clock.sleep(1 + world.random.int(20))
        await this.living()
        await world.onPut(o.metadata, (ms) => world.clock.sleep(ms))
        await this.living()
        const existed = stored(o.key)
        show()
        if (fault === 'applied') throw new RetryableError('Lost', 'the answer was lost')
        await c.failpoint('object.put.after')
        return { location: o.key, existed }
      },
      head: async (key) => {
        await this.living()
        await misbehave(world.storeFault({ op: 'head', key, life: this }))
        return stored(key)
      },
      read: () => {
        throw new Error('not used')
      },
      abortUploads: () => Promise.resolve(0),
      close: () => Promise.resolve(),
    }
  }

  lane(): Lane {
    const { world } = this
    const lease: Lease = {
      id: `lease-${this.n}`,
      signal: this.end.signal,
      live: () => this.#o.leaseLive?.(this) ?? !this.end.signal.aborted,
    }
    const { committed } = world
    const bounds = () =>
      Promise.resolve({ logStart: world.logStart, stable: world.records.length, highWatermark: world.records.length, leaderEpoch: 1 })
    return {
      stream: 's',
      shard: 'shardId-000000000000',
      topicId: world.topicId,
      lease,
      resume: committed ? { position: committed.offset, leaderEpoch: committed.leaderEpoch, note: committed.note } : null,
      bounds,
      endOfEpoch: (e) => Promise.resolve({ leaderEpoch: e, endOffset: world.epochEnd ?? world.records.length }),
      read: async (from, o) => {
        await this.living()
        if (from < world.logStart || from > world.records.length)
          throw new OutOfRangeError(from, { logStart: world.logStart, stable: world.records.length })
        if (from === world.records.length && o.maxWaitMs > 0) await this.#wait(o.maxWaitMs, o.signal)
        const take = world.records.slice(from, from + 1 + world.random.int(6))
        const batch = batchOf(take.map((r, i) => ({ value: r.value, position: from + i, arrivalMs: r.arrivalMs })))
        return {
          batches: take.length > 0 ? [batch] : [],
          next: from + take.length,
          head: world.records.length - world.shownBeyondStable,
          logStart: world.logStart,
          leaderEpoch: 1,
        }
      },
      save: (state) =>
        this.#inTurn(async () => {
          await this.living()
          if (this.#o.beforeSerialize) await this.#o.beforeSerialize(this)
          const s = state()
          const { result, apply, delayMs } = world.saveFault(this)
          const write = (): void => {
            world.committed = { offset: s.position, leaderEpoch: s.leaderEpoch, note: s.note }
            world.history.push(world.committed)
            world.onCommit(world.committed)
          }
          await world.clock.sleep(delayMs)
          await this.living()
          if (apply) write()
          return result
        }),
      saved: async () => {
        await this.living()
        const c = world.committed
        return c ? { position: c.offset, leaderEpoch: c.leaderEpoch, note: c.note } : null
      },
    }
  }

  /** One commit request in flight, as a membership owes it (I2); a test may take the queue away. */
  #inTurn<T>(fn: () => Promise<T>): Promise<T> {
    if (this.#o.commitsOverlap) return fn()
    const mine = this.#queue.then(fn, fn)
    this.#queue = mine.catch(() => {})
    return mine
  }

  async #wait(ms: number, signal: AbortSignal): Promise<void> {
    const { world } = this
    await new Promise<void>((resolve) => {
      const cancel = world.clock.timer(ms, resolve)
      const wake = (): void => {
        cancel()
        resolve()
      }
      world.onAppend.push(wake)
      signal.addEventListener('abort', wake, { once: true })
    })
    signal.throwIfAborted()
  }

  context(spec: PipelineSpec): LaneContext {
    const { world, host } = this
    const emit = (e: HydrantEvent): void => {
      world.events.push(e)
      world.onEvent(e)
    }
    const memory = new MemoryBudget(1 << 30, { emit }).share()
    const registry = new Registry(world.meta.of(this))
    const sink = this.sink()
    const breaker = new Breaker({ clock: host.clock, events: { emit }, sink: 'mem', target: 'mem', perSecond: 1000 })
    const handle: SinkHandle = {
      name: 'mem', type: 'mem', sink, retry: spec.sink.retry, timeoutMs: spec.sink.timeoutMs, slots: new Slots(spec.sink.concurrency), breaker, ordered: false,
    } // prettier-ignore
    const backup: SinkHandle = {
      ...handle,
      name: 'backup',
      slots: new Slots(8),
      breaker: new Breaker({ clock: host.clock, events: { emit }, sink: 'backup', target: 'backup' }),
    }
    const parts = { sink: (s: SinkSpec) => Promise.resolve(s.type === 'backup' ? backup : handle), stages: () => this.#o.stages ?? [] }
    const flows = new Map<string, Flow>()
    const flow = async (hash: string): Promise<Flow> => {
      const bytes = await registry.spec(hash)
      if (!bytes) throw new Error(`spec ${hash} is not in the registry`)
      const f = flows.get(hash) ?? (await buildFlow({ hash, bytes, spec, pipelineId: world.pipelineId, parts }))
      flows.set(hash, f)
      return f
    }
    const current = async (): ReturnType<LaneContext['current']> => {
      const { hash, bytes } = encodeIdentity(identityOf(spec, '1', () => ({})))
      await host.failpoint('spec.before')
      await registry.putSpec(hash, bytes)
      await host.failpoint('spec.after')
      return { flow: await flow(hash), buffer: spec.buffer }
    }
    return {
      pipeline: 's',
      pipelineId: world.pipelineId,
      lane: this.lane(),
      host,
      events: { emit },
      log: quiet,
      registry,
      memory,
      writer: () => {
        const w = bodyWriter(memory, host, '/nowhere')
        const { slowFinishMs } = this.#o
        if (slowFinishMs === undefined) return w
        return {
          take: (n) => w.take(n),
          give: (c) => w.give(c),
          write: (c) => w.write(c),
          abort: () => w.abort(),
          finish: () => world.clock.sleep(slowFinishMs).then(() => w.finish()),
        }
      },
      current,
      flow,
      onGap: this.#o.onGap ?? 'stop',
      maxOpenCuts: openCutsOf(this.#o.ordered ?? false, this.#o.maxOpenCuts ?? 16),
      signal: this.end.signal,
      drain: this.drain.signal,
      hurry: this.hurry.signal,
      until: () => null,
      progress: () => {},
      unguarded: this.#o.unguarded ?? false,
    }
  }

  /** Runs the lane; resolves 'drained' when it ended by itself, 'died' when a fail point killed it; rejects as runLane does. */
  run(spec: PipelineSpec): Promise<'drained' | 'died'> {
    const x = this.context(spec)
    const lane = runLane(x, x.lane.resume).then(() => 'drained' as const)
    lane.catch(() => {})
    return Promise.race([lane, this.died.promise])
  }
  /** The same; 'ended' when a draining lane could not deliver, which is no fault: the next life does. */
  async runToEnd(spec: PipelineSpec): Promise<'drained' | 'died' | 'ended'> {
    try {
      return await this.run(spec)
    } catch (e) {
      if (!this.drain.signal.aborted || stopFor(this.context(spec), e)) throw e
      return 'ended'
    }
  }
}

export interface LifeOptions {
  /** The last bytes of a body take so long. */
  readonly slowFinishMs?: number
  /** The sink takes one cut at a time. */
  readonly ordered?: boolean
  readonly commitsOverlap?: boolean
  readonly unguarded?: boolean
  readonly stages?: readonly Stage[]
  readonly maxOpenCuts?: number
  readonly onGap?: 'stop' | 'skip'
  readonly leaseLive?: (l: Life) => boolean
  readonly beforeSerialize?: (l: Life) => Promise<void>
}
