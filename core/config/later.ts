import type { Path } from './document.ts'

/** Parts of the design that this version does not have: refused in plain words, never accepted and ignored. */
const KEYS: readonly (readonly [parent: RegExp, key: string, what: string])[] = [
  [/^$/, 'streams', 'Kinesis data streams'],
  [/^$/, 'functions', 'Lambda functions'],
  [/^$/, 'allow_private_destinations', 'destinations of API calls that have an address of their own (HTTP, Splunk, OpenSearch)'],
  [/^$/, 'video', 'Kinesis video streams'],
  [/^$/, 'sql', 'SQL queries'],
  [/^pipelines\.[^.]+$/, 'transform', 'transforming records by a script'],
  [/^pipelines\.[^.]+$/, 'partition_by', 'dynamic partitioning'],
  [/^pipelines\.[^.]+\.source$/, 'stream', 'a data stream as source'],
  [/^pipelines\.[^.]+\.source$/, 'topic', 'a Kafka topic as source'],
  [/^pipelines\.[^.]+\.(backup\.)?format$/, 'columns', 'columns (csv and parquet)'],
  [/^pipelines\.[^.]+\.(backup\.)?format$/, 'on_bad_row', 'conversion of rows (csv and parquet)'],
]
const VALUES: readonly (readonly [path: RegExp, value: RegExp])[] = [
  [/^log\.type$/, /^kafka$/],
  [/^pipelines\.[^.]+\.(backup\.)?format\.type$/, /^(csv|parquet)$/],
]
/** The same thing has one owner; these are the likely wrong places. */
const ELSEWHERE: readonly (readonly [parent: RegExp, key: string, where: string])[] = [
  [/^log$/, 'free_disk', 'limits.free_disk'],
  [/^limits$/, 'drain_timeout', 'drain_timeout, at the top'],
  [/^$/, 'listen', 'api.listen'],
  [/^pipelines\.[^.]+$/, 'prefix', 'sink.prefix'],
  [/^pipelines\.[^.]+$/, 'compression', 'format.compression'],
  [/^pipelines\.[^.]+$/, 'retry', 'sink.retry'],
  [/^pipelines\.[^.]+\.sink$/, 'compression', 'format.compression, beside the sink'],
]

const dotted = (path: Path): string => path.join('.')

/** The refusal of a key below `parent`, or null when it is simply unknown. */
export function laterKey(parent: Path, key: string): string | null {
  const what = KEYS.find(([p, k]) => k === key && p.test(dotted(parent)))?.[2]
  return what ? `not available in this version: ${what}` : null
}
export function laterValue(path: Path, value: unknown): string | null {
  const known = typeof value === 'string' && VALUES.some(([p, v]) => p.test(dotted(path)) && v.test(value))
  return known ? `${JSON.stringify(value)} is not available in this version` : null
}
export function elsewhere(parent: Path, key: string): string | null {
  return ELSEWHERE.find(([p, k]) => k === key && p.test(dotted(parent)))?.[2] ?? null
}
