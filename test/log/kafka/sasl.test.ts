/** Authentication against a broker that says what a test wants; the real mechanisms are in test/integration/kafka-connection.test.ts. */
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Connection } from '../../../core/log/kafka/connection.ts'
import { apis, Writer, type Login } from '../../../core/log/kafka/wire.ts'
import { limits } from '../../../core/limits.ts'
import { FakeBroker, open, TestClock, type Asked } from './fake-broker.ts'

const HANDSHAKE = apis.saslHandshake.key
const AUTHENTICATE = apis.saslAuthenticate.key
const PLAIN: Login = { mechanism: 'PLAIN', username: 'alice', password: 'secret' }
let broker: FakeBroker
let clock: TestClock
beforeEach(async () => {
  broker = await FakeBroker.start()
  clock = new TestClock()
})
afterEach(() => broker.stop())

const handshake = (error: number): Buffer =>
  Writer.create()
    .appendInt16(error)
    .appendArray(['PLAIN'], (w, m) => void w.appendString(m, false), false, false).buffer
const authenticated = (o: { error?: number; words?: string; bytes?: string; lifeMs?: number }): Buffer =>
  Writer.create()
    .appendInt16(o.error ?? 0)
    .appendString(o.words ?? null)
    .appendBytes(Buffer.from(o.bytes ?? ''))
    .appendInt64(BigInt(o.lifeMs ?? 0))
    .appendTaggedFields().buffer
/** The broker of a listener with SASL; other calls are answered with their own body. */
function sasl(a: Asked, o: Parameters<typeof authenticated>[0], handshakeError = 0): void {
  if (a.key === HANDSHAKE) a.answer(handshake(handshakeError))
  else if (a.key === AUTHENTICATE) a.answer(authenticated(o), { tags: true })
  else a.answer(a.body)
}
const opening = (login: Login): Promise<Connection> => open(broker, { clock, security: { tls: null, sasl: login } })
async function refusal(login: Login): Promise<{ code: string; kind: string; message: string }> {
  const e = await opening(login).then(
    () => new Error('it succeeded'),
    (reason: unknown) => reason as Error,
  )
  return { code: (e as { code?: string }).code ?? '', kind: e.name, message: e.message }
}
const echo = async (c: Connection, text: string): Promise<string> => {
  const { bytes } = await c.request({ key: 1000, version: 0, body: [Buffer.from(text)], flexible: { request: false, response: false } })
  return bytes.toString()
}

test('a wrong password: the broker, the mechanism, the user and the broker’s words, and never the password', async () => {
  broker.handle = (a) => sasl(a, { error: 58, words: 'Invalid username or password' })
  const e = await refusal(PLAIN)
  expect(e).toMatchObject({ code: 'Kafka.Authentication', kind: 'HydrantError(config)' })
  expect(e.message).toBe(
    `authenticating to 127.0.0.1:${broker.port} by PLAIN as alice: SASL_AUTHENTICATION_FAILED: Invalid username or password`,
  )
  expect(clock.timers).toBe(0)
})

test('a mechanism that the broker does not have', async () => {
  broker.handle = (a) => sasl(a, {}, 33)
  expect(await refusal(PLAIN)).toMatchObject({
    kind: 'HydrantError(config)',
    message: expect.stringContaining('UNSUPPORTED_SASL_MECHANISM') as string,
  })
})

test('a token that is not taken: the broker answers without an error and says so in its bytes', async () => {
  broker.handle = (a) => sasl(a, { bytes: '{"status":"invalid_token"}' })
  const e = await refusal({ mechanism: 'OAUTHBEARER', token: () => 'x' })
  expect(e).toMatchObject({ kind: 'HydrantError(config)', message: expect.stringContaining('{"status":"invalid_token"}') as string })
})

test('the token’s function fails: it may succeed later', async () => {
  broker.handle = (a) => sasl(a, {})
  const e = await refusal({ mechanism: 'OAUTHBEARER', token: () => Promise.reject(new Error('the token file is empty')) })
  expect(e).toMatchObject({ kind: 'HydrantError(retryable)', message: expect.stringContaining('the token file is empty') as string })
})

test.each(['', 'nonsense', 'r=,s=,i=1'])('a server that does not speak SCRAM (%o) fails the login, it does not hang', async (bytes) => {
  broker.handle = (a) => sasl(a, { bytes })
  const e = await refusal({ mechanism: 'SCRAM-SHA-256', username: 'alice', password: 'secret' })
  expect(e.code).toBe('Kafka.Authentication')
})

test('before a session ends it is renewed: calls wait meanwhile, and none fails', async () => {
  const LIFE = 60_000
  let password = 'first'
  broker.handle = (a) => sasl(a, { lifeMs: LIFE })
  const c = await opening({ ...PLAIN, password: () => password })
  expect(await echo(c, 'before')).toBe('before')
  expect(broker.asked.length).toBe(3)

  password = 'second'
  broker.handle = () => {}
  clock.advance(LIFE * limits.kafkaSessionShare - 1)
  const flying = echo(c, 'flying')
  await broker.until(4)
  clock.advance(1)
  await broker.until(5) // the handshake
  const meanwhile = echo(c, 'meanwhile')
  broker.asked[3]?.answer(Buffer.from('flying'))
  expect(await flying).toBe('flying')

  broker.handle = (a) => sasl(a, { lifeMs: LIFE })
  broker.asked[4]?.answer(handshake(0))
  expect(await meanwhile).toBe('meanwhile')
  const order = [HANDSHAKE, AUTHENTICATE, 1000, 1000, HANDSHAKE, AUTHENTICATE, 1000]
  expect(broker.asked.map((a) => a.key)).toEqual(order)
  const tokens = broker.asked.filter((a) => a.key === AUTHENTICATE).map((a) => a.body.toString('latin1'))
  expect(tokens.length).toBe(2)
  expect(tokens[1]).toContain('\0alice\0second')
  await c.close()
  expect(clock.timers).toBe(0)
})

test('a session that cannot be renewed ends the connection with the reason', async () => {
  broker.handle = (a) => sasl(a, { lifeMs: 1000 })
  const c = await opening(PLAIN)
  broker.handle = (a) => sasl(a, { error: 58, words: 'the password was changed' })
  clock.advance(1000)
  expect((await c.ended).message).toMatch(/the password was changed/)
})
