import type { RecordBatch } from '../sdk/batch.ts'
import type { Bounds, Log, TopicRef } from '../sdk/log.ts'
import type { Events } from '../telemetry/events.ts'
import { joinSource, shardName, shardPartition, type LaneHandler, type SourceMember } from './source.ts'

/** A put to a stream that is not there, or not open for puts. */
export class NoStreamError extends Error {
  readonly code = 'not-found'
  constructor(name: string) {
    super(`stream ${name} is not open`)
    this.name = 'NoStreamError'
  }
}

interface Open {
  readonly topic: TopicRef
  shards: number
  next: number
  /** Puts under way. */
  putting: number
  /** Called when none is. */
  idle: (() => void) | null
}

/** The streams of the daemon: topics of the log by name, and the way in for puts. */
export class Streams {
  readonly #log: Log
  readonly #events: Events
  readonly #open = new Map<string, Open>()

  constructor(log: Log, events: Events) {
    this.#log = log
    this.#events = events
  }

  /** The topic's name is unique by its suffix: a stream deleted and created again is another topic (row 32). */
  async create(name: string, suffix: string, shards: number): Promise<TopicRef> {
    return this.#log.createTopic(`firehose.${name}.${suffix}`, { partitions: shards })
  }
  async find(topicName: string): Promise<{ topic: TopicRef; shards: number } | null> {
    const info = await this.#log.describeTopic(topicName)
    return info ? { topic: { name: info.name, id: info.id }, shards: info.options.partitions } : null
  }
  /** Topics that a crashed creation left behind: nobody's, and without a single record. */
  async sweep(known: ReadonlySet<string>): Promise<void> {
    for (const t of await this.#log.listTopics('firehose.*')) {
      if (known.has(t.name)) continue
      const ends = await Promise.all(Array.from({ length: t.options.partitions }, (_, p) => this.#log.bounds(t, p)))
      if (ends.every((b) => b.highWatermark === 0)) await this.#log.deleteTopic(t)
    }
  }

  /** Puts are accepted from now on. */
  open(name: string, topic: TopicRef, shards: number): void {
    this.#open.set(name, { topic, shards, next: 0, putting: 0, idle: null })
  }
  /** Puts are refused from now on; resolves when those under way have been answered. */
  async close(name: string): Promise<void> {
    const s = this.#open.get(name)
    this.#open.delete(name)
    if (s && s.putting > 0) await new Promise<void>((resolve) => (s.idle = resolve))
  }
  async addShards(name: string, total: number): Promise<void> {
    const s = this.#open.get(name)
    if (!s) throw new NoStreamError(name)
    await this.grow(s.topic, total)
    s.shards = total
  }

  /** More shards for a stream that is not open yet; never fewer. */
  grow(topic: TopicRef, total: number): Promise<void> {
    return this.#log.addPartitions(topic, total)
  }

  /** Round robin a request over the shards. Durable when it resolves; rejects with AppendError or NoStreamError. */
  async put(
    name: string,
    batch: RecordBatch,
    signal: AbortSignal,
  ): Promise<{ topicId: string; shard: number; baseOffset: number; appendTimeMs: number }> {
    const s = this.#open.get(name)
    if (!s) throw new NoStreamError(name)
    const shard = s.next
    s.next = shard + 1 >= s.shards ? 0 : shard + 1
    s.putting++
    try {
      const { baseOffset, appendTimeMs } = await this.#log.append(s.topic, shard, batch, { signal })
      this.#events.emit({ type: 'records.accepted', stream: name, records: batch.count, bytes: batch.bytes.length })
      return { topicId: s.topic.id, shard, baseOffset, appendTimeMs }
    } finally {
      s.putting--
      if (s.putting === 0) s.idle?.()
    }
  }

  /** Where every shard ends now: what a deletion drains to. */
  async ends(topic: TopicRef, shards: number): Promise<ReadonlyMap<string, number>> {
    const ends = new Map<string, number>()
    for (let p = 0; p < shards; p++) ends.set(shardName(p), (await this.#log.bounds(topic, p)).highWatermark)
    return ends
  }
  bounds(topic: TopicRef, shard: string): Promise<Bounds & { leaderEpoch: number }> {
    return this.#log.bounds(topic, shardPartition(shard))
  }
  positionAt(topic: TopicRef, shard: string, at: 'earliest' | { timestampMs: number }): Promise<number> {
    return this.#log.offsetAt(topic, shardPartition(shard), at)
  }
  trim(topic: TopicRef, shard: string, below: number): Promise<void> {
    return this.#log.trimBefore(topic, shardPartition(shard), below)
  }
  async delete(topic: TopicRef): Promise<void> {
    await this.#log.deleteTopic(topic)
  }
  join(o: { group: string; topic: TopicRef; stream: string; handler: LaneHandler }): Promise<SourceMember> {
    return joinSource({ log: this.#log, ...o })
  }
}
