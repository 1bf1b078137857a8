import { crc32 } from 'node:zlib'
import { unpack, type Stored } from './framings.ts'
import { readObjects, type FoundObject, type Place } from './objects.ts'
import type { Outcomes } from './outcomes.ts'
import { idText, parseRecords, type RecordId } from './records.ts'

/**
 * The audit (reliability.md §4): what clients were promised against what lies in the stores. It reads everything back with code of
 * its own. `lost`, `phantom`, `duplicate`, `doubly`, `corrupt`, `disorder`, `unbacked`, `broken` must be 0 for an exactly-once sink.
 */
export interface AuditInput {
  readonly outcomes: Outcomes
  readonly delivered: readonly Place[]
  readonly compression: Stored
  readonly format?: 'raw' | 'ndjson'
  /** Of all pipelines that deliver to one place. An object does not say its shard: of more than 1 the ranges are looked at together. */
  readonly shards?: number
  /** Records may be taken out by a stage: the content of an object is then not the content of its cut. */
  readonly stages?: boolean
  /** Text between the records of an object (raw with delimiter "\n"). */
  readonly delimited?: boolean
  /** Where rejected records go, as Firehose error lines, and given-up cuts, as they would have been delivered. */
  readonly rejected?: readonly Place[]
  /** Backup of all source records. */
  readonly backup?: readonly Place[]
  readonly backupCompression?: Stored
  /** Records that a stage or DeleteDeliveryStream dropped: only their number is known. */
  readonly dropped?: number
  /** Ids whose promise is not to be delivered in order (puts were sent at once by one producer). */
  readonly unordered?: boolean
  /** Turns a record as delivered or rejected into the bytes that the client made. */
  readonly restore?: (raw: Uint8Array) => Uint8Array
}
export interface AuditResult {
  accepted: number
  unknown: number
  delivered: number
  rejected: number
  backup: number
  objects: number
  bytes: number
  lost: number
  phantom: number
  duplicate: number
  doubly: number
  corrupt: number
  disorder: number
  unbacked: number
  /** Objects that are not whole files, that lie (metadata), or whose ranges overlap. */
  broken: number
  dropped: number
  /** Objects of one byte by which a sink asked what the store can do. */
  probes: number
  /** Unknown ids that are in. */
  unknownIn: number
  /** The first few of each kind, for whoever reads the failure. */
  examples: string[]
}
export const MUST_BE_ZERO = ['lost', 'phantom', 'duplicate', 'doubly', 'corrupt', 'disorder', 'unbacked', 'broken'] as const

interface Marks {
  readonly delivered: Counts
  readonly rejected: Counts
  readonly backup: Counts
}

/** How often each id was seen, by producer. */
class Counts {
  readonly #of = new Map<number, Map<number, number>>()
  add(id: RecordId): void {
    let p = this.#of.get(id.producer)
    if (!p) this.#of.set(id.producer, (p = new Map<number, number>()))
    p.set(id.seq, (p.get(id.seq) ?? 0) + 1)
  }
  get(id: RecordId): number {
    return this.#of.get(id.producer)?.get(id.seq) ?? 0
  }
  *all(): Generator<readonly [producer: number, seq: number, copies: number]> {
    for (const [producer, p] of this.#of) for (const [seq, copies] of p) yield [producer, seq, copies]
  }
}

const PER_KIND = 5
class Report {
  readonly #seen = new Map<string, number>()
  readonly result: AuditResult
  constructor(result: AuditResult) {
    this.result = result
  }
  found(kind: (typeof MUST_BE_ZERO)[number], what: string, n = 1): void {
    this.result[kind] += n
    const seen = (this.#seen.get(kind) ?? 0) + 1
    this.#seen.set(kind, seen)
    if (seen <= PER_KIND) this.result.examples.push(`${kind}: ${what}`)
  }
}

export async function audit(a: AuditInput): Promise<AuditResult> {
  const zero = Object.fromEntries(MUST_BE_ZERO.map((k) => [k, 0])) as Record<(typeof MUST_BE_ZERO)[number], number>
  const result: AuditResult = {
    accepted: a.outcomes.count('ok'),
    unknown: a.outcomes.count('unknown'),
    delivered: 0,
    rejected: 0,
    backup: 0,
    objects: 0,
    bytes: 0,
    unknownIn: 0,
    probes: 0,
    dropped: a.dropped ?? 0,
    ...zero,
    examples: [],
  }
  const report = new Report(result)
  const marks: Marks = { delivered: new Counts(), rejected: new Counts(), backup: new Counts() }
  for (const p of a.delivered) await readDelivered(a, p, marks, report)
  for (const p of a.rejected ?? []) for await (const o of readObjects(p)) result.rejected += readRejected(a, o, marks.rejected, report)
  for (const p of a.backup ?? [])
    for await (const o of readObjects(p)) result.backup += readBody(a, o, a.backupCompression ?? 'none', marks.backup, report, null).records
  compare(a, marks, report)
  return result
}

async function readDelivered(a: AuditInput, p: Place, marks: Marks, report: Report): Promise<void> {
  const ranges: Range[] = []
  for await (const o of readObjects(p)) {
    if (isProbe(o)) {
      report.result.probes++
      continue
    }
    if (isErrorLines(o.bytes)) {
      report.result.rejected += readErrorLines(a, o, marks.rejected, report)
      continue
    }
    report.result.objects++
    report.result.bytes += o.bytes.length
    const body = readBody(a, o, a.compression, marks.delivered, report, a.format ?? 'raw')
    report.result.delivered += body.records
    const range = rangeOf(o, body, a.stages === true, report)
    if (range) ranges.push(range)
  }
  const shards = a.shards ?? 1
  if (shards === 1) checkRanges(ranges, report)
  else {
    checkDepth(ranges, shards, report)
    const gaps = a.stages === true || (a.rejected ?? []).length > 0 || (a.dropped ?? 0) > 0
    if (!gaps) checkChains(ranges, shards, report)
  }
}

function readRejected(a: AuditInput, o: FoundObject, into: Counts, report: Report): number {
  if (isErrorLines(o.bytes)) return readErrorLines(a, o, into, report)
  return readBody(a, o, a.compression, into, report, a.format ?? 'raw').records
}

/** The S3 sink asks a store that it does not know by an object of one byte; a kill in between leaves it until the next life puts again. */
const isProbe = (o: FoundObject): boolean => o.bytes.length === 1 && /(^|\/)\.hydrant-probe-[0-9a-f]+$/.test(o.key)
const isErrorLines = (b: Uint8Array): boolean => b[0] === 0x7b

interface Content {
  readonly records: number
  /** CRC-32 of the records, without what stands between them. */
  readonly crc: number
}

function readBody(a: AuditInput, o: FoundObject, as: Stored, into: Counts, report: Report, form: 'raw' | 'ndjson' | null): Content {
  let body: Uint8Array
  try {
    body = unpack(o.bytes, as)
  } catch (e) {
    report.found('broken', `${o.key}: ${e instanceof Error ? e.message : String(e)}`)
    return { records: 0, crc: 0 }
  }
  let n = 0
  let crc = 0
  let rest = body.length
  const last = new Map<number, number>()
  for (const r of parseRecords(body)) {
    n++
    crc = crc32(r.raw, crc)
    rest -= r.raw.length + r.newlines
    if (!r.ok || r.id === null) {
      report.found('corrupt', `${o.key}: record ${n} (${r.id ? idText(r.id) : 'unreadable'})`)
      if (r.id === null) continue
    }
    const between = form === 'ndjson' || (a.delimited === true && rest > 0) ? 1 : 0
    if (form !== null && r.newlines !== between) report.found('corrupt', `${o.key}: record ${n} is followed by ${r.newlines} newlines`)
    into.add(r.id)
    const before = last.get(r.id.producer) ?? -1
    if (r.id.seq < before && a.unordered !== true) report.found('disorder', `${o.key}: ${idText(r.id)} after ${before}`)
    last.set(r.id.producer, r.id.seq)
  }
  return { records: n, crc }
}

function readErrorLines(a: AuditInput, o: FoundObject, into: Counts, report: Report): number {
  let n = 0
  const text = Buffer.from(o.bytes).toString()
  if (!text.endsWith('\n')) report.found('broken', `${o.key}: the last error line has no newline`)
  for (const line of text.split('\n')) {
    if (line === '') continue
    n++
    let raw: Uint8Array
    try {
      const { rawData } = JSON.parse(line) as { rawData: string }
      raw = (a.restore ?? ((x) => x))(Buffer.from(rawData, 'base64'))
    } catch (e) {
      report.found('broken', `${o.key}: error line ${n}: ${String(e)}`)
      continue
    }
    const all = [...parseRecords(raw)]
    const [one] = all
    if (all.length !== 1 || !one?.ok || one.id === null) report.found('corrupt', `${o.key}: rawData of error line ${n}`)
    if (one?.id) into.add(one.id)
  }
  return n
}

interface Range {
  readonly key: string
  readonly from: number
  readonly to: number
}

/**
 * What the object says about itself, against what it holds: token (in its name), range, number of records, and the parts of D and O
 * (docs/exactly-once.md) that can be told from the content: the CRC of all values, and the outcome "all delivered".
 */
function rangeOf(o: FoundObject, c: Content, stages: boolean, report: Report): Range | null {
  if (o.metadata === null) {
    report.found('broken', `${o.key}: no metadata`)
    return null
  }
  const { token, start, end, records, d, o: outcome } = o.metadata
  const wrong = (what: string): void => report.found('broken', `${o.key}: ${what}, metadata is ${JSON.stringify(o.metadata)}`)
  if (token === undefined || !o.key.includes(token)) wrong('the token is not in its name')
  if (!stages) {
    const delivered = new DataView(new ArrayBuffer(5))
    delivered.setUint32(1, c.records, true)
    if (Number(records) !== c.records) wrong(`it holds ${c.records} records`)
    if (d?.slice(8) !== hex8(c.crc)) wrong(`the digest of its content is ${hex8(c.crc)}`)
    if (outcome !== hex8(crc32(new Uint8Array(delivered.buffer)))) wrong('the outcome is not "all delivered"')
  }
  const range = { key: o.key, from: Number(start ?? NaN), to: Number(end ?? NaN) }
  if (range.to - range.from >= c.records) return range
  wrong(`a range of fewer positions than records (${c.records})`)
  return null
}
const hex8 = (n: number): string => n.toString(16).padStart(8, '0')

function checkRanges(ranges: readonly Range[], report: Report): void {
  const sorted = ranges.toSorted((x, y) => x.from - y.from || x.to - y.to)
  for (const [i, r] of sorted.entries()) {
    const before = sorted[i - 1]
    if (r.from < 0 || r.to <= r.from) report.found('broken', `${r.key}: range [${r.from}, ${r.to})`)
    if (before && r.from < before.to)
      report.found('broken', `${r.key} [${r.from}, ${r.to}) overlaps ${before.key} [${before.from}, ${before.to})`)
  }
}

/** No position is in more ranges than there are shards. */
function checkDepth(ranges: readonly Range[], shards: number, report: Report): void {
  const ends = ranges.map((r) => r.to).toSorted((x, y) => x - y)
  let ended = 0
  for (const [i, r] of ranges.toSorted((x, y) => x.from - y.from).entries()) {
    if (r.from < 0 || r.to <= r.from) report.found('broken', `${r.key}: range [${r.from}, ${r.to})`)
    while ((ends[ended] ?? Infinity) <= r.from) ended++
    if (i + 1 - ended > shards)
      report.found('broken', `${r.key} [${r.from}, ${r.to}) is one range too many at ${r.from} for ${shards} shards`)
  }
}

/** Where nothing was taken out, each shard's ranges are one chain from 0: each begins where another ends, as often as it does. */
function checkChains(ranges: readonly Range[], shards: number, report: Report): void {
  const free = new Map<number, number>([[0, shards]])
  for (const r of ranges) free.set(r.to, (free.get(r.to) ?? 0) + 1)
  for (const r of ranges.toSorted((x, y) => x.from - y.from || x.to - y.to)) {
    const left = free.get(r.from) ?? 0
    if (left === 0) report.found('broken', `${r.key} [${r.from}, ${r.to}) begins where no other range of its shard ends`)
    else free.set(r.from, left - 1)
  }
}

function compare(a: AuditInput, marks: Marks, report: Report): void {
  const { result } = report
  const missing: RecordId[] = []
  for (const id of a.outcomes.all('ok')) {
    if (marks.delivered.get(id) + marks.rejected.get(id) === 0) missing.push(id)
    if (a.backup && marks.backup.get(id) === 0) report.found('unbacked', idText(id))
  }
  for (const id of missing.slice(result.dropped)) report.found('lost', idText(id))
  for (const [kind, counts] of Object.entries(marks) as [keyof Marks, Counts][])
    for (const [producer, seq, copies] of counts.all()) {
      const id = { run: a.outcomes.run, producer, seq }
      const outcome = a.outcomes.of(id)
      if (outcome === undefined || outcome === 'fail') report.found('phantom', `${idText(id)} in ${kind}: ${outcome ?? 'never sent'}`)
      if (outcome === 'unknown' && kind === 'delivered') result.unknownIn++
      if (copies > 1) report.found('duplicate', `${idText(id)}: ${copies} times in ${kind}`, copies - 1)
      if (kind === 'delivered' && marks.rejected.get(id) > 0) report.found('doubly', `${idText(id)} in delivered and rejected`)
    }
}

const row = (k: string, v: number, bad: boolean): string => `  ${k.padEnd(12)}${String(v).padStart(12)}${bad ? '  <-- must be 0' : ''}`

/** One line a figure; what must be 0 and is not is marked. */
export function table(r: AuditResult): string {
  const facts = ['accepted', 'unknown', 'unknownIn', 'delivered', 'rejected', 'backup', 'dropped', 'objects', 'bytes', 'probes'] as const
  return [
    ...facts.map((k) => row(k, r[k], false)),
    ...MUST_BE_ZERO.map((k) => row(k, r[k], r[k] !== 0)),
    ...r.examples.map((e) => `  ${e}`),
  ].join('\n')
}

/** Throws with the whole table unless all that must be 0 is 0. */
export function assertClean(r: AuditResult, what: string): AuditResult {
  if (MUST_BE_ZERO.some((k) => r[k] !== 0)) throw new Error(`audit failed: ${what}\n${table(r)}`)
  return r
}
