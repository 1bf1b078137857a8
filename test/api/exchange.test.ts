import { expect, test } from 'vitest'
import { ByteBudget } from '../../core/api/budget.ts'
import { Deadlines } from '../../core/api/deadlines.ts'
import { Exchange, type Shared } from '../../core/api/exchange.ts'
import { headNames } from '../../core/api/head-names.ts'
import { openGate } from '../../core/api/sigv4.ts'
import type { Answer, Wire } from '../../core/api/wire/wire.ts'
import { realHost } from '../../core/host/host.ts'
import { limits } from '../../core/limits.ts'
import { BufferPool } from '../../core/sdk/pool.ts'
import { quiet } from './fakes.ts'

interface Bench {
  readonly shared: Shared
  readonly bodies: string[]
  begin(length?: number, receive?: () => void): { exchange: Exchange; answers: Answer[] }
}
function bench(o: Partial<Shared> = {}): Bench {
  const host = realHost()
  const bodies: string[] = []
  const run = ({ body }: { body: Uint8Array }): Promise<string> => {
    bodies.push(Buffer.from(body).toString('latin1'))
    return Promise.resolve('{}')
  }
  const shared: Shared = {
    gate: openGate(),
    targets: new Map([['a.B', { operation: { name: 'B', run }, service: 'a', action: 'a:B' }]]),
    serviceOf: () => 'a',
    host,
    events: { emit: () => {} },
    log: quiet,
    budget: new ByteBudget(limits.httpInFlightBytes),
    memory: new BufferPool(limits.httpPoolBytes, limits.httpBlockBytes),
    deadlines: new Deadlines(host.clock, 60_000),
    lifeMs: 90_000,
    reading: new Set(),
    bodyBytes: limits.httpBodyBytes,
    newRequestId: () => 'id',
    draining: () => false,
    ended: () => {},
    ...o,
  }
  const begin = (length?: number, receive = (): void => {}): { exchange: Exchange; answers: Answer[] } => {
    const answers: Answer[] = []
    const fields = { host: 'x', 'x-amz-target': 'a.B', 'content-type': 'application/x-amz-json-1.1' }
    const all: Record<string, string> = length === undefined ? fields : { ...fields, 'content-length': String(length) }
    const names = headNames(Object.keys(all).map((name) => `${name}:`))
    const wire: Wire = { method: 'POST', url: '/', names, values: Object.values(all), receive, answer: (a) => answers.push(a) }
    const exchange = new Exchange(shared, wire)
    exchange.start()
    return { exchange, answers }
  }
  return { shared, bodies, begin }
}

test('a body of unknown length costs its bytes, in however small pieces it comes', async () => {
  const b = bench()
  const { exchange, answers } = b.begin()
  const piece = Buffer.from('x')
  const PIECES = 2_000_000
  const before = process.memoryUsage()
  for (let i = 0; i < PIECES; i++) exchange.chunk(piece)
  const after = process.memoryUsage()
  expect(after.heapUsed + after.arrayBuffers - before.heapUsed - before.arrayBuffers).toBeLessThan(PIECES * 32)
  exchange.ended()
  await expect.poll(() => answers.length).toBe(1)
  expect(b.bodies.map((x) => x.length)).toEqual([PIECES])
})

test('a body of unknown length is whole, wherever its pieces end', async () => {
  const b = bench()
  let n = 0
  for (const sizes of [[], [16_384], [16_383, 1, 1], [16_385], [1, 40_000, 7], [100_000]]) {
    const { exchange, answers } = b.begin()
    let want = ''
    for (const size of sizes) {
      const piece = Buffer.from(Array.from({ length: size }, (_, i) => (i + n) % 251))
      n += 17
      want += piece.toString('latin1')
      exchange.chunk(piece)
      piece.fill(0xdd)
    }
    exchange.ended()
    await expect.poll(() => answers.length).toBe(1)
    expect(b.bodies.pop()).toBe(want)
  }
})

test('a client that goes away before the end of its body was told gives back what it held', () => {
  const b = bench()
  for (const bytes of [0, 4, 9]) {
    const { exchange } = b.begin(9)
    exchange.chunk(Buffer.alloc(bytes))
    expect(b.shared.budget.used).toBe(9)
    exchange.gone()
    expect([b.shared.budget.used, b.shared.reading.size]).toEqual([0, 0])
  }
})

const failing = (): void => {
  throw new Error('the stream is gone')
}
test('a wire that fails when it is asked for the body harms nobody but itself', () => {
  const b = bench({ budget: new ByteBudget(9) })
  const first = b.begin(9)
  const second = b.begin(9, failing)
  expect(() => first.exchange.gone()).not.toThrow()
  expect([second.answers.map((a) => a.status), b.shared.budget.used]).toEqual([[500], 0])
})
