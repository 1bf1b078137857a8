import type { RecordBatch } from './batch.ts'

/** `id` is unique for ever, also when a name is created again; it is pinned by its users, never refreshed by name. */
export interface TopicRef {
  readonly name: string
  readonly id: string
}
export interface TopicOptions {
  readonly partitions: number
  /** Records older than this may be trimmed by the log; undefined = only trimBefore trims. */
  readonly retentionMs?: number
}
export interface TopicInfo extends TopicRef {
  readonly options: TopicOptions
}
export interface Bounds {
  readonly logStart: number
  /** Readers never see an offset at or beyond this (Kafka: last stable offset; embedded: durable watermark). */
  readonly stable: number
  readonly highWatermark: number
}

/** An append that was not acknowledged. `stored`: 'no' = certainly not in the log, 'unknown' = may be. */
export class AppendError extends Error {
  readonly stored: 'no' | 'unknown'
  readonly retriable: boolean
  readonly code: string
  constructor(code: string, message: string, o: { stored: 'no' | 'unknown'; retriable: boolean; cause?: unknown }) {
    super(message, { cause: o.cause })
    this.name = 'AppendError'
    this.code = code
    this.stored = o.stored
    this.retriable = o.retriable
  }
}
export class OutOfRangeError extends Error {
  readonly logStart: number
  readonly stable: number
  constructor(at: number, b: { logStart: number; stable: number }) {
    super(`reading at ${at}: the log holds [${b.logStart}, ${b.stable})`)
    this.name = 'OutOfRangeError'
    this.logStart = b.logStart
    this.stable = b.stable
  }
}
export class DivergedError extends Error {
  readonly leaderEpoch: number
  readonly endOffset: number
  constructor(o: { leaderEpoch: number; endOffset: number }) {
    super(`the log diverged: epoch ${o.leaderEpoch} ends at ${o.endOffset}`)
    this.name = 'DivergedError'
    this.leaderEpoch = o.leaderEpoch
    this.endOffset = o.endOffset
  }
}
/** MetaStore.put: the key was not at the expected version. */
export class ConflictError extends Error {
  readonly actual: number | 'absent'
  constructor(key: string, expected: number | 'absent', actual: number | 'absent') {
    super(`writing ${key}: expected version ${expected}, found ${actual}`)
    this.name = 'ConflictError'
    this.actual = actual
  }
}

export interface ReadResult extends Bounds {
  readonly batches: readonly RecordBatch[]
  /** Where to go on, also past gaps. */
  readonly next: number
  readonly leaderEpoch: number
}

export interface Log {
  createTopic(name: string, o: TopicOptions): Promise<TopicRef>
  describeTopic(name: string): Promise<TopicInfo | null>
  listTopics(pattern?: string): Promise<TopicInfo[]>
  addPartitions(t: TopicRef, total: number): Promise<void>
  configureTopic(t: TopicRef, o: Partial<TopicOptions>): Promise<void>
  deleteTopic(t: TopicRef): Promise<void>
  /** Resolves only when durable; rejects with AppendError. Positions and arrival times of `batch` are ignored: the log gives its own. */
  append(
    t: TopicRef,
    partition: number,
    batch: RecordBatch,
    o: { signal: AbortSignal },
  ): Promise<{ baseOffset: number; appendTimeMs: number }>
  /** Never at or beyond `stable`. One answer holds records of one leader epoch. Waits up to maxWaitMs for a first record. Rejects with OutOfRangeError or DivergedError. */
  read(
    t: TopicRef,
    partition: number,
    from: number,
    o: { maxBytes: number; maxWaitMs: number; lastEpoch?: number; signal: AbortSignal },
  ): Promise<ReadResult>
  bounds(t: TopicRef, partition: number): Promise<Bounds & { leaderEpoch: number }>
  /** Kafka: OffsetForLeaderEpoch; embedded: epoch = boot count of the folder. The largest epoch ≤ the asked one, and where it ends. */
  endOfEpoch(t: TopicRef, partition: number, leaderEpoch: number): Promise<{ leaderEpoch: number; endOffset: number }>
  offsetAt(t: TopicRef, partition: number, at: 'earliest' | 'latest' | { timestampMs: number }): Promise<number>
  trimBefore(t: TopicRef, partition: number, offset: number): Promise<void>
  join(
    group: string,
    what: { topics: readonly string[] } | { pattern: string },
    member: GroupMember,
    o?: { sessionTimeoutMs?: number },
  ): Promise<Membership>
  readonly meta: MetaStore
  close(): Promise<void>
}

/** One assignment of a shard to this process: a new object each time. */
export interface Lease {
  readonly id: string
  /** Aborted when the lease ends. */
  readonly signal: AbortSignal
  live(): boolean
}
export interface Committed {
  readonly offset: number
  readonly leaderEpoch: number
  readonly note: string
}
export interface Owned {
  readonly topic: TopicRef
  readonly partition: number
  readonly lease: Lease
  readonly committed: Committed | null
}
export interface GroupMember {
  assigned(p: readonly Owned[]): Promise<void>
  /** Commits are accepted until it resolves. */
  revoking(p: readonly Owned[], deadline: AbortSignal): Promise<void>
  /** Effects stop at once; fenced: drop everything; uncertain: buffers may be kept until the next assigned. */
  lost(p: readonly Owned[], why: 'fenced' | 'uncertain'): void
}
export interface CommitEntry {
  readonly owned: Owned
  /** Called synchronously at serialization, with the owned-and-unacknowledged check and the epoch stamp. */
  state(): Committed
}
/** unknown = no new effect until read back; refused = any other broker error. */
export type Saved = 'saved' | 'fenced' | 'too-large' | 'unknown' | 'refused'
export interface Membership {
  /** Owns the one queue and the one writer of its group: one request in flight, whole lane states, one result an entry. */
  commit(entries: readonly CommitEntry[]): Promise<readonly Saved[]>
  /** Any partition, owned or not; an error rejects, it is never null. */
  committed(of: readonly { topic: TopicRef; partition: number }[]): Promise<readonly (Committed | null)[]>
  leave(): Promise<void>
}

export interface Versioned {
  readonly key: string
  readonly value: Uint8Array
  readonly version: number
}
export type MetaChange =
  | { readonly key: string; readonly value: Uint8Array | null; readonly version: number }
  | { readonly caughtUp: number }
export interface MetaStore {
  /** Linearizable. */
  get(key: string): Promise<Versioned | null>
  /** value null deletes. Rejects with ConflictError when the key is not at `expected`. Resolves, durable, with the new version. */
  put(key: string, value: Uint8Array | null, expected: number | 'absent' | 'any'): Promise<number>
  scan(prefix: string): AsyncIterable<Versioned>
  /** A snapshot, then changes in version order; may coalesce a key, never skips its newest value. */
  watch(prefix: string, signal: AbortSignal): AsyncIterable<MetaChange>
}
