import { fsyncSync, openSync, closeSync, writeSync } from 'node:fs'
import type { RecordId } from './records.ts'

/** What the client knows of a record: `ok` is hydrant's promise, `unknown` may be in or not, `fail` must not be delivered. */
export type Outcome = 'ok' | 'fail' | 'unknown'
const CODES = { ok: 1, fail: 2, unknown: 3 } as const
const NAMES = [undefined, 'ok', 'fail', 'unknown'] as const

/** Every id ever sent in one run and what became of it: a byte each. An id still in flight counts as unknown. */
export class Outcomes {
  readonly run: number
  readonly #producers = new Map<number, { states: Uint8Array; next: number }>()
  readonly #file: number | undefined

  /** `file`: also appended there, one line a batch, fsynced: `outcome producer first-seq count`. */
  constructor(run: number, file?: string) {
    this.run = run
    this.#file = file === undefined ? undefined : openSync(file, 'a')
  }

  /** Ids for the next `count` records of a producer; unknown until marked. */
  issue(producer: number, count: number): RecordId[] {
    const p = this.#producer(producer)
    const first = p.next
    p.next += count
    while (p.states.length < p.next) {
      const grown = new Uint8Array(p.states.length * 2)
      grown.set(p.states)
      p.states = grown
    }
    p.states.fill(CODES.unknown, first, p.next)
    return Array.from({ length: count }, (_, i) => ({ run: this.run, producer, seq: first + i }))
  }

  mark(ids: readonly RecordId[], outcome: Outcome): void {
    for (const id of ids) this.#producer(id.producer).states[id.seq] = CODES[outcome]
    const [first] = ids
    if (this.#file !== undefined && first) {
      writeSync(this.#file, `${outcome} ${first.producer} ${first.seq} ${ids.length}\n`)
      fsyncSync(this.#file)
    }
  }

  /** undefined: never issued. */
  of(id: RecordId): Outcome | undefined {
    if (id.run !== this.run) return undefined
    const p = this.#producers.get(id.producer)
    return p && id.seq < p.next ? NAMES[p.states[id.seq] ?? 0] : undefined
  }

  /** All ids of one outcome, in order. */
  *all(outcome: Outcome): Generator<RecordId> {
    for (const [producer, p] of this.#producers)
      for (let seq = 0; seq < p.next; seq++) if (p.states[seq] === CODES[outcome]) yield { run: this.run, producer, seq }
  }

  count(outcome: Outcome): number {
    let n = 0
    for (const p of this.#producers.values()) for (let i = 0; i < p.next; i++) if (p.states[i] === CODES[outcome]) n++
    return n
  }

  /** Highest seq + 1 of every producer. */
  sizes(): ReadonlyMap<number, number> {
    return new Map([...this.#producers].map(([producer, p]) => [producer, p.next]))
  }

  close(): void {
    if (this.#file !== undefined) closeSync(this.#file)
  }

  #producer(producer: number): { states: Uint8Array; next: number } {
    let p = this.#producers.get(producer)
    if (!p) this.#producers.set(producer, (p = { states: new Uint8Array(1024), next: 0 }))
    return p
  }
}
