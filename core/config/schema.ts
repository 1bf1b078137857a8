import { z } from 'zod'
import { limits } from '../limits.ts'
import { duration, orReference, size } from './units.ts'

const KiB = 1024
const MiB = 1024 * KiB
const GiB = 1024 * MiB
const HOUR = 3_600_000
const DAY = 24 * HOUR

/** A text with a pattern; `allowed` ends the sentence "got …; expected …". */
function text(pattern: RegExp, expected: string): z.ZodString {
  return z
    .string()
    .regex(pattern, { error: `expected ${expected}` })
    .meta({ pattern: orReference(pattern) })
}
const listen = text(/^(\[[0-9a-fA-F:.]+\]|[0-9A-Za-z.-]+):\d{1,5}$/, 'host:port, such as 127.0.0.1:4580 or [::1]:4580')
const path = z.string().min(1)

const log = z
  .discriminatedUnion('type', [
    z.strictObject({
      type: z.literal('embedded').meta({ description: 'The log inside hydrant: one folder, nothing else to install.' }),
      path: path.prefault('./data').meta({ description: 'Folder of the log. One daemon at a time; not on a network file system.' }),
      linger: duration({ min: 0, max: 1_000 }).prefault(`${limits.logLingerMs}ms`).meta({
        description: 'How long a put waits at most for others that are likely to come, to share one write to the disk.',
      }),
    }),
  ])
  .prefault({ type: 'embedded' })
  .meta({ description: 'Where records are kept until they are delivered.' })

const key = z.strictObject({
  access_key: text(/^\w{4,128}$/, '4 to 128 letters, digits or _').meta({ description: 'Access key id that clients sign with.' }),
  secret_key: z.string().min(8).meta({ description: 'Its secret. Best a reference: ${env:NAME} or ${file:/path}.', secret: true }),
  allow: z
    .array(text(/^(\*|(kinesis|firehose):[A-Za-z*]+)$/, 'service:Operation with *, such as firehose:PutRecord*'))
    .min(1)
    .prefault(['*'])
    .meta({ description: 'Operations it may call.' }),
  streams: z
    .array(text(/^[\w.*-]{1,64}$/, 'a stream name with *'))
    .min(1)
    .prefault(['*'])
    .meta({ description: 'Streams it may use.' }),
})
const api = z
  .strictObject({
    listen: listen.prefault('127.0.0.1:4580').meta({ description: 'Address of the AWS API. Off loopback it needs auth.' }),
    auth: z
      .enum(['none', 'sigv4'])
      .prefault('none')
      .meta({ description: 'none: anybody who reaches the port; sigv4: requests signed by one of `keys`.' }),
    keys: z.array(key).prefault([]).meta({ description: 'Who may sign requests.' }),
    region: text(/^[a-z0-9-]{1,32}$/, 'an AWS region name')
      .prefault('us-east-1')
      .meta({ description: 'Region in ARNs and signatures.' }),
    account: z
      .string({ error: (i) => (i.code === 'invalid_type' ? 'expected 12 digits in quotes' : undefined) })
      .regex(/^\d{12}$/, { error: 'expected 12 digits in quotes' })
      .prefault('000000000000')
      .meta({ description: 'Account id in ARNs.' }),
    allow_unauthenticated: z.boolean().prefault(false).meta({ description: 'true: an open port off loopback is meant.' }),
    tls: z
      .strictObject({
        cert: path.meta({ description: 'PEM file: certificate, then its chain.' }),
        key: path.meta({ description: 'PEM file: private key.' }),
      })
      .optional()
      .meta({ description: 'Serve TLS. Left out: plain text. Files that change are taken within a minute, or on SIGHUP.' }),
    replay_cache: z.boolean().prefault(false).meta({ description: 'Refuse a signature that was used before.' }),
  })
  .prefault({})
  .meta({ description: 'The AWS front door.' })

const limitsSection = z
  .strictObject({
    profile: z.enum(['aws-2026', 'aws-2020', 'none']).prefault('aws-2026').meta({
      description: "Ranges that are checked: today's AWS (buffer 1-128 MiB, 0-900 s), that of 2020 (60-900 s), or none of AWS's.",
    }),
    memory: size({ min: 16 * MiB, max: 1024 * GiB })
      .prefault('256MiB')
      .meta({ description: 'Bytes that all pipelines together may buffer; beyond it they read slower.' }),
    free_disk: size({ min: 0, max: 1024 * GiB })
      .prefault('1GiB')
      .meta({ description: 'Below so much free disk puts get a retriable error; reading and delivery go on.' }),
    delivery_streams: z
      .int()
      .min(1)
      .max(100_000)
      .prefault(limits.deliveryStreams)
      .meta({ description: 'Delivery streams that API calls may create.' }),
    connections: z.int().min(1).max(100_000).prefault(limits.httpConnections).meta({ description: 'Open connections to the API.' }),
  })
  .prefault({})
  .meta({ description: 'Bounds that can be changed.' })

export const FORMAT_TYPES = ['raw', 'ndjson'] as const
export const COMPRESSIONS = ['none', 'gzip', 'zip', 'snappy', 'hadoop_snappy', 'zstd'] as const
const format = z
  .strictObject({
    type: z
      .enum(FORMAT_TYPES)
      .prefault('raw')
      .meta({ description: 'raw: records back to back, nothing added; ndjson: a newline after each record.' }),
    compression: z.enum(COMPRESSIONS).prefault('none').meta({ description: 'Of each object as a whole.' }),
    level: z.int().min(1).max(19).optional().meta({ description: 'gzip, zip: 1-9; zstd: 1-19. Left out: 1, the fastest.' }),
    delimiter: z
      .string()
      .min(1)
      .max(128)
      .optional()
      .meta({ description: 'Only raw: text put between the records of an object, not after the last.' }),
  })
  .prefault({})
  .meta({ description: 'How records become the bytes of an object.' })
const buffer = z
  .strictObject({
    size: size({ min: 1, max: 5 * GiB })
      .prefault('5MiB')
      .meta({ description: 'Uncompressed bytes that end a batch. 1MiB to 128MiB, unless limits.profile is none.' }),
    interval: duration({ min: 0, max: DAY })
      .prefault('300s')
      .meta({ description: 'Time that ends a batch. 0s to 900s, unless limits.profile is none.' }),
  })
  .prefault({})
  .meta({ description: 'When a batch is cut: whichever comes first.' })

/** What core takes out of a sink's block before the plugin's schema sees the rest. */
export const sinkShape = {
  prefix: z.string().max(limits.prefixChars).prefault('').meta({
    description:
      'Start of object names, with !{timestamp:…} and !{firehose:random-string}. Empty, or without an expression: yyyy/MM/dd/HH/ follows.',
  }),
  error_prefix: z
    .string()
    .max(limits.prefixChars)
    .prefault('')
    .meta({ description: 'The same for rejected records; !{firehose:error-output-type} is required if it has any expression.' }),
  file_extension: text(/^(\.[0-9a-z!\-_.*'()]{1,127})?$/, "a dot, then 1 to 127 of a-z, 0-9 and !-_.*'()")
    .prefault('')
    .meta({ description: "End of object names, in place of the compression's own." }),
  time_zone: z.string().min(1).max(50).prefault('UTC').meta({ description: 'Time zone of timestamps in names.' }),
  retry: z
    .strictObject({
      duration: duration({ min: 0, max: 365 * DAY })
        .optional()
        .meta({
          description:
            'After so long a batch is given up to the backup, as soon as it is known that the sink does not have it. Left out: never, the pipeline waits.',
        }),
      base: duration({ min: 1, max: HOUR })
        .prefault(`${limits.retryBaseMs}ms`)
        .meta({ description: 'First wait; it doubles, with full jitter.' }),
      max: duration({ min: 1, max: HOUR })
        .prefault(`${limits.retryMaxMs / 1000}s`)
        .meta({ description: 'Longest wait.' }),
    })
    .prefault({})
    .meta({ description: 'What happens after a failed attempt.' }),
  timeout: duration({ min: 1, max: HOUR })
    .prefault(`${limits.attemptMs / 1000}s`)
    .meta({ description: 'Time for one attempt.' }),
  concurrency: z
    .int()
    .min(1)
    .max(1_000)
    .prefault(limits.sinkConcurrency)
    .meta({ description: 'Attempts at the same time, all shards of the pipeline together.' }),
} as const
const type = z.string().min(1).meta({ description: 'file, s3, or the package of a plugin named under `plugins`.' })
/** A sink's block with the plugin's own keys still in it. */
export const anySink = z.looseObject({ type, ...sinkShape })
export const anyBucket = z.looseObject({ type: type.optional() })

const source = z
  .strictObject({
    direct_put: z
      .strictObject({
        shards: z
          .int()
          .min(1)
          .max(limits.shards)
          .prefault(1)
          .meta({ description: 'Parallel lanes. Each makes its own objects; order holds within one.' }),
      })
      .meta({ description: 'A Firehose delivery stream of this name: PutRecord and PutRecordBatch write to it.' }),
  })
  .meta({ description: 'Where records come from.' })
const deaggregate = z
  .union([
    z.literal('json').meta({ description: 'JSON values one after the other.' }),
    z.strictObject({ delimiter: z.string().min(1).max(128).meta({ description: 'The text between records.' }) }),
  ])
  .optional()
  .meta({ description: 'Split a record that holds several: json, or {delimiter: text}.' })

function pipelineSchema<S extends z.ZodType>(sink: S) {
  return z.strictObject({
    source,
    deaggregate,
    decompress: z.boolean().prefault(false).meta({ description: 'Gunzip each record (CloudWatch Logs).' }),
    extract_messages: z
      .boolean()
      .prefault(false)
      .meta({ description: 'Replace a CloudWatch Logs envelope by its messages; needs decompress: true.' }),
    format,
    buffer,
    sink: sink.meta({ description: 'Where objects go. `type` picks the plugin.' }),
    backup: z
      .strictObject({
        records: z
          .enum(['rejected', 'all'])
          .prefault('rejected')
          .meta({ description: 'rejected: records that cannot be delivered; all: also every record as it came in.' }),
        format: format
          .unwrap()
          .optional()
          .meta({ description: 'Of all records; only with records: all. Rejected records are JSON lines.' }),
        buffer: buffer.unwrap().optional().meta({ description: 'Of all records; only with records: all.' }),
        sink: sink.meta({ description: 'Where they go; rejected records under its error_prefix.' }),
      })
      .optional()
      .meta({
        description: 'A second place, for rejected or for all records. Left out: rejected records go to the sink, under error_prefix.',
      }),
  })
}

/** The whole file. `sink` and `bucket` are the blocks of plugins: loose for the first pass, exact for docs and JSON Schema. */
export function configSchema<S extends z.ZodType, B extends z.ZodType>(sink: S, bucket: B) {
  const name = text(/^[\w.-]{1,64}$/, 'a name of 1 to 64 letters, digits, _ . -')
  return z
    .strictObject({
      log,
      api,
      limits: limitsSection,
      drain_timeout: duration({ min: 0, max: HOUR })
        .prefault(`${limits.drainMs / 1000}s`)
        .meta({ description: 'On SIGTERM, and while a delivery stream is deleted: how long delivery may go on.' }),
      buckets: z.record(z.string(), bucket).prefault({}).meta({
        description:
          'Where the bucket of an API call lives, by name; `default` for all others. {path: folder}, {endpoint: url}, or {type: s3} for AWS.',
      }),
      admin: z
        .strictObject({
          listen: listen
            .prefault('127.0.0.1:4581')
            .meta({ description: 'Address of health, metrics and the admin API; the admin API answers loopback only.' }),
        })
        .prefault({})
        .meta({ description: "The operator's port." }),
      pipelines: z
        .record(name, pipelineSchema(sink))
        .prefault({})
        .meta({ description: 'Delivery pipelines, by name. Each shows as a Firehose delivery stream.' }),
      plugins: z
        .array(
          z.strictObject({
            package: text(/^(@[a-z0-9][\w.-]*\/)?[a-z0-9][\w.-]*$/, 'the name of an npm package').meta({
              description: 'npm package that default-exports a sink plugin. Install it yourself.',
            }),
            version: z
              .string({ error: (i) => (i.code === 'invalid_type' ? 'expected an exact version in quotes, such as "1.4.2"' : undefined) })
              .regex(/^\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?$/, { error: 'expected an exact version, such as 1.4.2' })
              .meta({ description: 'Exact version; another one installed is an error.' }),
          }),
        )
        .prefault([])
        .meta({ description: 'Third-party plugins.' }),
    })
    .meta({ description: 'hydrant configuration' })
}
export const firstPass = configSchema(anySink, anyBucket)
export type RawConfig = z.output<typeof firstPass>
export type RawPipeline = RawConfig['pipelines'][string]
export type RawSink = z.output<typeof anySink>
