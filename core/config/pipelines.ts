import { checkPrefixes, parsePrefix, PrefixError } from '../format/prefix.ts'
import { isTimeZone } from '../format/timezone.ts'
import type { FormatSpec } from '../format/types.ts'
import type { BufferSpec, DeaggregateSpec, PipelineSpec } from '../pipeline/spec.ts'
import type { Path } from './document.ts'
import type { Reporter } from './issues.ts'
import type { RawPipeline, RawSink } from './schema.ts'
import { sinkSpec, type PluginOptions } from './sinks.ts'
import type { ConfigIssue, Profile } from './types.ts'
import { showDuration, showSize } from './units.ts'

const MiB = 1024 * 1024
const BUFFERS: Readonly<Record<Profile, { bytes: readonly [number, number]; ms: readonly [number, number] }>> = {
  'aws-2026': { bytes: [MiB, 128 * MiB], ms: [0, 900_000] },
  'aws-2020': { bytes: [MiB, 128 * MiB], ms: [60_000, 900_000] },
  none: { bytes: [1, Infinity], ms: [0, Infinity] },
}
/** Above it `check` says that the objects will be many and small, whatever the volume. */
const MANY_OBJECTS_A_DAY = 20_000
const DAY_MS = 86_400_000

const base64 = (text: string): string => Buffer.from(text, 'utf8').toString('base64')

function formatSpec(raw: RawPipeline['format'] | undefined): FormatSpec {
  return {
    type: raw?.type ?? 'raw',
    compression: raw?.compression ?? 'none',
    ...(raw?.level === undefined ? {} : { level: raw.level }),
    ...(raw?.delimiter === undefined ? {} : { delimiter: base64(raw.delimiter) }),
  }
}
function bufferSpec(raw: RawPipeline['buffer'] | undefined): BufferSpec {
  return { sizeBytes: raw?.size ?? 5 * MiB, intervalMs: raw?.interval ?? 300_000 }
}
function deaggregateSpec(raw: RawPipeline['deaggregate']): DeaggregateSpec | null {
  if (raw === undefined) return null
  return raw === 'json' ? { type: 'json' } : { type: 'delimited', delimiter: base64(raw.delimiter) }
}

/** The YAML of one pipeline, valid by schema and by the checks below, as the spec that a lane works by. */
export function pipelineSpec(name: string, raw: RawPipeline, sink: PluginOptions, backup: PluginOptions | null): PipelineSpec {
  const backupSink = raw.backup && backup ? sinkSpec(raw.backup.sink, backup) : null
  return {
    name,
    source: { type: 'direct_put', shards: raw.source.direct_put.shards },
    stages: { deaggregate: deaggregateSpec(raw.deaggregate), decompress: raw.decompress, extractMessages: raw.extract_messages },
    format: formatSpec(raw.format),
    buffer: bufferSpec(raw.buffer),
    sink: sinkSpec(raw.sink, sink),
    rejects: backupSink,
    backup:
      raw.backup?.records === 'all' && backupSink
        ? { format: formatSpec(raw.backup.format), buffer: bufferSpec(raw.backup.buffer), sink: backupSink }
        : null,
  }
}

export interface Findings {
  readonly errors: ConfigIssue[]
  readonly warnings: ConfigIssue[]
}

function checkFormat(raw: NonNullable<RawPipeline['format']>, path: Path, r: Reporter, out: Findings): void {
  const most = { gzip: 9, zip: 9, zstd: 19 }[raw.compression as string]
  if (raw.level !== undefined && most === undefined) {
    out.errors.push(
      r.value([...path, 'level'], `level ${raw.level} has no meaning with compression ${raw.compression}; allowed with gzip, zip, zstd`),
    )
  } else if (raw.level !== undefined && most !== undefined && raw.level > most) {
    out.errors.push(r.value([...path, 'level'], `expected 1 to ${most} with compression ${raw.compression}, got ${raw.level}`))
  }
  if (raw.delimiter !== undefined && raw.type !== 'raw') {
    out.errors.push(r.value([...path, 'delimiter'], `a delimiter is for type raw; ${raw.type} has its own`))
  }
}

function checkBuffer(
  raw: NonNullable<RawPipeline['buffer']>,
  path: Path,
  profile: Profile,
  shards: number,
  r: Reporter,
  out: Findings,
): void {
  const { bytes, ms } = BUFFERS[profile]
  if (raw.size < bytes[0] || raw.size > bytes[1]) {
    const range = `expected ${showSize(bytes[0])} to ${showSize(bytes[1])} (limits.profile ${profile})`
    out.errors.push(r.value([...path, 'size'], `${range}, got ${r.show([...path, 'size'])}`))
  } else if (raw.size < MiB) {
    out.warnings.push(
      r.value([...path, 'size'], `objects will be smaller than 1MiB: many small objects are slow to read and dear to store`),
    )
  }
  if (raw.interval < ms[0] || raw.interval > ms[1]) {
    const range = `expected ${showDuration(ms[0])} to ${showDuration(ms[1])} (limits.profile ${profile})`
    out.errors.push(r.value([...path, 'interval'], `${range}, got ${r.show([...path, 'interval'])}`))
    return
  }
  const most = (shards * DAY_MS) / Math.max(raw.interval, 1_000)
  if (most > MANY_OBJECTS_A_DAY) {
    const many = Math.round(most).toLocaleString('en-US')
    const lanes = `${shards} ${shards === 1 ? 'shard' : 'shards'}`
    out.warnings.push(
      r.value(
        [...path, 'interval'],
        `${lanes} every ${showDuration(raw.interval)} make up to ${many} objects a day, small ones if little arrives`,
      ),
    )
  }
}

/** Prefixes by Firehose's rules, each fault at its own key. */
function checkPrefix(raw: RawSink, path: Path, r: Reporter, out: Findings): void {
  let whole = true
  for (const kind of ['prefix', 'error_prefix'] as const) {
    const at = [...path, kind]
    try {
      for (const w of parsePrefix(raw[kind], kind).warnings) out.warnings.push(r.value(at, w))
    } catch (e) {
      if (!(e instanceof PrefixError)) throw e
      whole = false
      out.errors.push(r.value(at, `${e.message}, got ${r.show(at)}`))
    }
  }
  if (!whole) return
  try {
    checkPrefixes(raw.prefix, raw.error_prefix)
  } catch (e) {
    if (!(e instanceof PrefixError)) throw e
    const example = 'such as error_prefix: "errors/!{firehose:error-output-type}/"'
    out.errors.push(r.value([...path, raw.error_prefix === '' ? 'prefix' : 'error_prefix'], `${e.message}; write one, ${example}`))
  }
}

function checkSink(raw: RawSink, path: Path, hasBackup: boolean, r: Reporter, out: Findings): void {
  if (raw.retry.base > raw.retry.max) {
    const at = [...path, 'retry', 'base']
    out.errors.push(
      r.value(at, `the first wait (${showDuration(raw.retry.base)}) is longer than the longest (${showDuration(raw.retry.max)})`),
    )
  }
  if (raw.retry.duration !== undefined && !hasBackup) {
    const why =
      'a batch that is given up goes to the backup, and this pipeline has none: add backup.sink, or leave retry.duration out to wait'
    out.errors.push(r.value([...path, 'retry', 'duration'], why))
  }
  checkPrefix(raw, path, r, out)
  if (!isTimeZone(raw.time_zone)) {
    out.errors.push(
      r.value([...path, 'time_zone'], `unknown time zone ${r.show([...path, 'time_zone'])}; expected an IANA name, such as Europe/Berlin`),
    )
  }
}

/** What no single key can tell: relations between keys, and the profile's ranges. */
export function checkPipeline(name: string, raw: RawPipeline, profile: Profile, r: Reporter, out: Findings): void {
  const path = ['pipelines', name]
  const { shards } = raw.source.direct_put
  checkFormat(raw.format, [...path, 'format'], r, out)
  checkBuffer(raw.buffer, [...path, 'buffer'], profile, shards, r, out)
  checkSink(raw.sink, [...path, 'sink'], raw.backup !== undefined, r, out)
  if (raw.extract_messages && !raw.decompress) {
    out.errors.push(r.value([...path, 'extract_messages'], 'extract_messages: true needs decompress: true'))
  }
  if (!raw.backup) return
  const at = [...path, 'backup']
  if (raw.backup.records === 'all') {
    if (raw.backup.format) checkFormat(raw.backup.format, [...at, 'format'], r, out)
    if (raw.backup.buffer) checkBuffer(raw.backup.buffer, [...at, 'buffer'], profile, shards, r, out)
  } else {
    for (const key of ['format', 'buffer'] as const) {
      if (raw.backup[key]) {
        out.errors.push(r.key(at, key, `${key} is for records: all; rejected records are JSON lines, written with the batch they came in`))
      }
    }
  }
  checkSink(raw.backup.sink, [...at, 'sink'], false, r, out)
}
