import { limits } from '../limits.ts'

export type Labels = Readonly<Record<string, string>>
export interface Sample {
  readonly metricName?: string
  readonly labels: Labels
  readonly value: number
}
interface Row {
  readonly labels: Labels
  value: number
}

const idOf = (values: readonly string[]): string => (values.length === 1 ? (values[0] ?? '') : values.join('\0'))

/** Values of one metric by label. A combination beyond the bound is counted under `other`, so that no client can fill the memory. */
export class Family {
  readonly name: string
  readonly help: string
  readonly type: 'counter' | 'gauge'
  readonly #labels: readonly string[]
  readonly #rows = new Map<string, Row>()

  constructor(type: 'counter' | 'gauge', name: string, help: string, labels: readonly string[] = []) {
    this.type = type
    this.name = name
    this.help = help
    this.#labels = labels
  }
  #row(values: readonly string[]): Row {
    const id = idOf(values)
    const known = this.#rows.get(id)
    if (known) return known
    const full = this.#rows.size >= limits.metricLabelValues
    if (full && values.some((v) => v !== 'other')) return this.#row(values.map(() => 'other'))
    const row = { labels: Object.fromEntries(this.#labels.map((l, i) => [l, values[i] ?? ''])), value: 0 }
    this.#rows.set(id, row)
    return row
  }
  add(n: number, ...values: readonly string[]): void {
    this.#row(values).value += n
  }
  /**
   * Shows 0 before the first event, so that an increase from nothing is seen; what is there is left alone. Not in the second half of
   * the room for labels, which is kept for what happens.
   */
  zero(...values: readonly string[]): void {
    if (this.#rows.size < limits.metricLabelValues / 2) this.#row(values)
  }
  set(n: number, ...values: readonly string[]): void {
    this.#row(values).value = n
  }
  forget(...values: readonly string[]): void {
    this.#rows.delete(idOf(values))
  }
  get(...values: readonly string[]): number {
    return this.#rows.get(idOf(values))?.value ?? 0
  }
  /** Sum of all rows whose labels contain these. */
  sum(where: Labels = {}): number {
    return this.samples(where).reduce((a, r) => a + r.value, 0)
  }
  samples(where: Labels = {}): readonly Sample[] {
    const wanted = Object.entries(where)
    return [...this.#rows.values()].filter((r) => wanted.every(([k, v]) => r.labels[k] === v))
  }
}

interface Spread {
  readonly value: string
  readonly counts: Float64Array
  sum: number
  count: number
}
/** A histogram by one label. Buckets are cumulative only when they are shown. */
export class Histogram {
  readonly name: string
  readonly help: string
  readonly type = 'histogram'
  readonly #label: string
  readonly #bounds: readonly number[]
  readonly #rows = new Map<string, Spread>()

  constructor(name: string, help: string, label: string, bounds: readonly number[]) {
    this.name = name
    this.help = help
    this.#label = label
    this.#bounds = bounds
  }
  observe(x: number, value: string): void {
    let row = this.#rows.get(value)
    if (!row) {
      if (this.#rows.size >= limits.metricLabelValues && value !== 'other') return this.observe(x, 'other')
      row = { value, counts: new Float64Array(this.#bounds.length), sum: 0, count: 0 }
      this.#rows.set(value, row)
    }
    const at = this.#bounds.findIndex((b) => x <= b)
    if (at >= 0) row.counts[at] = (row.counts[at] ?? 0) + 1
    row.sum += x
    row.count++
  }
  totals(): readonly { value: string; sum: number; count: number }[] {
    return [...this.#rows.values()]
  }
  samples(): readonly Sample[] {
    const out: Sample[] = []
    for (const row of this.#rows.values()) {
      const labels = { [this.#label]: row.value }
      let below = 0
      for (const [i, bound] of this.#bounds.entries()) {
        below += row.counts[i] ?? 0
        out.push({ metricName: `${this.name}_bucket`, labels: { ...labels, le: String(bound) }, value: below })
      }
      out.push({ metricName: `${this.name}_bucket`, labels: { ...labels, le: '+Inf' }, value: row.count })
      out.push({ metricName: `${this.name}_sum`, labels, value: row.sum }, { metricName: `${this.name}_count`, labels, value: row.count })
    }
    return out
  }
}
