import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { assertClean, audit } from '../harness/audit.ts'
import { FirehoseClient, load, type LoadResult } from '../harness/client.ts'
import { Home, type Daemon } from '../harness/daemon.ts'
import { Outcomes } from '../harness/outcomes.ts'
import { sign } from '../harness/sigv4.ts'
import { fileStore, type Store } from '../harness/stores.ts'

const keys = { accessKey: 'AKIATESTTESTTEST', secretKey: 'a-secret-of-the-tests' }
const STREAM = 'events'
const IDLE = 5_000
const MIB = 1024 * 1024

let home: Home
let store: Store
let daemon: Daemon
let client: FirehoseClient
let rssAtStart: number
const log = new Outcomes(0xbad)
const stop = new AbortController()
let honest: Promise<LoadResult>

// an honest client sends all the time: nothing that others send may cost it a record
beforeAll(async () => {
  home = await Home.make()
  store = fileStore(home.folder)
  await home.configure({
    keys,
    connections: 10_000,
    pipelines: [
      { name: STREAM, sink: store.sink },
      { name: 'scratch', sink: fileStore(home.folder).sink },
    ],
  })
  daemon = await home.start().ready()
  client = new FirehoseClient({ url: daemon.url, credentials: keys })
  // enough that the engine's young generation has grown to what it takes under any load (30 MiB, found in the maps of the process):
  // what comes on top is wrong input's
  await load(client, { stream: STREAM, log, seed: 1, records: 20_000, firstProducer: 50 })
  rssAtStart = await daemon.rss()
  honest = load(client, { stream: STREAM, log, seed: 1, until: stop.signal, rate: 500, batch: 20 })
})
afterAll(async () => {
  stop.abort()
  client.close()
  await home.remove()
})

const b64 = (n: number): string => Buffer.alloc(n, 'x').toString('base64')
const put = (data: unknown): object => ({ DeliveryStreamName: STREAM, Record: { Data: data } })
const batch = (records: unknown): object => ({ DeliveryStreamName: STREAM, Records: records })

describe('a clear 4xx in the form of AWS', () => {
  const cases: [what: string, operation: string, input: object | string, type: string][] = [
    ['data is not base64', 'PutRecord', put('not base64!'), 'SerializationException'],
    ['base64 of a wrong length', 'PutRecord', put('YWJj='), 'SerializationException'],
    ['a record of 1,024,001 bytes', 'PutRecord', put(b64(1_024_001)), 'ValidationException'],
    ['501 records', 'PutRecordBatch', batch(Array.from({ length: 501 }, () => ({ Data: '' }))), 'ValidationException'],
    ['no record', 'PutRecordBatch', batch([]), 'ValidationException'],
    ['4 MiB and a byte', 'PutRecordBatch', batch(Array.from({ length: 5 }, () => ({ Data: b64(838_861) }))), 'InvalidArgumentException'],
    ['an operation that does not exist', 'PutRecords', put(''), 'UnknownOperationException'],
    ['an operation of another service', '__proto__', put(''), 'UnknownOperationException'],
    ['a number for data', 'PutRecord', put(17), 'SerializationException'],
    ['an object for data', 'PutRecord', put({ a: 1 }), 'SerializationException'],
    ['a text for records', 'PutRecordBatch', batch('abc'), 'SerializationException'],
    ['null for a record', 'PutRecordBatch', batch([null]), 'ValidationException'],
    ['no data', 'PutRecord', { DeliveryStreamName: STREAM, Record: {} }, 'ValidationException'],
    ['no stream', 'PutRecord', { Record: { Data: '' } }, 'ValidationException'],
    ['a stream name that is none', 'PutRecord', { DeliveryStreamName: 'a b', Record: { Data: '' } }, 'ValidationException'],
    ['a stream that is not there', 'PutRecord', { DeliveryStreamName: 'other', Record: { Data: '' } }, 'ResourceNotFoundException'],
    ['JSON that ends early', 'PutRecord', '{"DeliveryStreamName":"events"', 'SerializationException'],
    ['no JSON', 'PutRecord', 'hello', 'SerializationException'],
    ['a list', 'PutRecord', '[]', 'SerializationException'],
    ['100,000 levels', 'PutRecord', `{"a":${'['.repeat(100_000)}${']'.repeat(100_000)}}`, 'ValidationException'],
  ]
  test.each(cases)('%s', async (_, operation, input, type) => {
    const a = await client.call(operation, input)
    expect([a.status, a.body['__type']]).toEqual([400, type])
    // AWS says no more than this about an operation that it does not know
    if (type !== 'UnknownOperationException') expect(a.body['message']).toEqual(expect.any(String))
    expect(a.headers['x-amzn-requestid']).toMatch(/^[0-9a-f-]{36}$/)
  })

  test('a body of 9 MiB', async () => {
    const a = await client.call('PutRecord', put('A'.repeat(9 * MIB))).catch(() => null)
    // an answer, or a socket that was closed before all was sent
    if (a) expect([a.status >= 400 && a.status < 500, typeof a.body['__type']]).toEqual([true, 'string'])
  })
})

interface Wire {
  readonly status: number
  readonly text: string
}
/** Sends bytes as they are; resolves with what came until the server closed, or the first whole answer. */
async function wire(text: string, o: { endInput?: boolean; withinMs?: number } = {}): Promise<Wire> {
  const socket = connect(home.ports.api, '127.0.0.1')
  let got = ''
  socket.setEncoding('latin1')
  const over = Promise.withResolvers<void>()
  socket.on('data', (d: string) => {
    got += d
    const length = /content-length: (\d+)/i.exec(got)
    const head = got.indexOf('\r\n\r\n')
    if (head >= 0 && length && got.length >= head + 4 + Number(length[1])) over.resolve()
  })
  socket.on('error', () => over.resolve())
  socket.on('close', () => over.resolve())
  socket.write(text)
  if (o.endInput === true) socket.end()
  const late = setTimeout(
    () => over.reject(new Error(`no answer and no end in ${o.withinMs ?? 15_000} ms; got "${got}"`)),
    o.withinMs ?? 15_000,
  )
  await over.promise.finally(() => {
    clearTimeout(late)
    socket.destroy()
  })
  return { status: Number(/^HTTP\/1\.1 (\d+)/.exec(got)?.[1] ?? 0), text: got }
}

const good = JSON.stringify({ DeliveryStreamName: 'scratch', Record: { Data: 'YQ==' } })
function request(headers: Record<string, string>, body: string, extra = ''): string {
  const lines = Object.entries({ ...headers, 'content-length': String(Buffer.byteLength(body)) }).map(([k, v]) => `${k}: ${v}\r\n`)
  return `POST / HTTP/1.1\r\n${lines.join('')}${extra}\r\n${body}`
}
function signed(body = good, at = new Date()): Record<string, string> {
  const headers = {
    host: new URL(daemon.url).host,
    'content-type': 'application/x-amz-json-1.1',
    'x-amz-target': 'Firehose_20150804.PutRecord',
  }
  return sign({ method: 'POST', path: '/', headers, body, service: 'firehose', region: 'us-east-1', now: at }, keys)
}
/** 4xx with a type, or the socket closed without a word. */
function expectRefused(w: Wire): void {
  if (w.text === '') return
  expect(w.status, w.text).toBeGreaterThanOrEqual(400)
  expect(w.status, w.text).toBeLessThan(500)
}

const flip = (x: string): string => x.replace(/.$/, (c) => (c === '0' ? '1' : '0'))

describe('broken signatures', () => {
  const cases: [string, () => Record<string, string>][] = [
    ['none', () => ({ ...signed(), authorization: '' })],
    ['one digit changed', () => ({ ...signed(), authorization: flip(signed()['authorization'] ?? '') })],
    ['of another body', () => signed('{}')],
    ['an hour old', () => signed(good, new Date(Date.now() - 3_600_000))],
    ['of an unknown key', () => ({ ...signed(), authorization: (signed()['authorization'] ?? '').replace(keys.accessKey, 'AKIAOTHER') })],
    ['for another service', () => ({ ...signed(), authorization: (signed()['authorization'] ?? '').replace('firehose', 's3') })],
    ['not a signature', () => ({ ...signed(), authorization: 'Basic YTpi' })],
    ['a target changed after signing', () => ({ ...signed(), 'x-amz-target': 'Firehose_20150804.DeleteDeliveryStream' })],
    ['a very long one', () => ({ ...signed(), authorization: `AWS4-HMAC-SHA256 Credential=${'a'.repeat(20_000)}` })],
  ]
  test.each(cases)('%s', async (_, headers) => {
    const w = await wire(request(headers(), good))
    expectRefused(w)
    expect(w.text).toContain('__type')
  })

  test('the unbroken one is taken', async () => {
    expect((await wire(request(signed(), good))).status).toBe(200)
  })
})

describe('HTTP that is not as it should be', () => {
  const duplicated = ['host: 127.0.0.1:1', 'x-amz-target: Firehose_20150804.PutRecordBatch', 'x-amz-date: 20200101T000000Z', 'authorization: x', 'content-length: 3', 'content-type: text/plain'] // prettier-ignore
  test.each(duplicated)('a second "%s"', async (line) => expectRefused(await wire(request(signed(), good, `${line}\r\n`))))

  const raw: [string, string][] = [
    ['no HTTP', 'hello\r\n\r\n'],
    ['a TLS hello', '\x16\x03\x01\x02\x00\x01\x00'.padEnd(64, '\x00')],
    ['a NUL in a header', 'POST / HTTP/1.1\r\nhost: a\x00b\r\n\r\n'],
    ['length and chunks', 'POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n'],
    ['a negative length', 'POST / HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n'],
    ['a header of 1 MiB', `POST / HTTP/1.1\r\nhost: a\r\nx: ${'y'.repeat(MIB)}\r\n\r\n`],
    ['GET', 'GET / HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n'],
    ['another path', 'POST /a/b HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 0\r\n\r\n'],
  ]
  test.each(raw)('%s', async (_, text) => expectRefused(await wire(text, { endInput: true })))

  test('half a request, then the end', async () => {
    const whole = request(signed(), good)
    for (const cut of [10, whole.indexOf('\r\n\r\n') + 2, whole.length - 1])
      expectRefused(await wire(whole.slice(0, cut), { endInput: true }))
  })
})

test('slow clients are ended; those that are slow but in time are served', { timeout: 90_000 }, async () => {
  const whole = request(signed(), good)
  const sockets = Array.from({ length: 50 }, () => connect(home.ports.api, '127.0.0.1'))
  const ends = sockets.map((s) => {
    s.on('error', () => {})
    s.resume()
    return once(s, 'close')
  })
  // a byte a second: never a whole head
  const drip = setInterval(() => sockets.forEach((s, i) => s.writable && s.write(i % 2 === 0 ? 'P' : 'x-a: b\r\n')), 1_000)
  for (const s of sockets) s.write('POST / HTTP/1.1\r\n')
  const inTime = (async () => {
    const s = connect(home.ports.api, '127.0.0.1')
    for (let i = 0; i < whole.length; i += 200) {
      s.write(whole.slice(i, i + 200))
      await new Promise((r) => void setTimeout(r, 50))
    }
    const [data] = (await once(s, 'data')) as [Buffer]
    s.destroy()
    return data.toString()
  })()
  expect(await inTime).toMatch(/^HTTP\/1\.1 200/)
  await Promise.all(ends)
  clearInterval(drip)
})

test('5,000 idle connections: the others are served', { timeout: 90_000 }, async () => {
  const idle: Socket[] = []
  for (let i = 0; i < IDLE; i += 250) {
    const some = Array.from({ length: 250 }, () => connect(home.ports.api, '127.0.0.1').on('error', () => {}))
    idle.push(...some)
    await Promise.all(some.map((s) => once(s, 'connect')))
  }
  const before = log.count('ok')
  const r = await load(client, { stream: STREAM, log, seed: 2, records: 500, firstProducer: 60 })
  expect(r.ok).toBe(500)
  expect(log.count('ok')).toBeGreaterThan(before)
  expect(idle.filter((s) => !s.destroyed).length).toBeGreaterThan(IDLE - 100)
  for (const s of idle) s.destroy()
})

test('afterwards: memory as at the start, the honest client lost nothing', { timeout: 60_000 }, async () => {
  stop.abort()
  const sent = await honest
  expect(sent.refusals, sent.lastRefusal ?? '').toBe(0)
  await daemon.drained()
  const grown = await settled()
  process.stderr.write(
    `wrong input: resident memory ${(rssAtStart / MIB).toFixed(0)} MiB at the start, ${(grown / MIB).toFixed(0)} MiB after\n`,
  )
  expect(grown - rssAtStart).toBeLessThan(50 * MIB)
  await daemon.drain()
  assertClean(await audit({ outcomes: log, delivered: [store.place], compression: 'none' }), 'wrong input')
})

/** The lowest of the next seconds: garbage is collected when the engine likes. */
async function settled(): Promise<number> {
  let lowest = Number.POSITIVE_INFINITY
  for (let i = 0; i < 40 && lowest - rssAtStart > 45 * MIB; i++) {
    lowest = Math.min(lowest, await daemon.rss())
    await new Promise((r) => void setTimeout(r, 250))
  }
  return lowest
}
