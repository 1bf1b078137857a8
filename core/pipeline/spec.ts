import type { FormatSpec } from '../format/types.ts'
import type { SinkSpec } from '../delivery/types.ts'

export type Json = null | boolean | number | string | readonly Json[] | { readonly [k: string]: Json | undefined }
export type JsonObject = { readonly [k: string]: Json | undefined }

export type SourceSpec =
  /** A Firehose delivery stream: its own log. */
  | { readonly type: 'direct_put'; readonly shards: number; readonly onGap?: 'stop' | 'skip' }
  /** A hydrant stream of that name. */
  | { readonly type: 'stream'; readonly stream: string; readonly start: 'earliest' | 'latest' }

/** De-aggregation of several records in one (firehose.md §6.4). Delimiter base64. */
export type DeaggregateSpec = { readonly type: 'json' } | { readonly type: 'delimited'; readonly delimiter: string }

export interface StagesSpec {
  readonly deaggregate: DeaggregateSpec | null
  /** gunzip every record (CloudWatch Logs). */
  readonly decompress: boolean
  /** Replace a CloudWatch Logs envelope by its messages; needs decompress. */
  readonly extractMessages: boolean
}
export interface BufferSpec {
  /** Uncompressed bytes that end a cut. */
  readonly sizeBytes: number
  readonly intervalMs: number
}
/** One delivery pipeline, from YAML or from a Firehose document. Everything a lane needs. */
export interface PipelineSpec {
  readonly name: string
  readonly source: SourceSpec
  readonly stages: StagesSpec
  readonly format: FormatSpec
  readonly buffer: BufferSpec
  readonly sink: SinkSpec
  /** Where rejected records go, in Firehose's error format, under this sink's errorPrefix; null = the sink itself. */
  readonly rejects: SinkSpec | null
  /** Backup of *all* source records: a second pipeline of the same source. */
  readonly backup: { readonly format: FormatSpec; readonly buffer: BufferSpec; readonly sink: SinkSpec } | null
}
