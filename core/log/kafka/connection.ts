import { limits } from '../../limits.ts'
import { ConfigError, errorCode, errorKind, errorMessage, HydrantError, PermanentError, RetryableError } from '../../sdk/errors.ts'
import type { Clock } from '../../sdk/host.ts'
import type { BufferPool } from '../../sdk/pool.ts'
import { BrokerError, cutOff } from './errors.ts'
import { FrameReader, type Frame } from './frames.ts'
import { dial as dialNetwork, type Dial, type Socket, type Tls } from './socket.ts'
import { apiName, apis, faultsOf, login, Reader, type Api, type Login, type SaslAnswer } from './wire.ts'

/** How to reach a cluster. With `tls` every connection is encrypted or fails; with `sasl` every one is authenticated or fails. */
export interface Security {
  readonly tls: Tls | null
  readonly sasl: Login | null
}
export interface ConnectionOptions {
  readonly host: string
  readonly port: number
  readonly clientId: string
  readonly security: Security
  readonly clock: Clock
  /** Memory of large answers. */
  readonly pool: BufferPool
  readonly dial?: Dial
  /** For connecting, TLS, the question for versions, and authentication together. Default limits.kafkaConnectMs. */
  readonly connectMs?: number
  /** From the call to its answer, unless the call says its own. Default limits.kafkaRequestMs. */
  readonly requestMs?: number
  /** Requests written and not answered; more wait. Default limits.kafkaInFlight. */
  readonly inFlight?: number
  /** Default limits.kafkaAnswerBytes. */
  readonly answerBytes?: number
  /** Ends the opening; an open connection is ended by close(). */
  readonly signal?: AbortSignal
}
export interface CallOptions {
  readonly timeoutMs?: number
}
/** A call whose answer stays bytes. */
export interface Request {
  readonly key: number
  readonly version: number
  /** In one piece or in parts that are written as they are. They may not change before the answer is there. */
  readonly body: readonly Uint8Array[]
  /** Whether header and answer have tagged fields: those of a flexible version do. */
  readonly flexible: { readonly request: boolean; readonly response: boolean }
  readonly timeoutMs?: number
}
/** Bytes of an answer behind its header. Large ones are pooled memory: release them once, when nobody looks at them any more. */
export interface Answer {
  readonly bytes: Buffer
  readonly release: () => void
}

interface Call extends Request {
  readonly correlation: number
  written: boolean
  cancelTimer: () => void
  resolve(frame: Frame): void
  reject(e: Error): void
}

/**
 * One connection to one broker: bounded requests in flight, answered in order. It ends by close(), by a request that is not answered in
 * time (a late answer must not be taken for another's), by bytes that make no sense, or by the other side; then all its calls fail with
 * what is known of them, and it is not used again.
 */
export class Connection {
  readonly host: string
  readonly port: number
  /** Resolves with the reason when the connection has ended; never rejects. */
  readonly ended: Promise<HydrantError>
  readonly #o: ConnectionOptions
  readonly #socket: Socket
  readonly #frames: FrameReader
  readonly #gone = Promise.withResolvers<void>()
  readonly #reason = Promise.withResolvers<HydrantError>()
  readonly #opened = Promise.withResolvers<void>()
  readonly #waiting: Call[] = []
  readonly #flying: Call[] = []
  readonly #versions = new Map<number, { min: number; max: number }>()
  readonly #clientId: Buffer
  #why: HydrantError | null = null
  #connected = false
  /** Opening or authenticating again: only the calls that do it are sent. */
  #held = true
  #correlation = 0
  #answers = 0
  #cancelSession: () => void = () => {}

  /** Connected, versions known, authenticated. Rejects with ConfigError where trying again cannot help, else with RetryableError. */
  static async open(o: ConnectionOptions): Promise<Connection> {
    const c = new Connection(o)
    const ms = o.connectMs ?? limits.kafkaConnectMs
    const cancel = o.clock.timer(ms, () => c.#end(new RetryableError('Kafka.Connect', `${c.#to()}: not ready in ${ms} ms`, NOT_DONE)))
    const abort = (): void => c.#end(new RetryableError('Kafka.Closed', `${c.#to()}: closed by this client`, NOT_DONE))
    o.signal?.addEventListener('abort', abort)
    if (o.signal?.aborted) abort()
    try {
      await c.#open()
      return c
    } catch (e) {
      c.#end(
        errorKind(e) === undefined
          ? new PermanentError('Kafka.Connect', `${c.#to()}: ${errorMessage(e)}`, { cause: e })
          : (e as HydrantError),
      )
      throw c.#why ?? e
    } finally {
      cancel()
      o.signal?.removeEventListener('abort', abort)
    }
  }

  private constructor(o: ConnectionOptions) {
    this.#o = o
    this.host = o.host
    this.port = o.port
    this.ended = this.#reason.promise
    this.#clientId = Buffer.from(o.clientId)
    const most = o.answerBytes ?? limits.kafkaAnswerBytes
    this.#frames = new FrameReader({ pool: o.pool, block: limits.kafkaReadBytes, most, emit: (f) => this.#answered(f) })
    this.#opened.promise.catch(() => {}) // told by open
    this.#socket = (o.dial ?? dialNetwork)(
      { host: o.host, port: o.port, tls: o.security.tls },
      {
        opened: () => {
          this.#connected = true
          this.#opened.resolve()
        },
        room: () => this.#frames.room(),
        filled: (bytes) => this.#filled(bytes),
        closed: (e) => {
          this.#end(this.#closedBecause(e))
          this.#gone.resolve()
        },
      },
    )
  }

  get live(): boolean {
    return this.#why === null
  }
  /** Requests that are not answered yet, those that wait among them. */
  get pending(): number {
    return this.#waiting.length + this.#flying.length
  }
  /** The broker speaks this version of the call. */
  supports(api: { readonly key: number; readonly version: number }): boolean {
    const v = this.#versions.get(api.key)
    return v !== undefined && v.min <= api.version && api.version <= v.max
  }

  /** Rejects with BrokerError when the answer holds errors, with PermanentError when the broker does not speak this version. */
  async call<A extends readonly unknown[], R>(api: Api<A, R>, args: A, o: CallOptions = {}): Promise<R> {
    this.#check(api)
    return this.#call(api, args, false, o.timeoutMs)
  }

  /** The same, its answer as bytes. */
  async request(r: Request): Promise<Answer> {
    this.#check(r)
    return this.#exchange(r, false)
  }

  /** Resolves when the socket is closed. What was not answered fails. */
  async close(): Promise<void> {
    this.#end(new RetryableError('Kafka.Closed', `${this.#to()}: closed by this client`))
    await this.#gone.promise
  }

  async #open(): Promise<void> {
    await Promise.race([this.#opened.promise, this.ended.then((e) => Promise.reject(e))])
    const { apiKeys } = await this.#call(apis.apiVersions, ['hydrant', '1'], true)
    for (const v of apiKeys) this.#versions.set(v.apiKey, { min: v.minVersion, max: v.maxVersion })
    await this.#authenticate()
    this.#held = false
  }

  async #authenticate(): Promise<void> {
    const { sasl } = this.#o.security
    if (sasl === null) return
    const as = sasl.mechanism === 'OAUTHBEARER' ? '' : ` as ${sasl.username}`
    const what = `authenticating to ${this.#address()} by ${sasl.mechanism}${as}`
    const sent = this.#o.clock.monotonic()
    let answer: SaslAnswer
    try {
      await this.#call(apis.saslHandshake, [sasl.mechanism], true)
      answer = await login(sasl, (bytes) => this.#call(apis.saslAuthenticate, [bytes], true))
    } catch (e) {
      throw authenticationError(what, e)
    }
    // a broker that does not take a token says why in its answer, and waits for a second message before it says no
    if (sasl.mechanism === 'OAUTHBEARER' && answer.authBytes.length > 0) {
      throw new ConfigError('Kafka.Authentication', `${what}: the broker said ${answer.authBytes.toString()}`, NOT_DONE)
    }
    const lifeMs = Number(answer.sessionLifetimeMs)
    if (lifeMs <= 0) return
    const left = lifeMs * limits.kafkaSessionShare - (this.#o.clock.monotonic() - sent)
    this.#cancelSession = this.#o.clock.timer(Math.max(left, 1), () => void this.#renewSession())
  }

  /** Before its session ends (KIP-368). What is in flight is answered first; what comes meanwhile waits. */
  async #renewSession(): Promise<void> {
    this.#held = true
    try {
      await this.#authenticate()
      this.#held = false
      this.#pump()
    } catch (e) {
      this.#end(
        e instanceof HydrantError ? e : new RetryableError('Kafka.Authentication', `${this.#to()}: ${errorMessage(e)}`, { cause: e }),
      )
    }
  }

  #check(api: { readonly key: number; readonly version: number }): void {
    if (this.supports(api)) return
    const v = this.#versions.get(api.key)
    const spoken = v === undefined ? 'does not know this call' : `speaks versions ${v.min} to ${v.max}`
    throw new PermanentError('Kafka.Unsupported', `${this.#what(api)}: the broker ${spoken}`, NOT_DONE)
  }

  async #call<A extends readonly unknown[], R>(api: Api<A, R>, args: A, urgent: boolean, timeoutMs?: number): Promise<R> {
    const message = api.message(args)
    const { key, version, body, flexible } = message
    const time = timeoutMs === undefined ? {} : { timeoutMs }
    const answer = await this.#exchange({ key, version, body: [body], flexible, ...time }, urgent)
    // a parsed answer may hold views of its bytes, and pooled memory becomes another's
    const bytes = answer.pooled ? Buffer.from(answer.bytes) : answer.bytes
    answer.release()
    try {
      return message.parse(bytes)
    } catch (e) {
      const what = this.#what(api)
      const refused = faultsOf(e)
      if (refused) throw new BrokerError(what, refused.faults, refused.response)
      throw new PermanentError('Kafka.Protocol', `${what}: reading an answer of ${bytes.length} bytes: ${errorMessage(e)}`, { cause: e })
    }
  }

  async #exchange(r: Request, urgent: boolean): Promise<Answer & { pooled: boolean }> {
    if (this.#why) throw cutOff('Kafka.Closed', this.#what(r), `the connection had ended (${this.#why.message})`, 'no', this.#why)
    if (!urgent && this.#waiting.length >= limits.kafkaQueued) {
      throw cutOff('Kafka.Busy', this.#what(r), `${limits.kafkaQueued} requests wait for this connection`, 'no')
    }
    const frame = await new Promise<Frame>((resolve, reject) => {
      this.#correlation = (this.#correlation + 1) & 0x7fff_ffff
      const call: Call = { ...r, correlation: this.#correlation, written: false, cancelTimer: () => {}, resolve, reject }
      const ms = r.timeoutMs ?? this.#o.requestMs ?? limits.kafkaRequestMs
      call.cancelTimer = this.#o.clock.timer(ms, () => this.#late(call, ms))
      if (urgent) this.#write(call)
      else {
        this.#waiting.push(call)
        this.#pump()
      }
    })
    return { bytes: frame.bytes.subarray(headerEnd(frame.bytes, r.flexible.response)), pooled: frame.pooled, release: frame.release }
  }

  #pump(): void {
    const most = this.#o.inFlight ?? limits.kafkaInFlight
    while (!this.#held && this.#why === null && this.#flying.length < most) {
      const call = this.#waiting.shift()
      if (!call) return
      this.#write(call)
    }
  }

  #write(call: Call): void {
    call.written = true
    this.#flying.push(call)
    let bytes = 0
    for (const part of call.body) bytes += part.length
    const id = this.#clientId
    const tags = call.flexible.request ? 1 : 0
    const head = Buffer.allocUnsafe(14 + id.length + tags)
    head.writeInt32BE(head.length - 4 + bytes, 0)
    head.writeInt16BE(call.key, 4)
    head.writeInt16BE(call.version, 6)
    head.writeInt32BE(call.correlation, 8)
    head.writeInt16BE(id.length, 12)
    id.copy(head, 14)
    if (tags) head[14 + id.length] = 0 // no tagged fields
    this.#socket.write([head, ...call.body])
  }

  #filled(bytes: number): void {
    if (this.#why) return
    try {
      this.#frames.filled(bytes)
    } catch (e) {
      this.#end(new PermanentError('Kafka.Protocol', `reading from ${this.#address()}: ${errorMessage(e)}`, { cause: e }))
    }
  }

  #answered(frame: Frame): void {
    if (this.#why) return // the memory is left to the collector
    const call = this.#flying[0]
    const correlation = frame.bytes.readInt32BE(0)
    if (call?.correlation !== correlation) {
      const expected = call ? `expected was that to request ${call.correlation}, ${this.#what(call)}` : 'nothing was asked'
      this.#end(new RetryableError('Kafka.Protocol', `reading from ${this.#address()}: an answer to request ${correlation}; ${expected}`))
      return
    }
    this.#flying.shift()
    this.#answers++
    call.cancelTimer()
    call.resolve(frame)
    this.#pump()
  }

  #late(call: Call, ms: number): void {
    if (call.written) {
      const late = cutOff('Kafka.Timeout', this.#what(call), `no answer in ${ms} ms, so the connection is closed`, 'unknown')
      this.#flying.splice(this.#flying.indexOf(call), 1)
      call.reject(late)
      this.#end(late)
      return
    }
    this.#waiting.splice(this.#waiting.indexOf(call), 1)
    const why = `not sent in ${ms} ms behind ${this.#flying.length} requests without an answer`
    call.reject(cutOff('Kafka.Timeout', this.#what(call), why, 'no'))
  }

  /** Once; all that follows is told the same reason. */
  #end(why: HydrantError): void {
    if (this.#why) return
    this.#why = why
    this.#cancelSession()
    this.#socket.destroy()
    for (const call of [...this.#flying.splice(0), ...this.#waiting.splice(0)]) {
      call.cancelTimer()
      const applied = call.written ? 'unknown' : 'no'
      call.reject(cutOff(why.code, this.#what(call), `the connection ended (${why.message})`, applied, why))
    }
    this.#reason.resolve(why)
  }

  /** Only what a certificate says is the configuration's for sure: a broker that is being stopped may close at any moment. */
  #closedBecause(e: Error | null): HydrantError {
    const code = errorCode(e)
    const { tls, sasl } = this.#o.security
    const said = e === null ? 'the other side closed the connection' : ((e as { reason?: string }).reason ?? e.message)
    const cause = e === null ? {} : { cause: e }
    if (/^(?:ERR_SSL|ERR_TLS|CERT_|UNABLE_TO|SELF_SIGNED|DEPTH_ZERO)/.test(code)) {
      return new ConfigError('Kafka.Tls', `${this.#to()} by TLS: ${said} (${code})`, { ...NOT_DONE, ...cause })
    }
    if (!this.#connected) {
      const hint = tls !== null && code !== 'ECONNREFUSED' ? '; does this listener speak TLS?' : ''
      return new RetryableError('Kafka.Connect', `${this.#to()}: ${said}${hint}`, { ...NOT_DONE, ...cause })
    }
    const plain = this.#answers === 0 && tls === null ? '; does this listener want TLS?' : ''
    const anonymous = this.#answers === 1 && sasl === null ? '; does this listener want SASL?' : ''
    return new RetryableError('Kafka.Closed', `${this.#address()}: ${said}${plain}${anonymous}`, cause)
  }

  #address(): string {
    return `${this.host}:${this.port}`
  }
  #to(): string {
    return `connecting to ${this.#address()}`
  }
  #what(r: { readonly key: number; readonly version: number }): string {
    return `${apiName(r.key)} v${r.version} to ${this.#address()}`
  }
}

const NOT_DONE = { applied: 'no' } as const

/** Behind the correlation id and, in a flexible version, the tagged fields: KIP-482. */
function headerEnd(bytes: Buffer, tags: boolean): number {
  if (!tags) return 4
  if (bytes[4] === 0) return 5
  const reader = Reader.from(bytes).skip(4)
  reader.readTaggedFields()
  return reader.position
}

/** A refusal is the configuration's; a connection that ended meanwhile stays what it is. */
function authenticationError(what: string, e: unknown): Error {
  const said: string[] = []
  for (let at: unknown = e; at instanceof Error; at = at.cause) {
    said.push(at.message)
    if (at instanceof BrokerError) {
      const faults = at.faults.map((f) => `${f.name}: ${f.message}`).join('; ')
      return new ConfigError('Kafka.Authentication', `${what}: ${faults}`, { applied: 'no', cause: e })
    }
    if (errorKind(at) !== undefined) return at
  }
  // the token's function, or a server that does not know the mechanism's own proof
  return new RetryableError('Kafka.Authentication', `${what}: ${said.join(': ')}`, { applied: 'no', cause: e })
}
