import { limits } from '../limits.ts'
import { invariant } from './invariants.ts'

/** Runs of records rejected by a limit, by index after de-aggregation within the cut. */
export type Runs = readonly (readonly [first: number, count: number])[]

/** One recorded cut: [start, start + length) of the shard's positions, immutable but for givenUp (I6). */
export interface NoteCut {
  readonly length: number
  readonly records: number
  /** D of its records. */
  readonly digest: string
  /** Arrival of its first record, ms: names its objects also when the records are gone (row 24). */
  readonly arrivalMs: number
  /** Leader epoch of its last batch. */
  readonly epoch: number
  readonly specHash: string
  /** x: decided before any effect, forced on every later attempt. */
  readonly byLimit: Runs
  /** b: the sink is never tried again. */
  readonly givenUp: boolean
}
export interface Note {
  readonly pipelineId: string
  readonly lineage: number
  readonly topicId: string
  readonly position: number
  /** Rises with every commit of the shard (I2). */
  readonly counter: number
  readonly cuts: readonly NoteCut[]
}

const MAGIC = 'hyd1'
const NAME = /^[A-Za-z0-9_.-]+$/

/** Runs as text: `first+count` in base 36, joined by `_`; gaps are relative to the end of the run before. */
export function formatRuns(runs: Runs): string {
  let at = 0
  return runs
    .map(([first, count]) => {
      const text = `${(first - at).toString(36)}+${count.toString(36)}`
      at = first + count
      return text
    })
    .join('_')
}
export function parseRuns(text: string): Runs {
  if (text === '') return []
  let at = 0
  return text.split('_').map((t) => {
    const [gap, count] = t.split('+')
    const first = at + integer36(gap)
    const n = integer36(count)
    at = first + n
    return [first, n] as const
  })
}

/** magic;pipelineId;lineage;topicId;position;counter;spec,spec;length.records.digest.arrival.epoch.spec.x.b;… in base 36, ASCII (row 31). */
export function formatNote(n: Note): string {
  invariant('I9', NAME.test(n.pipelineId) && NAME.test(n.topicId), `note names ${n.pipelineId} ${n.topicId}`)
  const specs = [...new Set(n.cuts.map((c) => c.specHash))]
  const cuts = n.cuts.map((c) =>
    [
      c.length.toString(36),
      c.records.toString(36),
      c.digest,
      c.arrivalMs.toString(36),
      c.epoch.toString(36),
      specs.indexOf(c.specHash).toString(36),
      formatRuns(c.byLimit),
      c.givenUp ? '1' : '',
    ].join('.'),
  )
  return [
    MAGIC,
    n.pipelineId,
    n.lineage.toString(36),
    n.topicId,
    n.position.toString(36),
    n.counter.toString(36),
    specs.join(','),
    ...cuts,
  ].join(';')
}

export class ForeignNoteError extends Error {
  constructor(note: string, why: string) {
    super(`the note stored with the position is not hydrant's (${why}): "${note.slice(0, 80)}"`)
    this.name = 'ForeignNoteError'
  }
}

/** Throws ForeignNoteError: a note that is not ours stops the lane, it is never guessed at. */
export function parseNote(text: string): Note {
  const [magic, pipelineId, lineage, topicId, position, counter, specText, ...cutTexts] = text.split(';')
  if (magic !== MAGIC || !pipelineId || !topicId || specText === undefined) throw new ForeignNoteError(text, 'no magic')
  const specs = specText === '' ? [] : specText.split(',')
  try {
    return {
      pipelineId,
      topicId,
      lineage: integer36(lineage),
      position: integer36(position),
      counter: integer36(counter),
      cuts: cutTexts.map((t) => parseCut(t, specs)),
    }
  } catch (e) {
    throw new ForeignNoteError(text, e instanceof Error ? e.message : String(e))
  }
}

function parseCut(text: string, specs: readonly string[]): NoteCut {
  const [length, records, digest, arrival, epoch, spec, runs, givenUp, ...more] = text.split('.')
  const specHash = specs[integer36(spec)]
  if (!digest || runs === undefined || givenUp === undefined || specHash === undefined || more.length > 0) {
    throw new Error(`cut "${text}"`)
  }
  return {
    length: integer36(length),
    records: integer36(records),
    digest,
    arrivalMs: integer36(arrival),
    epoch: integer36(epoch),
    specHash,
    byLimit: parseRuns(runs),
    givenUp: givenUp === '1',
  }
}

function integer36(text: string | undefined): number {
  const n = text !== undefined && /^[0-9a-z]+$/.test(text) ? parseInt(text, 36) : NaN
  if (!Number.isSafeInteger(n)) throw new Error(`number "${text}"`)
  return n
}

/** May one more cut with such runs be added? The check of "note room". */
export function noteHasRoom(n: Note, byLimit: Runs, cap: number = limits.noteChars): boolean {
  const widest: NoteCut = {
    length: 2 ** 40,
    records: 2 ** 31,
    digest: 'f'.repeat(16),
    arrivalMs: 2 ** 42,
    epoch: 2 ** 20,
    specHash: '0'.repeat(16),
    byLimit,
    givenUp: true,
  }
  return formatNote({ ...n, counter: n.counter + 1e6, cuts: [...n.cuts, widest] }).length <= cap
}
