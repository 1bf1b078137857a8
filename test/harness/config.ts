import type { Credentials } from './sigv4.ts'
import type { Stored } from './framings.ts'

/** What the suites vary; written out as the YAML that a user would write. */
export interface SinkConfig {
  readonly type: 's3' | 'file'
  /** file: folder, absolute. s3: bucket. */
  readonly target: string
  /** s3 only. */
  readonly endpoint?: string
  readonly credentials?: Credentials
  readonly prefix?: string
  readonly errorPrefix?: string
  readonly retry?: { readonly base?: string; readonly max?: string; readonly duration?: string }
  readonly timeout?: string
  readonly concurrency?: number
  /** The plugin's own keys. */
  readonly options?: Readonly<Record<string, string | number>>
}
export interface PipelineConfig {
  readonly name: string
  readonly shards?: number
  readonly format?: 'raw' | 'ndjson'
  readonly compression?: Stored
  readonly level?: number
  readonly size?: string
  readonly interval?: string
  readonly decompress?: boolean
  readonly sink: SinkConfig
  readonly backup?: { readonly records: 'all' | 'rejected'; readonly sink: SinkConfig }
}
export interface DaemonConfig {
  readonly pipelines: readonly PipelineConfig[]
  readonly memory?: string
  readonly drain?: string
  readonly keys?: Credentials
  /** Where the buckets of API calls live. */
  readonly buckets?: SinkConfig
  readonly connections?: number
}

function sinkBlock(s: SinkConfig): object {
  return {
    type: s.type,
    ...(s.type === 'file' ? { path: s.target } : { bucket: s.target, ...s3Place(s) }),
    prefix: s.prefix ?? 'objects/!{timestamp:yyyy}/',
    error_prefix: s.errorPrefix ?? 'errors/!{firehose:error-output-type}/',
    retry: { base: '5ms', max: '500ms', ...s.retry },
    timeout: s.timeout ?? '10s',
    ...(s.concurrency === undefined ? {} : { concurrency: s.concurrency }),
    ...s.options,
  }
}

function s3Place(s: SinkConfig): object {
  return {
    ...(s.endpoint === undefined ? {} : { endpoint: s.endpoint }),
    ...(s.credentials === undefined ? {} : { credentials: { access_key: s.credentials.accessKey, secret_key: s.credentials.secretKey } }),
  }
}

/** A configuration file. JSON is YAML. */
export function daemonYaml(c: DaemonConfig, ports: { api: number; admin: number }): string {
  const api = {
    listen: `127.0.0.1:${ports.api}`,
    ...(c.keys ? { auth: 'sigv4', keys: [{ access_key: c.keys.accessKey, secret_key: c.keys.secretKey }] } : {}),
  }
  const pipelines = Object.fromEntries(
    c.pipelines.map((p) => [
      p.name,
      {
        source: { direct_put: { shards: p.shards ?? 1 } },
        ...(p.decompress === true ? { decompress: true } : {}),
        format: { type: p.format ?? 'raw', compression: p.compression ?? 'none', ...(p.level === undefined ? {} : { level: p.level }) },
        buffer: { size: p.size ?? '1MiB', interval: p.interval ?? '200ms' },
        sink: sinkBlock(p.sink),
        ...(p.backup
          ? {
              backup: {
                records: p.backup.records,
                sink: sinkBlock(p.backup.sink),
                ...(p.backup.records === 'all' ? { buffer: { size: '1MiB', interval: '200ms' } } : {}),
              },
            }
          : {}),
      },
    ]),
  )
  const buckets = c.buckets && {
    default: c.buckets.type === 'file' ? { path: c.buckets.target } : s3Place(c.buckets),
  }
  return JSON.stringify(
    {
      log: { type: 'embedded', path: './data' },
      api,
      admin: { listen: `127.0.0.1:${ports.admin}` },
      limits: {
        profile: 'none',
        memory: c.memory ?? '64MiB',
        free_disk: '16MiB',
        ...(c.connections ? { connections: c.connections } : {}),
      },
      drain_timeout: c.drain ?? '30s',
      ...(buckets ? { buckets } : {}),
      pipelines,
    },
    null,
    2,
  )
}
