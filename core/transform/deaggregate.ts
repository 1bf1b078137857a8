import { limits } from '../limits.ts'
import type { DeaggregateSpec } from './spec.ts'
import { NONE, type Rejection, type WorkBatch } from '../sdk/batch.ts'
import { ConfigError } from '../sdk/errors.ts'
import { SliceBuilder } from './builder.ts'
import { endOfContainer, skipSpace } from './json-scan.ts'
import type { Stage } from './types.ts'

/** Places of the sub-records of one record, start and end in turn; reused, since splitting is synchronous. */
const spans = new Uint32Array(limits.subRecords * 2)

/** A record that passes as it is. */
const whole = -1
/** Splits one record: the number of spans, or `whole`, or what is wrong with it. */
type Split = (bytes: Buffer, start: number, end: number) => number | string

/**
 * Splits records that hold several (firehose.md §6.4). Sub-records are views into the source: no byte is copied. A record of more than
 * 500, and one that is empty or null, passes unsplit. Throws ConfigError for a delimiter that is not base64 of at least one byte.
 */
export function deaggregateStage(spec: DeaggregateSpec): Stage {
  const split = spec.type === 'json' ? splitJson : splitBy(delimiterOf(spec.delimiter))
  return {
    name: 'deaggregate',
    splits: true,
    apply: async (b) => ({ ...deaggregate(b, split()), dropped: [] }),
    close: () => Promise.resolve(),
  }
}

function delimiterOf(base64: string): Buffer {
  const delimiter = Buffer.from(base64, 'base64')
  if (delimiter.length > 0 && delimiter.toString('base64') === base64) return delimiter
  throw new ConfigError('DeAggregation.Delimiter', `delimiter ${JSON.stringify(base64)} is not base64 of at least one byte`)
}

function deaggregate(b: WorkBatch, split: Split): { batch: WorkBatch; rejected: readonly Rejection[] } {
  const bytes = Buffer.from(b.bytes.buffer, b.bytes.byteOffset, b.bytes.byteLength)
  const out = new SliceBuilder(b)
  const rejected: Rejection[] = []
  for (let i = 0; i < b.count; i++) {
    const start = b.valueStart[i] ?? 0
    const end = b.valueEnd[i] ?? NONE
    const n = end === NONE || end === start ? whole : split(bytes, start, end)
    if (n === whole) out.push(i, 0, start, end)
    else if (typeof n === 'number') for (let k = 0; k < n; k++) out.push(i, k, spans[k * 2] ?? 0, spans[k * 2 + 1] ?? 0)
    else {
      const origin = b.origin[i] ?? 0
      rejected.push({ origin, sub: 0, stage: 'deaggregate', code: 'DeAggregation.MalformedJson', message: n, attempts: 1 })
    }
  }
  return { batch: out.done(), rejected }
}

/**
 * JSON objects one after another, with or without white space between them and inside them: one a line, pretty-printed or glued
 * together. A top-level array is not split, as in Firehose.
 */
function splitJson(): Split {
  return (bytes, start, end) => {
    let n = 0
    for (let at = skipSpace(bytes, start, end); at < end; at = skipSpace(bytes, at, end)) {
      const array = n === 0 && bytes[at] === 0x5b
      if (bytes[at] !== 0x7b && !array) return `byte ${at - start} of ${end - start} does not start a JSON object`
      if (n === limits.subRecords) return whole
      const stop = endOfContainer(bytes, at, end)
      if (stop < 0) return `the JSON ${array ? 'array' : 'object'} at byte ${at - start} of ${end - start} does not end`
      if (array) return skipSpace(bytes, stop, end) === end ? whole : `byte ${stop - start} of ${end - start}: data after a JSON array`
      spans[n * 2] = at
      spans[n * 2 + 1] = stop
      n++
      at = stop
    }
    return n === 0 ? whole : n
  }
}

/** Between delimiters, byte for byte; nothing is emitted after one that ends the record. */
function splitBy(delimiter: Buffer): () => Split {
  return () => {
    // next occurrence, right for every place in [from, hit]: one search forward over the batch, whatever the number of records
    let from = 1
    let hit = 0
    return (bytes, start, end) => {
      let n = 0
      for (let at = start; at < end; n++) {
        if (n === limits.subRecords) return whole
        if (at < from || at > hit) {
          from = at
          hit = bytes.indexOf(delimiter, at)
          if (hit < 0) hit = NONE
        }
        const stop = hit + delimiter.length <= end ? hit : end
        spans[n * 2] = at
        spans[n * 2 + 1] = stop
        at = stop === end ? end : stop + delimiter.length
      }
      return n
    }
  }
}
