import { limits } from '../../limits.ts'
import type { JsonObject, PipelineSpec } from '../../pipeline/spec.ts'
import type { JsonRecord } from '../json/parse.ts'

/**
 * Firehose's document (an ExtendedS3DestinationConfiguration, as given) ⇄ PipelineSpec. Pure: no clock, no I/O. A document that comes in
 * here has passed the shapes and checkDestination (rules.ts).
 *
 * CloudWatchLoggingOptions are kept and shown; there is no CloudWatch here, the lines go to the daemon's own log. RoleARN likewise: the
 * credentials of a bucket are those of `buckets:` in the configuration.
 */

export const DESTINATION_ID = 'destinationId-000000000001'
const MiB = 1024 * 1024
const DEFAULT_HINTS = { SizeInMBs: 5, IntervalInSeconds: 300 }
const NO_ENCRYPTION = { NoEncryptionConfig: 'NoEncryption' }
/** An interval of 0 ("zero buffering") delivers within seconds: an object a second at most, not one a record. */
const ZERO_INTERVAL_MS = 1_000

type Format = PipelineSpec['format']
type Sink = PipelineSpec['sink']
const compressions: Readonly<Record<string, Format['compression']>> = {
  UNCOMPRESSED: 'none',
  GZIP: 'gzip',
  ZIP: 'zip',
  Snappy: 'snappy',
  HADOOP_SNAPPY: 'hadoop_snappy',
}

/** A member that is an object, or undefined. */
export function child(doc: JsonRecord, member: string): JsonRecord | undefined {
  return doc[member] as JsonRecord | undefined
}
export const str = (doc: JsonRecord, member: string): string | undefined => doc[member] as string | undefined

export interface Processor {
  readonly type: string
  readonly parameters: ReadonlyMap<string, string>
}
/** The processors in force: none when ProcessingConfiguration is absent or not `Enabled` (omitted = false). */
export function processorsOf(doc: JsonRecord): Processor[] {
  const processing = child(doc, 'ProcessingConfiguration')
  if (processing?.['Enabled'] !== true) return []
  return ((processing['Processors'] ?? []) as readonly JsonRecord[]).map((p) => ({
    type: str(p, 'Type') ?? '',
    parameters: new Map(
      ((p['Parameters'] ?? []) as readonly JsonRecord[]).map((x) => [str(x, 'ParameterName') ?? '', str(x, 'ParameterValue') ?? '']),
    ),
  }))
}

/** `\n`, `\r`, `\t` and `\\` as typed in a console or a shell; everything else stands for itself. */
function unescape(text: string): string {
  const known: Readonly<Record<string, string>> = { n: '\n', r: '\r', t: '\t', '\\': '\\' }
  return text.replace(/\\([nrt\\])/g, (_, c: string) => known[c] ?? c)
}

/** The pipeline that a document asks for. */
export function specOf(name: string, doc: JsonRecord): PipelineSpec {
  const processors = new Map(processorsOf(doc).map((p) => [p.type, p.parameters]))
  const append = processors.get('AppendDelimiterToRecord')
  const delimiter = append && Buffer.from(unescape(append.get('Delimiter') ?? '\n')).toString('base64')
  const backup = str(doc, 'S3BackupMode') === 'Enabled' ? child(doc, 'S3BackupConfiguration') : undefined
  return {
    name,
    source: { type: 'direct_put', shards: 1 },
    stages: {
      deaggregate: null,
      decompress: processors.has('Decompression'),
      extractMessages: processors.get('CloudWatchLogProcessing')?.get('DataMessageExtraction')?.toLowerCase() === 'true',
    },
    format: { ...formatOf(doc), ...(delimiter === undefined ? {} : { delimiter }) },
    buffer: bufferOf(doc),
    sink: sinkOf(doc),
    rejects: null,
    backup: backup ? { format: formatOf(backup), buffer: bufferOf(backup), sink: sinkOf(backup) } : null,
  }
}

function formatOf(doc: JsonRecord): Format {
  return { type: 'raw', compression: compressions[str(doc, 'CompressionFormat') ?? 'UNCOMPRESSED'] ?? 'none' }
}

function bufferOf(doc: JsonRecord): PipelineSpec['buffer'] {
  const hints = (child(doc, 'BufferingHints') ?? DEFAULT_HINTS) as typeof DEFAULT_HINTS // both or none: rules.ts
  const intervalMs = hints.IntervalInSeconds * 1_000
  return { sizeBytes: hints.SizeInMBs * MiB, intervalMs: intervalMs === 0 ? ZERO_INTERVAL_MS : intervalMs }
}

/** The key that objects are to be encrypted with, if any. */
export const kmsKeyOf = (doc: JsonRecord): string | undefined =>
  str(child(child(doc, 'EncryptionConfiguration') ?? {}, 'KMSEncryptionConfig') ?? {}, 'AWSKMSKeyARN')

function sinkOf(doc: JsonRecord): Sink {
  const kms = kmsKeyOf(doc)
  return {
    type: 'bucket',
    options: { bucket: bucketName(str(doc, 'BucketARN') ?? ''), ...(kms === undefined ? {} : { kmsKeyArn: kms }) },
    prefix: str(doc, 'Prefix') ?? '',
    errorPrefix: str(doc, 'ErrorOutputPrefix') ?? '',
    fileExtension: str(doc, 'FileExtension') ?? '',
    timeZone: str(doc, 'CustomTimeZone') || 'UTC',
    retry: { durationMs: null, baseMs: limits.retryBaseMs, maxMs: limits.retryMaxMs },
    timeoutMs: limits.attemptMs,
    concurrency: limits.sinkConcurrency,
  }
}

/** `arn:aws:s3:::name` → `name`. */
export const bucketName = (arn: string): string => arn.slice(arn.lastIndexOf(':') + 1)

/** Members that the legacy S3DestinationDescription knows. */
const LEGACY = [
  'RoleARN',
  'BucketARN',
  'Prefix',
  'ErrorOutputPrefix',
  'BufferingHints',
  'CompressionFormat',
  'EncryptionConfiguration',
  'CloudWatchLoggingOptions',
] as const

function pick(doc: JsonRecord, members: readonly string[]): Record<string, JsonRecord[string]> {
  return Object.fromEntries(members.filter((m) => doc[m] !== undefined).map((m) => [m, doc[m]]))
}

/** What every S3 description shows, given or not: IaC tools plan for ever when one of these is absent. */
function legacyDescription(doc: JsonRecord): JsonRecord {
  return {
    BufferingHints: DEFAULT_HINTS,
    CompressionFormat: 'UNCOMPRESSED',
    EncryptionConfiguration: NO_ENCRYPTION,
    CloudWatchLoggingOptions: { Enabled: false },
    ...pick(doc, LEGACY),
  }
}

/** The one element of `Destinations`: the extended description and its legacy mirror, whichever form created the stream. */
export function destinationOf(doc: JsonRecord): JsonRecord {
  const backup = child(doc, 'S3BackupConfiguration')
  return {
    DestinationId: DESTINATION_ID,
    S3DestinationDescription: legacyDescription(doc),
    ExtendedS3DestinationDescription: {
      ...legacyDescription(doc),
      ProcessingConfiguration: child(doc, 'ProcessingConfiguration') ?? { Enabled: false, Processors: [] },
      S3BackupMode: str(doc, 'S3BackupMode') ?? 'Disabled',
      ...(backup ? { S3BackupDescription: legacyDescription(backup) } : {}),
      DataFormatConversionConfiguration: { Enabled: false, ...child(doc, 'DataFormatConversionConfiguration') },
      ...pick(doc, ['DynamicPartitioningConfiguration', 'FileExtension', 'CustomTimeZone']),
    },
  }
}

/** The document that describes a pipeline of the configuration file, as near as Firehose's words come. */
export function documentOf(spec: PipelineSpec, account: string): JsonObject {
  const processors = processorsFrom(spec)
  return {
    ...s3From(spec.sink, spec.format, spec.buffer, account),
    ...(processors.length > 0 ? { ProcessingConfiguration: { Enabled: true, Processors: processors } } : {}),
    S3BackupMode: spec.backup ? 'Enabled' : 'Disabled',
    ...(spec.backup ? { S3BackupConfiguration: s3From(spec.backup.sink, spec.backup.format, spec.backup.buffer, account) } : {}),
    ...(spec.sink.fileExtension === '' ? {} : { FileExtension: spec.sink.fileExtension }),
    ...(spec.sink.timeZone === 'UTC' ? {} : { CustomTimeZone: spec.sink.timeZone }),
  }
}

function s3From(sink: Sink, format: Format, buffer: PipelineSpec['buffer'], account: string): JsonObject {
  const kms = sink.options['kmsKeyArn']
  return {
    RoleARN: `arn:aws:iam::${account}:role/hydrant`,
    BucketARN: `arn:aws:s3:::${bucketFrom(sink)}`,
    ...(sink.prefix === '' ? {} : { Prefix: sink.prefix }),
    ...(sink.errorPrefix === '' ? {} : { ErrorOutputPrefix: sink.errorPrefix }),
    BufferingHints: {
      SizeInMBs: Math.max(1, Math.round(buffer.sizeBytes / MiB)),
      IntervalInSeconds: Math.round(buffer.intervalMs / 1_000),
    },
    // zstd is not a name that Firehose has; the true one helps more than a wrong one
    CompressionFormat: Object.keys(compressions).find((k) => compressions[k] === format.compression) ?? format.compression.toUpperCase(),
    EncryptionConfiguration: typeof kms === 'string' ? { KMSEncryptionConfig: { AWSKMSKeyARN: kms } } : NO_ENCRYPTION,
  }
}

/** The bucket, or the folder of a file sink made a bucket's name. */
function bucketFrom(sink: Sink): string {
  const name = sink.options['bucket'] ?? sink.options['path'] ?? sink.type
  return (typeof name === 'string' ? name : sink.type)
    .replace(/^[^\w]+/, '')
    .replace(/[^\w.-]+/g, '-')
    .slice(-255)
}

function processorsFrom(spec: PipelineSpec): JsonObject[] {
  const out: JsonObject[] = []
  const add = (Type: string, ...parameters: readonly (readonly [string, string])[]): void => {
    const Parameters = parameters.map(([ParameterName, ParameterValue]) => ({ ParameterName, ParameterValue }))
    out.push({ Type, Parameters })
  }
  const { deaggregate, decompress, extractMessages } = spec.stages
  if (decompress) add('Decompression', ['CompressionFormat', 'GZIP'])
  if (extractMessages) add('CloudWatchLogProcessing', ['DataMessageExtraction', 'true'])
  if (deaggregate?.type === 'json') add('RecordDeAggregation', ['SubRecordType', 'JSON'])
  if (deaggregate?.type === 'delimited') add('RecordDeAggregation', ['SubRecordType', 'DELIMITED'], ['Delimiter', deaggregate.delimiter])
  const delimiter = spec.format.type === 'ndjson' ? '\n' : Buffer.from(spec.format.delimiter ?? '', 'base64').toString()
  if (delimiter !== '') add('AppendDelimiterToRecord', ['Delimiter', escape(delimiter)])
  return out
}

const escape = (text: string): string =>
  text.replace(/[\\\n\r\t]/g, (c) => ({ '\\': '\\\\', '\n': '\\n', '\r': '\\r', '\t': '\\t' })[c] ?? c)
