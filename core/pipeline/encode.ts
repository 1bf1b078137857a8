import { NONE, type RecordBatch } from '../sdk/batch.ts'
import { boundedSlices } from '../transform/chain.ts'
import type { Body, BodyWriter, Encoder } from '../format/types.ts'
import { createEncoder } from '../format/encoder.ts'
import { errorLines, errorOutputType, type RejectedRecord } from '../format/error-record.ts'
import { OutcomeDigest, RecordDigest } from './digest.ts'
import type { Flow } from './flow.ts'
import { invariant } from './invariants.ts'
import type { Runs } from './note.ts'
import { runsOf, stageBatch } from './outcomes.ts'

/** A cut's records, encoded: what its effects will carry. Held until the cut is confirmed. */
export interface Encoded {
  readonly start: number
  readonly end: number
  /** Source records. */
  readonly records: number
  readonly digest: string
  readonly outcome: string
  readonly byLimit: Runs
  /** A limit rejected something beyond the forced decisions. */
  readonly newlyLimited: boolean
  /** Leader epoch of its last batch. */
  readonly epoch: number
  /** First record by position: names the objects. */
  readonly arrivalMs: number
  readonly oldestArrivalMs: number
  readonly sourceBytes: number
  readonly entered: number
  readonly counts: { readonly delivered: number; readonly dropped: number; readonly rejected: number }
  /** null: nothing is delivered. */
  readonly main: Body | null
  /** By error-output-type, in fixed order. */
  readonly rejects: ReadonlyMap<string, { readonly body: Body; readonly records: number }>
  release(): Promise<void>
}

/** Encodes the records of one cut while it fills, or again when it is replayed. Calls are sequential. */
export class CutEncoder {
  readonly start: number
  readonly flow: Flow
  readonly #o: { entryName: string; forced: Runs; replay: boolean; signal: AbortSignal; writer: () => BodyWriter }
  readonly #digest = new RecordDigest()
  readonly #outcomes = new OutcomeDigest()
  readonly #rejects = new Map<string, { writer: BodyWriter; records: number }>()
  readonly #byLimit: number[] = []
  #encoder: Encoder | null = null
  #entered = 0
  #sourceBytes = 0
  #epoch = 0
  #arrivalMs = 0
  #oldestMs = Infinity

  constructor(
    start: number,
    flow: Flow,
    o: { entryName: string; forced: Runs; replay: boolean; signal: AbortSignal; writer: () => BodyWriter },
  ) {
    this.start = start
    this.flow = flow
    this.#o = o
  }
  get records(): number {
    return this.#digest.records
  }
  /** What `size` counts: uncompressed bytes of the output, or of the source where nothing is delivered. */
  get bytes(): number {
    return Math.max(this.#encoder?.bytes ?? 0, this.#sourceBytes)
  }
  get byLimit(): Runs {
    return runsOf(this.#byLimit)
  }
  get oldestArrivalMs(): number {
    return this.#oldestMs
  }

  /** The batch is released when this resolves. */
  async add(b: RecordBatch, epoch: number): Promise<void> {
    if (this.records === 0) this.#arrivalMs = b.arrivalMs[0] ?? 0
    this.#epoch = epoch
    this.#oldestMs = Math.min(this.#oldestMs, b.arrivalMs[0] ?? Infinity)
    this.#digest.add(b)
    this.#sourceBytes += sourceBytes(b)
    for (const slice of boundedSlices(this.flow.stages, b)) await this.#addSlice(slice)
  }

  async #addSlice(b: RecordBatch): Promise<void> {
    const { forced, replay, signal } = this.#o
    const staged = await stageBatch(this.flow.stages, b, { base: this.#entered, forced, replay, signal, outcomes: this.#outcomes })
    this.#entered += staged.entered
    this.#byLimit.push(...staged.byLimit)
    try {
      if (staged.batch.count > 0) {
        this.#encoder ??= createEncoder(this.flow.identity.format, this.#o.writer(), { entryName: this.#o.entryName })
        await this.#encoder.add(staged.batch)
      }
      if (staged.rejected.length > 0) await this.#reject(staged.rejected)
    } finally {
      staged.batch.release()
    }
  }

  async #reject(rejected: readonly RejectedRecord[]): Promise<void> {
    for (const type of new Set(rejected.map((r) => errorOutputType(r.rejection.stage)))) {
      let open = this.#rejects.get(type)
      if (!open) this.#rejects.set(type, (open = { writer: this.#o.writer(), records: 0 }))
      const of = rejected.filter((r) => errorOutputType(r.rejection.stage) === type)
      for (const chunk of errorLines(of)) await open.writer.write(chunk)
      open.records += of.length
    }
  }

  async finish(end: number): Promise<Encoded> {
    const main = this.#encoder ? await this.#encoder.finish() : null
    const rejects = new Map<string, { body: Body; records: number }>()
    for (const [type, r] of [...this.#rejects].toSorted(([a], [b]) => (a < b ? -1 : 1))) {
      rejects.set(type, { body: await r.writer.finish(), records: r.records })
    }
    const outcome = this.#outcomes.value()
    const counts = { ...this.#outcomes.counts }
    invariant(
      'I7',
      this.#entered === counts.delivered + counts.dropped + counts.rejected,
      () => `cut at ${this.start}: ${this.#entered} entered, ${JSON.stringify(counts)}`,
    )
    invariant(
      'I7',
      (this.#encoder?.records ?? 0) === counts.delivered,
      () => `cut at ${this.start}: ${this.#encoder?.records} encoded, ${counts.delivered} to deliver`,
    )
    return {
      start: this.start,
      end,
      records: this.records,
      digest: this.#digest.value(),
      outcome,
      byLimit: this.#o.forced.length > 0 ? this.#o.forced : this.byLimit,
      newlyLimited: this.#byLimit.length > 0,
      epoch: this.#epoch,
      arrivalMs: this.#arrivalMs,
      oldestArrivalMs: this.#oldestMs,
      sourceBytes: this.#sourceBytes,
      entered: this.#entered,
      counts,
      main,
      rejects,
      release: async () => {
        await main?.release()
        for (const r of rejects.values()) await r.body.release()
      },
    }
  }

  async abort(): Promise<void> {
    await this.#encoder?.abort()
    for (const r of this.#rejects.values()) await r.writer.abort()
  }
}

/** Bytes of all values. */
export function sourceBytes(b: RecordBatch): number {
  let n = 0
  for (let i = 0; i < b.count; i++) {
    const end = b.valueEnd[i]!
    if (end !== NONE) n += end - b.valueStart[i]!
  }
  return n
}
