import type { StagesSpec } from './spec.ts'
import { limits } from '../limits.ts'
import { asWorkBatch, NONE, type RecordBatch, type Rejection, sliceBatch, valueOf, type WorkBatch } from '../sdk/batch.ts'
import { ConfigError } from '../sdk/errors.ts'
import { DECOMPRESS, decompressStage, extractMessagesStage } from './cloudwatch.ts'
import { deaggregateStage } from './deaggregate.ts'
import type { Drop, Stage } from './types.ts'

/** The stages of a pipeline, in Firehose's order (firehose.md §4.1). Throws ConfigError when they do not go together. */
export function createStages(spec: StagesSpec): Stage[] {
  if (spec.extractMessages && !spec.decompress) {
    throw new ConfigError('Stages.ExtractMessages', 'CloudWatchLogProcessingProcessor can only be enabled with DecompressionProcessor')
  }
  const stages: Stage[] = []
  if (spec.deaggregate) stages.push(deaggregateStage(spec.deaggregate))
  if (spec.decompress) stages.push(decompressStage())
  if (spec.extractMessages) stages.push(extractMessagesStage())
  return stages
}

/** Deflate makes at most 1,032 bytes of one: so much compressed input stays near the bound of one record, whatever is in it. */
const sliceBytes = Math.floor(limits.decompressedRecordBytes / 1032)

/**
 * Cuts a batch so that what runStages makes of each slice is bounded (about limits.decompressedRecordBytes) even when every record is
 * a zip bomb; without a stage that decompresses, the batch is its only slice. Outcomes do not depend on the cutting. The source is
 * released when all slices are.
 */
export function boundedSlices(stages: readonly Stage[], source: RecordBatch): readonly RecordBatch[] {
  if (!stages.some((s) => s.name === DECOMPRESS) || source.count === 0) return [source]
  const starts = [0]
  let bytes = 0
  for (let i = 0; i < source.count; i++) {
    const end = source.valueEnd[i] ?? NONE
    bytes += end === NONE ? 0 : end - (source.valueStart[i] ?? 0)
    if (bytes <= sliceBytes || i === starts.at(-1)) continue
    starts.push(i)
    bytes = end === NONE ? 0 : end - (source.valueStart[i] ?? 0)
  }
  let held = starts.length
  const release = (): void => {
    if (--held === 0) source.release()
  }
  return starts.map((from, i) => sliceBatch(source, from, starts[i + 1] ?? source.count, release))
}

export interface StagesResult {
  /** Its release gives back everything, the source included. */
  readonly batch: WorkBatch
  /** By (origin, sub). */
  readonly rejected: Rejection[]
  /** By (origin, sub). */
  readonly dropped: Drop[]
  /** Records after de-aggregation: = batch.count + rejected.length + dropped.length. */
  readonly entered: number
  /** A rejected record as it entered, after de-aggregation and before anything else: what its error line holds. A view, until release. */
  rawOf(r: Drop): Uint8Array
  /** Its index after de-aggregation in this batch; -1 for a record that de-aggregation itself refused. */
  indexOf(r: Drop): number
}

/** Takes decided records out after de-aggregation, before any other stage sees them; adds their rejections. */
export type Force = (split: WorkBatch, rejected: Rejection[]) => WorkBatch

const order = (a: Drop, b: Drop): number => a.origin - b.origin || a.sub - b.sub

/**
 * Runs a batch through the stages; without any this costs nothing a byte. When a stage throws, nothing is released: the source still
 * belongs to the caller.
 */
export async function runStages(
  stages: readonly Stage[],
  source: RecordBatch,
  c: { readonly signal: AbortSignal; readonly replay: boolean; readonly force?: Force },
): Promise<StagesResult> {
  let batch = asWorkBatch(source)
  let first = batch
  let entered = batch.count
  const rejected: Rejection[] = []
  const dropped: Drop[] = []
  let forced = false
  const force = (): void => {
    if (!forced && c.force) batch = c.force(batch, rejected)
    forced = true
  }
  for (const [i, stage] of stages.entries()) {
    if (!stage.splits) force()
    if (stage.splits && i > 0) throw new Error(`stage ${stage.name} splits records: it must be the first, it is number ${i + 1}`)
    const result = await stage.apply(batch, c)
    for (const r of result.rejected) rejected.push(r)
    for (const d of result.dropped) dropped.push(d)
    batch = result.batch
    if (stage.splits) {
      first = batch
      entered = batch.count + rejected.length + dropped.length
    }
  }
  force()
  if (batch.count + rejected.length + dropped.length !== entered) {
    const sum = `${batch.count} out + ${rejected.length} rejected + ${dropped.length} dropped`
    throw new Error(`stages lost or made records: ${entered} entered, ${sum}`)
  }
  if (stages.length > 1 || c.force) {
    rejected.sort(order)
    dropped.sort(order)
  }
  const indexOf = (r: Drop): number => find(first, r)
  const rawOf = (r: Drop): Uint8Array => {
    const at = find(first, r)
    return (at === -1 ? valueOf(first.source, r.origin) : valueOf(first, at)) ?? new Uint8Array(0)
  }
  return { batch, rejected, dropped, entered, rawOf, indexOf }
}

/** Finds (origin, sub) in a batch ordered by them. */
function find(b: WorkBatch, r: Drop): number {
  let low = 0
  let high = b.count
  while (low < high) {
    const middle = (low + high) >>> 1
    const at = { origin: b.origin[middle] ?? 0, sub: b.sub[middle] ?? 0 }
    if (order(at, r) < 0) low = middle + 1
    else high = middle
  }
  return low < b.count && b.origin[low] === r.origin && b.sub[low] === r.sub ? low : -1
}
