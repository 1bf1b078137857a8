import type { RecordBatch } from '../sdk/batch.ts'
import type { JsonObject, PipelineSpec } from './spec.ts'

export type StreamStatus = 'CREATING' | 'ACTIVE' | 'DELETING' | 'CREATING_FAILED'

/** What hydrant knows of a delivery stream: a Firehose API stream or a YAML pipeline. */
export interface DeliveryStreamInfo {
  readonly name: string
  readonly pipelineId: string
  readonly origin: 'api' | 'yaml'
  readonly status: StreamStatus
  /** '1' at creation, +1 per update. */
  readonly versionId: string
  readonly createdMs: number
  readonly updatedMs: number | null
  /** In key order. */
  readonly tags: Readonly<Record<string, string>>
  /** API: the merged ExtendedS3DestinationConfiguration as given; null for YAML (the document is made from the spec). */
  readonly document: JsonObject | null
  readonly spec: PipelineSpec
  readonly paused: boolean
}

/** Thrown by DeliveryStreams; the API turns codes into AWS's exceptions and words. */
export class ControlError extends Error {
  readonly code: 'exists' | 'not-found' | 'not-active' | 'version' | 'yaml-owned' | 'invalid' | 'conflict'
  constructor(code: ControlError['code'], message: string) {
    super(message)
    this.name = 'ControlError'
    this.code = code
  }
}

/** The control half that the Firehose API works against; implemented in pipeline/manager.ts. All changes are durable when they resolve. */
export interface DeliveryStreams {
  get(name: string): DeliveryStreamInfo | null
  /** All, by name. */
  list(): readonly DeliveryStreamInfo[]
  /** exists. Resolves when the stream is durable and its status is at least CREATING; it turns ACTIVE by itself. */
  create(c: { name: string; document: JsonObject; spec: PipelineSpec; tags: Readonly<Record<string, string>> }): Promise<DeliveryStreamInfo>
  /** not-found, version (versionId moved), not-active, yaml-owned. New spec for cuts from now on; versionId + 1. */
  update(name: string, expectedVersion: string, c: { document: JsonObject; spec: PipelineSpec }): Promise<DeliveryStreamInfo>
  /** not-found, yaml-owned, not-active (CREATING). Resolves once DELETING is durable; draining goes on behind it (force: discards at once). */
  delete(name: string, o: { force: boolean }): Promise<void>
  setTags(name: string, tags: Readonly<Record<string, string>>): Promise<void>
}

/** The data half: puts. Implemented in stream/streams.ts. */
export interface Ingest {
  /**
   * Appends to the stream's log, durable when it resolves. Rejects with AppendError, or with an error of code
   * `not-found`: no such stream takes puts here (the control half knows whether it is there).
   * Record i of the batch has position baseOffset + i of the shard.
   */
  put(
    name: string,
    batch: RecordBatch,
    signal: AbortSignal,
  ): Promise<{ topicId: string; shard: number; baseOffset: number; appendTimeMs: number }>
}

export interface LaneStatus {
  readonly shard: string
  readonly state: 'starting' | 'recovering' | 'running' | 'waiting' | 'stopped' | 'paused'
  readonly position: number
  readonly head: number
  readonly lagRecords: number
  readonly freshnessMs: number
  readonly openCuts: number
  /** Why it stopped or waits, and what to do. */
  readonly reason: string | null
}
export interface PipelineStatus {
  readonly name: string
  readonly pipelineId: string
  readonly origin: 'api' | 'yaml'
  readonly status: StreamStatus
  readonly paused: boolean
  readonly lineage: number
  readonly specHash: string
  readonly sink: string
  readonly lanes: readonly LaneStatus[]
}
export type ReplayFrom = { readonly position: number } | { readonly timestampMs: number } | 'earliest'

/** The operator's half (exactly-once step 13): admin API and `hydrant pipelines …`. Throws ControlError. */
export interface PipelineOperator {
  status(): Promise<readonly PipelineStatus[]>
  /** Lanes stop after their open cuts; the position is kept. */
  pause(name: string): Promise<void>
  resume(name: string): Promise<void>
  /** Puts a YAML pipeline's spec in force; force: also one that the registry says is older. */
  apply(name: string, o: { force: boolean }): Promise<{ specHash: string; changed: boolean }>
  /** Lineage + 1 and a new position in one commit, while the lane is stopped: everything from there is delivered again under new names. */
  replay(
    name: string,
    from: ReplayFrom,
    o: { shard?: string },
  ): Promise<{ lineage: number; shards: readonly { shard: string; from: number }[] }>
  /** After proving that no effect of the recorded cuts exists, forgets them; force: lineage + 1, and says what may double. */
  release(
    name: string,
    o: { force: boolean; shard?: string },
  ): Promise<{ shards: readonly { shard: string; released: number; message: string }[] }>
}
