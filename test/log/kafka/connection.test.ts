import { once } from 'node:events'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { Connection, type Answer } from '../../../core/log/kafka/connection.ts'
import { apis, Writer } from '../../../core/log/kafka/wire.ts'
import { limits } from '../../../core/limits.ts'
import { selfSigned } from '../../api/certificate.ts'
import { FakeBroker, frame, open, options, TestClock } from './fake-broker.ts'

let broker: FakeBroker
let clock: TestClock
beforeEach(async () => {
  broker = await FakeBroker.start()
  clock = new TestClock()
})
afterEach(() => broker.stop())

const ECHO = 1000
/** Asks for its own text back. */
async function echo(c: Connection, text: string, timeoutMs?: number): Promise<string> {
  const flexible = { request: false, response: false }
  const a = await c.request({ key: ECHO, version: 0, body: [Buffer.from(text)], flexible, ...(timeoutMs ? { timeoutMs } : {}) })
  const answer = a.bytes.toString()
  a.release()
  return answer
}
async function failure(of: Promise<unknown>): Promise<{ code: string; applied: string; message: string }> {
  const e = await of.then(
    () => new Error('it succeeded'),
    (reason: unknown) => reason as Error,
  )
  const { code = '', applied = '' } = e as { code?: string; applied?: string }
  return { code, applied, message: e.message }
}
/** Until the event loop had a turn: what was written before has arrived nowhere yet, what was decided has happened. */
const turn = (): Promise<void> => new Promise((r) => void setImmediate(r))

describe('answers', () => {
  test('come one byte at a time', async () => {
    const c = await open(broker)
    broker.handle = (a) => {
      for (const byte of frame(a.correlation, a.body)) a.socket.write(Buffer.of(byte))
    }
    expect(await echo(c, 'slowly')).toBe('slowly')
    await c.close()
  })

  test('come two in one chunk, the second of a small and of a large one cut in its middle', async () => {
    const c = await open(broker)
    for (const length of [10, 3 * limits.kafkaReadBytes]) {
      const texts = ['a', 'b', 'c'].map((t) => t.repeat(length))
      const from = broker.asked.length
      broker.handle = () => {
        if (broker.asked.length < from + 3) return
        const [one, two, three] = broker.asked.slice(from).map((a) => frame(a.correlation, a.body))
        const half = (two?.length ?? 0) / 2
        const { socket } = broker.asked[from] ?? {}
        socket?.write(Buffer.concat([one ?? frame(0, Buffer.alloc(0)), two?.subarray(0, half) ?? Buffer.alloc(0)]), () => {
          socket.write(Buffer.concat([two?.subarray(half) ?? Buffer.alloc(0), three ?? Buffer.alloc(0)]))
        })
      }
      expect(await Promise.all(texts.map((t) => echo(c, t)))).toEqual(texts)
    }
    await c.close()
  })

  test('a large one is one piece of memory; it may be larger than what was asked for, up to the limit', async () => {
    const c = await open(broker, { answerBytes: 5_000_000 })
    broker.handle = (a) => a.answer(Buffer.alloc(4_999_990, 7))
    const a = await c.request({ key: ECHO, version: 0, body: [], flexible: { request: false, response: false } })
    expect(a.bytes.equals(Buffer.alloc(4_999_990, 7))).toBe(true)
    a.release()
    broker.handle = (asked) => asked.answer(Buffer.alloc(5_000_000))
    expect(await failure(echo(c, 'x'))).toMatchObject({
      code: 'Kafka.Protocol',
      applied: 'unknown',
      message: expect.stringContaining('an answer of 5000004 bytes was announced, and it has 4 to 5000000') as string,
    })
    expect(c.live).toBe(false)
  })

  test('what a parsed answer holds is not overwritten by later answers', async () => {
    const c = await open(broker)
    const assignment = Buffer.alloc(100_000, 1)
    broker.handle = (a) => {
      if (a.key !== apis.syncGroup.key) return a.answer(Buffer.alloc(100_000, 2))
      const body = Writer.create().appendInt32(0).appendInt16(0).appendString('consumer').appendString('range')
      a.answer(body.appendBytes(assignment).appendTaggedFields().buffer, { tags: true })
    }
    const parsed = await c.call(apis.syncGroup, ['g', 1, 'm', null, 'consumer', 'range', []])
    const answers: Answer[] = []
    for (let i = 0; i < 3; i++) {
      answers.push(await c.request({ key: ECHO, version: 0, body: [], flexible: { request: false, response: false } }))
    }
    expect(parsed.assignment.equals(assignment)).toBe(true)
    for (const a of answers) a.release()
    await c.close()
  })

  test('an answer to another request ends the connection: nothing after it can be trusted', async () => {
    const c = await open(broker)
    broker.handle = (a) => a.answer(a.body, { correlation: a.correlation + 1 })
    const e = await failure(echo(c, 'x'))
    expect(e).toMatchObject({ code: 'Kafka.Protocol', applied: 'unknown' })
    expect(e.message).toMatch(/an answer to request 3; expected was that to request 2, api 1000 v0/)
    expect(await c.ended).toMatchObject({ code: 'Kafka.Protocol' })
  })

  test('an answer that nobody asked for ends the connection', async () => {
    const c = await open(broker)
    broker.handle = (a) => {
      a.answer(a.body)
      a.answer(a.body)
    }
    expect(await echo(c, 'x')).toBe('x')
    expect((await c.ended).message).toMatch(/nothing was asked/)
  })

  test('an answer that cannot be parsed fails its call alone', async () => {
    const c = await open(broker)
    broker.handle = (a) => (a.key === ECHO ? a.answer(a.body) : a.answer(Buffer.of(1, 2, 3), { tags: true }))
    expect(await failure(c.call(apis.metadata, [[]]))).toMatchObject({ code: 'Kafka.Protocol' })
    expect(await echo(c, 'goes on')).toBe('goes on')
    await c.close()
  })
})

describe('requests', () => {
  test('five are in flight, the sixth waits for the first answer', async () => {
    const c = await open(broker)
    const texts = ['1', '2', '3', '4', '5', '6', '7']
    const all = Promise.all(texts.map((t) => echo(c, t)))
    await broker.until(5)
    await turn()
    expect(broker.asked.length).toBe(5)
    expect(c.pending).toBe(7)
    broker.handle = (a) => a.answer(a.body)
    for (const a of broker.asked.slice(0, 5)) a.answer(a.body)
    expect(await all).toEqual(texts)
    await c.close()
  })

  test('without an answer in time the connection ends: sent calls are unknown, those that waited were not sent', async () => {
    const c = await open(broker, { clock, inFlight: 2, requestMs: 1000 })
    const calls = ['a', 'b', 'c'].map((t, i) => failure(echo(c, t, i === 1 ? 500 : undefined)))
    await broker.until(2)
    clock.advance(500)
    const [a, b, d] = await Promise.all(calls)
    expect(b).toMatchObject({ code: 'Kafka.Timeout', applied: 'unknown' })
    expect(b?.message).toBe(
      `api 1000 v0 to 127.0.0.1:${broker.port}: no answer in 500 ms, so the connection is closed; whether the broker did it is unknown`,
    )
    expect(a).toMatchObject({ code: 'Kafka.Timeout', applied: 'unknown' })
    expect(d).toMatchObject({ code: 'Kafka.Timeout', applied: 'no' })
    expect(d?.message).toMatch(/it was not sent$/)
    expect(c.live).toBe(false)
    expect(clock.timers).toBe(0)
    // the late answer reaches nobody, and a new call is refused at once
    for (const late of broker.asked) late.answer(late.body)
    expect(await failure(echo(c, 'e'))).toMatchObject({ code: 'Kafka.Closed', applied: 'no' })
  })

  test('one that waited too long fails alone', async () => {
    const c = await open(broker, { clock, inFlight: 1 })
    const first = echo(c, 'first')
    const second = failure(echo(c, 'second', 100))
    await broker.until(1)
    clock.advance(100)
    expect(await second).toMatchObject({ code: 'Kafka.Timeout', applied: 'no' })
    broker.asked[0]?.answer(Buffer.from('first'))
    expect(await first).toBe('first')
    broker.handle = (a) => a.answer(a.body)
    expect(await echo(c, 'third')).toBe('third')
    expect(broker.asked.map((a) => a.body.toString())).toEqual(['first', 'third'])
    await c.close()
  })

  test('beyond the bound of those that wait one is refused', async () => {
    const c = await open(broker, { clock, inFlight: 1 })
    const calls = Array.from({ length: limits.kafkaQueued + 1 }, () => failure(echo(c, 'x')))
    expect(await failure(echo(c, 'one more'))).toMatchObject({ code: 'Kafka.Busy', applied: 'no' })
    await c.close()
    expect((await Promise.all(calls)).filter((e) => e.applied === 'unknown').length).toBe(1)
  })

  test('a version that the broker does not speak is not sent', async () => {
    const c = await open(broker)
    const flexible = { request: false, response: false }
    expect(await failure(c.request({ key: ECHO, version: 21, body: [], flexible }))).toMatchObject({
      code: 'Kafka.Unsupported',
      message: expect.stringMatching(/api 1000 v21 .* speaks versions 0 to 20$/) as string,
    })
    expect(await failure(c.request({ key: 999, version: 0, body: [], flexible }))).toMatchObject({ code: 'Kafka.Unsupported' })
    expect(broker.asked).toEqual([])
    await c.close()
  })
})

describe('the end', () => {
  test('the other side closes in the middle of an answer', async () => {
    for (const length of [100, 10 * limits.kafkaReadBytes]) {
      const c = await open(broker)
      broker.handle = (a) => void a.socket.end(frame(a.correlation, Buffer.alloc(length)).subarray(0, length - 20))
      expect(await failure(echo(c, 'x'))).toMatchObject({ code: 'Kafka.Closed', applied: 'unknown' })
      expect(await c.ended).toMatchObject({ code: 'Kafka.Closed' })
    }
  })

  test('the other side closes a connection on which nothing is asked', async () => {
    const c = await open(broker)
    broker.handle = (a) => {
      a.answer(a.body)
      a.socket.end()
    }
    expect(await echo(c, 'last')).toBe('last')
    expect((await c.ended).message).toMatch(/the other side closed the connection$/)
  })

  test('a reset', async () => {
    const c = await open(broker)
    broker.handle = (a) => void a.socket.resetAndDestroy()
    const e = await failure(echo(c, 'x'))
    expect(e).toMatchObject({ code: 'Kafka.Closed', applied: 'unknown' })
    expect(e.message).toMatch(/ECONNRESET/)
  })

  test('close() leaves no socket and fails what was not answered', async () => {
    const c = await open(broker, { inFlight: 1 })
    const calls = [failure(echo(c, 'a')), failure(echo(c, 'b'))]
    await broker.until(1)
    const [asked] = broker.asked
    const gone = asked ? once(asked.socket, 'close') : null
    await c.close()
    await gone
    expect(broker.connections).toBe(0)
    expect((await Promise.all(calls)).map((e) => e.applied)).toEqual(['unknown', 'no'])
    await c.close()
  })
})

describe('opening', () => {
  test('nobody listens', async () => {
    const { port } = broker
    await broker.stop()
    expect(await failure(Connection.open(options(port)))).toMatchObject({
      code: 'Kafka.Connect',
      applied: 'no',
      message: expect.stringMatching(/^connecting to 127\.0\.0\.1:\d+: .*ECONNREFUSED/) as string,
    })
    broker = await FakeBroker.start()
  })

  test('a broker that does not answer in time', async () => {
    broker.mute = true
    const opening = failure(Connection.open(options(broker.port, { clock, connectMs: 300 })))
    while (broker.connections === 0) await turn()
    clock.advance(300)
    expect(await opening).toMatchObject({ code: 'Kafka.Connect', message: expect.stringMatching(/not ready in 300 ms$/) as string })
    while (broker.connections > 0) await turn()
    expect(clock.timers).toBe(0)
  })

  test('a listener with TLS, by a plain connection, and the other way round: never plain text instead', async () => {
    const pair = selfSigned()
    const secure = await FakeBroker.start(pair)
    const plain = await failure(Connection.open(options(secure.port)))
    expect(plain.message).toMatch(/TLS/)
    const ca = pair.cert.toString()
    const e = await failure(Connection.open(options(broker.port, { security: { tls: { ca }, sasl: null } })))
    expect(e.code).toMatch(/Kafka\.(?:Connect|Tls)/)
    expect(broker.asked).toEqual([])
    await secure.stop()
  })

  test('TLS: the certificate is checked, large answers come whole', async () => {
    const pair = selfSigned()
    const secure = await FakeBroker.start(pair)
    const ca = pair.cert.toString()
    secure.handle = (a) => a.answer(Buffer.concat([a.body, Buffer.alloc(3_000_000, 5)]))
    const c = await open(secure, { security: { tls: { ca }, sasl: null } })
    expect(await echo(c, 'over TLS')).toBe(`over TLS${'\x05'.repeat(3_000_000)}`)
    await c.close()
    const stranger = selfSigned().cert.toString()
    const refused = await failure(open(secure, { security: { tls: { ca: stranger }, sasl: null } }))
    expect(refused.code).toBe('Kafka.Tls')
    const other = await failure(open(secure, { security: { tls: { ca, serverName: 'broker.example' }, sasl: null } }))
    expect(other).toMatchObject({ code: 'Kafka.Tls', message: expect.stringMatching(/broker\.example/) as string })
    await secure.stop()
  })
})
