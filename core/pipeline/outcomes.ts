import type { RecordBatch, Rejection, WorkBatch } from '../sdk/batch.ts'
import { limits } from '../limits.ts'
import { runStages, type Force } from '../transform/chain.ts'
import type { Drop, Stage } from '../transform/types.ts'
import type { RejectedRecord } from '../format/error-record.ts'
import { DELIVERED, DROPPED, REJECTED, type Outcome, type OutcomeDigest } from './digest.ts'
import type { Runs } from './note.ts'

export interface Staged {
  readonly batch: WorkBatch
  readonly rejected: readonly RejectedRecord[]
  /** Indexes after de-aggregation, within the cut, of records that a limit rejected now. */
  readonly byLimit: readonly number[]
  /** Records after de-aggregation. */
  readonly entered: number
}

const DECIDED = 'Limit.Decided'
/**
 * Runs one batch of a cut through the stages and writes the outcomes down. `base` = records after de-aggregation that the
 * cut had before; `forced` = the decisions of an earlier attempt: those records are rejected before any stage sees them.
 */
export async function stageBatch(
  stages: readonly Stage[],
  source: RecordBatch,
  o: { base: number; forced: Runs; replay: boolean; signal: AbortSignal; outcomes: OutcomeDigest },
): Promise<Staged> {
  const force: Force = (split, rejected) => forceOut(split, o.base, o.forced, rejected)
  const r = await runStages(stages, source, { signal: o.signal, replay: o.replay, ...(o.forced.length > 0 ? { force } : {}) })
  const { batch, entered } = r
  if (r.rejected.length === 0 && r.dropped.length === 0) {
    o.outcomes.add(DELIVERED, batch.count)
    return { batch, rejected: [], byLimit: [], entered }
  }
  writeOutcomes(batch, r.rejected, r.dropped, o.outcomes)
  const byLimit = r.rejected.filter((x) => x.byLimit && x.code !== DECIDED).map((x) => o.base + r.indexOf(x))
  const rejected = r.rejected.map((rejection) => ({
    rejection,
    raw: r.rawOf(rejection),
    arrivalMs: source.arrivalMs[rejection.origin] ?? 0,
  }))
  return { batch, rejected, byLimit, entered }
}

const subKey = (origin: number, sub: number): number => origin * (limits.subRecords + 1) + sub

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
function forceOut(b: WorkBatch, base: number, forced: Runs, rejected: Rejection[]): WorkBatch {
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
