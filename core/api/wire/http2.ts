import * as http2 from 'node:http2'
import type { Server } from 'node:net'
import { limits } from '../../limits.ts'
import { headNames, type HeadNames } from '../head-names.ts'
import { JSON_TYPE, type Answer, type BodyReader, type Wire } from './wire.ts'

/** Windows: large enough for a full batch in one round trip on a local network, small enough that unread bodies stay bounded. */
const options: http2.ServerOptions = {
  settings: { initialWindowSize: 1 << 20, maxFrameSize: 1 << 18, maxConcurrentStreams: 128, maxHeaderListSize: limits.httpHeaderBytes },
}

/**
 * The HTTP/2 server of a front door, by Node. It owns no port: connections are given to it by `emit('connection', socket)`, clear ones
 * (prior knowledge, RFC 9113 §3.3) and those of TLS.
 */
export function http2Server(idleMs: number, begin: (wire: Wire) => BodyReader): Server {
  const handle = (req: http2.Http2ServerRequest, res: http2.Http2ServerResponse, proceed?: () => void): void => {
    const wire = new Http2Wire(req, res, proceed)
    wire.start(begin(wire))
  }
  const server = http2.createServer(options, (req, res) => handle(req, res))
  server.on('checkContinue', (req: http2.Http2ServerRequest, res: http2.Http2ServerResponse) => handle(req, res, () => res.writeContinue()))
  server.on('session', (session: http2.ServerHttp2Session) => {
    session.setLocalWindowSize(8 << 20)
    // a client that does not read its answers holds its streams open: after the second silence they end with the connection
    session.setTimeout(idleMs, () => {
      session.close()
      session.setTimeout(idleMs, () => session.destroy())
    })
    session.on('error', () => session.destroy())
  })
  server.on('sessionError', () => {}) // the session is gone already; a peer's mistake is no event of ours
  return server
}

/** One stream. nghttp2 sees to it that a body is as long as its content-length says. */
class Http2Wire implements Wire {
  readonly method: string
  readonly url: string
  readonly names: HeadNames
  readonly values: readonly string[]
  readonly #req: http2.Http2ServerRequest
  readonly #res: http2.Http2ServerResponse
  readonly #proceed: (() => void) | undefined
  #reader: BodyReader | null = null
  #received = false
  #answered = false

  constructor(req: http2.Http2ServerRequest, res: http2.Http2ServerResponse, proceed: (() => void) | undefined) {
    this.method = req.method ?? ''
    this.url = req.url ?? ''
    const { rawHeaders } = req // names and values in turn
    this.names = headNames(rawHeaders.filter((_, i) => i % 2 === 0).map((name) => `${name}:`))
    this.values = rawHeaders.filter((_, i) => i % 2 === 1)
    this.#req = req
    this.#res = res
    this.#proceed = proceed
  }

  start(reader: BodyReader): void {
    this.#reader = reader
    // a client that goes away, in either direction, ends the exchange; what its operation has begun goes on
    this.#req.on('error', () => {})
    this.#res.on('error', () => {})
    this.#res.on('close', () => {
      this.#reader = null
      reader.gone()
    })
    reader.start()
  }

  /** The stream is gone, and its `close` is about to be told: Node throws where one writes to it now. */
  #lost(): boolean {
    return this.#res.stream.destroyed
  }

  receive(): void {
    if (this.#reader === null || this.#received || this.#lost()) return
    this.#received = true
    this.#proceed?.()
    this.#req.on('data', (chunk: Buffer) => {
      if (!this.#answered) this.#reader?.chunk(chunk)
    })
    this.#req.on('end', () => {
      if (!this.#answered) this.#reader?.ended()
    })
  }

  answer(a: Answer): void {
    const res = this.#res
    if (this.#answered || this.#reader === null || res.headersSent || this.#lost()) return
    this.#answered = true
    const headers: Record<string, string | number> = {
      'x-amzn-RequestId': a.requestId,
      'Content-Type': JSON_TYPE,
      'Content-Length': Buffer.byteLength(a.body),
    }
    if (a.error !== undefined) {
      headers['x-amzn-ErrorType'] = a.error.code
      if (a.error.retryAfterSeconds !== undefined) headers['Retry-After'] = a.error.retryAfterSeconds
    }
    res.writeHead(a.status, headers).end(a.body)
    let discarded = 0
    this.#req.on('data', (chunk: Buffer) => {
      discarded += chunk.length
      if (discarded > limits.httpDiscardBytes) this.#req.destroy()
    })
  }
}
