import { createServer, METHODS, type IncomingMessage, type ServerResponse } from 'node:http'
import { Duplex } from 'node:stream'
import { expect, test } from 'vitest'
import { connection, feed, type Rig } from './pipe.ts'
import { rng, type Rng } from '../../harness/random.ts'

/** A request whose body is complete: method, url, names and values in turn, body. */
type Plain = readonly [string, string, readonly string[], string]

const TARGETS = ['/', '/', '/a?b=c', '*', '/\x80', '/%zz', '//', '/..;/']
const FIELDS = [
  'Host: x', 'Host: x', 'Host: x', 'Content-Type: application/x-amz-json-1.1', 'X-Amz-Target: a.B', 'Connection: keep-alive', 'Connection: close',
  'Expect: 100-continue', 'Upgrade: h2c', 'a:', 'a:  b \t', 'a: \x80\xff', 'Content-Length: 3', 'Content-Length: 03',
  'content-length: 10', 'Transfer-Encoding: chunked', 'transfer-encoding: identity', 'Transfer-Encoding: gzip, chunked', 'Keep-Alive: 5',
] // prettier-ignore
const SPICE = [
  '\r', '\n', '\r\n', '\0', ' ', '\t', ':', ',', '0', '1', 'a', 'f', '\x80', '\x7f', '\x0b', '\r\n\r\n', '\r\n ', ' :', 'chunked', '-', '+', '"',
  'Content-Length: 5\r\n', 'Transfer-Encoding: chunked\r\n', 'HTTP/1.1', 'GET / HTTP/1.1\r\nHost: x\r\n\r\n',
] // prettier-ignore

/** Without extensions: llhttp looks into them, to us they are text. */
function chunked(random: Rng, data: string): string {
  let text = ''
  for (let at = 0; at < data.length;) {
    const n = 1 + random.below(data.length - at)
    text += `${n.toString(16)}\r\n${data.slice(at, at + n)}\r\n`
    at += n
  }
  return `${text}0\r\n${random.below(4) === 0 ? 'X-Sum: 1\r\n' : ''}\r\n`
}

function request(random: Rng): string {
  const version = random.below(12) === 0 ? '1.0' : '1.1'
  let text = `${random.pick(['POST', 'POST', 'GET', 'PUT', 'HEAD', 'OPTIONS'])} ${random.pick(TARGETS)} HTTP/${version}\r\nHost: x\r\n`
  const data = 'x'.repeat(random.below(40))
  for (let n = random.below(4); n > 0; n--) if (random.below(3) !== 0) text += `${random.pick(FIELDS.slice(3))}\r\n`
  const framing = random.below(3)
  if (framing === 0) text += `Content-Length: ${data.length}\r\n\r\n${data}`
  else if (framing === 1) text += `Transfer-Encoding: chunked\r\n\r\n${chunked(random, data)}`
  else text += '\r\n'
  return text
}

/** Some requests behind each other, and most of the time something that should not be there. */
function stream(random: Rng): string {
  let text = ''
  for (let n = 1 + random.below(4); n > 0; n--) text += request(random)
  for (let n = random.below(3); n > 0; n--) {
    const at = random.below(text.length + 1)
    text = text.slice(0, at) + (random.below(4) === 0 ? '' : random.pick(SPICE)) + text.slice(at + random.below(3))
  }
  return text
}

/** As our wire takes them, each answered at once and read at once. */
function ours(text: string, pieces: readonly number[], started?: (e: Rig['seen'][number]) => void): { requests: Plain[]; out: string } {
  const r = connection(started === undefined ? {} : { started })
  for (const [i, from] of [0, ...pieces].entries()) {
    feed(r, text.slice(from, pieces[i] ?? text.length))
    for (const e of r.seen) e.wire.receive()
    while (r.pipe.unwritten.length > 0) {
      r.pipe.flush()
      for (const e of r.seen) e.wire.receive()
    }
  }
  r.http.ended()
  r.pipe.flush()
  r.http.closed()
  for (const e of r.seen) expect(e.lost).toBe(1)
  const requests = r.seen.filter((e) => e.complete).map((e) => [e.method, e.url, e.headers, e.body.toString('latin1')] as const)
  return { requests, out: r.pipe.out.replaceAll('HTTP/1.1 100 Continue\r\n\r\n', '') }
}

/** As llhttp takes them, strict. */
async function theirs(text: string): Promise<Plain[]> {
  const got: { plain: Plain; complete: boolean }[] = []
  const { promise, resolve } = Promise.withResolvers<void>()
  const take = (req: IncomingMessage, res: ServerResponse): void => {
    const one = { plain: [req.method ?? '', req.url ?? '', req.rawHeaders, ''] as [string, string, string[], string], complete: false }
    got.push(one)
    req.on('data', (c: Buffer) => (one.plain[3] += c.toString('latin1')))
    req.on('end', () => {
      one.complete = true
      res.end()
    })
    req.on('error', () => {})
  }
  const server = createServer({ keepAliveTimeout: 0 }, take)
  server.on('checkContinue', take)
  server.on('checkExpectation', take)
  // requests before the fault are still being read
  server.on('clientError', (_, s) => setImmediate(() => setImmediate(() => s.destroy())))
  const socket = new Duplex({ read: () => {}, write: (_c, _e, done) => done(), final: (done) => done() })
  socket.on('error', () => {})
  socket.on('close', resolve)
  server.emit('connection', socket)
  socket.push(Buffer.from(text, 'latin1'))
  socket.push(null)
  await promise
  return got.filter((g) => g.complete).map((g) => g.plain)
}

function pieces(random: Rng, length: number): number[] {
  const many = random.below(3) === 0 ? length : random.below(8)
  const at = Array.from({ length: many }, (_, i) => (many === length ? i + 1 : random.below(length + 1)))
  return at.toSorted((a, b) => a - b)
}

test('a stream in pieces is the same stream, also when the body waits', () => {
  const random = rng(11)
  let requests = 0
  for (let i = 0; i < 3_000; i++) {
    const text = stream(random)
    const whole = ours(text, [])
    requests += whole.requests.length
    expect(ours(text, pieces(random, text.length)), JSON.stringify(text)).toEqual(whole)
    expect(
      ours(text, pieces(random, text.length), () => {}),
      JSON.stringify(text),
    ).toEqual(whole)
  }
  expect(requests).toBeGreaterThan(1_000)
})

test('what is taken, llhttp takes as well: the same requests with the same bodies', async () => {
  const random = rng(12)
  let taken = 0
  let refused = 0
  for (let i = 0; i < 3_000; i++) {
    const text = stream(random)
    const { requests: all, out } = ours(text, [])
    // llhttp has a list of methods, and looks into URLs; to us any token is a method, and any URL one that has no operation
    const strange = all.findIndex(([method, url]) => !METHODS.includes(method) || !/^\/|^\*$/.test(url))
    const requests = strange === -1 ? all : all.slice(0, strange)
    const reference = await theirs(text)
    expect(requests, JSON.stringify(text)).toEqual(reference.slice(0, requests.length))
    taken += requests.length
    if (strange !== -1 || requests.length === reference.length) continue
    // what we do not take is refused in so many words, or comes behind a request that was the last by its own word
    refused++
    expect(out, JSON.stringify(text)).toMatch(/HTTP\/1\.1 400 |Connection: close/)
  }
  expect(taken).toBeGreaterThan(1_000)
  expect(refused).toBeLessThan(1_500)
})
