import type { AnySinkPlugin } from '../sdk/sink.ts'
import type { PipelineSpec } from '../pipeline/spec.ts'

/** One thing that is wrong (or doubtful, as a warning) in a configuration file. Line and column count from 1. */
export interface ConfigIssue {
  readonly line: number
  readonly column: number
  /** Keys joined by dots, such as `pipelines.events.sink.bucket`; '' = the file as a whole. */
  readonly path: string
  /** What is wrong, the value (never a secret's), what is allowed. */
  readonly message: string
}

export interface Listen {
  /** As in the file, without brackets around an IPv6 address. */
  readonly host: string
  /** 0 = any free port. */
  readonly port: number
  /** Only this machine can reach it: 127.0.0.0/8, ::1, localhost. */
  readonly loopback: boolean
}
export interface ApiKey {
  readonly accessKey: string
  readonly secretKey: string
  /** `service:Operation` patterns with `*`. */
  readonly allow: readonly string[]
  /** Stream names with `*`. */
  readonly streams: readonly string[]
}
export interface ApiConfig {
  readonly listen: Listen
  readonly auth: 'none' | 'sigv4'
  readonly keys: readonly ApiKey[]
  readonly region: string
  readonly account: string
  readonly allowUnauthenticated: boolean
  /** PEM files, absolute paths; null = plain text. */
  readonly tls: { readonly cert: string; readonly key: string } | null
  /** Refuses a signature that was seen before, inside the clock-skew window. */
  readonly replayCache: boolean
}
export interface EmbeddedLogConfig {
  readonly type: 'embedded'
  /** Absolute. */
  readonly path: string
  readonly lingerMs: number
}
export type Profile = 'aws-2026' | 'aws-2020' | 'none'
export interface LimitsConfig {
  readonly profile: Profile
  readonly memoryBytes: number
  readonly freeDiskBytes: number
  readonly deliveryStreams: number
  readonly connections: number
}
/** Where the bucket of an API call lives: a sink without its bucket's name. `options` is what the plugin's schema validated. */
export interface BucketConfig {
  readonly type: string
  readonly options: Readonly<Record<string, unknown>>
}
export interface DeclaredPlugin {
  readonly package: string
  /** Exact, such as 1.4.2. */
  readonly version: string
}
export interface Config {
  /** Absolute path of the file, and its folder: relative paths in it start there. */
  readonly file: string
  readonly baseDir: string
  readonly log: EmbeddedLogConfig
  readonly api: ApiConfig
  readonly limits: LimitsConfig
  readonly drainMs: number
  /** By bucket name, and `default` for all others: read through bucketTarget(). */
  readonly buckets: Readonly<Record<string, BucketConfig>>
  readonly admin: { readonly listen: Listen }
  readonly pipelines: readonly PipelineSpec[]
  readonly plugins: readonly DeclaredPlugin[]
  /** Legal, but probably not meant. */
  readonly warnings: readonly ConfigIssue[]
}

export interface LoadedPlugin {
  /** What `type` says in a sink. */
  readonly type: string
  readonly package: string
  readonly version: string
  readonly plugin: AnySinkPlugin<unknown>
}
/** Finds, checks and loads sink plugins; core/plugin/registry.ts implements it. */
export interface PluginRegistry {
  /** Sink types that come with hydrant. */
  readonly builtIn: readonly string[]
  /** What the `plugins:` section names; called by loadConfig before any resolve. Replaces the list before. */
  declare(plugins: readonly DeclaredPlugin[]): void
  /** Loads once a type. Rejects with ConfigError: not found, not declared, other version, not a plugin. */
  resolve(type: string): Promise<LoadedPlugin>
}
