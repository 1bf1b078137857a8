import type { ZodType, z as zod } from 'zod'
import type { WorkBatch } from './batch.ts'
import type { ConfigError, PermanentError, RetryableError } from './errors.ts'
import type { Host } from './host.ts'

export interface Logger {
  debug(fields: object, message: string): void
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
  error(fields: object, message: string): void
}

/** What a sink is told about one attempt. Made by core/delivery, one per attempt. */
export interface AttemptContext {
  /** Aborted at the attempt's deadline, when the lease ends, and on shutdown. Nothing is sent after it: core counts on that when it gives a cut up. */
  readonly signal: AbortSignal
  /** 1 for the first. */
  readonly attempt: number
  /** The cut was recorded by an earlier life of the lane: the sink aborts old uploads of its key before its first upload. */
  readonly recovered: boolean
  readonly cut: {
    readonly pipelineId: string
    readonly lineage: number
    readonly topicId: string
    readonly stream: string
    readonly shard: string
    readonly start: number
    readonly end: number
  }
  /**
   * Awaited directly before each call that makes something visible: waits for its turn (order of first effects), checks the lease, throws
   * LeaseLostError. An attempt that fails before it has resolved is known to have left nothing behind.
   */
  effect(): Promise<void>
  /** Names a step for fault tests; resolves at once in production. `object.put|create|part|complete`, `verify`, `.before` / `.after`. */
  failpoint(point: string): Promise<void>
  readonly log: Logger
}

/** One object to be stored. `open` may be called again for every attempt and range. */
export interface OutObject {
  readonly key: string
  /** uuid5 that names the effect: never of the cut's end. */
  readonly token: string
  /** Bytes of the body as stored (after compression). */
  readonly size: number
  readonly records: number
  readonly contentType: string
  readonly contentEncoding?: string
  /** end, records, d (digest), o (outcome), spec, token: ASCII, keys lower case. */
  readonly metadata: Readonly<Record<string, string>>
  /** CRC-32 (IEEE) of the whole body, base64 of 4 bytes big-endian: what S3 calls ChecksumCRC32. */
  readonly crc32: string
  /**
   * The pieces are for reading only, and until the put that opened them has settled: once it has created the object, other objects
   * are made of their memory.
   */
  open(start?: number, end?: number): AsyncIterable<Uint8Array>
}
export interface Stored {
  readonly location: string
  readonly size: number
  /** {} where the store kept none (a copy tool dropped it). */
  readonly metadata: Readonly<Record<string, string>>
  /**
   * Only an intent stands there, no bytes (file sink: the sidecar of an attempt that died before its link). Its metadata
   * binds like that of an object: adopt it or stop; after adopting put again, which then creates the object.
   */
  readonly intent?: true
}

/** S3, file. */
export interface ObjectSink {
  /**
   * Creates the object if its key is free, never overwrites. `existed` = what stands there when it was not free (412, EEXIST). Rejects
   * with `applied: 'no'` only where the object certainly does not stand there because of this call, and will not (see Applied).
   */
  put(o: OutObject, c: AttemptContext): Promise<{ location: string; existed: Stored | null }>
  head(key: string, c: AttemptContext): Promise<Stored | null>
  read(key: string, c: AttemptContext): AsyncIterable<Uint8Array>
  /**
   * Aborts unfinished uploads of this key; called by the lease holder only, also before it asks whether the object of a cut that is to be
   * given up exists: an upload that was aborted cannot be completed any more. Resolves with how many.
   */
  abortUploads(key: string, c: AttemptContext): Promise<number>
  /** hydrant check --probe: reach the target and report what endangers the promise. Optional. */
  probe?(signal: AbortSignal): Promise<readonly { level: 'ok' | 'warning' | 'error'; message: string }[]>
  close(): Promise<void>
}

/** Redshift: staged objects, one transaction for all of `work`. */
export interface LoadWork {
  readonly ledgerKey: string
  readonly start: number
  readonly end: number
  readonly recordedEnds: readonly number[]
  readonly staged: readonly { location: string; size: number; records: number }[]
  readonly context: AttemptContext
}
export interface LoadSink {
  prepare(ledgerKey: string, start: number): Promise<void>
  position(ledgerKey: string): Promise<number | null>
  load(work: readonly LoadWork[]): Promise<readonly ('loaded' | 'already')[]>
  close(): Promise<void>
}

/** OpenSearch, HTTP, Splunk. */
export interface OutBatch {
  readonly token: string
  readonly records: WorkBatch
  id(index: number): string
}
export interface WriteResult {
  readonly rejected: readonly { index: number; code: string; message: string }[]
  /** In neither list = delivered; a sink of unit 'batch' retries all or nothing. */
  readonly retry: readonly number[]
}
export interface RecordSink {
  write(b: OutBatch, c: AttemptContext): Promise<WriteResult>
  close(): Promise<void>
}

/** The SDK as a plugin gets it: an argument, so that a plugin needs only types and two copies can never disagree. */
export interface PluginKit {
  readonly z: typeof zod
  /** A string schema marked secret: scrubbed from every output. */
  readonly secret: () => ZodType<string>
  /** A size with its unit in the value (`8MiB`) or a plain number; output: bytes. */
  readonly bytes: () => ZodType<number, string | number>
  /** A duration with its unit in the value (`30s`) or a plain number; output: milliseconds. */
  readonly duration: () => ZodType<number, string | number>
  /** The same items, but rejects with the signal's reason as soon as it aborts, also while the source hangs: for bodies. */
  readonly untilAborted: <T>(source: AsyncIterable<T>, signal: AbortSignal) => AsyncIterable<T>
  readonly RetryableError: typeof RetryableError
  readonly PermanentError: typeof PermanentError
  readonly ConfigError: typeof ConfigError
}
export interface SinkContext {
  readonly host: Host
  readonly log: Logger
  readonly pipelineId: string
  /** Bytes a sink may hold for one upload (parts in flight). */
  readonly memory: number
  /** Folder that relative paths in the options start from. */
  readonly baseDir: string
}
export interface SinkLimits {
  readonly maxBytes: number
  readonly maxRecords: number
  readonly concurrency: number
  readonly unit: 'batch' | 'record'
}
interface SinkPluginBase<O> {
  readonly name: string
  readonly guarantee: 'exactly-once' | 'at-least-once'
  /** true: core delivers one cut at a time. */
  readonly ordered: boolean
  readonly summary: string
  readonly options: ZodType<O>
  /** The part of the options that says *where* (bucket, index, table): it belongs to the spec's identity; the rest is transport. */
  target(options: O): Readonly<Record<string, string>>
  limits(options: O): SinkLimits
}
export interface ObjectSinkPlugin<O> extends SinkPluginBase<O> {
  readonly kind: 'object'
  /** No I/O: it starts with the first put. */
  create(options: O, context: SinkContext): ObjectSink
}
export interface RecordSinkPlugin<O> extends SinkPluginBase<O> {
  readonly kind: 'record'
  create(options: O, context: SinkContext): RecordSink
}
export interface LoadSinkPlugin<O> extends SinkPluginBase<O> {
  readonly kind: 'load'
  create(options: O, context: SinkContext): LoadSink
}
export type AnySinkPlugin<O> = ObjectSinkPlugin<O> | RecordSinkPlugin<O> | LoadSinkPlugin<O>
/** What a plugin package default-exports. */
export type SinkPlugin<O = unknown, P extends AnySinkPlugin<O> = AnySinkPlugin<O>> = (kit: PluginKit) => P
