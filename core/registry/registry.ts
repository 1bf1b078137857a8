import type { Committed, MetaStore, TopicRef } from '../sdk/log.ts'

/** Durable control state, typed. Keys: pipeline/<name>, start/<pipelineId>/<topicId>/<shard>, spec/<hash>, checkpoint/<pipelineId>/<topicId>/<shard>. */
export interface PipelineRecord {
  readonly v: 1
  readonly name: string
  /** Random at creation: in group names, tokens and notes, so that a name created again meets nothing of its former life (row 6). */
  readonly pipelineId: string
  /** The second pipeline that backs up all source records, or null. */
  readonly backupId: string | null
  readonly origin: 'api' | 'yaml'
  readonly status: 'CREATING' | 'ACTIVE' | 'DELETING'
  readonly versionId: string
  readonly createdMs: number
  readonly updatedMs: number | null
  readonly paused: boolean
  readonly tags: Readonly<Record<string, string>>
  readonly topic: TopicRef
  /** API: document and spec as JSON (they hold no secrets). YAML: null, the file has them. */
  readonly document: unknown
  readonly spec: unknown
  readonly specHash: string
  /** Spec hashes that were in force before: a YAML file that brings one of them is older (row 36). */
  readonly history: readonly string[]
}
export interface StoredPipeline {
  readonly record: PipelineRecord
  /** For compare-and-set. */
  readonly version: number
}
export interface StartRecord {
  readonly position: number
  readonly initialised: boolean
}

const text = new TextDecoder()
const encode = (v: unknown): Uint8Array => Buffer.from(JSON.stringify(v), 'utf8')
const decode = (v: Uint8Array): unknown => JSON.parse(text.decode(v))

export class Registry {
  readonly #meta: MetaStore
  constructor(meta: MetaStore) {
    this.#meta = meta
  }

  async pipelines(): Promise<StoredPipeline[]> {
    const all: StoredPipeline[] = []
    for await (const v of this.#meta.scan('pipeline/')) all.push({ record: decode(v.value) as PipelineRecord, version: v.version })
    return all
  }
  async pipeline(name: string): Promise<StoredPipeline | null> {
    const v = await this.#meta.get(`pipeline/${name}`)
    return v ? { record: decode(v.value) as PipelineRecord, version: v.version } : null
  }
  /** Rejects with ConflictError when somebody else wrote first. */
  async putPipeline(record: PipelineRecord, expected: number | 'absent'): Promise<StoredPipeline> {
    return { record, version: await this.#meta.put(`pipeline/${record.name}`, encode(record), expected) }
  }
  /** The record goes last, so that a crash in between leaves a name that is deleted again, never a half-known one. */
  async deletePipeline(p: StoredPipeline): Promise<void> {
    for (const id of [p.record.pipelineId, p.record.backupId]) {
      if (id === null) continue
      for (const kind of ['start', 'checkpoint']) {
        for await (const v of this.#meta.scan(`${kind}/${id}/`)) await this.#meta.put(v.key, null, 'any')
      }
    }
    await this.#meta.put(`pipeline/${p.record.name}`, null, p.version)
  }

  async start(pipelineId: string, topicId: string, shard: string): Promise<StartRecord | null> {
    const v = await this.#meta.get(`start/${pipelineId}/${topicId}/${shard}`)
    return v ? (decode(v.value) as StartRecord) : null
  }
  /** Put if absent: a shard born later starts at 0, given by whoever is assigned it first. */
  async createStart(pipelineId: string, topicId: string, shard: string, position: number): Promise<StartRecord> {
    const there = await this.start(pipelineId, topicId, shard)
    if (there) return there
    const fresh: StartRecord = { position, initialised: false }
    await this.#meta.put(`start/${pipelineId}/${topicId}/${shard}`, encode(fresh), 'absent')
    return fresh
  }
  async initialised(pipelineId: string, topicId: string, shard: string): Promise<void> {
    const key = `start/${pipelineId}/${topicId}/${shard}`
    const v = await this.#meta.get(key)
    if (!v) throw new Error(`marking ${key} initialised: no start is registered`)
    const s = decode(v.value) as StartRecord
    if (!s.initialised) await this.#meta.put(key, encode({ ...s, initialised: true }), v.version)
  }

  /** Durable when it resolves: a note may name the hash only then (I13). */
  async putSpec(hash: string, spec: Uint8Array): Promise<void> {
    if ((await this.#meta.get(`spec/${hash}`)) === null) await this.#meta.put(`spec/${hash}`, spec, 'any')
  }
  async spec(hash: string): Promise<Uint8Array | null> {
    return (await this.#meta.get(`spec/${hash}`))?.value ?? null
  }

  async checkpoint(pipelineId: string, topicId: string, shard: string, state: Committed): Promise<void> {
    await this.#meta.put(`checkpoint/${pipelineId}/${topicId}/${shard}`, encode(state), 'any')
  }
  async lastCheckpoint(pipelineId: string, topicId: string, shard: string): Promise<Committed | null> {
    const v = await this.#meta.get(`checkpoint/${pipelineId}/${topicId}/${shard}`)
    return v ? (decode(v.value) as Committed) : null
  }
}
