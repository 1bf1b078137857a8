/** The few calls that the sink makes, so that a fake can stand in for the store. `aws.ts` has the real one. */

export interface Found {
  readonly size: number
  readonly metadata: Readonly<Record<string, string>>
}
export interface Headers {
  readonly contentType: string
  readonly contentEncoding?: string
  readonly metadata: Readonly<Record<string, string>>
}
export interface Part {
  readonly number: number
  readonly etag: string
  /** Base64; as sent. */
  readonly crc32?: string
}
export interface Upload {
  readonly key: string
  readonly uploadId: string
}
export interface LifecycleRule {
  readonly id: string
  readonly prefix: string
  /** Objects are removed after so many days. */
  readonly expireDays?: number
  /** Objects are removed on a fixed day. */
  readonly expireDate?: string
  readonly abortUploadsDays?: number
}

/**
 * One store and bucket. Every call is one request, without retry, and rejects with S3Failure. `signal` ends it.
 * `conditional`: If-None-Match: * goes along. Checksums are base64 CRC-32; undefined = none is sent.
 */
export interface S3Api {
  put(
    key: string,
    body: Uint8Array,
    o: Headers & { crc32?: string; conditional: boolean },
    signal: AbortSignal,
  ): Promise<{ crc32?: string }>
  head(key: string, signal: AbortSignal): Promise<Found>
  get(key: string, o: { first?: true }, signal: AbortSignal): Promise<AsyncIterable<Uint8Array>>
  /** fullObject: the store will compare Complete's checksum with the whole body. */
  create(key: string, o: Headers & { checksum: boolean }, signal: AbortSignal): Promise<{ uploadId: string; fullObject: boolean }>
  part(u: Upload, number: number, body: Uint8Array, crc32: string | undefined, signal: AbortSignal): Promise<Part>
  complete(u: Upload, parts: readonly Part[], o: { crc32?: string; conditional: boolean }, signal: AbortSignal): Promise<void>
  abort(u: Upload, signal: AbortSignal): Promise<void>
  listUploads(prefix: string, after: Upload | null, signal: AbortSignal): Promise<{ uploads: readonly Upload[]; next: Upload | null }>
  remove(key: string, signal: AbortSignal): Promise<void>
  reach(signal: AbortSignal): Promise<void>
  lifecycle(signal: AbortSignal): Promise<readonly LifecycleRule[]>
  /** Credentials are asked for again with the next call; calls that run go on. */
  refresh(): void
  close(): void
}

export type Operation = 'put' | 'head' | 'get' | 'create' | 'part' | 'complete' | 'abort' | 'list' | 'delete' | 'reach' | 'lifecycle'

/** One request that did not succeed, in the store's words. */
export class S3Failure extends Error {
  readonly operation: Operation
  /** HTTP status as received; undefined = no answer. */
  readonly status: number | undefined
  /** S3's error code, else the name of a system error. */
  readonly code: string
  /** unknown: the store may have done it all the same (answer lost, unreadable, or an error inside a 200). */
  readonly outcome: 'refused' | 'unknown'
  readonly retryAfterMs: number | undefined
  constructor(
    operation: Operation,
    o: { status?: number; code: string; message: string; outcome: 'refused' | 'unknown'; retryAfterMs?: number; cause?: unknown },
  ) {
    super(o.message, { cause: o.cause })
    this.name = 'S3Failure'
    this.operation = operation
    this.status = o.status
    this.code = o.code
    this.outcome = o.outcome
    this.retryAfterMs = o.retryAfterMs
  }
}
