import type { ApiError } from '../errors.ts'
import type { HeadNames } from '../head-names.ts'

/** Of every request and answer (JSON 1.1 of the AWS protocols). */
export const JSON_TYPE = 'application/x-amz-json-1.1'

/** The answer to one request, before it is put into the words of its protocol. */
export interface Answer {
  readonly status: number
  readonly requestId: string
  /** JSON, as text or as its bytes. */
  readonly body: string | Uint8Array
  /** Set for refusals: their code and Retry-After are headers. */
  readonly error: ApiError | undefined
  /** The connection ends with this answer (HTTP/1.1; on HTTP/2 it is left open). */
  readonly close: boolean
}

/**
 * One request on its connection, as its exchange sees it. Two kinds: HTTP/1.1 (`http1.ts`, our own) and HTTP/2 (`http2.ts`, Node's).
 * The exchange calls `receive` once it wants the body, or never; `answer` once, before or after the body is complete.
 */
export interface Wire {
  readonly method: string
  /** As sent: path and query. */
  readonly url: string
  readonly names: HeadNames
  /** values[i] belongs to name i. */
  readonly values: readonly string[]
  /** The reader takes the body from now on. A client that waits to be asked (Expect: 100-continue) is asked. */
  receive(): void
  /** What still comes of the body is thrown away, up to limits.httpDiscardBytes: the client must see the answer, not a reset. */
  answer(a: Answer): void
}

/** Who reads a body: the exchange. Called by the wire, in this order: start, (room, filled | chunk)*, ended; `gone` at any time, once. */
export interface BodyReader {
  /** The wire is ready to be called. */
  start(): void
  /** Memory for the next bytes of the body, where they may be read into at once; null = call `chunk`. Never longer than what is left. */
  room(): Uint8Array | null
  /** So many bytes now stand in what `room` gave. */
  filled(bytes: number): void
  /** Good until the call returns. */
  chunk(bytes: Uint8Array): void
  ended(): void
  /** The answer is out of our hands, or the client went away. */
  gone(): void
}
