/** What a run found: one row a bar. */
export interface Row {
  readonly id: string
  readonly path: string
  /** Median over the rounds, in the unit of the bar. */
  readonly value: number
  readonly unit: string
  readonly bar: number | null
  /** The value must be at most, or at least, the bar. */
  readonly sense: 'at most' | 'at least'
  /** Of every round. */
  readonly rounds: readonly number[]
  readonly note: string
}

export function median(of: readonly number[]): number {
  const sorted = of.toSorted((a, b) => a - b)
  const middle = sorted.length >> 1
  const high = sorted[middle] ?? NaN
  return sorted.length % 2 === 1 ? high : ((sorted[middle - 1] ?? NaN) + high) / 2
}

export function passes(r: Row): boolean {
  if (r.bar === null) return true
  return r.sense === 'at most' ? r.value <= r.bar : r.value >= r.bar
}

/** A short run on a shared machine swings by a quarter: beyond that it is no noise. */
const NOISE = 1.25

/** Ratios to a process that is not ours stand at their bars, and swing with both: seen 8.3 to 12.5, and 0.46 to 0.67. What may not be lost. */
const HELD: Readonly<Record<string, number>> = { 'batch-moto': 6, 'single-noop': 0.35 }

/** What `--quick` fails on: a figure clearly worse than its bar. */
export function fails(r: Row): boolean {
  if (r.bar === null) return false
  const limit = HELD[r.id] ?? (r.sense === 'at most' ? r.bar * NOISE : r.bar / NOISE)
  return !(r.sense === 'at most' ? r.value <= limit : r.value >= limit)
}

const digits = (n: number): string => (n >= 1_000 ? Math.round(n).toLocaleString('en-US') : n >= 100 ? n.toFixed(0) : n.toPrecision(3))
export function barText(r: Row): string {
  return r.bar === null ? '–' : `${r.sense === 'at most' ? '≤' : '≥'} ${digits(r.bar)} ${r.unit}`
}
export const valueText = (r: Row): string => `${digits(r.value)} ${r.unit}`

/** One line a row, for a terminal. */
export function table(rows: readonly Row[]): string {
  const lines = rows.map((r) => [passes(r) ? 'pass' : 'FAIL', r.path, valueText(r), barText(r), r.note])
  const width = [0, 1, 2, 3].map((c) => Math.max(...lines.map((l) => l[c]?.length ?? 0)))
  return lines.map((l) => l.map((cell, c) => (c === 4 ? cell : cell.padEnd(width[c] ?? 0))).join('  ')).join('\n')
}

/** The rows as docs/performance.md shows them. */
export function markdown(rows: readonly Row[]): string {
  const head = '| path | measured | must | | rounds |\n| --- | ---: | ---: | --- | --- |'
  const body = rows.map(
    (r) =>
      `| ${r.path} | ${valueText(r)} | ${barText(r)} | ${passes(r) ? 'met' : '**missed**'} | ${r.rounds.map(digits).join(', ')}${r.note ? `; ${r.note}` : ''} |`,
  )
  return [head, ...body].join('\n')
}
