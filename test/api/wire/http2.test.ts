import { once } from 'node:events'
import type { ClientHttp2Session, ClientHttp2Stream } from 'node:http2'
import { connect } from 'node:net'
import { connect as connectTls } from 'node:tls'
import { afterEach, describe, expect, test } from 'vitest'
import { selfSigned } from '../certificate.ts'
import { closeAll, h2, open, port, put, putBody, r, rawPut, sockets, TARGET } from '../wire.ts'

afterEach(closeAll)

const LENGTH = 9_000
function begin(client: ClientHttp2Session, bytes: number, fields: Record<string, string> = {}): ClientHttp2Stream {
  const type = 'application/x-amz-json-1.1'
  const req = client.request({
    ':method': 'POST',
    ':path': '/',
    'content-type': type,
    'content-length': String(LENGTH),
    ...TARGET,
    ...fields,
  })
  req.on('error', () => {})
  if (bytes > 0) req.write(Buffer.alloc(bytes, ' '))
  return req
}
/** The exchange is over, and the only place for a body is free again. */
async function nothingLeft(): Promise<void> {
  await expect.poll(() => r.door.inFlight()).toBe(0)
  expect((await put()).status).toBe(200)
}

describe('a client that goes away leaves nothing behind', () => {
  test.each([
    ['within the body', LENGTH - 1],
    ['after the body, before its end', LENGTH],
  ])('%s', async (_, bytes) => {
    await open({ limits: { httpBodyBytes: LENGTH, httpInFlightBytes: LENGTH } })
    for (const leave of [(c: ClientHttp2Session) => c.destroy(), (_: ClientHttp2Session, s: ClientHttp2Stream) => s.close(8)]) {
      const socket = connect(port(), '127.0.0.1')
      sockets.push(socket)
      const client = h2(r.url, { createConnection: () => socket })
      const req = begin(client, bytes)
      await expect.poll(() => socket.bytesWritten).toBeGreaterThan(bytes)
      await expect.poll(() => r.door.inFlight()).toBe(1)
      leave(client, req)
      await nothingLeft()
    }
  })
  test('with a second request that waits to be asked for its body, in line behind the first', async () => {
    await open({ limits: { httpBodyBytes: LENGTH, httpInFlightBytes: LENGTH } })
    const socket = connect(port(), '127.0.0.1')
    const client = h2(r.url, { createConnection: () => socket })
    begin(client, 10)
    await expect.poll(() => r.door.inFlight()).toBe(1)
    for (let i = 2; i < 5; i++) {
      begin(client, 0, { expect: '100-continue' })
      await expect.poll(() => r.door.inFlight()).toBe(i)
    }
    socket.destroy()
    await nothingLeft()
  })
  test.each(['clear', 'TLS'])('the connection is lost: %s', async (how) => {
    const files = selfSigned()
    const bounds = { httpBodyBytes: LENGTH, httpInFlightBytes: LENGTH, httpConnections: 2 }
    await open({ limits: bounds, ...(how === 'TLS' ? { tls: files } : {}) })
    for (let i = 0; i < 4; i++) {
      const to = { host: '127.0.0.1', port: port() }
      const socket = how === 'TLS' ? connectTls({ ...to, ca: files.cert, ALPNProtocols: ['h2'] }) : connect(to)
      sockets.push(socket)
      const client = h2(r.url, { createConnection: () => socket })
      begin(client, 10)
      await expect.poll(() => r.door.inFlight()).toBe(1)
      const closed = once(socket, 'close')
      socket.end() // as a process that dies
      await closed
      await expect.poll(() => r.door.inFlight()).toBe(0)
    }
  })
})

test('a session whose client reads nothing and says nothing ends', async () => {
  await open({ limits: { httpIdleMs: 100 } })
  const client = h2(r.url, { settings: { initialWindowSize: 0 } })
  const req = client.request({ ':method': 'POST', ':path': '/', 'content-type': 'application/x-amz-json-1.1', ...TARGET })
  req.on('error', () => {})
  req.end(putBody())
  await once(client, 'close')
  await nothingLeft()
})

test('TLS: a client may negotiate anew in the middle of a connection', async () => {
  const files = selfSigned()
  await open({ tls: files })
  const s = connectTls({ host: '127.0.0.1', port: port(), ca: files.cert, maxVersion: 'TLSv1.2', ALPNProtocols: ['http/1.1'] })
  sockets.push(s)
  await once(s, 'secureConnect')
  const request = rawPut(`content-length: ${putBody().length}\r\n`)
  for (let i = 0; i < 2; i++) {
    s.write(request)
    const [answer] = (await once(s, 'data')) as [Buffer]
    expect(String(answer)).toMatch(/^HTTP\/1.1 200 OK/)
    await new Promise<void>((resolve, reject) => s.renegotiate({}, (e) => (e ? reject(e) : resolve())))
  }
})
