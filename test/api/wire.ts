import { once } from 'node:events'
import * as http2 from 'node:http2'
import { connect, type Socket } from 'node:net'
import { specOf } from '../../core/api/firehose/document.ts'
import { realHost } from '../../core/host/host.ts'
import type { Host } from '../../core/sdk/host.ts'
import { post, rig, S3, type Answer, type Rig } from './fakes.ts'

export let r: Rig
export const sockets: Socket[] = []
const clients: http2.ClientHttp2Session[] = []
/** Ends everything that a test has opened. */
export async function closeAll(): Promise<void> {
  for (const s of sockets.splice(0)) s.destroy()
  for (const c of clients.splice(0)) c.destroy()
  await r.close()
}
/** A front door with one stream, `a`. */
export async function open(o: Parameters<typeof rig>[0] = {}): Promise<Rig> {
  r = await rig(o)
  r.streams.add('a', { document: S3, spec: specOf('a', S3) })
  return r
}
export const port = (): number => r.door.address.port
export const TARGET = { 'x-amz-target': 'Firehose_20150804.PutRecord' }
export const putBody = (bytes = 5): string =>
  JSON.stringify({ DeliveryStreamName: 'a', Record: { Data: Buffer.alloc(bytes, 'x').toString('base64') } })
export const put = (headers: Record<string, string> = {}): Promise<Answer> => post(port(), { ...TARGET, ...headers }, putBody())
export const stored = (): number => r.ingest.values.get('a')?.length ?? 0

/** Writes bytes as they are and collects what comes until the server closes, or `until` is seen. */
export async function raw(text: string | Uint8Array, o: { until?: string; end?: boolean } = {}): Promise<string> {
  const s = dial()
  await once(s, 'connect')
  s.write(text)
  if (o.end === true) s.end()
  let got = ''
  for await (const chunk of s) {
    got += (chunk as Buffer).toString('latin1')
    if (o.until !== undefined && got.includes(o.until)) break
  }
  return got
}
export function dial(): Socket {
  const s = connect(port(), '127.0.0.1')
  s.on('error', () => {})
  sockets.push(s)
  return s
}
export function rawPut(headers: string, body = putBody()): string {
  return `POST / HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-amz-json-1.1\r\nx-amz-target: ${TARGET['x-amz-target']}\r\n${headers}\r\n${body}`
}

/** A host whose clock stands still until it is told otherwise. */
export class StillHost {
  ms = 0
  readonly #timers = new Set<{ at: number; fn: () => void }>()
  readonly host: Host
  constructor() {
    const real = realHost()
    this.host = {
      ...real,
      clock: {
        ...real.clock,
        monotonic: () => this.ms,
        timer: (ms, fn) => {
          const t = { at: this.ms + ms, fn }
          this.#timers.add(t)
          return () => void this.#timers.delete(t)
        },
      },
    }
  }
  advance(ms: number): void {
    const end = this.ms + ms
    for (;;) {
      const [next] = [...this.#timers].filter((t) => t.at <= end).toSorted((a, b) => a.at - b.at)
      if (!next) break
      this.#timers.delete(next)
      this.ms = next.at
      next.fn()
    }
    this.ms = end
  }
}

export function h2(url = r.url, o: http2.SecureClientSessionOptions = {}): http2.ClientHttp2Session {
  const client = http2.connect(url, o)
  client.on('error', () => {})
  clients.push(client)
  return client
}
export async function h2Put(
  client: http2.ClientHttp2Session,
  body: string | Uint8Array,
  headers: http2.OutgoingHttpHeaders = {},
): Promise<Answer> {
  const req = client.request({ ':method': 'POST', ':path': '/', 'content-type': 'application/x-amz-json-1.1', ...TARGET, ...headers })
  req.end(body)
  const [head] = (await once(req, 'response')) as [http2.IncomingHttpHeaders & http2.IncomingHttpStatusHeader]
  let text = ''
  for await (const chunk of req) text += String(chunk)
  return { status: head[':status'] ?? 0, headers: head, body: JSON.parse(text) as Record<string, unknown>, text }
}
