import type { TopicRef } from '../sdk/log.ts'
import { errorMessage } from '../sdk/errors.ts'
import type { PipelineRecord, StoredPipeline } from '../registry/registry.ts'
import { shardName } from '../stream/source.ts'
import { ControlError, type DeliveryStreamInfo, type DeliveryStreams } from './control.ts'
import { specHash } from './identity.ts'
import { backupSpec, RunningPipeline, type Entry, type Shared } from './running.ts'
import type { JsonObject, PipelineSpec } from './spec.ts'
import { applyYaml, specInForce } from './yaml-spec.ts'

const TRIM_MS = 5_000

/** All pipelines of the daemon: creates, changes and deletes them, durable first. One caller at a time per name. */
export class PipelineManager implements DeliveryStreams {
  readonly shared: Shared
  readonly entries = new Map<string, Entry>()
  readonly #drainMs: number
  readonly #locks = new Map<string, Promise<unknown>>()
  readonly #over = new AbortController()
  readonly #trimmed = new Map<string, number>()
  #ticking: Promise<void> = Promise.resolve()

  constructor(shared: Shared, o: { drainMs: number }) {
    this.shared = shared
    this.#drainMs = o.drainMs
  }

  /** Start order: what the registry holds, then what the YAML file brings. Lanes run when it resolves. */
  async start(yaml: ReadonlyMap<string, PipelineSpec>): Promise<void> {
    const { registry, streams } = this.shared
    const stored = await registry.pipelines()
    await streams.sweep(new Set(stored.map((s) => s.record.topic.name)))
    for (const s of stored) await this.#load(s, yaml.get(s.record.name) ?? null)
    for (const [name, spec] of yaml)
      if (!this.entries.has(name)) await this.createPipeline({ name, origin: 'yaml', spec, document: null, tags: {} })
    this.#ticking = this.#tick()
  }

  async #load(stored: StoredPipeline, yaml: PipelineSpec | null): Promise<void> {
    const { record } = stored
    const entry: Entry = { stored, spec: null, main: null, backup: null, ending: null, discard: new AbortController() }
    this.entries.set(record.name, entry)
    if (record.origin === 'api') {
      if (yaml)
        this.#warn(
          'NameTaken',
          `the pipeline "${record.name}" of the configuration has the name of a stream that was made through the API: it is not started`,
        )
      entry.spec = record.spec as PipelineSpec
    } else if (yaml) entry.spec = await specInForce(this.shared, entry, yaml)
    else if (record.status === 'ACTIVE') {
      this.#warn(
        'NotConfigured',
        `the pipeline "${record.name}" is in the registry and no longer in the configuration: its data and position are kept, nothing is delivered`,
      )
    }
    // a crash between the end of a deletion and its record: only the record is left
    if (record.status === 'DELETING' && !(await this.shared.streams.find(record.topic.name))) {
      await this.shared.registry.deletePipeline(stored)
      this.entries.delete(record.name)
      return
    }
    await this.run(entry)
    if (record.origin === 'yaml' && yaml && record.status === 'ACTIVE') await applyYaml(this, entry, yaml, false)
    if (record.status === 'DELETING') entry.ending = this.#end(entry, false)
  }

  /** Starts the lanes of an entry and opens its stream for puts. */
  async run(entry: Entry): Promise<void> {
    const { streams } = this.shared
    const { spec } = entry
    if (!spec) return
    const { record } = entry.stored
    const found = await streams.find(record.topic.name)
    if (!found) throw new Error(`starting ${record.name}: its topic ${record.topic.name} is not in the log`)
    // a folder restored from a backup has new ids: positions of the former topic are where the new one starts
    const former: TopicRef | null = found.topic.id === record.topic.id ? null : record.topic
    const { topic } = found
    const shards = await this.#shardsOf(spec, found)
    const common = { name: record.name, topic, shards, versionId: record.versionId, paused: record.paused && record.status === 'ACTIVE' }
    entry.main = new RunningPipeline(this.shared, { ...common, spec, pipelineId: record.pipelineId })
    const second = backupSpec(spec)
    if (second && record.backupId !== null) {
      entry.backup = new RunningPipeline(this.shared, {
        ...common,
        name: backupName(record.name),
        spec: second,
        pipelineId: record.backupId,
      })
    }
    await entry.main.join(former)
    await entry.backup?.join(former)
    if (former) await this.write(entry, { topic })
    if (record.status === 'ACTIVE') streams.open(record.name, topic, shards)
  }

  /** A configuration may ask for more shards than the stream was made with; fewer would leave records behind. */
  async #shardsOf(spec: PipelineSpec, found: { topic: TopicRef; shards: number }): Promise<number> {
    const wanted = spec.source.type === 'direct_put' ? spec.source.shards : found.shards
    if (wanted > found.shards) await this.shared.streams.grow(found.topic, wanted)
    else if (wanted < found.shards)
      this.#warn('FewerShards', `${spec.name} is configured with ${wanted} shards and has ${found.shards}: shards are never taken away`)
    return Math.max(wanted, found.shards)
  }

  get(name: string): DeliveryStreamInfo | null {
    const e = this.entries.get(name)
    return e ? infoOf(e) : null
  }
  list(): readonly DeliveryStreamInfo[] {
    return [...this.entries.values()].flatMap((e) => infoOf(e) ?? []).toSorted((a, b) => (a.name < b.name ? -1 : 1))
  }

  async create(c: {
    name: string
    document: JsonObject
    spec: PipelineSpec
    tags: Readonly<Record<string, string>>
  }): Promise<DeliveryStreamInfo> {
    return this.#locked(c.name, async () => {
      if (this.entries.has(c.name)) throw new ControlError('exists', `${c.name} already exists`)
      return infoOf(await this.createPipeline({ ...c, origin: 'api' }))!
    })
  }

  /** Step 1: ids, spec and an explicit start for every shard are durable before the record, the record before anything runs. */
  async createPipeline(c: {
    name: string
    origin: 'api' | 'yaml'
    spec: PipelineSpec
    document: JsonObject | null
    tags: Readonly<Record<string, string>>
  }): Promise<Entry> {
    const { registry, streams, host, parts } = this.shared
    const id = (): string => Buffer.from(host.random.bytes(9)).toString('hex')
    const pipelineId = id()
    const backupId = c.spec.backup ? id() : null
    const source = c.spec.source
    const shards = source.type === 'direct_put' ? source.shards : 1
    const topic = await streams.create(c.name, pipelineId, shards)
    const shape = specHash(c.spec, parts.targetOf)
    await registry.putSpec(shape.hash, shape.bytes)
    for (const one of [pipelineId, backupId]) {
      if (one === null) continue
      for (let p = 0; p < shards; p++) await registry.createStart(one, topic.id, shardName(p), 0)
    }
    const record: PipelineRecord = {
      v: 1,
      name: c.name,
      pipelineId,
      backupId,
      origin: c.origin,
      status: 'ACTIVE',
      versionId: '1',
      createdMs: host.clock.now(),
      updatedMs: null,
      paused: false,
      tags: c.tags,
      topic,
      document: c.document,
      spec: c.origin === 'api' ? c.spec : null,
      specHash: shape.hash,
      history: [],
    }
    const entry: Entry = {
      stored: await registry.putPipeline(record, 'absent'),
      spec: c.spec,
      main: null,
      backup: null,
      ending: null,
      discard: new AbortController(),
    }
    this.entries.set(c.name, entry)
    await this.run(entry)
    return entry
  }

  async update(name: string, expectedVersion: string, c: { document: JsonObject; spec: PipelineSpec }): Promise<DeliveryStreamInfo> {
    return this.#locked(name, async () => {
      const entry = this.#api(name)
      const { record } = entry.stored
      this.#refuseDeleting(entry)
      if (record.versionId !== expectedVersion)
        throw new ControlError('version', `version ${expectedVersion} of ${name} was named, it is ${record.versionId}`)
      await this.putSpecInForce(entry, c.spec, { document: c.document, spec: c.spec })
      return infoOf(entry)!
    })
  }

  /** A new spec: durable in the registry, then in force for cuts from now on. */
  async putSpecInForce(entry: Entry, spec: PipelineSpec, more: Partial<PipelineRecord>): Promise<void> {
    const { registry, parts, host } = this.shared
    const { record } = entry.stored
    const shape = specHash(spec, parts.targetOf)
    await registry.putSpec(shape.hash, shape.bytes)
    const versionId = String(Number(record.versionId) + 1)
    const history = shape.hash === record.specHash ? record.history : [...record.history.filter((h) => h !== shape.hash), record.specHash]
    if (!spec.backup && record.backupId !== null) await this.#endBackup(entry)
    const was = spec.backup ? record.backupId : null
    const backupId = spec.backup ? (was ?? Buffer.from(host.random.bytes(9)).toString('hex')) : null
    if (backupId !== null && was === null) await this.#startBackupHere(entry, backupId)
    await this.write(entry, { ...more, versionId, updatedMs: host.clock.now(), specHash: shape.hash, history, backupId })
    entry.spec = spec
    entry.main?.replaceSpec(spec, versionId)
    const second = backupSpec(spec)
    if (second && entry.backup) entry.backup.replaceSpec(second, versionId)
    else if (second && backupId !== null && entry.main) {
      const { topic, shards } = entry.main
      entry.backup = new RunningPipeline(this.shared, {
        name: backupName(record.name),
        topic,
        shards,
        versionId,
        paused: record.paused,
        spec: second,
        pipelineId: backupId,
      })
      await entry.backup.join(null)
    }
  }

  /** Switched off: it ends where it is; a later one has another id and starts where it is switched on. */
  async #endBackup(entry: Entry): Promise<void> {
    const { backup } = entry
    entry.backup = null
    if (!backup) return
    await backup.lanes.pause(AbortSignal.timeout(this.#drainMs))
    await backup.leave()
    await this.shared.forgetGroup(backup.group)
  }

  /** A backup that is switched on later backs up what is put from then on. */
  async #startBackupHere(entry: Entry, backupId: string): Promise<void> {
    const { topic, shards } = entry.main!
    for (const [shard, end] of await this.shared.streams.ends(topic, shards)) {
      await this.shared.registry.createStart(backupId, topic.id, shard, end)
    }
  }

  async setTags(name: string, tags: Readonly<Record<string, string>>): Promise<void> {
    await this.#locked(name, async () => {
      const entry = this.entries.get(name)
      if (!entry) throw new ControlError('not-found', `${name} is not there`)
      this.#refuseDeleting(entry)
      await this.write(entry, { tags })
    })
  }

  async delete(name: string, o: { force: boolean }): Promise<void> {
    await this.#locked(name, async () => {
      const entry = this.#api(name)
      if (entry.stored.record.status === 'DELETING' && !o.force) return
      if (entry.stored.record.status !== 'DELETING') await this.write(entry, { status: 'DELETING', paused: false })
      const closed = this.shared.streams.close(name)
      if (entry.ending && o.force) entry.discard.abort(new Error('AllowForceDelete'))
      entry.ending ??= closed.then(() => this.#end(entry, o.force))
    })
  }

  /** Drains what was put before the deletion, for at most drain_timeout; then discards, counts and forgets. */
  async #end(entry: Entry, force: boolean): Promise<void> {
    const { streams, log } = this.shared
    const { name } = entry.stored.record
    const running = [entry.main, entry.backup].filter((p) => p !== null)
    const deadline = AbortSignal.any([this.#over.signal, entry.discard.signal, AbortSignal.timeout(force ? 0 : this.#drainMs)])
    try {
      for (const p of running) {
        await p.assigned(this.#over.signal)
        p.drainTo(await streams.ends(p.topic, p.shards))
        await p.lanes.resume()
      }
      await Promise.all(running.map((p) => p.lanes.ended(deadline)))
      if (this.#over.signal.aborted) return
      for (const p of running) await this.#countDiscarded(p, force || entry.discard.signal.aborted)
      await this.#locked(name, () => this.#forget(entry, running))
    } catch (e) {
      log.error({ pipeline: name, err: errorMessage(e) }, 'deleting a pipeline failed; it goes on at the next start')
    }
  }

  async #forget(entry: Entry, running: readonly RunningPipeline[]): Promise<void> {
    const { streams, registry, parts } = this.shared
    for (const p of running) {
      await p.leave()
      await this.shared.forgetGroup(p.group)
      await parts.forget(p.pipelineId)
    }
    await streams.delete(entry.stored.record.topic)
    await registry.deletePipeline(entry.stored)
    this.entries.delete(entry.stored.record.name)
  }

  async #countDiscarded(p: RunningPipeline, force: boolean): Promise<void> {
    const ends = await this.shared.streams.ends(p.topic, p.shards)
    for (const [shard, from] of p.lanes.positions) {
      const to = ends.get(shard) ?? from
      if (to <= from) continue
      this.shared.events.emit({ type: 'records.discarded', pipeline: p.name, shard, from, to, reason: force ? 'force' : 'delete' })
      this.shared.log.warn({ pipeline: p.name, shard, from, to, force }, 'records were discarded with their stream')
    }
  }

  /** Compare-and-set of the record: a second writer (none on the embedded log) makes it reject. */
  async write(entry: Entry, change: Partial<PipelineRecord>): Promise<void> {
    entry.stored = await this.shared.registry.putPipeline({ ...entry.stored.record, ...change }, entry.stored.version)
  }

  #refuseDeleting(entry: Entry): void {
    const { name, status } = entry.stored.record
    if (status === 'DELETING') throw new ControlError('not-active', `${name} is being deleted`)
  }

  #api(name: string): Entry {
    const entry = this.entries.get(name)
    if (!entry) throw new ControlError('not-found', `${name} is not there`)
    if (entry.stored.record.origin === 'yaml') throw new ControlError('yaml-owned', `${name} is defined in the configuration file`)
    return entry
  }

  #warn(code: string, message: string): void {
    this.shared.events.emit({ type: 'warning', code, message })
    this.shared.log.warn({ code }, message)
  }

  /** One change of a pipeline at a time: API, operator and the end of a deletion. */
  locked<T>(name: string, fn: () => Promise<T>): Promise<T> {
    return this.#locked(name, fn)
  }

  async #locked<T>(name: string, fn: () => Promise<T>): Promise<T> {
    const before = this.#locks.get(name) ?? Promise.resolve()
    const mine = before.then(fn, fn)
    const settled = mine.catch(() => {})
    this.#locks.set(name, settled)
    try {
      return await mine
    } finally {
      if (this.#locks.get(name) === settled) this.#locks.delete(name)
    }
  }

  /** Every few seconds: lag and freshness as events, and the log below every committed position is given back. */
  async #tick(): Promise<void> {
    const { host, log } = this.shared
    while (!this.#over.signal.aborted) {
      try {
        await host.clock.sleep(TRIM_MS, this.#over.signal)
      } catch {
        return // the daemon stops
      }
      for (const e of this.entries.values()) {
        try {
          await this.#measureAndTrim(e)
        } catch (error) {
          const pipeline = e.stored.record.name
          if (!this.#over.signal.aborted)
            log.warn({ pipeline, err: errorMessage(error) }, 'measuring lag and trimming the log failed; it is tried again')
        }
      }
    }
  }

  async #measureAndTrim(e: Entry): Promise<void> {
    const { events, streams } = this.shared
    const running = [e.main, e.backup].filter((p) => p !== null)
    const first = running[0]
    if (!first || e.stored.record.status !== 'ACTIVE') return
    for (const p of running) {
      for (const s of await p.lanes.status())
        events.emit({ type: 'lane.lag', pipeline: p.name, shard: s.shard, lagRecords: s.lagRecords, freshnessMs: s.freshnessMs })
    }
    for (let n = 0; n < first.shards; n++) {
      const shard = shardName(n)
      const below = Math.min(...running.map((p) => p.lanes.positions.get(shard) ?? 0))
      const key = `${first.topic.id}/${shard}`
      if (below <= (this.#trimmed.get(key) ?? 0)) continue
      await streams.trim(first.topic, shard, below)
      this.#trimmed.set(key, below)
    }
  }

  /** SIGTERM: no put is accepted any more (the front door sees to it); lanes end their open cut and deliver until the deadline. */
  async stop(deadline: AbortSignal): Promise<{ open: readonly { pipeline: string; shard: string; cuts: number }[] }> {
    this.#over.abort(new Error('the daemon stops'))
    await this.#ticking
    await Promise.allSettled([...this.entries.values()].map((e) => e.ending ?? Promise.resolve()))
    const running = [...this.entries.values()].flatMap((e) => [e.main, e.backup]).filter((p) => p !== null)
    await Promise.all(running.map((p) => p.lanes.pause(deadline)))
    const open = running.flatMap((p) => p.lanes.openCuts.map((o) => ({ pipeline: p.name, ...o })))
    await Promise.all(running.map((p) => p.leave()))
    return { open }
  }
}

/** How the backup of a pipeline is called in metrics, logs and commands. */
function backupName(name: string): string {
  return `${name}:backup`
}

function infoOf(e: Entry): DeliveryStreamInfo | null {
  const { record } = e.stored
  if (!e.spec) return null
  const { name, pipelineId, origin, status, versionId, createdMs, updatedMs, tags, paused } = record
  return {
    name,
    pipelineId,
    origin,
    status,
    versionId,
    createdMs,
    updatedMs,
    tags,
    document: record.document as JsonObject | null,
    spec: e.spec,
    paused,
  }
}
