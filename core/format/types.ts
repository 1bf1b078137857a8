import type { WorkBatch } from '../sdk/batch.ts'

export type Compression = 'none' | 'gzip' | 'zip' | 'snappy' | 'hadoop_snappy' | 'zstd'

/** How records become bytes. Part of a pipeline's identity. */
export interface FormatSpec {
  /** raw: values back to back, nothing added; ndjson: a newline after each value. */
  readonly type: 'raw' | 'ndjson'
  readonly compression: Compression
  /** gzip and zip 1-9, zstd 1-19; absent = 1. */
  readonly level?: number
  /** Base64; put *between* the records of an object, not after the last (AppendDelimiterToRecord, firehose.md §4.4). raw only. */
  readonly delimiter?: string
}

/**
 * Stored bytes of one object, in memory or spilled to a file; re-openable by range; release gives memory and file back, once. The memory
 * is used again by other objects: a reader that release overtakes is refused its next piece.
 */
export interface Body {
  readonly size: number
  /** CRC-32 (IEEE) of the stored bytes, base64 of 4 bytes big-endian. */
  readonly crc32: string
  /** Memory it holds now (0 when spilled). */
  readonly memoryBytes: number
  open(start?: number, end?: number): AsyncIterable<Uint8Array>
  /**
   * Somebody outside (a sink) begins to read; the returned function is called once it is certain that nothing of his looks at a piece any
   * more. While one is missing, release leaves the memory to the collector.
   */
  borrow(): () => void
  release(): Promise<void>
}

/** Where an encoder puts its output: memory while the budget gives it, then a spill file (core/pipeline/budget.ts implements it). */
export interface BodyWriter {
  /** Memory for a chunk; what stands in it is not defined. It goes to write(), all of it or its front, or to give(), or is dropped. */
  take(bytes: number): Uint8Array
  /** Takes back what take() gave: nobody may look at it any more. */
  give(chunk: Uint8Array): void
  /** Takes ownership of the chunk. Awaited before the next: back-pressure. */
  write(chunk: Uint8Array): Promise<void>
  finish(): Promise<Body>
  abort(): Promise<void>
}

/** One object being encoded. Calls are sequential. The batch's bytes may be released by the caller as soon as add() resolves. */
export interface Encoder {
  add(b: WorkBatch): Promise<void>
  /** Uncompressed bytes added so far, delimiters included: what `size` and splits count. */
  readonly bytes: number
  readonly records: number
  finish(): Promise<Body>
  abort(): Promise<void>
}

/** What an object's name and headers say about a compression (firehose.md §3.3). */
export interface CompressionInfo {
  readonly extension: string
  readonly contentEncoding: string | undefined
}
