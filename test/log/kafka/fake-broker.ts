/** A broker on loopback that answers as a test says, and a clock that a test moves. */
import { once } from 'node:events'
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net'
import { createServer as createTlsServer } from 'node:tls'
import { Connection, type ConnectionOptions } from '../../../core/log/kafka/connection.ts'
import type { Clock } from '../../../core/sdk/host.ts'
import { BufferPool } from '../../../core/sdk/pool.ts'
import { Writer } from '../../../core/log/kafka/wire.ts'

const API_VERSIONS = 18
const MOST = 10_000_000
/** The calls that the fake broker says it speaks, in versions 0 to 20. */
const KEYS = [...Array.from({ length: 81 }, (_, key) => key), 1000]

export interface Asked {
  readonly key: number
  readonly version: number
  readonly correlation: number
  /** Behind the header, of which the test's client id is `test`. */
  readonly body: Buffer
  readonly socket: Socket
  /** Size and correlation id are put in front; `tags`: the empty tagged fields of a flexible header as well. */
  answer(body: Uint8Array, o?: { tags?: boolean; correlation?: number }): void
}

/** Size, correlation id and, of a flexible version, no tagged fields; then the body. */
export function frame(correlation: number, body: Uint8Array, tags = false): Buffer {
  const head = Buffer.alloc(8 + (tags ? 1 : 0))
  head.writeInt32BE(head.length - 4 + body.length, 0)
  head.writeInt32BE(correlation, 4)
  return Buffer.concat([head, body])
}

function versions(): Buffer {
  return Writer.create()
    .appendInt16(0)
    .appendArray(KEYS, (w, key) => void w.appendInt16(key).appendInt16(0).appendInt16(20))
    .appendInt32(0)
    .appendTaggedFields().buffer
}

export class FakeBroker {
  readonly #server: Server
  readonly #sockets = new Set<Socket>()
  /** All but ApiVersions, which it answers itself unless `mute`. */
  readonly asked: Asked[] = []
  /** Called with each of them. */
  handle: (a: Asked) => void = () => {}
  mute = false
  /** Also when it was stopped. */
  port = 0
  #more = Promise.withResolvers<void>()

  static async start(tls?: { cert: Buffer; key: Buffer }): Promise<FakeBroker> {
    const b = new FakeBroker(tls)
    b.#server.listen(0, '127.0.0.1')
    await once(b.#server, 'listening')
    b.port = (b.#server.address() as AddressInfo).port
    return b
  }
  private constructor(tls?: { cert: Buffer; key: Buffer }) {
    const accept = (s: Socket): void => this.#accept(s)
    this.#server = tls ? createTlsServer(tls, accept) : createServer(accept)
    this.#server.on('tlsClientError', () => {}) // the client's test says what it saw
  }
  get connections(): number {
    return this.#sockets.size
  }
  async stop(): Promise<void> {
    for (const s of this.#sockets) s.destroy()
    this.#server.close()
    await once(this.#server, 'close')
  }
  /** Resolves when so many calls came. */
  async until(calls: number): Promise<void> {
    while (this.asked.length < calls) await this.#more.promise
  }

  #accept(socket: Socket): void {
    this.#sockets.add(socket)
    socket.on('close', () => this.#sockets.delete(socket))
    socket.on('error', () => {}) // the client closed; its side is what is tested
    let held = Buffer.alloc(0)
    socket.on('data', (part: Buffer) => {
      held = Buffer.concat([held, part])
      if (held.length >= 4 && held.readInt32BE(0) > MOST) socket.destroy() // no request: as a real one does
      while (!socket.destroyed && held.length >= 4 && held.length >= 4 + held.readInt32BE(0)) {
        const size = held.readInt32BE(0)
        this.#one(socket, held.subarray(4, 4 + size))
        held = held.subarray(4 + size)
      }
    })
  }
  #one(socket: Socket, request: Buffer): void {
    const key = request.readInt16BE(0)
    const correlation = request.readInt32BE(4)
    if (key === API_VERSIONS) {
      if (!this.mute) socket.write(frame(correlation, versions()))
      return
    }
    const answer: Asked['answer'] = (body, o) => void socket.write(frame(o?.correlation ?? correlation, body, o?.tags))
    const asked: Asked = { key, version: request.readInt16BE(2), correlation, body: request.subarray(10 + 4), socket, answer }
    this.asked.push(asked)
    this.#more.resolve()
    this.#more = Promise.withResolvers<void>()
    this.handle(asked)
  }
}

/** Its time stands still until a test moves it. */
export class TestClock implements Clock {
  #now = 0
  readonly #timers = new Set<{ at: number; fn: () => void }>()
  now(): number {
    return this.#now
  }
  monotonic(): number {
    return this.#now
  }
  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      this.timer(ms, resolve)
      signal?.addEventListener('abort', () => reject(signal.reason as Error), { once: true })
    })
  }
  timer(ms: number, fn: () => void): () => void {
    const t = { at: this.#now + ms, fn }
    this.#timers.add(t)
    return () => void this.#timers.delete(t)
  }
  get timers(): number {
    return this.#timers.size
  }
  advance(ms: number): void {
    this.#now += ms
    for (const t of [...this.#timers].toSorted((a, b) => a.at - b.at)) {
      if (t.at > this.#now || !this.#timers.delete(t)) continue
      t.fn()
    }
  }
}

export function options(port: number, o: Partial<ConnectionOptions> = {}): ConnectionOptions {
  const security = { tls: null, sasl: null }
  return { host: '127.0.0.1', port, clientId: 'test', security, clock: new TestClock(), pool: new BufferPool(64 * 1024 * 1024), ...o }
}
export function open(broker: FakeBroker, o: Partial<ConnectionOptions> = {}): Promise<Connection> {
  return Connection.open(options(broker.port, o))
}
