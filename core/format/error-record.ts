import type { Rejection, RejectionStage } from '../sdk/batch.ts'
import { exactly } from './body.ts'

/** A record that was rejected, as its error line needs it. */
export interface RejectedRecord {
  readonly rejection: Rejection
  /** The record as it entered the stages: still compressed, for one that was not decompressed. */
  readonly raw: Uint8Array
  readonly arrivalMs: number
}

/** What `!{firehose:error-output-type}` says for records rejected by a stage (firehose.md §3.5). */
export function errorOutputType(stage: RejectionStage): string {
  return stage === 'decompress' ? 'decompression-failed' : 'processing-failed'
}

/** A chunk is given out once it has so many characters: lines of small records travel together. */
const chunkChars = 256 * 1024

/**
 * Firehose's error format (firehose.md §3.5): one JSON object a line, in Firehose's order of fields, times in ms as numbers.
 * attemptEndingTimestamp is the record's arrival unless given: an error object is written again after a crash and must have the
 * same bytes, so no clock is read.
 */
export function* errorLines(records: Iterable<RejectedRecord>, o: { readonly attemptEndingMs?: number } = {}): Generator<Uint8Array> {
  let lines = ''
  for (const { rejection, raw, arrivalMs } of records) {
    const line = {
      rawData: Buffer.from(raw.buffer, raw.byteOffset, raw.byteLength).toString('base64'),
      errorCode: rejection.code,
      errorMessage: rejection.message,
      attemptsMade: rejection.attempts,
      arrivalTimestamp: arrivalMs,
      attemptEndingTimestamp: o.attemptEndingMs ?? arrivalMs,
    }
    lines += `${JSON.stringify(line)}\n`
    if (lines.length < chunkChars) continue
    yield exactly(Buffer.from(lines))
    lines = ''
  }
  if (lines !== '') yield exactly(Buffer.from(lines))
}
