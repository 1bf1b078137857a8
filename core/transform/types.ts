import type { Rejection, WorkBatch } from '../sdk/batch.ts'

/** A record that a stage took out on purpose: counted, never delivered. */
export interface Drop {
  readonly origin: number
  readonly sub: number
}
export interface StageResult {
  /** Its `source` is the source of the batch given, its origins point into that source. release() frees what the stage made AND the batch it was given. */
  readonly batch: WorkBatch
  readonly rejected: readonly Rejection[]
  readonly dropped: readonly Drop[]
}
/** One step over the records of a batch. Deterministic: same records, same outcome, unless a rejection says byLimit. */
export interface Stage {
  readonly name: string
  /** 1 → n: (position, sub) is given by this stage; at most one, and it is the first. */
  readonly splits: boolean
  /** replay: this cut was recorded before; a new rejection by a limit stops the lane then, so a stage may try harder. */
  apply(b: WorkBatch, c: { signal: AbortSignal; replay: boolean }): Promise<StageResult>
  close(): Promise<void>
}
