import * as http from 'node:http'
import * as http2 from 'node:http2'
import type { Server, Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { limits } from '../limits.ts'
import { ConfigError, errorCode } from '../sdk/errors.ts'
import type { Host } from '../sdk/host.ts'
import type { Logger } from '../sdk/sink.ts'
import type { Events } from '../telemetry/events.ts'
import { ByteBudget } from './budget.ts'
import { Deadlines } from './deadlines.ts'
import { ApiError } from './errors.ts'
import { Exchange, type Request, type Response, type Shared } from './server-exchange.ts'
import type { Service } from './service.ts'
import type { Gate } from './sigv4.ts'

export interface TlsFiles {
  /** PEM: the text as bytes, or the path of a file. */
  readonly cert: Uint8Array | string
  readonly key: Uint8Array | string
  /** Clients must show a certificate of this authority. */
  readonly ca?: Uint8Array | string
}

export interface FrontDoorOptions {
  /** Port 0 = any free one. */
  readonly listen: { readonly host: string; readonly port: number }
  readonly tls?: TlsFiles
  readonly gate: Gate
  readonly services: readonly Service[]
  readonly host: Host
  readonly events: Events
  readonly log: Logger
  /** For tests; the defaults are those of limits.ts. */
  readonly limits?: Partial<HttpLimits>
}
type HttpLimit =
  | 'httpBodyBytes'
  | 'httpInFlightBytes'
  | 'httpConnections'
  | 'httpRequestMs'
  | 'httpHeadersMs'
  | 'httpIdleMs'
  | 'httpHandlerMs'
export type HttpLimits = Record<HttpLimit, number>

export interface FrontDoor {
  readonly address: { readonly host: string; readonly port: number }
  /** Requests between their head and their answer. */
  inFlight(): number
  /** From now on every new request is answered 503 with Retry-After; resolves when none is in flight, or at the deadline. */
  drain(deadline: AbortSignal): Promise<void>
  /** Closes the port and every connection, at once. Call drain first. */
  close(): Promise<void>
  /** New certificates for new connections; rejects when the server has no TLS or they do not fit. */
  setTls(tls: TlsFiles): Promise<void>
}

/**
 * Opens the AWS front door: one port for HTTP/1.1 and HTTP/2 (clear text: by the first bytes; TLS: by ALPN). Resolves when it listens;
 * rejects with ConfigError when the address cannot be had. The caller has checked the address with checkListen.
 */
export async function startFrontDoor(o: FrontDoorOptions): Promise<FrontDoor> {
  const bounds: HttpLimits = { ...limits, ...o.limits }
  const door = new Door(o, bounds)
  const server = o.tls ? secureServer(door, await pem(o.host, o.tls), bounds) : plainServer(door, bounds)
  server.maxConnections = bounds.httpConnections
  await new Promise<void>((resolve, reject) => {
    const failed = (e: Error): void => reject(listenError(o.listen, e))
    server.once('error', failed)
    server.listen({ host: o.listen.host, port: o.listen.port, backlog: 1_024 }, () => {
      server.off('error', failed)
      server.on('error', (err) => o.log.error({ err }, 'the front door failed to accept a connection'))
      resolve()
    })
  })
  const at = server.address()
  if (at === null || typeof at === 'string') throw new Error('the front door listens on no address')
  return {
    address: { host: at.address, port: at.port },
    inFlight: () => door.exchanges.size,
    drain: (deadline) => door.drain(deadline),
    close: () => door.close(server),
    setTls: async (tls) => {
      if (!('setSecureContext' in server)) throw new Error('the front door has no TLS: certificates cannot be changed')
      ;(server as http2.Http2SecureServer).setSecureContext({ ...(await pem(o.host, tls)), minVersion: 'TLSv1.2' })
    },
  }
}

function listenError(listen: FrontDoorOptions['listen'], e: Error): Error {
  const taken = errorCode(e) === 'EADDRINUSE' ? ': another hydrant, or another program, has the address: change api.listen or stop it' : ''
  return new ConfigError('Listen', `listening on ${listen.host}:${listen.port} (api.listen): ${e.message}${taken}`, { cause: e })
}

/** State of one front door: sockets, exchanges, the slow-body sweep. */
class Door {
  readonly sockets = new Set<Duplex>()
  readonly exchanges = new Set<Exchange>()
  readonly #shared: Shared
  readonly #host: Host
  #draining = false
  #idle: (() => void) | null = null
  #stopSweep: () => void = () => {}

  constructor(o: FrontDoorOptions, bounds: HttpLimits) {
    this.#host = o.host
    this.#shared = {
      gate: o.gate,
      services: new Map(o.services.map((s) => [s.model.targetPrefix, s])),
      host: o.host,
      events: o.events,
      log: o.log,
      budget: new ByteBudget(bounds.httpInFlightBytes),
      deadlines: new Deadlines(o.host.clock, bounds.httpHandlerMs),
      lifeMs: bounds.httpRequestMs + bounds.httpHandlerMs,
      reading: new Set(),
      bodyBytes: bounds.httpBodyBytes,
      newRequestId: requestIds(o.host),
      draining: () => this.#draining,
      ended: (e) => this.#ended(e),
    }
    this.#sweep()
  }

  handle(req: Request, res: Response, proceed?: () => void): void {
    const e = new Exchange(this.#shared, req, res)
    this.exchanges.add(e)
    e.start(proceed)
  }

  track(socket: Duplex): void {
    this.sockets.add(socket)
    socket.once('close', () => this.sockets.delete(socket))
  }

  /** What the parser did not understand, or what came too late: an answer in AWS's form, then the end. */
  refuseSocket(err: NodeJS.ErrnoException, socket: Duplex): void {
    if (err.code === 'ECONNRESET' || !socket.writable) return void socket.destroy()
    const late = err.code === 'ERR_HTTP_REQUEST_TIMEOUT'
    const [status, error] = late
      ? ['408 Request Timeout', new ApiError('RequestTimeoutException', 'The request did not arrive in time.')]
      : err.code === 'HPE_HEADER_OVERFLOW'
        ? [
            '431 Request Header Fields Too Large',
            new ApiError('RequestHeaderFieldsTooLargeException', `The headers are larger than ${limits.httpHeaderBytes} bytes.`),
          ]
        : ['400 Bad Request', new ApiError('MalformedHttpRequestException', 'The request is not valid HTTP.')]
    const body = error.body()
    socket.end(
      `HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Type: application/x-amz-json-1.1\r\nx-amzn-RequestId: ` +
        `${this.#shared.newRequestId()}\r\nx-amzn-ErrorType: ${error.code}\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
      () => socket.destroy(),
    )
  }

  drain(deadline: AbortSignal): Promise<void> {
    this.#draining = true
    if (this.exchanges.size === 0 || deadline.aborted) return Promise.resolve()
    return new Promise((resolve) => {
      this.#idle = resolve
      deadline.addEventListener('abort', () => resolve(), { once: true })
    })
  }

  async close(server: Server): Promise<void> {
    this.#draining = true
    this.#stopSweep()
    this.#shared.deadlines.abortAll(new Error('the front door is closing'))
    const closed = new Promise<void>((resolve) => server.close(() => resolve()))
    for (const s of this.sockets) s.destroy()
    await closed
  }

  #ended(e: Exchange): void {
    this.exchanges.delete(e)
    if (this.#draining && this.exchanges.size === 0) this.#idle?.()
  }

  #sweep(): void {
    this.#stopSweep = this.#host.clock.timer(1_000, () => {
      const now = this.#host.clock.monotonic()
      for (const e of this.#shared.reading) e.checkPace(now)
      for (const e of this.exchanges) e.checkAge(now)
      this.#sweep()
    })
  }
}

const httpOptions = (bounds: HttpLimits): http.ServerOptions => ({
  requestTimeout: bounds.httpRequestMs,
  headersTimeout: Math.min(bounds.httpHeadersMs, bounds.httpRequestMs),
  keepAliveTimeout: bounds.httpIdleMs,
  connectionsCheckingInterval: Math.min(1_000, bounds.httpHeadersMs),
  maxHeaderSize: limits.httpHeaderBytes,
  noDelay: true,
  requireHostHeader: false, // the gate says it in AWS's form
  insecureHTTPParser: false,
})
/** Windows: large enough for a full batch in one round trip on a local network, small enough that unread bodies stay bounded. */
const http2Options: http2.ServerOptions = {
  settings: { initialWindowSize: 1 << 20, maxFrameSize: 1 << 18, maxConcurrentStreams: 128, maxHeaderListSize: limits.httpHeaderBytes },
}

function tuneHttp2(door: Door, server: http2.Http2Server | http2.Http2SecureServer, bounds: HttpLimits): void {
  server.on('session', (session: http2.ServerHttp2Session) => {
    session.setLocalWindowSize(8 << 20)
    session.setTimeout(bounds.httpIdleMs, () => session.close())
    session.on('error', () => session.destroy())
  })
  server.on('sessionError', () => {}) // the session is gone already; a peer's mistake is no event of ours
  server.on('checkContinue', (req: http2.Http2ServerRequest, res: http2.Http2ServerResponse) =>
    door.handle(req, res, () => res.writeContinue()),
  )
}

function secureServer(door: Door, files: { cert: Buffer; key: Buffer; ca?: Buffer }, bounds: HttpLimits): Server {
  const server = http2.createSecureServer(
    {
      ...http2Options,
      ...httpOptions(bounds),
      ...files,
      ...(files.ca ? { requestCert: true, rejectUnauthorized: true } : {}),
      allowHTTP1: true,
      minVersion: 'TLSv1.2',
      handshakeTimeout: bounds.httpHeadersMs,
    },
    (req, res) => door.handle(req, res),
  )
  tuneHttp2(door, server, bounds)
  server.on('connection', (socket: Socket) => door.track(socket))
  server.on('secureConnection', (socket) => {
    door.track(socket)
    if (socket.alpnProtocol !== 'h2') socket.setTimeout(bounds.httpIdleMs, () => socket.destroy())
  })
  server.on('clientError', (err: NodeJS.ErrnoException, socket: Duplex) => door.refuseSocket(err, socket))
  server.on('tlsClientError', (_err, socket) => socket.destroy())
  return server
}

/** The HTTP/1.1 server owns the port, so that its own time-outs work; connections that begin with `PRI` go to the HTTP/2 server. */
function plainServer(door: Door, bounds: HttpLimits): Server {
  const h1 = http.createServer(httpOptions(bounds), (req, res) => door.handle(req, res))
  h1.on('checkContinue', (req: http.IncomingMessage, res: http.ServerResponse) => door.handle(req, res, () => res.writeContinue()))
  h1.on('clientError', (err: NodeJS.ErrnoException, socket: Duplex) => door.refuseSocket(err, socket))
  const h2 = http2.createServer(http2Options, (req, res) => door.handle(req, res))
  tuneHttp2(door, h2, bounds)
  const asHttp1 = h1.listeners('connection') as ((s: Socket) => void)[]
  h1.removeAllListeners('connection')
  h1.on('connection', (socket: Socket) => {
    door.track(socket)
    sniff(socket, bounds, (isHttp2) => {
      if (isHttp2) h2.emit('connection', socket)
      else for (const listener of asHttp1) listener.call(h1, socket)
    })
  })
  return h1
}

const PREFACE = 'PRI'
/** Looks at the first bytes without taking them. A connection that says nothing costs a socket and one listener, for the idle time. */
function sniff(socket: Socket, bounds: HttpLimits, decide: (isHttp2: boolean) => void): void {
  let seen: Buffer | null = null
  const fail = (): void => void socket.destroy()
  const look = (): void => {
    const chunk = socket.read() as Buffer | null
    if (chunk === null) return
    seen = seen ? Buffer.concat([seen, chunk]) : chunk
    const start = seen.toString('latin1', 0, PREFACE.length)
    if (start.length < PREFACE.length && PREFACE.startsWith(start)) return // not decided by one or two bytes
    socket.unshift(seen)
    socket.off('readable', look)
    socket.off('error', fail)
    socket.off('end', fail)
    socket.off('timeout', fail)
    socket.setTimeout(0)
    decide(start === PREFACE)
  }
  socket.on('error', fail)
  socket.on('end', fail)
  socket.on('timeout', fail)
  socket.setTimeout(bounds.httpIdleMs)
  socket.on('readable', look)
}

async function pem(host: Host, tls: TlsFiles): Promise<{ cert: Buffer; key: Buffer; ca?: Buffer }> {
  const read = async (v: Uint8Array | string): Promise<Buffer> => Buffer.from(typeof v === 'string' ? await host.fs.readFile(v) : v)
  return { cert: await read(tls.cert), key: await read(tls.key), ...(tls.ca === undefined ? {} : { ca: await read(tls.ca) }) }
}

/** UUIDs (version 4) from blocks of random bytes. */
function requestIds(host: Host): () => string {
  const BLOCK = 256
  let hex = ''
  let at = Infinity
  return () => {
    if (at >= BLOCK) {
      hex = Buffer.from(host.random.bytes(16 * BLOCK)).toString('hex')
      at = 0
    }
    const h = hex.slice(at * 32, at * 32 + 32)
    at++
    return `${h.slice(0, 8)}-${h.slice(8, 12)}-4${h.slice(13, 16)}-a${h.slice(17, 20)}-${h.slice(20)}`
  }
}
