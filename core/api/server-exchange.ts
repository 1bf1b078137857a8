import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Http2ServerRequest, Http2ServerResponse } from 'node:http2'
import { ApiError, internalFailure, unavailable, unknownOperation } from './errors.ts'
import { limits } from '../limits.ts'
import type { Host } from '../sdk/host.ts'
import type { Logger } from '../sdk/sink.ts'
import type { Events } from '../telemetry/events.ts'
import type { ByteBudget } from './budget.ts'
import type { Deadlines } from './deadlines.ts'
import { readHead } from './request.ts'
import type { Operation, Service } from './service.ts'
import type { Admitted, Gate } from './sigv4.ts'

export type Request = IncomingMessage | Http2ServerRequest
export type Response = ServerResponse | Http2ServerResponse

/** What all exchanges of a front door share. */
export interface Shared {
  readonly gate: Gate
  /** By target prefix. */
  readonly services: ReadonlyMap<string, Service>
  readonly host: Host
  readonly events: Events
  readonly log: Logger
  readonly budget: ByteBudget
  readonly deadlines: Deadlines
  /** A request that has not been answered after so long, waiting and working, is answered anyway. */
  readonly lifeMs: number
  /** Bodies that are being read, for the sweep of slow ones. */
  readonly reading: Set<Exchange>
  readonly bodyBytes: number
  readonly newRequestId: () => string
  draining(): boolean
  /** Called once when the exchange is over. */
  ended(e: Exchange): void
}

const SLAB_BYTES = 4_096
const JSON_TYPE = 'application/x-amz-json-1.1'

/** One request and its answer: head → admitted → body → authenticated → operation → answer. */
export class Exchange {
  readonly #s: Shared
  readonly #req: Request
  readonly #res: Response
  readonly #requestId: string
  readonly #startedAt: number
  #operationName = 'Unknown'
  #operation: Operation | undefined
  #admitted: Admitted | undefined
  #body: Buffer<ArrayBuffer> | null = null
  #chunks: Buffer[] | null = null
  #received = 0
  /** Bytes taken from the budget. */
  #held = 0
  #leaveLine: (() => void) | null = null
  #readingSince = 0
  #answered = false
  #over = false

  constructor(s: Shared, req: Request, res: Response) {
    this.#s = s
    this.#req = req
    this.#res = res
    this.#requestId = s.newRequestId()
    this.#startedAt = s.host.clock.monotonic()
  }

  /** `proceed` tells a client that asked (Expect: 100-continue) to send its body. Never throws. */
  start(proceed?: () => void): void {
    // a client that goes away, in either direction, ends the exchange; what its operation has begun goes on
    this.#req.on('error', () => {})
    this.#res.on('error', () => {})
    this.#res.on('close', () => this.#end())
    try {
      const length = this.#admit()
      this.#leaveLine = this.#s.budget.take(length ?? this.#s.bodyBytes, () => {
        this.#held = length ?? this.#s.bodyBytes
        if (this.#over) return this.#release()
        proceed?.()
        this.#read(length)
      })
    } catch (e) {
      this.#refuse(e)
    }
  }

  /** Everything that the head alone decides. The length of the body, if the client said it. */
  #admit(): number | undefined {
    const s = this.#s
    if (s.draining()) throw unavailable('The server is shutting down. Try again.')
    const head = readHead(this.#req.method ?? '', this.#req.url ?? '', this.#req.rawHeaders)
    const target = head.target ?? ''
    const dot = target.indexOf('.')
    const service = dot === -1 ? undefined : s.services.get(target.slice(0, dot))
    this.#operation = service?.operations.get(target.slice(dot + 1))
    if (this.#operation) this.#operationName = this.#operation.name
    const action = service && this.#operation ? `${service.model.service}:${this.#operation.name}` : undefined
    this.#admitted = s.gate.admit(head, service?.model.service, action)
    if (head.method !== 'POST' || (head.url !== '/' && head.url !== '')) throw unknownPath(head.method)
    if (!this.#operation) throw unknownOperation()
    checkContentType(head.contentType)
    if (head.contentLength === undefined) return undefined
    const length = Number(head.contentLength)
    if (!Number.isSafeInteger(length) || length < 0)
      throw new ApiError('SerializationException', 'Content-Length is not a number of bytes.')
    if (length > s.bodyBytes) throw tooLarge(s.bodyBytes)
    return length
  }

  #read(length: number | undefined): void {
    if (length === undefined) this.#chunks = []
    else this.#body = bodyBuffer(length)
    this.#readingSince = this.#s.host.clock.monotonic()
    this.#s.reading.add(this)
    this.#req.on('data', (chunk: Buffer) => this.#chunk(chunk))
    this.#req.on('end', () => this.#ended())
  }

  #chunk(chunk: Buffer): void {
    if (this.#over || (this.#body === null && this.#chunks === null)) return
    if (this.#body !== null) {
      if (this.#received + chunk.length > this.#body.length) return this.#refuse(longer())
      chunk.copy(this.#body, this.#received)
    } else {
      if (this.#received + chunk.length > this.#s.bodyBytes) return this.#refuse(tooLarge(this.#s.bodyBytes))
      this.#chunks?.push(chunk)
    }
    this.#received += chunk.length
  }

  /** Called by the sweep: ends a body that comes too slowly. */
  checkPace(now: number): void {
    const late = now - this.#readingSince - limits.httpBodyGraceMs
    if (late <= 0 || this.#received >= (late / 1_000) * limits.httpBodyBytesPerSecond) return
    this.#refuse(new ApiError('RequestTimeoutException', `The request body came too slowly: ${this.#received} bytes.`, { status: 408 }))
  }

  /** Called by the sweep: no request stays for ever, whatever its operation does. */
  checkAge(now: number): void {
    if (this.#answered || now - this.#startedAt <= this.#s.lifeMs) return
    if (this.#running()) this.#fail(internalFailure(new Error(`${this.#operationName} gave no answer within ${this.#s.lifeMs} ms`)))
    else this.#refuse(unavailable('Slow down.'))
  }

  #ended(): void {
    if (this.#over || (this.#body === null && this.#chunks === null)) return
    this.#s.reading.delete(this)
    let body = this.#body
    if (this.#chunks !== null) {
      body = bodyBuffer(this.#received)
      let at = 0
      for (const c of this.#chunks) at += c.copy(body, at)
      this.#chunks = null
    }
    if (body === null || body.length !== this.#received) return this.#refuse(shorter(this.#received))
    void this.#run(body)
  }

  /** Never rejects. */
  async #run(body: Buffer<ArrayBuffer>): Promise<void> {
    const s = this.#s
    try {
      if (!this.#admitted || !this.#operation) throw new Error('running a request that was not admitted')
      const principal = s.gate.authenticate(this.#admitted, body)
      const answer = await this.#operation.run({ principal, body, signal: s.deadlines.signal() })
      this.#answer(200, answer, undefined, false)
    } catch (e) {
      this.#fail(e)
    }
  }

  #fail(e: unknown): void {
    const error = e instanceof ApiError ? e : internalFailure(e)
    if (error.status >= 500 && error.cause !== undefined) {
      this.#s.log.error({ requestId: this.#requestId, operation: this.#operationName, err: error.cause }, 'a request failed')
    }
    this.#answer(error.status, error.body(), error, this.#s.draining())
  }

  /** Answers before the body was read; what still comes is thrown away, up to a bound, so that the client sees the answer. */
  #refuse(e: unknown): void {
    this.#body = null
    this.#chunks = null
    this.#s.reading.delete(this)
    const error = e instanceof ApiError ? e : internalFailure(e)
    const slow = error.status === 408
    this.#answer(error.status, error.body(), error, slow || this.#s.draining())
    let thrown = 0
    this.#req.on('data', (chunk: Buffer) => {
      thrown += chunk.length
      if (thrown > limits.httpDiscardBytes || slow) this.#req.destroy()
    })
  }

  #answer(status: number, body: string, error: ApiError | undefined, close: boolean): void {
    const res = this.#res
    const s = this.#s
    if (this.#answered) return this.#release() // the age was up before the operation was done
    this.#answered = true
    if (!this.#over && !res.headersSent) {
      const length = Buffer.byteLength(body)
      const headers: Record<string, string | number> = {
        'x-amzn-RequestId': this.#requestId,
        'Content-Type': JSON_TYPE,
        'Content-Length': length,
      }
      if (error) {
        headers['x-amzn-ErrorType'] = error.code
        if (error.retryAfterSeconds !== undefined) headers['Retry-After'] = error.retryAfterSeconds
      }
      if (close && this.#req.httpVersionMajor === 1) headers['Connection'] = 'close'
      ;(res as ServerResponse).writeHead(status, headers).end(body, length === body.length ? 'latin1' : 'utf8')
    }
    s.events.emit({
      type: 'request.handled',
      operation: this.#operationName,
      status,
      ...(error ? { code: error.code } : {}),
      ms: s.host.clock.monotonic() - this.#startedAt,
      bytes: this.#received,
    })
    this.#release()
  }

  /** The response is closed: answered, or the client went away. */
  #end(): void {
    if (this.#over) return
    this.#over = true
    this.#s.reading.delete(this)
    this.#leaveLine?.()
    // while its operation runs, the body is still held
    if (this.#res.headersSent || !this.#running()) this.#release()
    this.#s.ended(this)
  }

  #running(): boolean {
    return this.#body !== null && this.#received === this.#body.length
  }

  #release(): void {
    this.#body = null
    this.#chunks = null
    if (this.#held > 0) {
      const held = this.#held
      this.#held = 0
      this.#s.budget.give(held)
    }
  }
}

/** Small bodies share a slab; a large one gets memory of its own, exactly as long. */
function bodyBuffer(length: number): Buffer<ArrayBuffer> {
  return length <= SLAB_BYTES ? Buffer.allocUnsafe(length) : Buffer.allocUnsafeSlow(length)
}

function checkContentType(given: string | undefined): void {
  const type = (given ?? '').split(';', 1)[0]?.trim().toLowerCase()
  if (type !== JSON_TYPE) {
    throw new ApiError('UnknownOperationException', `Content-Type must be ${JSON_TYPE}, got '${given ?? ''}'.`, { status: 404 })
  }
}

const unknownPath = (method: string): ApiError =>
  new ApiError('UnknownOperationException', `Operations are called with POST /, got ${method}.`, { status: 404 })
const tooLarge = (max: number): ApiError =>
  new ApiError('RequestEntityTooLargeException', `The request body is larger than ${max} bytes.`, { status: 413 })
const longer = (): ApiError => new ApiError('SerializationException', 'The request body is longer than its Content-Length.')
const shorter = (n: number): ApiError => new ApiError('SerializationException', `The request body ended after ${n} bytes.`)
