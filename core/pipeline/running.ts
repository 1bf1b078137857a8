import type { Logger } from '../sdk/sink.ts'
import type { Host } from '../sdk/host.ts'
import type { TopicRef } from '../sdk/log.ts'
import { limits } from '../limits.ts'
import type { Registry, StoredPipeline } from '../registry/registry.ts'
import type { Streams } from '../stream/streams.ts'
import { shardName, type SourceMember } from '../stream/source.ts'
import type { Events } from '../telemetry/events.ts'
import type { MemoryBudget, MemoryShare } from './budget.ts'
import { LaneStoppedError } from './context.ts'
import { buildFlow, type Flow, type FlowParts } from './flow.ts'
import { decodeIdentity, encodeIdentity, identityOf, type TargetOf } from './identity.ts'
import { Lanes } from './lanes.ts'
import type { BufferSpec, PipelineSpec } from './spec.ts'

export interface Shared {
  readonly host: Host
  readonly events: Events
  readonly log: Logger
  readonly registry: Registry
  readonly streams: Streams
  readonly memory: MemoryBudget
  readonly spillDir: string
  readonly parts: FlowParts & {
    targetOf: TargetOf
    ordered(spec: PipelineSpec): boolean
    /** Closes the sinks of a pipeline that is gone. */
    forget(pipelineId: string): Promise<void>
  }
  /** Deletes what a group has stored. */
  forgetGroup(group: string): Promise<void>
  /** For tests of exactly-once §6 (7). */
  readonly unguarded?: boolean
}

/** The same pipeline as its backup of all source records sees it. */
export function backupSpec(spec: PipelineSpec): PipelineSpec | null {
  if (!spec.backup) return null
  const { format, buffer, sink } = spec.backup
  return {
    name: spec.name,
    source: spec.source,
    stages: { deaggregate: null, decompress: false, extractMessages: false },
    format,
    buffer,
    sink,
    rejects: null,
    backup: null,
  }
}

/** One pipelineId at work: its group, lanes, spec in force and flows. A pipeline with a backup is two of these on one source. */
export class RunningPipeline {
  readonly name: string
  readonly pipelineId: string
  readonly topic: TopicRef
  readonly shards: number
  readonly lanes: Lanes
  readonly #s: Shared
  readonly #memory: MemoryShare
  readonly #flows = new Map<string, Promise<Flow>>()
  readonly #ready = Promise.withResolvers<void>()
  #spec: PipelineSpec
  #versionId: string
  #member: SourceMember | null = null
  #ends: ReadonlyMap<string, number> | null = null

  constructor(
    s: Shared,
    o: { name: string; pipelineId: string; topic: TopicRef; shards: number; spec: PipelineSpec; versionId: string; paused: boolean },
  ) {
    this.#s = s
    this.name = o.name
    this.pipelineId = o.pipelineId
    this.topic = o.topic
    this.shards = o.shards
    this.#spec = o.spec
    this.#versionId = o.versionId
    this.#memory = s.memory.share()
    const source = o.spec.source
    this.lanes = new Lanes(
      {
        pipeline: o.name,
        pipelineId: o.pipelineId,
        host: s.host,
        events: s.events,
        log: s.log,
        registry: s.registry,
        memory: this.#memory,
        spillDir: s.spillDir,
        onGap: source.type === 'direct_put' ? (source.onGap ?? 'stop') : 'stop',
        ordered: s.parts.ordered(o.spec),
        openCuts: limits.openCutsPerLane,
        unguarded: s.unguarded ?? false,
        ready: this.#ready.promise,
        current: () => this.#current(),
        flow: (hash) => this.#flow(hash),
        until: (shard) => this.#ends?.get(shard) ?? null,
      },
      o.paused,
    )
  }
  get group(): string {
    return `hydrant.${this.pipelineId}`
  }
  get spec(): PipelineSpec {
    return this.#spec
  }

  /** Joins the group. `former`: the topic's reference before the folder was restored: starts are where that one had got to. */
  async join(former: TopicRef | null): Promise<void> {
    const { streams, registry } = this.#s
    this.#member = await streams.join({ group: this.group, topic: this.topic, stream: this.name, handler: this.lanes })
    if (former) {
      for (let p = 0; p < this.shards; p++) {
        const shard = shardName(p)
        const was = await this.#member.committed(former, shard)
        await registry.createStart(this.pipelineId, this.topic.id, shard, was?.position ?? 0)
      }
    }
    this.#ready.resolve()
  }
  /** All its shards are assigned here. */
  assigned(signal: AbortSignal): Promise<void> {
    return this.lanes.have(this.shards, signal)
  }
  async leave(): Promise<void> {
    await this.#member?.leave()
    this.#member = null
    this.#memory.end()
  }

  /** The spec for cuts from now on. Recorded cuts keep theirs; their transport changes with it. */
  replaceSpec(spec: PipelineSpec, versionId: string): void {
    this.#spec = spec
    this.#versionId = versionId
    this.#flows.clear()
  }
  /** Deletion: lanes end by themselves when they have delivered up to these positions. */
  drainTo(ends: ReadonlyMap<string, number>): void {
    this.#ends = ends
  }

  async #current(): Promise<{ flow: Flow; buffer: BufferSpec }> {
    const { registry, host, parts } = this.#s
    const { hash, bytes } = encodeIdentity(identityOf(this.#spec, this.#versionId, parts.targetOf))
    if (!this.#flows.has(hash)) {
      await host.failpoint('spec.before')
      await registry.putSpec(hash, bytes)
      await host.failpoint('spec.after')
    }
    return { flow: await this.#flow(hash), buffer: this.#spec.buffer }
  }

  #flow(hash: string): Promise<Flow> {
    let flow = this.#flows.get(hash)
    if (!flow) {
      flow = this.#build(hash)
      this.#flows.set(hash, flow)
      flow.catch(() => this.#flows.delete(hash))
    }
    return flow
  }
  async #build(hash: string): Promise<Flow> {
    const bytes = await this.#s.registry.spec(hash)
    if (!bytes)
      throw new LaneStoppedError('UnknownSpec', `${this.name}: a recorded cut names the spec ${hash}, which the registry does not hold`)
    decodeIdentity(bytes)
    return buildFlow({ hash, bytes, spec: this.#spec, pipelineId: this.pipelineId, parts: this.#s.parts })
  }
  flow(hash: string): Promise<Flow> {
    return this.#flow(hash)
  }
}

/** A pipeline of the registry, with its lanes where it runs here. */
export interface Entry {
  stored: StoredPipeline
  /** Of a YAML pipeline that the file no longer has: what the registry knows, nothing runs. */
  spec: PipelineSpec | null
  main: RunningPipeline | null
  backup: RunningPipeline | null
  /** The deletion that goes on behind a DELETING stream. */
  ending: Promise<void> | null
  /** Ends its drain early (AllowForceDelete). */
  readonly discard: AbortController
}
