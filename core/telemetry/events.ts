/** The one list of what happens in hydrant. Rooms emit; metrics, logs and tests listen. Emitted per batch, never per record. */
export type HydrantEvent =
  | { type: 'request.handled'; operation: string; status: number; code?: string; ms: number; bytes: number }
  | { type: 'records.accepted'; stream: string; records: number; bytes: number }
  | { type: 'records.refused'; stream: string; records: number; code: string }
  | { type: 'log.refusing'; stream: string; reason: string }
  | { type: 'log.resumed'; stream: string }
  | { type: 'log.poisoned'; stream: string; reason: string }
  | { type: 'lane.started'; pipeline: string; shard: string; position: number; recoveredCuts: number }
  | { type: 'lane.stopped'; pipeline: string; shard: string; code: string; message: string }
  | { type: 'lane.ended'; pipeline: string; shard: string }
  | { type: 'lane.lag'; pipeline: string; shard: string; lagRecords: number; freshnessMs: number }
  | { type: 'cut.recorded'; pipeline: string; shard: string; start: number; end: number; records: number; bytes: number; reason: CutReason }
  | {
      type: 'cut.delivered'
      pipeline: string
      shard: string
      start: number
      end: number
      /** Source records of the cut. */
      records: number
      /** After the stages: transformed = delivered + rejectedOut + givenUp. */
      transformed: number
      dropped: number
      rejected: number
      delivered: number
      givenUp: number
      objects: number
      bytes: number
      storedBytes: number
      /** Now minus the arrival of the oldest record. */
      freshnessMs: number
      replayed: boolean
    }
  | { type: 'cut.adopted'; pipeline: string; shard: string; start: number; end: number; recordedEnd: number }
  | { type: 'cut.given-up'; pipeline: string; shard: string; start: number; end: number; records: number }
  /** Retries are over; the cut is given up as soon as it is known whether its object exists. `waiting` false: known, or the lane ends. */
  | { type: 'cut.undecided'; pipeline: string; shard: string; start: number; end: number; key: string; waiting: boolean }
  | { type: 'object.existed'; pipeline: string; shard: string; key: string; equal: boolean }
  | {
      type: 'object.stored'
      pipeline: string
      shard: string
      key: string
      size: number
      records: number
      kind: 'anchor' | 'object' | 'rejects' | 'backup'
    }
  | { type: 'uploads.aborted'; pipeline: string; shard: string; key: string; count: number }
  | {
      type: 'attempt.failed'
      pipeline: string
      sink: string
      operation: string
      attempt: number
      code: string
      message: string
      delayMs: number
    }
  /** A target is used for the first time. endpoint: '' where the sink has its own; target: bucket, folder … */
  | { type: 'target.opened'; sink: string; endpoint: string; target: string }
  | { type: 'breaker.changed'; sink: string; endpoint: string; target: string; open: boolean }
  | { type: 'position.advanced'; pipeline: string; shard: string; position: number }
  | { type: 'commit.finished'; pipeline: string; entries: number; result: string; ms: number }
  | { type: 'records.expired'; pipeline: string; shard: string; from: number; to: number }
  | { type: 'records.discarded'; pipeline: string; shard: string; from: number; to: number; reason: 'delete' | 'force' }
  | { type: 'memory.changed'; usedBytes: number; limitBytes: number; waiting: number; spilledBytes: number }
  /** `changed`: it was not in force before. expiresMs: of the first certificate of the chain that ends, wall clock. */
  | { type: 'certificate.loaded'; file: string; expiresMs: number; expired: boolean; changed: boolean }
  /** The one before stays in force. */
  | { type: 'certificate.refused'; file: string; message: string }
  | { type: 'warning'; code: string; message: string }

export type CutReason = 'size' | 'interval' | 'note' | 'shutdown' | 'recovered'
export interface Events {
  emit(e: HydrantEvent): void
}
/** Fans out to listeners, in order; a listener must not throw. */
export function eventBus(
  listeners: readonly ((e: HydrantEvent) => void)[] = [],
): Events & { on(l: (e: HydrantEvent) => void): () => void } {
  const all = new Set(listeners)
  return {
    emit(e) {
      for (const l of all) l(e)
    },
    on(l) {
      all.add(l)
      return () => void all.delete(l)
    },
  }
}
