import type { RecordBatch, Rejection, WorkBatch } from '../sdk/batch.ts'
import { valueOf } from '../sdk/batch.ts'
import { limits } from '../limits.ts'
import type { Drop, Stage } from '../transform/types.ts'
import { DELIVERED, DROPPED, REJECTED, type Outcome, type OutcomeDigest } from './digest.ts'
import { invariant } from './invariants.ts'
import type { Runs } from './note.ts'

/** A rejected record as it entered the step that refused it. */
export interface RejectedRecord {
  readonly rejection: Rejection
  readonly raw: Uint8Array
  readonly arrivalMs: number
}
export interface Staged {
  readonly batch: WorkBatch
  readonly rejected: readonly RejectedRecord[]
  /** Indexes after de-aggregation, within the cut, of records that a limit rejected now. */
  readonly byLimit: readonly number[]
  /** Records after de-aggregation. */
  readonly entered: number
}

const DECIDED = 'Limit.Decided'
const subKey = (origin: number, sub: number): number => origin * (limits.subRecords + 1) + sub

/**
 * Runs one batch of a cut through the stages and writes the outcomes down. `base` = records after de-aggregation that the
 * cut had before; `forced` = the decisions of an earlier attempt: those records are rejected before any stage sees them.
 */
export async function stageBatch(
  stages: readonly Stage[],
  first: WorkBatch,
  o: { base: number; forced: Runs; replay: boolean; signal: AbortSignal; outcomes: OutcomeDigest },
): Promise<Staged> {
  if (stages.length === 0) {
    o.outcomes.add(DELIVERED, first.count)
    return { batch: first, rejected: [], byLimit: [], entered: first.count }
  }
  const rejected: Rejection[] = []
  const dropped: Drop[] = []
  let batch = first
  const apply = async (s: Stage): Promise<void> => {
    const r = await s.apply(batch, { signal: o.signal, replay: o.replay })
    batch = r.batch
    rejected.push(...r.rejected)
    dropped.push(...r.dropped)
  }
  for (const s of stages.filter((s) => s.splits)) await apply(s)
  const split = batch
  const splitRejected = rejected.length
  if (o.forced.length > 0) batch = force(batch, o.base, o.forced, rejected)
  for (const s of stages.filter((s) => !s.splits)) await apply(s)
  const entered = split.count + splitRejected
  invariant(
    'I7',
    entered === batch.count + rejected.length + dropped.length,
    () => `${entered} records entered the stages, ${batch.count} left, ${rejected.length} rejected, ${dropped.length} dropped`,
  )
  if (rejected.length === 0 && dropped.length === 0) {
    o.outcomes.add(DELIVERED, batch.count)
    return { batch, rejected: [], byLimit: [], entered }
  }
  writeOutcomes(batch, rejected, dropped, o.outcomes)
  const index = new Map<number, number>()
  for (let i = 0; i < split.count; i++) index.set(subKey(split.origin[i]!, split.sub[i]!), i)
  const byLimit = rejected.filter((r) => r.byLimit && r.code !== DECIDED).map((r) => o.base + (index.get(subKey(r.origin, r.sub)) ?? 0))
  return { batch, rejected: rejected.map((r) => rejectedRecord(r, split, index)), byLimit: byLimit.toSorted((a, b) => a - b), entered }
}

function rejectedRecord(rejection: Rejection, split: WorkBatch, index: ReadonlyMap<number, number>): RejectedRecord {
  const i = index.get(subKey(rejection.origin, rejection.sub))
  const source: RecordBatch = split.source
  const raw = (i === undefined ? valueOf(source, rejection.origin) : valueOf(split, i)) ?? new Uint8Array(0)
  return { rejection, raw, arrivalMs: source.arrivalMs[rejection.origin] ?? 0 }
}

/** By (position, sub): a rejection or a drop stands where its record stood. */
function writeOutcomes(batch: WorkBatch, rejected: readonly Rejection[], dropped: readonly Drop[], outcomes: OutcomeDigest): void {
  const all: [key: number, outcome: Outcome][] = []
  for (let i = 0; i < batch.count; i++) all.push([subKey(batch.origin[i]!, batch.sub[i]!), DELIVERED])
  for (const r of rejected) all.push([subKey(r.origin, r.sub), REJECTED])
  for (const d of dropped) all.push([subKey(d.origin, d.sub), DROPPED])
  all.sort((a, b) => a[0] - b[0])
  for (const [, outcome] of all) outcomes.add(outcome, 1)
}

/** Takes the decided records out of a batch. */
function force(b: WorkBatch, base: number, forced: Runs, rejected: Rejection[]): WorkBatch {
  const keep: number[] = []
  for (let i = 0; i < b.count; i++) {
    const at = base + i
    if (!forced.some(([first, count]) => at >= first && at < first + count)) keep.push(i)
    else {
      const message = 'rejected by a limit at an earlier attempt'
      rejected.push({ origin: b.origin[i]!, sub: b.sub[i]!, stage: 'transform', code: DECIDED, message, attempts: 1, byLimit: true })
    }
  }
  if (keep.length === b.count) return b
  const u32 = (a: Uint32Array): Uint32Array => Uint32Array.from(keep, (i) => a[i]!)
  const f64 = (a: Float64Array): Float64Array => Float64Array.from(keep, (i) => a[i]!)
  return {
    ...b,
    count: keep.length,
    keyStart: u32(b.keyStart),
    keyEnd: u32(b.keyEnd),
    valueStart: u32(b.valueStart),
    valueEnd: u32(b.valueEnd),
    ...(b.headerStart && b.headerEnd ? { headerStart: u32(b.headerStart), headerEnd: u32(b.headerEnd) } : {}),
    position: f64(b.position),
    arrivalMs: f64(b.arrivalMs),
    origin: u32(b.origin),
    sub: u32(b.sub),
    release: () => b.release(),
  }
}

/** Sorted indexes as runs. */
export function runsOf(indexes: readonly number[]): Runs {
  const runs: [number, number][] = []
  for (const i of indexes) {
    const last = runs.at(-1)
    if (last && last[0] + last[1] === i) last[1]++
    else runs.push([i, 1])
  }
  return runs
}
