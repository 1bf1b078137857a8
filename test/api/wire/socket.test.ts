import { once } from 'node:events'
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import { afterEach, describe, expect, test } from 'vitest'
import { Http1Door } from '../../../core/api/wire/socket.ts'
import { rng, type Rng } from '../../harness/random.ts'
import { selfSigned } from '../certificate.ts'
import { limits } from '../../../core/limits.ts'
import { closeAll, dial, open, port, putBody, r, raw, rawPut, sockets, StillHost, stored } from '../wire.ts'

afterEach(closeAll)

const later = (): Promise<void> => new Promise((resolve) => void setImmediate(resolve))

interface Item {
  readonly text: string
  readonly status: number
  /** Bytes of the record that is stored, when one is. */
  readonly stored?: number
  /** The connection ends with its answer. */
  readonly last?: boolean
}
function chunked(random: Rng, body: string): string {
  let text = ''
  for (let at = 0; at < body.length;) {
    const n = Math.min(body.length - at, 1 + random.below(random.below(3) === 0 ? 3 : 9_000))
    text += `${n.toString(16)}\r\n${body.slice(at, at + n)}\r\n`
    at += n
  }
  return rawPut('transfer-encoding: chunked\r\n', `${text}0\r\n\r\n`)
}
/** A request and what must come of it. */
function item(random: Rng): Item {
  const bytes = random.below(4) === 0 ? random.below(120_000) : random.below(300)
  const body = putBody(bytes)
  const length = `content-length: ${body.length}\r\n`
  const all: (() => Item)[] = [
    () => ({ text: rawPut(length, body), status: 200, stored: bytes }),
    () => ({ text: rawPut(length, body), status: 200, stored: bytes }),
    () => ({ text: rawPut(length, body), status: 200, stored: bytes }),
    () => ({ text: chunked(random, body), status: 200, stored: bytes }),
    () => ({ text: `\r\n${rawPut(length, body)}`, status: 200, stored: bytes }),
    () => ({ text: rawPut(`expect: 100-continue\r\n${length}`, body), status: 200, stored: bytes }),
    () => ({ text: rawPut(length.replace('length: ', 'length: 0'), body), status: 200, stored: bytes }),
    () => ({ text: rawPut(length, body.replace('}', '"')), status: 400 }),
    () => ({ text: rawPut(length, body).replace('PutRecord\r', 'Nothing\r'), status: 400 }),
    () => ({
      text: rawPut('transfer-encoding: chunked\r\n', `${(200_000).toString(16)}\r\n${' '.repeat(200_000)}\r\n0\r\n\r\n`),
      status: 413,
    }),
    () => ({ text: rawPut('content-length: 200000\r\n', ' '.repeat(200_000)), status: 413 }),
    () => ({ text: rawPut(length, body).replace('POST /', 'PUT /a'), status: 404 }),
    () => ({ text: 'HEAD / HTTP/1.1\r\nhost: x\r\n\r\n', status: 404 }),
  ]
  const lasts: (() => Item)[] = [
    () => ({ text: rawPut(`${length}connection: close\r\n`, body), status: 200, stored: bytes }),
    () => ({ text: rawPut(length, body).replace('HTTP/1.1', 'HTTP/1.0'), status: 200, stored: bytes }),
    () => ({ text: rawPut(length, body).replace('host: x', 'host : x'), status: 400 }),
    () => ({ text: rawPut(`${length}transfer-encoding: chunked\r\n`, body), status: 400 }),
    () => ({ text: rawPut('transfer-encoding: chunked\r\n', `3\r\nabcd${body}`), status: 400 }),
    () => ({ text: `POST / HTTP/1.1\r\nx: ${'y'.repeat(40_000)}`, status: 431 }),
    () => ({ text: rawPut('expect: 100-continue\r\ncontent-length: 200000\r\n', ''), status: 413 }),
  ]
  return random.below(8) === 0 ? { ...random.pick(lasts)(), last: true } : random.pick(all)()
}

/** Writes in random pieces, some at once and some after what is under way; reads until the server ends. */
async function talk(s: Socket, random: Rng, items: readonly Item[], leave: 'half' | 'reset'): Promise<string> {
  let got = ''
  s.on('data', (c: Buffer) => (got += c.toString('latin1')))
  const closed = new Promise((resolve) => s.once('close', resolve))
  const text = items.map((i) => i.text).join('')
  for (let at = 0; at < text.length && !s.destroyed && s.writable;) {
    const n = 1 + random.below([3, 200, 70_000][random.below(3)] ?? 1)
    s.write(text.slice(at, at + n), 'latin1')
    at += n
    if (random.below(3) === 0) await later()
  }
  if (leave === 'reset') s.destroy()
  else s.end()
  await closed
  return got
}

function check(got: string, items: readonly Item[]): void {
  const answers = got.replaceAll('HTTP/1.1 100 Continue\r\n\r\n', '')
  const last = items.findIndex((i) => i.last === true)
  const expected = items.slice(0, last === -1 ? items.length : last + 1)
  expect([...answers.matchAll(/HTTP\/1\.1 (\d+)/g)].map((m) => Number(m[1]))).toEqual(expected.map((i) => i.status))
  const ids = [...answers.matchAll(/x-amzn-RequestId: (\S+)/g)].map((m) => m[1])
  expect(new Set(ids).size).toBe(expected.length)
  expect(answers.match(/Connection: close/g)?.length ?? 0).toBeLessThanOrEqual(1)
}

async function server(tls: boolean): Promise<() => Promise<Socket>> {
  const files = selfSigned()
  await open({
    ...(tls ? { tls: files } : {}),
    // few connections, and room for one and a half large bodies: whatever stayed behind would stop the test
    limits: { httpConnections: 16, httpBodyBytes: 180_000, httpInFlightBytes: 270_000 },
  })
  const put = r.ingest.put.bind(r.ingest)
  const random = rng(5)
  r.ingest.put = async (...a) => {
    for (let n = random.below(3); n > 0; n--) await later()
    return put(...a)
  }
  return async () => {
    if (!tls) return dial()
    const s = connectTls({ host: '127.0.0.1', port: port(), ca: files.cert, ALPNProtocols: ['http/1.1'] })
    s.on('error', () => {})
    sockets.push(s)
    await once(s, 'secureConnect')
    return s
  }
}

test.each([
  ['memory of ours', false, 300],
  ['events, inside TLS', true, 100],
])('random requests in random pieces, by %s: each is answered once and in order, nothing stays behind', async (_, tls, rounds) => {
  const connectOne = await server(tls)
  const random = rng(tls ? 3 : 2)
  const wanted: number[] = []
  let next = 0
  const lane = async (): Promise<void> => {
    while (next++ < rounds) {
      const items = Array.from({ length: 1 + random.below(6) }, () => item(random))
      const leave = random.below(6) === 0 ? 'reset' : 'half'
      const got = await talk(await connectOne(), random, items, leave)
      if (leave === 'reset') continue
      check(got, items)
      const last = items.findIndex((i) => i.last === true)
      wanted.push(...items.slice(0, last === -1 ? items.length : last + 1).flatMap((i) => i.stored ?? []))
    }
  }
  await Promise.all([lane(), lane(), lane()])
  await expect.poll(() => r.door.inFlight()).toBe(0)
  // every record that was acknowledged is there, and holds what was sent; those of a connection that was reset may be there or not
  const stored = r.ingest.values.get('a') ?? []
  for (const v of stored) expect(v.every((b) => b === 0x78)).toBe(true)
  const left = stored.map((v) => v.length)
  for (const bytes of wanted) {
    const at = left.indexOf(bytes)
    expect(at).not.toBe(-1)
    left.splice(at, 1)
  }
})

describe('a connection that ends', () => {
  test('the answer comes before the end, though the client still sends', async () => {
    await open({ limits: { httpBodyBytes: 1_000 } })
    const s = dial()
    s.write(rawPut('connection: close\r\ncontent-length: 9000000\r\n', ' '.repeat(500_000)))
    let got = ''
    for await (const c of s) {
      got += String(c)
      if (s.writable) s.write(' '.repeat(500_000))
    }
    expect(got).toMatch(/^HTTP\/1\.1 413 /)
    expect(got).toContain('RequestEntityTooLarge')
  })
  test('pipelined requests and a half-close in the first packet are all answered', async () => {
    await open()
    const one = rawPut(`content-length: ${putBody().length}\r\n`)
    const got = await raw(one + one + one, { end: true })
    expect(got.match(/HTTP\/1\.1 200 OK/g)?.length).toBe(3)
  })
  test('half a request behind another in one packet', async () => {
    await open()
    const one = rawPut(`content-length: ${putBody().length}\r\n`)
    const s = dial()
    s.write(one + one.slice(0, 40))
    await once(s, 'data')
    await later()
    s.end(one.slice(40))
    let got = ''
    for await (const c of s) got += String(c)
    expect(got).toMatch(/^HTTP\/1\.1 200 OK/)
  })
  test('a client that resets in the first packet, or says nothing, leaves no place taken', async () => {
    await open({ limits: { httpConnections: 2 } })
    for (let i = 0; i < 20; i++) {
      const s = dial()
      await once(s, 'connect')
      if (i % 3 === 1) s.write('P')
      if (i % 3 === 2) s.write(rawPut('content-length: 900\r\n', ''))
      if (i % 2 === 0) s.resetAndDestroy()
      else s.end()
      await new Promise((resolve) => (s.destroyed ? resolve(null) : s.resume().once('close', resolve)))
      await later()
    }
    await expect
      .poll(async () => (await raw(rawPut(`connection: close\r\ncontent-length: ${putBody().length}\r\n`))).slice(9, 12))
      .toBe('200')
    expect(r.door.inFlight()).toBe(0)
  })
})

describe('memory of a body is not shared', () => {
  const BYTES = 50_000
  const length = `content-length: ${putBody(BYTES).length}\r\n`
  const whole = (): boolean => (r.ingest.values.get('a') ?? []).every((v) => v.length === BYTES && v.every((b) => b === 0x78))
  /** A request that has come in part, with the read under way that would go into its body. */
  async function half(): Promise<Socket> {
    // it goes on sending after the server has ended
    const s = connect({ host: '127.0.0.1', port: port(), allowHalfOpen: true })
    s.on('error', () => {})
    sockets.push(s)
    await once(s, 'connect')
    s.write(rawPut(length, putBody(BYTES).slice(0, 20_000)))
    await expect.poll(() => r.door.inFlight()).toBe(1)
    for (let i = 0; i < 5; i++) await later()
    s.write('#'.repeat(1_000))
    for (let i = 0; i < 5; i++) await later()
    return s
  }
  test('with the rest of a request that was refused in the middle', async () => {
    const still = new StillHost()
    await open({ host: still.host })
    const s = await half()
    still.advance(limits.httpBodyGraceMs + 2_000)
    await once(s, 'data')
    const { promise, resolve: go } = Promise.withResolvers<void>()
    r.ingest.gate = promise
    const others = Array.from({ length: 3 }, () => raw(rawPut(`${length}connection: close\r\n`, putBody(BYTES))))
    await expect.poll(() => r.door.inFlight()).toBe(3)
    for (let i = 0; i < 30; i++) await later()
    s.write('#'.repeat(20_000)) // goes where its own body was
    for (let i = 0; i < 5; i++) await later()
    go()
    for (const got of await Promise.all(others)) expect(got).toMatch(/^HTTP\/1\.1 200/)
    expect([stored(), whole()]).toEqual([3, true])
  })
  test('with a request whose operation is still at work after its answer', async () => {
    const still = new StillHost()
    await open({ host: still.host })
    const seen: Uint8Array[] = []
    const { promise, resolve: go } = Promise.withResolvers<void>()
    const put = r.ingest.put.bind(r.ingest)
    r.ingest.put = async (name, batch) => {
      seen.push(batch.bytes)
      if (seen.length === 1) await promise
      return put(name, batch, new AbortController().signal)
    }
    const first = raw(rawPut(`${length}connection: close\r\n`, putBody(BYTES)))
    await expect.poll(() => seen.length).toBe(1)
    still.advance(limits.httpRequestMs + limits.httpHandlerMs + 2_000)
    expect(await first).toMatch(/^HTTP\/1\.1 500/)
    await raw(rawPut(`${length}connection: close\r\n`, putBody(BYTES).replaceAll('eHh4', 'eXl5')))
    expect(seen[0]?.buffer).not.toBe(seen[1]?.buffer)
    go()
    await expect.poll(stored).toBe(2)
    expect(r.ingest.values.get('a')?.[1]?.every((b) => b === 0x78)).toBe(true)
  })
})

const accept = (): Promise<[Server, Promise<Socket>]> =>
  new Promise((resolve) => {
    const { promise, resolve: accepted } = Promise.withResolvers<Socket>()
    const s = createServer(accepted)
    s.listen(0, '127.0.0.1', () => resolve([s, promise]))
  })
test('a socket that is gone already is left alone', async () => {
  await open()
  const [s, accepted] = await accept()
  const client = connect((s.address() as AddressInfo).port, '127.0.0.1')
  const socket = await accepted
  socket.destroy()
  await once(socket, 'close')
  const door = new Http1Door({ now: () => 0 } as unknown as ConstructorParameters<typeof Http1Door>[0])
  expect(() => door.serve(socket, Buffer.from('GET'))).not.toThrow()
  client.destroy()
  s.close()
})
