import { createServer, type Server, type Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import * as tls from 'node:tls'
import { BufferPool, freeNow } from '../sdk/pool.ts'
import { limits } from '../limits.ts'
import { ConfigError, errorCode } from '../sdk/errors.ts'
import type { Host } from '../sdk/host.ts'
import type { Logger } from '../sdk/sink.ts'
import type { Events } from '../telemetry/events.ts'
import { ByteBudget } from './budget.ts'
import { Deadlines } from './deadlines.ts'
import { Exchange, type Shared, type Target } from './exchange.ts'
import type { Service } from './service.ts'
import type { Gate } from './sigv4.ts'
import { http2Server } from './wire/http2.ts'
import { Http1Door } from './wire/socket.ts'
import type { Wire } from './wire/wire.ts'

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
      ;(server as tls.Server).setSecureContext({ ...(await pem(o.host, tls)), minVersion: 'TLSv1.2' })
    },
  }
}

function listenError(listen: FrontDoorOptions['listen'], e: Error): Error {
  const taken = errorCode(e) === 'EADDRINUSE' ? ': another hydrant, or another program, has the address: change api.listen or stop it' : ''
  return new ConfigError('Listen', `listening on ${listen.host}:${listen.port} (api.listen): ${e.message}${taken}`, { cause: e })
}

function targetsOf(services: readonly Service[]): ReadonlyMap<string, Target> {
  const all = new Map<string, Target>()
  for (const { model, operations } of services) {
    const { service, targetPrefix } = model
    for (const [name, operation] of operations) all.set(`${targetPrefix}.${name}`, { operation, service, action: `${service}:${name}` })
  }
  return all
}

/** State of one front door: sockets, exchanges, what all of them share, and the sweep that ends what takes too long. */
class Door {
  readonly sockets = new Set<Duplex>()
  readonly exchanges = new Set<Exchange>()
  readonly http1: Http1Door
  readonly #http2: Server
  readonly #shared: Shared
  readonly #host: Host
  readonly #sweepMs: number
  #now: number
  #date = ''
  #dateSecond = NaN
  #draining = false
  #idle: (() => void) | null = null
  #stopSweep: () => void = () => {}

  constructor(o: FrontDoorOptions, bounds: HttpLimits) {
    this.#host = o.host
    this.#now = o.host.clock.monotonic()
    this.#sweepMs = Math.min(1_000, bounds.httpHeadersMs / 2, bounds.httpIdleMs / 2)
    this.#shared = {
      gate: o.gate,
      targets: targetsOf(o.services),
      serviceOf: (target) => o.services.find((s) => target.startsWith(`${s.model.targetPrefix}.`))?.model.service,
      host: o.host,
      events: o.events,
      log: o.log,
      budget: new ByteBudget(bounds.httpInFlightBytes),
      memory: new BufferPool(limits.httpPoolBytes, limits.httpBlockBytes),
      deadlines: new Deadlines(o.host.clock, bounds.httpHandlerMs),
      lifeMs: bounds.httpRequestMs + bounds.httpHandlerMs,
      reading: new Set(),
      bodyBytes: bounds.httpBodyBytes,
      newRequestId: requestIds(o.host),
      draining: () => this.#draining,
      ended: (e) => this.#ended(e),
    }
    const begin = (wire: Wire): Exchange => this.#begin(wire)
    const { newRequestId } = this.#shared
    this.http1 = new Http1Door({ now: () => this.#now, date: () => this.#dateNow(), newRequestId, begin, bounds })
    this.#http2 = http2Server(bounds.httpIdleMs, begin)
    this.#sweep()
  }

  #begin(wire: Wire): Exchange {
    const e = new Exchange(this.#shared, wire)
    this.exchanges.add(e)
    return e
  }

  track(socket: Duplex): void {
    this.sockets.add(socket)
    socket.once('close', () => this.sockets.delete(socket))
  }

  serveHttp2(socket: Socket): void {
    // Node's session waits for the close of its connection, and only HTTP/1.1 has anything to say to a client that has said its last word
    socket.allowHalfOpen = false
    this.#http2.emit('connection', socket)
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
    this.http1.destroyAll()
    for (const s of this.sockets) s.destroy()
    await closed
  }

  #ended(e: Exchange): void {
    this.exchanges.delete(e)
    if (this.#draining && this.exchanges.size === 0) this.#idle?.()
  }

  #sweep(): void {
    this.#stopSweep = this.#host.clock.timer(this.#sweepMs, () => {
      const now = this.#host.clock.monotonic()
      this.#now = now
      for (const e of this.#shared.reading) e.checkPace(now)
      for (const e of this.exchanges) e.checkAge(now)
      this.http1.sweep()
      // bodies come in bursts: what the last one needed is not kept for ever
      if (this.exchanges.size === 0) this.#shared.memory.shrink(limits.httpIdlePoolBytes, freeNow)
      this.#sweep()
    })
  }

  #dateNow(): string {
    const ms = this.#host.clock.now()
    const second = Math.floor(ms / 1_000)
    if (second !== this.#dateSecond) {
      this.#dateSecond = second
      this.#date = new Date(ms).toUTCString()
    }
    return this.#date
  }
}

const onAccepted = { allowHalfOpen: true, noDelay: true } as const

function secureServer(door: Door, files: Pem, bounds: HttpLimits): Server {
  const server = tls.createServer({
    ...onAccepted,
    ...files,
    ...(files.ca ? { requestCert: true, rejectUnauthorized: true } : {}),
    ALPNProtocols: ['h2', 'http/1.1'],
    minVersion: 'TLSv1.2',
    handshakeTimeout: bounds.httpHeadersMs,
  })
  server.on('connection', (socket: Socket) => door.track(socket))
  server.on('secureConnection', (socket) => {
    door.track(socket)
    if (socket.alpnProtocol === 'h2') door.serveHttp2(socket)
    else door.http1.serve(socket, null)
  })
  server.on('tlsClientError', (_err, socket) => socket.destroy())
  return server
}

/** Connections that begin with `PRI` go to the HTTP/2 server, the others are HTTP/1.1. */
function plainServer(door: Door, bounds: HttpLimits): Server {
  return createServer(onAccepted, (socket) => {
    door.track(socket)
    sniff(socket, bounds, (isHttp2, seen) => {
      if (!isHttp2) return door.http1.serve(socket, seen)
      socket.unshift(seen)
      door.serveHttp2(socket)
    })
  })
}

const PREFACE = 'PRI'
/** Takes the first bytes. A connection that says nothing costs a socket and its listeners, for the idle time. */
function sniff(socket: Socket, bounds: HttpLimits, decide: (isHttp2: boolean, seen: Buffer) => void): void {
  let seen: Buffer | null = null
  const fail = (): void => void socket.destroy()
  const look = (): void => {
    const chunk = socket.read() as Buffer | null
    if (chunk === null) return
    seen = seen ? Buffer.concat([seen, chunk]) : chunk
    const start = seen.toString('latin1', 0, PREFACE.length)
    if (start.length < PREFACE.length && PREFACE.startsWith(start)) return // not decided by one or two bytes
    socket.off('readable', look)
    socket.off('error', fail)
    socket.off('end', fail)
    socket.off('timeout', fail)
    socket.setTimeout(0)
    decide(start === PREFACE, seen)
  }
  socket.on('error', fail)
  socket.on('end', fail)
  socket.on('timeout', fail)
  socket.setTimeout(bounds.httpIdleMs)
  socket.on('readable', look)
}

interface Pem {
  readonly cert: Buffer
  readonly key: Buffer
  readonly ca?: Buffer
}
async function pem(host: Host, tls: TlsFiles): Promise<Pem> {
  const read = async (v: Uint8Array | string): Promise<Buffer> => Buffer.from(typeof v === 'string' ? await host.fs.readFile(v) : v)
  return { cert: await read(tls.cert), key: await read(tls.key), ...(tls.ca === undefined ? {} : { ca: await read(tls.ca) }) }
}

/** UUIDs (version 4): of every 65,536 the last four digits count, the others are random bytes. */
function requestIds(host: Host): () => string {
  const BLOCK = 0x1_0000
  let start = ''
  let next = BLOCK
  return () => {
    if (next >= BLOCK) {
      const h = Buffer.from(host.random.bytes(16)).toString('hex')
      start = `${h.slice(0, 8)}-${h.slice(8, 12)}-4${h.slice(13, 16)}-a${h.slice(17, 20)}-${h.slice(20, 28)}`
      next = 0
    }
    return start + (BLOCK + next++).toString(16).slice(1)
  }
}
