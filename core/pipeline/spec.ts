import type { FormatSpec } from '../format/types.ts'
import type { SinkSpec } from '../delivery/types.ts'
import type { StagesSpec } from '../transform/spec.ts'

export type { DeaggregateSpec, StagesSpec } from '../transform/spec.ts'

export type Json = null | boolean | number | string | readonly Json[] | { readonly [k: string]: Json | undefined }
export type JsonObject = { readonly [k: string]: Json | undefined }

export type SourceSpec =
  /** A Firehose delivery stream: its own log. */
  | { readonly type: 'direct_put'; readonly shards: number; readonly onGap?: 'stop' | 'skip' }
  /** A hydrant stream of that name. */
  | { readonly type: 'stream'; readonly stream: string; readonly start: 'earliest' | 'latest' }

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
