import { limits } from '../limits.ts'
import type { BufferPool } from '../sdk/pool.ts'
import type { Host } from '../sdk/host.ts'
import type { Logger } from '../sdk/sink.ts'
import type { Events } from '../telemetry/events.ts'
import type { ByteBudget } from './budget.ts'
import type { Deadlines } from './deadlines.ts'
import { ApiError, internalFailure, unavailable, unknownOperation } from './errors.ts'
import { readHead } from './request.ts'
import type { Operation } from './service.ts'
import type { Admitted, Gate } from './sigv4.ts'
import { JSON_TYPE, type BodyReader, type Wire } from './wire/wire.ts'

/** What a request asks for. */
export interface Target {
  readonly operation: Operation
  /** As a signature's scope names it: `firehose`. */
  readonly service: string
  /** As IAM names it: `firehose:PutRecord`. */
  readonly action: string
}

/** What all exchanges of a front door share. */
export interface Shared {
  readonly gate: Gate
  /** By X-Amz-Target. */
  readonly targets: ReadonlyMap<string, Target>
  /** The service that a target names, also when it has no such operation. */
  serviceOf(target: string): string | undefined
  readonly host: Host
  readonly events: Events
  readonly log: Logger
  readonly budget: ByteBudget
  /** Of bodies, while they are read and until their operation has answered. */
  readonly memory: BufferPool
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

/** Of a body whose length is not known. */
const BLOCK = 16 * 1024

/** One request and its answer: head → admitted → body → authenticated → operation → answer. */
export class Exchange implements BodyReader {
  readonly #s: Shared
  readonly #wire: Wire
  readonly #requestId: string
  readonly #startedAt: number
  #operationName = 'Unknown'
  #operation: Operation | undefined
  #admitted: Admitted | undefined
  /** As long as the body; null until it is asked for, and after it was answered. */
  #body: Buffer<ArrayBuffer> | null = null
  /** The body of a client that did not say its length: whole blocks, and one that is being filled. */
  #chunks: Uint8Array[] | null = null
  /** Bytes that are free in the last of them. */
  #room = 0
  #received = 0
  /** Bytes taken from the budget. */
  #held = 0
  #leaveLine: (() => void) | null = null
  #readingSince = 0
  /** All of the body is there, and its operation has begun. */
  #running = false
  #answered = false
  #over = false

  constructor(s: Shared, wire: Wire) {
    this.#s = s
    this.#wire = wire
    this.#requestId = s.newRequestId()
    this.#startedAt = s.host.clock.monotonic()
  }

  /** Never throws. */
  start(): void {
    try {
      const length = this.#admit()
      const bytes = length ?? this.#s.bodyBytes
      this.#leaveLine = this.#s.budget.take(bytes, () => {
        this.#held = bytes
        if (this.#over || this.#answered) return this.#release()
        try {
          this.#read(length)
        } catch (e) {
          this.#refuse(e) // the caller may be another exchange, which gives back what it held
        }
      })
    } catch (e) {
      this.#refuse(e)
    }
  }

  /** Everything that the head alone decides. The length of the body, if the client said it. */
  #admit(): number | undefined {
    const s = this.#s
    if (s.draining()) throw unavailable('The server is shutting down. Try again.')
    const head = readHead(this.#wire.method, this.#wire.url, this.#wire.names, this.#wire.values)
    const target = s.targets.get(head.target ?? '')
    this.#operation = target?.operation
    if (target) this.#operationName = target.operation.name
    this.#admitted = s.gate.admit(head, target?.service ?? s.serviceOf(head.target ?? ''), target?.action)
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
    else this.#body = Buffer.from(this.#s.memory.take(length), 0, length)
    this.#readingSince = this.#s.host.clock.monotonic()
    this.#s.reading.add(this)
    this.#wire.receive()
  }

  room(): Uint8Array | null {
    return this.#body === null ? null : this.#body.subarray(this.#received)
  }
  filled(bytes: number): void {
    this.#received += bytes
  }
  chunk(bytes: Uint8Array): void {
    if (this.#body !== null) {
      if (this.#received + bytes.length > this.#body.length) return this.#refuse(longer())
      this.#body.set(bytes, this.#received)
    } else if (this.#chunks !== null) {
      if (this.#received + bytes.length > this.#s.bodyBytes) return this.#refuse(tooLarge(this.#s.bodyBytes))
      this.#append(this.#chunks, bytes)
    } else return
    this.#received += bytes.length
  }

  /** Copies into blocks: as an object of its own a chunk of one byte would cost a hundred. */
  #append(chunks: Uint8Array[], bytes: Uint8Array): void {
    for (let from = 0; from < bytes.length;) {
      if (this.#room === 0) chunks.push(Buffer.allocUnsafeSlow((this.#room = BLOCK)))
      const n = Math.min(this.#room, bytes.length - from)
      chunks[chunks.length - 1]?.set(bytes.subarray(from, from + n), BLOCK - this.#room)
      this.#room -= n
      from += n
    }
  }

  /** Called by the sweep: ends a body that comes too slowly. */
  checkPace(now: number): void {
    const late = now - this.#readingSince - limits.httpBodyGraceMs
    if (late <= 0 || this.#received >= (late / 1_000) * limits.httpBodyBytesPerSecond) return
    this.#refuse(new ApiError('RequestTimeoutException', `The request body came too slowly: ${this.#received} bytes.`, { status: 408 }))
  }

  /** Called by the sweep: no request stays for ever, in line or at work, whatever its operation does. */
  checkAge(now: number): void {
    const since = this.#running ? this.#readingSince : this.#startedAt
    if (this.#answered || now - since <= this.#s.lifeMs) return
    if (this.#running) this.#fail(internalFailure(new Error(`${this.#operationName} gave no answer within ${this.#s.lifeMs} ms`)))
    else this.#refuse(unavailable('Slow down.'))
  }

  ended(): void {
    if (this.#body === null && this.#chunks === null) return
    this.#s.reading.delete(this)
    if (this.#chunks !== null) {
      const body = Buffer.from(this.#s.memory.take(this.#received), 0, this.#received)
      let at = 0
      for (const c of this.#chunks) {
        body.set(c.subarray(0, this.#received - at), at)
        at += c.length
      }
      this.#chunks = null
      this.#body = body
    }
    if (this.#body === null || this.#body.length !== this.#received) return this.#refuse(shorter(this.#received))
    this.#running = true
    void this.#run(this.#body)
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
    } finally {
      // only here nothing can write or read there any more: a body that was not read whole is left to the collector
      s.memory.give(body.buffer)
    }
  }

  #fail(e: unknown): void {
    const error = e instanceof ApiError ? e : internalFailure(e)
    if (error.status >= 500 && error.cause !== undefined) {
      this.#s.log.error({ requestId: this.#requestId, operation: this.#operationName, err: error.cause }, 'a request failed')
    }
    this.#answer(error.status, error.body(), error, this.#s.draining())
  }

  /** Answers before the body was read; the wire throws away what still comes. */
  #refuse(e: unknown): void {
    this.#body = null
    this.#chunks = null
    this.#s.reading.delete(this)
    const error = e instanceof ApiError ? e : internalFailure(e)
    this.#answer(error.status, error.body(), error, error.status === 408 || this.#s.draining())
  }

  #answer(status: number, body: string | Uint8Array, error: ApiError | undefined, close: boolean): void {
    const s = this.#s
    if (this.#answered) return this.#release() // the age was up before the operation was done
    this.#answered = true
    if (!this.#over) this.#wire.answer({ status, requestId: this.#requestId, body, close, error })
    const handled = { type: 'request.handled', operation: this.#operationName, status, bytes: this.#received } as const
    const ms = s.host.clock.monotonic() - this.#startedAt
    s.events.emit(error === undefined ? { ...handled, ms } : { ...handled, ms, code: error.code })
    this.#release()
  }

  /** Answered, or the client went away. */
  gone(): void {
    if (this.#over) return
    this.#over = true
    this.#s.reading.delete(this)
    this.#leaveLine?.()
    // while its operation runs, the body is still held
    if (this.#answered || !this.#running) this.#release()
    this.#s.ended(this)
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

function checkContentType(given: string | undefined): void {
  if (given === JSON_TYPE) return
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
