import { describe, expect, test } from 'vitest'
import type { JsonRecord } from '../../core/api/json/parse.ts'
import { destinationOf, documentOf, specOf } from '../../core/api/firehose/document.ts'
import { checkDestination } from '../../core/api/firehose/rules.ts'
import { ApiError } from '../../core/api/errors.ts'
import { ACCOUNT, S3 } from './fakes.ts'

const parameters = (o: Record<string, string>): JsonRecord[] =>
  Object.entries(o).map(([ParameterName, ParameterValue]) => ({ ParameterName, ParameterValue }))
const processing = (...p: [string, Record<string, string>][]): JsonRecord => ({
  ProcessingConfiguration: { Enabled: true, Processors: p.map(([Type, o]) => ({ Type, Parameters: parameters(o) })) },
})
const KMS = 'arn:aws:kms:us-east-1:123456789012:key/k'
const FULL: JsonRecord = {
  ...S3,
  Prefix: 'a/!{timestamp:yyyy}/',
  ErrorOutputPrefix: 'err/!{firehose:error-output-type}/',
  BufferingHints: { SizeInMBs: 64, IntervalInSeconds: 90 },
  CompressionFormat: 'HADOOP_SNAPPY',
  EncryptionConfiguration: { KMSEncryptionConfig: { AWSKMSKeyARN: KMS } },
  CloudWatchLoggingOptions: { Enabled: true, LogGroupName: 'g', LogStreamName: 's' },
  FileExtension: '.x',
  CustomTimeZone: 'Europe/Berlin',
  S3BackupMode: 'Enabled',
  S3BackupConfiguration: {
    ...S3,
    BucketARN: 'arn:aws:s3:::raw',
    CompressionFormat: 'GZIP',
    BufferingHints: { SizeInMBs: 1, IntervalInSeconds: 60 },
  },
  ...processing(
    ['Decompression', { CompressionFormat: 'GZIP' }],
    ['CloudWatchLogProcessing', { DataMessageExtraction: 'true' }],
    ['AppendDelimiterToRecord', { Delimiter: String.raw`\n` }],
  ),
}

describe('document → spec', () => {
  test('the least that AWS takes', () => {
    expect(specOf('s', S3)).toEqual({
      name: 's',
      source: { type: 'direct_put', shards: 1 },
      stages: { deaggregate: null, decompress: false, extractMessages: false },
      format: { type: 'raw', compression: 'none' },
      buffer: { sizeBytes: 5 * 1024 * 1024, intervalMs: 300_000 },
      sink: {
        type: 'bucket',
        options: { bucket: 'b' },
        prefix: '',
        errorPrefix: '',
        fileExtension: '',
        timeZone: 'UTC',
        retry: { durationMs: null, baseMs: 100, maxMs: 30_000 },
        timeoutMs: 60_000,
        concurrency: 8,
      },
      rejects: null,
      backup: null,
    })
  })
  test('everything that can be delivered', () => {
    checkDestination(FULL)
    expect(specOf('s', FULL)).toMatchObject({
      stages: { deaggregate: null, decompress: true, extractMessages: true },
      format: { type: 'raw', compression: 'hadoop_snappy', delimiter: 'Cg==' },
      buffer: { sizeBytes: 64 * 1024 * 1024, intervalMs: 90_000 },
      sink: {
        options: { bucket: 'b', kmsKeyArn: KMS },
        prefix: 'a/!{timestamp:yyyy}/',
        errorPrefix: 'err/!{firehose:error-output-type}/',
        fileExtension: '.x',
        timeZone: 'Europe/Berlin',
      },
      backup: {
        format: { type: 'raw', compression: 'gzip' },
        buffer: { sizeBytes: 1024 * 1024, intervalMs: 60_000 },
        sink: { options: { bucket: 'raw' }, timeZone: 'UTC' },
      },
    })
    expect(specOf('s', FULL).backup?.format).not.toHaveProperty('delimiter')
  })
  test.each([
    ['UNCOMPRESSED', 'none'],
    ['GZIP', 'gzip'],
    ['ZIP', 'zip'],
    ['Snappy', 'snappy'],
    ['HADOOP_SNAPPY', 'hadoop_snappy'],
  ])('%s is %s', (CompressionFormat, compression) => {
    expect(specOf('s', { ...S3, CompressionFormat }).format.compression).toBe(compression)
  })
  test.each([
    [{}, '\n'],
    [{ Delimiter: String.raw`\n` }, '\n'],
    [{ Delimiter: '||' }, '||'],
    [{ Delimiter: String.raw`\r\n` }, '\r\n'],
    [{ Delimiter: String.raw`\\n` }, String.raw`\n`],
  ])('delimiter %j is %j', (o: Record<string, string>, expected) => {
    const { delimiter = '' } = specOf('s', { ...S3, ...processing(['AppendDelimiterToRecord', o]) }).format
    expect(Buffer.from(delimiter, 'base64').toString()).toBe(expected)
  })
  test('a disabled ProcessingConfiguration, or one that does not say, is kept and has no effect', () => {
    const doc = { ...S3, ProcessingConfiguration: { Processors: [{ Type: 'Lambda', Parameters: [] }] } }
    checkDestination(doc)
    expect(specOf('s', doc).stages).toEqual({ deaggregate: null, decompress: false, extractMessages: false })
  })
  test('zero buffering is an object a second at most', () => {
    expect(specOf('s', { ...S3, BufferingHints: { SizeInMBs: 1, IntervalInSeconds: 0 } }).buffer.intervalMs).toBe(1_000)
  })
})

describe('document → description', () => {
  test('defaults are shown, in both forms', () => {
    const defaults = {
      ...S3,
      BufferingHints: { SizeInMBs: 5, IntervalInSeconds: 300 },
      CompressionFormat: 'UNCOMPRESSED',
      EncryptionConfiguration: { NoEncryptionConfig: 'NoEncryption' },
      CloudWatchLoggingOptions: { Enabled: false },
    }
    expect(destinationOf(S3)).toEqual({
      DestinationId: 'destinationId-000000000001',
      S3DestinationDescription: defaults,
      ExtendedS3DestinationDescription: {
        ...defaults,
        ProcessingConfiguration: { Enabled: false, Processors: [] },
        S3BackupMode: 'Disabled',
        DataFormatConversionConfiguration: { Enabled: false },
      },
    })
  })
  test('what was given comes back, the backup under its other name', () => {
    const shown = destinationOf(FULL)['ExtendedS3DestinationDescription'] as JsonRecord
    const { S3BackupConfiguration: backup, ...rest } = FULL
    expect(shown).toMatchObject(rest)
    expect(shown['S3BackupDescription']).toMatchObject(backup as JsonRecord)
    expect(shown).not.toHaveProperty('S3BackupConfiguration')
    const legacy = destinationOf(FULL)['S3DestinationDescription'] as JsonRecord
    expect(Object.keys(legacy).toSorted()).toEqual([
      'BucketARN', 'BufferingHints', 'CloudWatchLoggingOptions', 'CompressionFormat', 'EncryptionConfiguration', 'ErrorOutputPrefix', 'Prefix', 'RoleARN',
    ]) // prettier-ignore
  })
})

describe('spec → document', () => {
  test('a document, its spec, the document of that spec: the same pipeline', () => {
    for (const doc of [
      S3,
      FULL,
      { ...S3, CompressionFormat: 'Snappy', Prefix: 'x' },
      { ...S3, ...processing(['AppendDelimiterToRecord', { Delimiter: '\t\\' }]) },
    ]) {
      const spec = specOf('s', doc)
      const back = documentOf(spec, ACCOUNT)
      checkDestination(back)
      expect(specOf('s', back)).toEqual(spec)
    }
  })
  test('a pipeline of the configuration file, with what Firehose has no word for', () => {
    const spec = specOf('s', S3)
    const doc = documentOf(
      {
        ...spec,
        format: { type: 'ndjson', compression: 'zstd' },
        stages: { deaggregate: { type: 'delimited', delimiter: 'IyM=' }, decompress: true, extractMessages: true },
        sink: { ...spec.sink, type: 'file', options: { path: '/var/data/my bucket' } },
      },
      ACCOUNT,
    )
    expect(doc).toMatchObject({
      BucketARN: 'arn:aws:s3:::var-data-my-bucket',
      RoleARN: `arn:aws:iam::${ACCOUNT}:role/hydrant`,
      CompressionFormat: 'ZSTD',
      ProcessingConfiguration: {
        Enabled: true,
        Processors: [
          { Type: 'Decompression' },
          { Type: 'CloudWatchLogProcessing' },
          { Type: 'RecordDeAggregation', Parameters: parameters({ SubRecordType: 'DELIMITED', Delimiter: 'IyM=' }) },
          { Type: 'AppendDelimiterToRecord', Parameters: parameters({ Delimiter: String.raw`\n` }) },
        ],
      },
    })
  })
})

describe('rules that shapes cannot say', () => {
  const lambda = { LambdaArn: 'arn:aws:lambda:us-east-1:1:function:f' }
  const expression = { Prefix: '!{timestamp:yyyy}/' }
  test.each<[string, JsonRecord]>([
    ['ErrorOutputPrefix cannot be null or empty when Prefix contains expressions', expression],
    ['Prefix must not contain any occurrence of !{firehose:error-output-type}', { Prefix: '!{firehose:error-output-type}/' }],
    ['Invalid expression usage', { Prefix: '!{timestamp/' }],
    ['Namespace to the left of colon (x) is an invalid keyword!', { Prefix: '!{x:y}' }],
    ['Invalid conversion character used in the value of the expression in Prefix', { Prefix: '!{timestamp:C}', ErrorOutputPrefix: 'e/' }],
    ['Invalid conversion character used in the value of the expression in ErrorOutputPrefix', { ErrorOutputPrefix: '!{timestamp:C}' }],
    ['BufferingHints must have values for both SizeInMBs and IntervalInSeconds.', { BufferingHints: { SizeInMBs: 5 } }],
    ['S3BackupConfiguration is required when S3BackupMode is Enabled.', { S3BackupMode: 'Enabled' }],
    [
      'BufferingHints.IntervalInSeconds of an S3 backup must be at least 60.',
      { S3BackupConfiguration: { ...S3, BufferingHints: { SizeInMBs: 1, IntervalInSeconds: 59 } } },
    ],
    ['EncryptionConfiguration must have exactly one of NoEncryptionConfig and KMSEncryptionConfig.', { EncryptionConfiguration: {} }],
    ['LogGroupName and LogStreamName are required when CloudWatch logging is enabled.', { CloudWatchLoggingOptions: { Enabled: true } }],
    ['CustomTimeZone EST is not a supported time zone.', { CustomTimeZone: 'EST' }],
    ['CustomTimeZone Mars/Olympus is not a supported time zone.', { CustomTimeZone: 'Mars/Olympus' }],
    ['A maximum of 5 and a minimum of 1 processor needs to be supplied when processing is enabled.', processing()],
    ['Cannot have more than 1 Lambda processor.', processing(['Lambda', lambda], ['Lambda', lambda])],
    ['LambdaArn is required when Lambda processor is used.', processing(['Lambda', {}])],
    ['A Lambda processor is not supported by this server yet.', processing(['Lambda', lambda])],
    ['SubRecordType has to be one of JSON, DELIMITED', processing(['RecordDeAggregation', { SubRecordType: 'XML' }])],
    ['Delimiter should be present for DELIMITED', processing(['RecordDeAggregation', { SubRecordType: 'DELIMITED' }])],
    [
      'A RecordDeAggregation processor (it needs dynamic partitioning) is not supported by this server yet.',
      processing(['RecordDeAggregation', { SubRecordType: 'JSON' }]),
    ],
    ['MetaDataExtraction JSON Parsing Engine has to be one of JQ-1.6', processing(['MetadataExtraction', {}])],
    [
      'A MetadataExtraction processor (it needs dynamic partitioning) is not supported by this server yet.',
      processing(['MetadataExtraction', { JsonParsingEngine: 'JQ-1.6' }]),
    ],
    [
      'CloudWatchLogProcessingProcessor can only be enabled with DecompressionProcessor',
      processing(['CloudWatchLogProcessing', { DataMessageExtraction: 'true' }]),
    ],
    ['CompressionFormat of the Decompression processor has to be one of GZIP', processing(['Decompression', { CompressionFormat: 'ZIP' }])],
    [
      'DataMessageExtraction has to be one of true, false',
      processing(['Decompression', { CompressionFormat: 'GZIP' }], ['CloudWatchLogProcessing', { DataMessageExtraction: 'yes' }]),
    ],
    ['Parameter LambdaArn is not valid for the AppendDelimiterToRecord processor.', processing(['AppendDelimiterToRecord', lambda])],
    [
      'Cannot have more than 1 AppendDelimiterToRecord processor.',
      processing(['AppendDelimiterToRecord', {}], ['AppendDelimiterToRecord', {}]),
    ],
    [
      'Record format conversion (DataFormatConversionConfiguration) is not supported by this server yet.',
      { DataFormatConversionConfiguration: {} },
    ],
    [
      'Dynamic partitioning (DynamicPartitioningConfiguration) is not supported by this server yet.',
      { DynamicPartitioningConfiguration: { Enabled: true } },
    ],
  ])('%s', (message, change) => {
    expect(() => checkDestination({ ...S3, ...change })).toThrow(
      expect.objectContaining({ code: 'InvalidArgumentException', message }) as ApiError,
    )
  })
  test('a backup is checked like a destination', () => {
    expect(() => checkDestination({ ...S3, S3BackupConfiguration: { ...S3, ...expression } })).toThrow(/ErrorOutputPrefix cannot be null/)
  })
  test('disabled features may be named', () => {
    checkDestination({ ...S3, DataFormatConversionConfiguration: { Enabled: false }, DynamicPartitioningConfiguration: { Enabled: false } })
  })
})
