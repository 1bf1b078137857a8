import type { Bounds, Committed, Lease, Log, Membership, Owned, ReadResult, Saved, TopicRef } from '../sdk/log.ts'
import type { RecordBatch } from '../sdk/batch.ts'

export interface LaneState {
  readonly position: number
  readonly leaderEpoch: number
  readonly note: string
}
export interface LaneRead {
  /** In position order; empty when the wait ended without records. */
  readonly batches: readonly RecordBatch[]
  readonly next: number
  /** The durable end: nothing at or beyond it has been shown. */
  readonly head: number
  readonly logStart: number
  readonly leaderEpoch: number
}
/** One shard as a pipeline sees it, for one lease. Pipelines never see the log. */
export interface Lane {
  readonly stream: string
  readonly shard: string
  readonly topicId: string
  readonly lease: Lease
  /** What the group has stored for the shard; null = nothing. */
  readonly resume: LaneState | null
  bounds(): Promise<Bounds & { leaderEpoch: number }>
  endOfEpoch(leaderEpoch: number): Promise<{ leaderEpoch: number; endOffset: number }>
  read(from: number, o: { maxBytes: number; maxWaitMs: number; lastEpoch?: number; signal: AbortSignal }): Promise<LaneRead>
  save(state: () => LaneState): Promise<Saved>
  /** Reads the stored state back: the watch of exactly-once.md step 14, merged into one request a group. */
  saved(): Promise<LaneState | null>
}
export interface LaneHandler {
  assigned(l: Lane): Promise<void>
  revoking(l: Lane, deadline: AbortSignal): Promise<void>
  lost(l: Lane, why: 'fenced' | 'uncertain'): void
}
export interface SourceMember {
  /** What the group has stored for any topic and shard, owned or not (a restored folder's former topics). */
  committed(topic: TopicRef, shard: string): Promise<LaneState | null>
  leave(): Promise<void>
}

const SHARD = 'shardId-'
export function shardName(partition: number): string {
  return SHARD + String(partition).padStart(12, '0')
}
export function shardPartition(shard: string): number {
  const n = shard.startsWith(SHARD) ? Number(shard.slice(SHARD.length)) : NaN
  if (!Number.isInteger(n)) throw new Error(`"${shard}" is not a shard name such as ${shardName(0)}`)
  return n
}

/** The door through which pipelines read: joins a consumer group on one topic and hands out lanes. */
export async function joinSource(o: {
  log: Log
  group: string
  topic: TopicRef
  stream: string
  handler: LaneHandler
}): Promise<SourceMember> {
  const lanes = new Map<string, Lane>()
  let membership: Membership | null = null
  const opened = Promise.withResolvers<Membership>()
  const watch = mergedCommitted(() => membership)
  const laneOf = (p: Owned): Lane => {
    const { topic, partition, lease } = p
    return {
      stream: o.stream,
      shard: shardName(partition),
      topicId: topic.id,
      lease,
      resume: p.committed ? laneState(p.committed) : null,
      bounds: () => o.log.bounds(topic, partition),
      endOfEpoch: (e) => o.log.endOfEpoch(topic, partition, e),
      read: async (from, r) => laneRead(await o.log.read(topic, partition, from, r)),
      save: async (state) => {
        const m = membership ?? (await opened.promise)
        const [saved] = await m.commit([{ owned: p, state: () => committedOf(state()) }])
        return saved ?? 'unknown'
      },
      saved: async () => {
        await opened.promise
        const c = await watch(topic, partition)
        return c ? laneState(c) : null
      },
    }
  }
  membership = await o.log.join(
    o.group,
    { topics: [o.topic.name] },
    {
      assigned: async (owned) => {
        const fresh = owned.filter((p) => p.topic.id === o.topic.id).map((p) => [p.lease.id, laneOf(p)] as const)
        for (const [id, lane] of fresh) lanes.set(id, lane)
        await Promise.all(fresh.map(([, lane]) => o.handler.assigned(lane)))
      },
      revoking: async (owned, deadline) => {
        await Promise.all(owned.map((p) => withLane(p, (l) => o.handler.revoking(l, deadline))))
      },
      lost: (owned, why) => {
        for (const p of owned) void withLane(p, (l) => Promise.resolve(o.handler.lost(l, why)))
      },
    },
  )
  opened.resolve(membership)
  function withLane(p: Owned, fn: (l: Lane) => Promise<void>): Promise<void> {
    const lane = lanes.get(p.lease.id)
    lanes.delete(p.lease.id)
    return lane ? fn(lane) : Promise.resolve()
  }
  const m = membership
  return {
    committed: async (topic, shard) => {
      const [c] = await m.committed([{ topic, partition: shardPartition(shard) }])
      return c ? laneState(c) : null
    },
    leave: () => m.leave(),
  }
}

/** All lanes of a group that ask in one turn of the event loop share one request. */
function mergedCommitted(membership: () => Membership | null): (t: TopicRef, p: number) => Promise<Committed | null> {
  let asked: { topic: TopicRef; partition: number }[] = []
  let answer: Promise<readonly (Committed | null)[]> | null = null
  return async (topic, partition) => {
    const index = asked.push({ topic, partition }) - 1
    answer ??= Promise.resolve().then(() => {
      const of = asked
      asked = []
      answer = null
      const m = membership()
      if (!m) throw new Error('reading positions back before the group was joined')
      return m.committed(of)
    })
    return (await answer)[index] ?? null
  }
}

const laneState = (c: Committed): LaneState => ({ position: c.offset, leaderEpoch: c.leaderEpoch, note: c.note })
const committedOf = (s: LaneState): Committed => ({ offset: s.position, leaderEpoch: s.leaderEpoch, note: s.note })
const laneRead = (r: ReadResult): LaneRead => ({
  batches: r.batches,
  next: r.next,
  head: r.stable,
  logStart: r.logStart,
  leaderEpoch: r.leaderEpoch,
})
