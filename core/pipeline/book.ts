import type { LaneState } from '../stream/source.ts'
import { invariant } from './invariants.ts'
import { formatNote, noteHasRoom, type Note, type NoteCut, type Runs } from './note.ts'

/** A recorded cut of this lane: a fixed range of positions, from its commit until the position has passed it. */
export interface OpenCut extends Omit<NoteCut, 'length' | 'givenUp'> {
  readonly start: number
  readonly end: number
  givenUp: boolean
  /** Its own entry came back OK: only then may an effect start (I1). */
  acked: boolean
  /** All its effects are confirmed. */
  confirmed: boolean
}

/** A cut of what was encoded, before its entry is stored. */
export function newCut(
  e: Omit<NoteCut, 'length' | 'specHash' | 'givenUp'> & { start: number; end: number },
  specHash: string,
  givenUp: boolean,
): OpenCut {
  const { start, end, records, digest, arrivalMs, epoch, byLimit } = e
  return { start, end, records, digest, arrivalMs, epoch, specHash, byLimit, givenUp, acked: false, confirmed: false }
}

/**
 * The lane's state: committed position and recorded cuts, contiguous from it. Every commit sends the whole of it
 * (row 30: there is no delta commit). Only the lane changes it, synchronously.
 */
export class LaneBook {
  readonly pipelineId: string
  readonly topicId: string
  readonly lineage: number
  position: number
  leaderEpoch: number
  readonly cuts: OpenCut[]
  #counter: number
  #ackedCounter: number

  constructor(note: Note, leaderEpoch: number, acked: boolean) {
    this.pipelineId = note.pipelineId
    this.topicId = note.topicId
    this.lineage = note.lineage
    this.position = note.position
    this.leaderEpoch = leaderEpoch
    this.#counter = note.counter
    this.#ackedCounter = acked ? note.counter : note.counter - 1
    let at = note.position
    this.cuts = note.cuts.map((c) => {
      const start = at
      at += c.length
      invariant('I4', c.length > 0, `recorded cut at ${start} has length ${c.length}`)
      return {
        start,
        end: at,
        records: c.records,
        digest: c.digest,
        arrivalMs: c.arrivalMs,
        epoch: c.epoch,
        specHash: c.specHash,
        byLimit: c.byLimit,
        givenUp: c.givenUp,
        acked,
        confirmed: false,
      }
    })
  }

  /** Counter of the newest acknowledged commit. */
  get lastAcked(): number {
    return this.#ackedCounter
  }

  /** Where the next cut starts. */
  get end(): number {
    return this.cuts.at(-1)?.end ?? this.position
  }

  append(c: OpenCut, stable: number): void {
    invariant('I4', c.start === this.end && c.end > c.start, () => `cut [${c.start}, ${c.end}) after ${this.end}`)
    invariant('I4', c.end <= stable, () => `cut ends at ${c.end}, the log is stable to ${stable}`)
    this.cuts.push(c)
  }

  /** Adoption (step 6): the true end of the first cut is what the store shows; later cuts have not started. */
  adopt(c: OpenCut): void {
    invariant('I6', this.cuts.length === 0 || this.cuts[0]?.start === c.start, () => `adopting [${c.start}, ${c.end}) is not the first cut`)
    invariant('I4', c.start === this.position && c.end > c.start, () => `adopting [${c.start}, ${c.end}) at ${this.position}`)
    this.cuts.length = 0
    this.cuts.push(c)
  }

  /** Moves the position over the longest confirmed run from the front (step 9). Answers the cuts that it passed. */
  advance(): OpenCut[] {
    const passed: OpenCut[] = []
    for (let first = this.cuts[0]; first?.confirmed; first = this.cuts[0]) {
      invariant(
        'I5',
        first.start === this.position && first.end > this.position,
        () => `advancing from ${this.position} over [${first?.start}, ${first?.end})`,
      )
      this.position = first.end
      this.leaderEpoch = first.epoch
      passed.push(first)
      this.cuts.shift()
    }
    return passed
  }

  /** A confirmed gap without records (retention passed it, on_gap: skip). */
  skipTo(position: number): void {
    invariant('I5', this.cuts.length === 0 && position >= this.position, () => `skipping from ${this.position} to ${position}`)
    this.position = position
  }

  hasRoom(byLimit: Runs, cap?: number): boolean {
    return noteHasRoom(this.#note(), byLimit, cap)
  }

  /** Called synchronously at serialization, by the group's one writer. */
  serialize(): { state: LaneState; counter: number; cuts: readonly OpenCut[] } {
    this.#counter++
    const note = formatNote(this.#note())
    invariant('I9', note.length <= 3500 && /^[\x20-\x7e]*$/.test(note), () => `note of ${note.length} characters`)
    return { state: { position: this.position, leaderEpoch: this.leaderEpoch, note }, counter: this.#counter, cuts: [...this.cuts] }
  }

  /** The commit with that counter was stored. */
  acked(counter: number, cuts: readonly OpenCut[]): void {
    invariant('I2', counter > this.#ackedCounter, () => `commit ${counter} acknowledged after ${this.#ackedCounter}`)
    this.#ackedCounter = counter
    for (const c of cuts) c.acked = true
  }

  #note(): Note {
    return {
      pipelineId: this.pipelineId,
      lineage: this.lineage,
      topicId: this.topicId,
      position: this.position,
      counter: this.#counter,
      cuts: this.cuts.map(noteCut),
    }
  }
}

function noteCut(c: OpenCut): NoteCut {
  const { records, digest, arrivalMs, epoch, specHash, byLimit, givenUp } = c
  return { length: c.end - c.start, records, digest, arrivalMs, epoch, specHash, byLimit, givenUp }
}
