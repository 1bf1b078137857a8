import { once } from 'node:events'
import { Agent } from 'node:http'
import * as https from 'node:https'
import { connect as connectTls } from 'node:tls'
import { afterEach, describe, expect, test } from 'vitest'
import { ByteBudget } from '../../core/api/budget.ts'
import { checkListen, isLoopback } from '../../core/api/listen.ts'
import { limits } from '../../core/limits.ts'
import { selfSigned } from './certificate.ts'
import { post, rig } from './fakes.ts'
import { closeAll, dial, h2, h2Put, open, port, put, putBody, r, raw, rawPut, sockets, StillHost, TARGET } from './wire.ts'

afterEach(closeAll)

describe('slow clients', () => {
  test('headers that do not end: 408', async () => {
    await open({ limits: { httpHeadersMs: 100, httpRequestMs: 1_000 } })
    const got = await raw('POST / HTTP/1.1\r\nhost: x\r\n')
    expect(got).toMatch(/^HTTP\/1.1 408 Request Timeout/)
    expect(got).toContain('{"__type":"RequestTimeoutException"')
  })
  test('a body that comes in drops: 408, and what it held is free', async () => {
    const still = new StillHost()
    await open({ host: still.host, limits: { httpInFlightBytes: limits.httpBodyBytes } })
    const s = dial()
    await once(s, 'connect')
    s.write(rawPut(`content-length: ${limits.httpBodyBytes}\r\n`, '{'))
    await expect.poll(() => r.door.inFlight()).toBe(1)
    still.advance(limits.httpBodyGraceMs)
    expect(r.events).toEqual([])
    still.advance(2_000)
    let got = ''
    for await (const c of s) got += String(c)
    expect(got).toMatch(/^HTTP\/1.1 408 /)
    expect(got).toContain('The request body came too slowly')
    expect((await put()).status).toBe(200)
  })
  test('an operation that never answers: 500, and what it held is free', async () => {
    const still = new StillHost()
    await open({ host: still.host, limits: { httpBodyBytes: 10_000, httpInFlightBytes: 10_000 } })
    const { promise, resolve: go } = Promise.withResolvers<void>()
    r.ingest.gate = promise
    const hanging = post(port(), TARGET, putBody(6_000))
    await expect.poll(() => r.door.inFlight()).toBe(1)
    const waiting = post(port(), TARGET, putBody(6_000))
    await expect.poll(() => r.door.inFlight()).toBe(2)
    still.advance(limits.httpRequestMs + limits.httpHandlerMs + 2_000)
    expect([(await hanging).status, (await hanging).body['__type']]).toEqual([500, 'InternalFailure'])
    go()
    expect([200, 503]).toContain((await waiting).status)
    expect((await put()).status).toBe(200)
    expect(r.events.filter((e) => e.type === 'request.handled').length).toBe(3)
  })
  test('a connection that says nothing is closed', async () => {
    await open({ limits: { httpIdleMs: 100 } })
    expect(await raw('')).toBe('')
    expect(await raw('P')).toBe('')
    const agent = new Agent({ keepAlive: true })
    await post(port(), TARGET, putBody(), { agent })
    const [socket] = Object.values(agent.freeSockets).flat()
    if (socket) await once(socket, 'close')
    agent.destroy()
  })
  test('an idle HTTP/2 session is closed', async () => {
    await open({ limits: { httpIdleMs: 100 } })
    const client = h2()
    await once(client, 'close')
  })
})

test('1,000 idle connections cost little, and the door stays open', async () => {
  await open()
  await put()
  const before = process.memoryUsage().rss
  const idle = Array.from({ length: 1_000 }, () => dial())
  await Promise.all(idle.map((s) => once(s, 'connect')))
  expect((await put()).status).toBe(200)
  // both ends live in this process
  expect(process.memoryUsage().rss - before).toBeLessThan(60 * 1024 * 1024)
})

describe('bytes in flight', () => {
  test('beyond the budget requests wait unread, and go on in order', async () => {
    await open({ limits: { httpBodyBytes: 10_000, httpInFlightBytes: 10_000 } })
    const { promise, resolve: go } = Promise.withResolvers<void>()
    r.ingest.gate = promise
    const answers = Array.from({ length: 4 }, () => post(port(), TARGET, putBody(6_000)))
    await expect.poll(() => r.door.inFlight()).toBe(4)
    expect(r.ingest.puts).toBe(0)
    go()
    expect((await Promise.all(answers)).map((a) => a.status)).toEqual([200, 200, 200, 200])
  })
  test('the line: first come, first served; who leaves makes room', () => {
    const b = new ByteBudget(10)
    const got: string[] = []
    b.take(8, () => got.push('a'))
    const leave = b.take(9, () => got.push('b'))
    b.take(2, () => got.push('c'))
    expect([got, b.used, b.waiting]).toEqual([['a'], 8, 2])
    leave()
    expect([got, b.used, b.waiting]).toEqual([['a', 'c'], 10, 0])
    b.give(8)
    b.give(2)
    expect(b.used).toBe(0)
    expect(() => b.take(11, () => {})).toThrow(RangeError)
  })
})

describe('drain', () => {
  test('what is under way is answered, what comes is told to come back', async () => {
    await open()
    const { promise, resolve: go } = Promise.withResolvers<void>()
    r.ingest.gate = promise
    const first = put()
    await expect.poll(() => r.door.inFlight()).toBe(1)
    let drained = false
    const draining = r.door.drain(AbortSignal.timeout(10_000)).then(() => (drained = true))
    const late = await put({ connection: 'keep-alive' })
    expect([late.status, late.body['__type'], late.headers['retry-after'], late.headers['connection']]).toEqual([
      503,
      'ServiceUnavailableException',
      '1',
      'close',
    ])
    expect(drained).toBe(false)
    go()
    expect((await first).status).toBe(200)
    await draining
  })
  test('the deadline ends the wait, close ends the rest', async () => {
    await open()
    r.ingest.gate = new Promise(() => {})
    const first = put()
    first.catch(() => {})
    await expect.poll(() => r.door.inFlight()).toBe(1)
    await r.door.drain(AbortSignal.timeout(20))
    await r.close()
    await expect(first).rejects.toThrow()
  })
})

const securePut = (ca: Buffer): Promise<number> =>
  new Promise((resolve, reject) => {
    const req = https.request(
      {
        host: '127.0.0.1',
        port: port(),
        method: 'POST',
        ca,
        agent: false,
        headers: { ...TARGET, 'content-type': 'application/x-amz-json-1.1' },
      },
      (res) => {
        res.resume()
        res.on('end', () => resolve(res.statusCode ?? 0))
      },
    )
    req.on('error', reject)
    req.end(putBody())
  })

describe('TLS', () => {
  test('HTTP/1.1 and HTTP/2 by ALPN; new certificates for new connections', async () => {
    const [a, b] = [selfSigned(), selfSigned()]
    await open({ tls: a })
    expect(await securePut(a.cert)).toBe(200)
    expect((await h2Put(h2(r.url.replace('http:', 'https:'), { ca: a.cert }), putBody())).status).toBe(200)
    await expect(securePut(b.cert)).rejects.toThrow(/self.signed|certificate/i)
    await r.door.setTls(b)
    expect(await securePut(b.cert)).toBe(200)
  })
  test('clear text on a TLS port is closed, and a slow handshake too', async () => {
    await open({ tls: selfSigned(), limits: { httpHeadersMs: 100 } })
    expect(await raw('GET / HTTP/1.1\r\n\r\n')).not.toContain('200')
    expect(await raw(Buffer.from([0x16, 0x03]))).toBe('')
  })
  test('slow headers inside TLS end too', async () => {
    const files = selfSigned()
    await open({ tls: files, limits: { httpHeadersMs: 100, httpRequestMs: 300, httpIdleMs: 1_000 } })
    const s = connectTls({ host: '127.0.0.1', port: port(), ca: files.cert, ALPNProtocols: ['http/1.1'] })
    sockets.push(s)
    s.on('error', () => {})
    await once(s, 'secureConnect')
    s.write('POST / HTTP/1.1\r\n')
    let got = ''
    for await (const c of s) got += String(c)
    expect(got).toMatch(/^(HTTP\/1.1 408 .*)?$/s)
  })
  test('without TLS there is nothing to change', async () => {
    await open()
    await expect(r.door.setTls(selfSigned())).rejects.toThrow(/has no TLS/)
  })
})

describe('where it may listen', () => {
  test.each([
    ['127.0.0.1', true],
    ['127.9.9.9', true],
    ['::1', true],
    ['[::1]', true],
    ['localhost', true],
    ['::ffff:127.0.0.1', true],
    ['0.0.0.0', false],
    ['::', false],
    ['10.0.0.1', false],
    ['127.0.0.1.example.com', false],
    ['localhost.example.com', false],
  ])('%s is loopback: %s', (host, loopback) => {
    expect(isLoopback(host)).toBe(loopback)
    const say = checkListen({ host, auth: 'none', allowUnauthenticated: false })
    expect(say === null).toBe(loopback)
    expect(checkListen({ host, auth: 'sigv4', allowUnauthenticated: false })).toBeNull()
    expect(checkListen({ host, auth: 'none', allowUnauthenticated: true })).toBeNull()
  })
})

test('a port that is taken is an error, not a hang', async () => {
  await open()
  await expect(rig({ listen: { host: '127.0.0.1', port: port() } })).rejects.toThrow(
    /^listening on 127\.0\.0\.1:\d+ \(api\.listen\): .*EADDRINUSE.*: another hydrant, or another program, has the address: change api\.listen or stop it$/,
  )
})
