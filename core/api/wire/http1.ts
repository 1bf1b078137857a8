import { limits } from '../../limits.ts'
import { ApiError } from '../errors.ts'
import { headNames, type HeadNames } from '../head-names.ts'
import { ChunkReader } from './chunks.ts'
import { parseHead, type Head } from './head.ts'
import { JSON_TYPE, type Answer, type BodyReader, type Wire } from './wire.ts'

/** The connection under an HTTP/1.1 wire. */
export interface Pipe {
  /** Calls back when the bytes are out of our hands. */
  write(text: string, encoding: 'latin1', written?: () => void): void
  write(bytes: Uint8Array, written?: () => void): void
  /** Nothing more is written. */
  end(): void
  /** No bytes come until resume. */
  pause(): void
  resume(): void
  destroy(): void
}

/** What the connections of a front door share. */
export interface Http1Shared {
  /** Monotonic ms of the last sweep: as exact as time-outs of seconds need it. */
  now(): number
  /** The value of a Date field, of this second. */
  date(): string
  newRequestId(): string
  /** A request's head is complete; who will read its body. The wire starts it. */
  begin(wire: Wire): BodyReader
  readonly bounds: { readonly httpIdleMs: number; readonly httpHeadersMs: number; readonly httpRequestMs: number }
}

/**
 * idle: nothing of a request is there. head: a part of its head. waiting: the exchange does not want the body yet. body: it is being read, or
 * thrown away. answering: all of it was read. ending: the last answer is on its way, what comes is thrown away. over: closed.
 */
type Phase = 'idle' | 'head' | 'waiting' | 'body' | 'answering' | 'ending' | 'over'

const REASONS: Readonly<Record<number, string>> = {
  200: 'OK',
  400: 'Bad Request',
  404: 'Not Found',
  408: 'Request Timeout',
  413: 'Content Too Large',
  431: 'Request Header Fields Too Large',
  500: 'Internal Server Error',
  503: 'Service Unavailable',
}
const END_OF_HEAD = Buffer.from('\r\n\r\n')
const CR = 0x0d
const LF = 0x0a
const CONTINUE = 'HTTP/1.1 100 Continue\r\n\r\n'
const TYPE = `Content-Type: ${JSON_TYPE}\r\n`
/** Below it a body is read with what comes before it and copied. */
const LEAST_DIRECT = 8_192
const NO_NAMES = headNames([])

/**
 * The server's side of one HTTP/1.1 connection (RFC 9112): one request at a time, pipelined ones wait in the socket. Our own because the
 * put path needs it: Node's costs more than twice as much a request and reads every 64 KiB of a body into new memory, which drives the
 * garbage collector (docs/performance.md). Bytes come in memory that is used again when `feed` returns.
 */
export class Http1 implements Wire {
  readonly #pipe: Pipe
  readonly #s: Http1Shared
  readonly #keepAlive: string
  #phase: Phase = 'idle'
  /** When the phase began. */
  #since: number
  #head: Head | null = null
  /** Of this request, and most likely of the next one. */
  #names: HeadNames = NO_NAMES
  #reader: BodyReader | null = null
  /** The request was answered before its body was complete. */
  #refused = false
  /** Bytes of a body with a length that are still to come. */
  #left = 0
  #chunks: ChunkReader | null = null
  /** What has come and cannot be taken yet. */
  #kept: Buffer | null = null
  #answer: 'none' | 'writing' | 'written' = 'none'
  #close = false
  /** The client has said its last word. */
  #ended = false
  #discarded = 0
  readonly #written = (): void => this.#afterAnswer()

  constructor(pipe: Pipe, s: Http1Shared) {
    this.#pipe = pipe
    this.#s = s
    this.#since = s.now()
    this.#keepAlive = `Connection: keep-alive\r\nKeep-Alive: timeout=${Math.max(1, Math.floor(s.bounds.httpIdleMs / 1_000))}\r\n`
  }

  get method(): string {
    return this.#head?.method ?? ''
  }
  get url(): string {
    return this.#head?.url ?? ''
  }
  get names(): HeadNames {
    return this.#names
  }
  get values(): readonly string[] {
    return this.#head?.values ?? []
  }

  /** Where the next bytes may be read into, if they can only be the body's. */
  room(): Uint8Array | null {
    return this.#phase === 'body' && this.#left >= LEAST_DIRECT && !this.#refused ? (this.#reader?.room() ?? null) : null
  }
  /** So many bytes were read into what `room` gave; false = nobody wants them there any more. */
  filled(bytes: number): boolean {
    if (this.#phase !== 'body' || this.#refused || this.#reader === null) return false
    this.#left -= bytes
    this.#reader.filled(bytes)
    if (this.#left === 0) this.#bodyEnded()
    return true
  }

  /** Bytes from the client. */
  feed(given: Uint8Array): void {
    const kept = this.#kept
    this.#kept = null
    const view = Buffer.from(given.buffer, given.byteOffset, given.length)
    const bytes = kept === null ? view : Buffer.concat([kept, view])
    let at = 0
    while (at < bytes.length) {
      const next = this.#take(bytes, at)
      if (next === at) break
      at = next
    }
    if (at === bytes.length) return
    this.#kept = Buffer.from(bytes.subarray(at))
    // the rest of a head is waited for; the rest of anything else can wait
    if (this.#phase !== 'head') this.#pipe.pause()
  }

  /** Takes what can be taken of `bytes` from `at` on; where it stopped. */
  #take(bytes: Buffer, at: number): number {
    switch (this.#phase) {
      case 'idle':
        // RFC 9112 §2.2: an empty line before a request is forgiven
        if (bytes[at] === CR || bytes[at] === LF) return at + 1
        this.#enter('head')
        return this.#takeHead(bytes, at)
      case 'head':
        return this.#takeHead(bytes, at)
      case 'body':
        return this.#takeBody(bytes, at)
      case 'ending':
        this.#discard(bytes.length - at)
        return bytes.length
      case 'over':
        return bytes.length
      default:
        return at
    }
  }

  #takeHead(bytes: Buffer, at: number): number {
    const end = bytes.indexOf(END_OF_HEAD, at)
    if ((end === -1 ? bytes.length : end) - at > limits.httpHeaderBytes) return this.#refuse(headTooLarge(), bytes.length)
    if (end === -1) return at
    const head = parseHead(bytes.toString('latin1', at, end), this.#names)
    if (head === 'malformed') return this.#refuse(malformed(), bytes.length)
    if (head === 'too-many-fields') return this.#refuse(headTooLarge(), bytes.length)
    this.#head = head
    this.#names = head.names
    this.#close = head.close
    this.#left = head.length ?? 0
    this.#chunks = head.length === null ? new ChunkReader() : null
    this.#answer = 'none'
    this.#refused = false
    this.#discarded = 0
    this.#enter('waiting')
    this.#reader = this.#s.begin(this)
    this.#reader.start()
    return end + END_OF_HEAD.length
  }

  receive(): void {
    if (this.#phase !== 'waiting') return
    if (this.#head?.expects === true) this.#pipe.write(CONTINUE, 'latin1')
    this.#enter('body')
    if (this.#chunks === null && this.#left === 0) this.#bodyEnded()
    this.#again()
  }

  #takeBody(bytes: Buffer, at: number): number {
    if (this.#chunks !== null) {
      const next = this.#chunks.read(bytes, at, (data) => this.#data(data))
      if (next === -1) {
        this.#loseReader()
        return this.#refuse(malformed(), bytes.length)
      }
      if (this.#chunks.ended) this.#bodyEnded()
      return next
    }
    const n = Math.min(this.#left, bytes.length - at)
    this.#left -= n
    this.#data(bytes.subarray(at, at + n))
    if (this.#left === 0) this.#bodyEnded()
    return at + n
  }
  #data(data: Uint8Array): void {
    if (this.#refused || this.#reader === null) this.#discard(data.length)
    else this.#reader.chunk(data)
  }
  #discard(bytes: number): void {
    this.#discarded += bytes
    if (this.#discarded > limits.httpDiscardBytes) this.destroy()
  }

  #bodyEnded(): void {
    if (this.#phase !== 'body') return // the answer to its last bytes was the connection's end
    this.#enter('answering')
    if (!this.#refused) this.#reader?.ended()
    if (this.#answer === 'written') this.#finish()
  }

  answer(a: Answer): void {
    if (this.#answer !== 'none' || this.#phase === 'over' || this.#phase === 'ending') return
    this.#answer = 'writing'
    // a client that was not told to go on may send its body or not: only the end of the connection is clear to both
    const unasked = this.#phase === 'waiting' && this.#head?.expects === true
    this.#close ||= a.close || unasked || this.#nothingComes()
    this.#refused = this.#phase !== 'answering'
    if (this.#phase === 'waiting') this.#enter('body')
    this.#write(a, this.#head?.method === 'HEAD')
    if (this.#refused && this.#chunks === null && this.#left === 0) this.#enter('answering')
    this.#again()
  }

  #write(a: Answer, bodyless: boolean): void {
    const { body, error } = a
    const length = typeof body === 'string' ? Buffer.byteLength(body) : body.length
    let text = `HTTP/1.1 ${a.status} ${REASONS[a.status] ?? ''}\r\nx-amzn-RequestId: ${a.requestId}\r\n${TYPE}Content-Length: ${length}\r\n`
    if (error !== undefined) {
      text += `x-amzn-ErrorType: ${error.code}\r\n`
      if (error.retryAfterSeconds !== undefined) text += `Retry-After: ${error.retryAfterSeconds}\r\n`
    }
    text += `Date: ${this.#s.date()}\r\n${this.#close ? 'Connection: close\r\n' : this.#keepAlive}\r\n`
    if (bodyless) return this.#pipe.write(text, 'latin1', this.#written)
    // as many bytes as characters: all of it is ASCII
    if (typeof body === 'string' && length === body.length) return this.#pipe.write(text + body, 'latin1', this.#written)
    this.#pipe.write(text, 'latin1')
    this.#pipe.write(typeof body === 'string' ? Buffer.from(body) : body, this.#written)
  }

  /** Called once for every answer, when it is out of our hands. */
  #afterAnswer(): void {
    if (this.#phase === 'over' || this.#answer !== 'writing') return
    this.#answer = 'written'
    this.#loseReader()
    if (this.#close) return this.#end()
    if (this.#phase === 'answering') this.#finish()
    this.#again()
  }
  /** The next request may come. */
  #finish(): void {
    this.#head = null
    this.#chunks = null
    this.#answer = 'none'
    if (this.#names.bytes > limits.httpKnownHeadBytes) this.#names = NO_NAMES
    if (this.#nothingComes()) return this.#end()
    this.#enter('idle')
  }
  /** Takes what was kept, now that something has changed. */
  #again(): void {
    if (this.#kept === null || this.#phase === 'waiting' || this.#phase === 'answering') return
    const ended = this.#ended
    this.#ended = false // not before all of this is taken
    this.feed(new Uint8Array(0))
    this.#ended = ended
    // what feed keeps of anything but a head, it has paused for
    if (this.#kept !== null && this.#phase !== 'head') return
    if (this.#phase !== 'over') this.#pipe.resume()
    if (this.#ended) this.#endedWithin()
  }
  #enter(phase: Phase): void {
    this.#phase = phase
    this.#since = this.#s.now()
  }

  /** What is no request gets an answer without an exchange, and ends the connection. Answers `taken`. */
  #refuse(e: ApiError, taken: number): number {
    if (this.#answer === 'none') {
      this.#close = true
      this.#answer = 'writing'
      this.#write({ status: e.status, requestId: this.#s.newRequestId(), body: e.body(), error: e, close: true }, false)
    }
    this.#end()
    return taken
  }
  #end(): void {
    if (this.#phase === 'over' || this.#phase === 'ending') return
    this.#enter('ending')
    this.#kept = null
    this.#pipe.end()
    this.#pipe.resume()
  }

  /** The client sends no more. */
  ended(): void {
    this.#ended = true
    if (this.#kept === null || this.#phase === 'head') this.#endedWithin()
  }
  /** Nothing is kept that could be taken later. */
  #endedWithin(): void {
    if (this.#phase === 'idle') return this.#end()
    if (this.#phase === 'waiting' && this.#chunks === null && this.#left === 0) return
    // the last answer may still be on its way: the connection closes behind it
    if (this.#phase === 'answering' || this.#phase === 'ending' || this.#phase === 'over') return
    this.#loseReader()
    this.#refuse(malformed(), 0)
  }
  /** All that the client has sent is taken. */
  #nothingComes(): boolean {
    return this.#ended && this.#kept === null
  }
  /** The connection is closed. */
  closed(): void {
    this.#phase = 'over'
    this.#kept = null
    this.#loseReader()
  }
  destroy(): void {
    this.#pipe.destroy()
    this.closed()
  }
  #loseReader(): void {
    const reader = this.#reader
    this.#reader = null
    reader?.gone()
  }

  /** The sweep: what takes too long ends. A running operation has a deadline of its own, and so has an exchange that waits. */
  check(): void {
    const waited = this.#s.now() - this.#since
    const { httpIdleMs, httpHeadersMs, httpRequestMs } = this.#s.bounds
    switch (this.#phase) {
      case 'idle':
        if (waited > httpIdleMs) this.destroy()
        return
      case 'head':
        if (waited > Math.min(httpHeadersMs, httpRequestMs)) this.#refuse(late(), 0)
        return
      case 'body':
        if (waited <= httpRequestMs) return
        this.#loseReader()
        if (this.#answer === 'none') this.#refuse(late(), 0)
        else this.destroy()
        return
      case 'answering':
        // the client does not read
        if (this.#answer === 'writing' && waited > httpRequestMs + limits.httpHandlerMs) this.destroy()
        return
      case 'ending':
        if (waited > limits.httpEndMs) this.destroy()
        return
      default:
    }
  }
}

const malformed = (): ApiError => new ApiError('MalformedHttpRequestException', 'The request is not valid HTTP.')
const late = (): ApiError => new ApiError('RequestTimeoutException', 'The request did not arrive in time.', { status: 408 })
const headTooLarge = (): ApiError =>
  new ApiError(
    'RequestHeaderFieldsTooLargeException',
    `The headers are larger than ${limits.httpHeaderBytes} bytes, or more than ${limits.httpHeaderFields}.`,
    { status: 431 },
  )
