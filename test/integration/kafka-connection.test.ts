/** The Kafka log's connection against real brokers: what it says is what they understand, and what fails is told for what it is. */
import { crc32c } from '@platformatic/kafka'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { realHost } from '../../core/host/host.ts'
import { BrokerError } from '../../core/log/kafka/errors.ts'
import { Connection, type ConnectionOptions } from '../../core/log/kafka/connection.ts'
import { apis, FETCH, fetchRequest, PRODUCE, Writer, type Login } from '../../core/log/kafka/wire.ts'
import { BufferPool } from '../../core/sdk/pool.ts'
import { kafkaVersions, type Certificates } from '../services/kafka-install.ts'
import type { Kafka, KafkaBroker, KafkaListener } from '../services/kafka.ts'
import { requireKafka } from '../services/require.ts'

const { clock } = realHost()
const FLEXIBLE = { request: true, response: true }
const SESSION_MS = 1500
const pool = new BufferPool(64 * 1024 * 1024)
const password = { username: 'alice', password: 'secret' }
const part = (o: object): string => Buffer.from(JSON.stringify(o)).toString('base64url')
/** Unsigned: three parts, the last empty. */
const token = (lifeS: number): Login => {
  const now = Math.floor(clock.now() / 1000)
  return { mechanism: 'OAUTHBEARER', token: () => `${part({ alg: 'none' })}.${part({ sub: 'alice', iat: now, exp: now + lifeS })}.` }
}

/** A record batch (v2) with one record of this value, without a key. */
function batchOf(value: Buffer): Buffer {
  const record = Writer.create().appendInt8(0).appendVarInt(0).appendVarInt(0).appendVarInt(-1).appendVarIntBytes(value).appendVarInt(0)
  const counted = Writer.create().appendInt16(0).appendInt32(0).appendInt64(1n).appendInt64(1n).appendInt64(-1n).appendInt16(-1)
  counted.appendInt32(-1).appendInt32(1).append(record.prependVarIntLength().buffer)
  const { buffer } = counted
  const head = Writer.create()
    .appendInt64(0n)
    .appendInt32(buffer.length + 9)
  return Buffer.concat([head.appendInt32(-1).appendInt8(2).appendUnsignedInt32(crc32c(buffer)).buffer, buffer])
}
/** Where what the checksum covers begins: the broker writes offset and epoch into what stands before. */
const CHECKED = 21

function produce(topic: string, batch: Buffer): readonly Buffer[] {
  const before = Writer.create().appendString(null).appendInt16(-1).appendInt32(10_000)
  before
    .appendUnsignedVarInt(2)
    .appendString(topic)
    .appendUnsignedVarInt(2)
    .appendInt32(0)
    .appendUnsignedVarInt(batch.length + 1)
  return [before.buffer, batch, Buffer.of(0, 0, 0)] // tagged fields of partition, topic, request
}
function fetchBody(topicId: string, maxBytes: number, maxWaitMs: number): Buffer {
  const partition = { partition: 0, currentLeaderEpoch: -1, fetchOffset: 0n, lastFetchedEpoch: -1, partitionMaxBytes: maxBytes }
  return fetchRequest(maxWaitMs, 1, maxBytes, 1, 0, -1, [{ topicId, partitions: [partition] }], [], '').buffer
}

const brokers = async (c: Connection): Promise<number> => {
  const { brokers: list } = await c.call(apis.metadata, [[], false])
  await c.close()
  return list.length
}
const refusal = async (opening: Promise<Connection>): Promise<string> => {
  const e = await opening.then(
    (c) => c.close().then(() => new Error('it was let in')),
    (reason: unknown) => reason as Error,
  )
  return `${e.name} ${(e as { code?: string }).code}: ${e.message}`
}
const topic = async (c: Connection, name: string): Promise<string> => {
  const spec = { name, numPartitions: 1, replicationFactor: 1, assignments: [], configs: [] }
  const made = await c.call(apis.createTopics, [[spec], 10_000, false])
  return made.topics[0]?.topicId ?? ''
}

for (const version of kafkaVersions) {
  const start = await requireKafka(version, `the Kafka connection against Kafka ${version}`)

  describe.skipIf(!start)(`Kafka ${version}`, () => {
    let kafka: Kafka
    let broker: KafkaBroker
    let known: Certificates
    beforeAll(async () => {
      const listeners: Exclude<KafkaListener, 'PLAINTEXT'>[] = ['SSL', 'MTLS', 'SASL_SSL', 'SASL_PLAINTEXT']
      const settings = { 'listener.name.sasl_plaintext.plain.connections.max.reauth.ms': SESSION_MS }
      const started = await start?.({ version, listeners, users: { alice: 'secret' }, settings })
      const [first] = started?.brokers ?? []
      if (!started || !first) throw new Error('no broker')
      kafka = started
      broker = first
      known = kafka.certificates
    })
    afterAll(() => kafka?.stop())

    const open = (listener: KafkaListener, o: Partial<ConnectionOptions['security']> = {}): Promise<Connection> => {
      const security = { tls: null, sasl: null, ...o }
      return Connection.open({ host: '127.0.0.1', port: broker.port(listener), clientId: 'hydrant-test', security, clock, pool })
    }
    test('versions, a topic made and made again', async () => {
      const c = await open('PLAINTEXT')
      expect([FETCH, PRODUCE, apis.metadata, apis.offsetCommit].map((api) => c.supports(api))).toEqual([true, true, true, true])
      const id = await topic(c, 'made')
      const seen = await c.call(apis.metadata, [[{ topicId: id }], false])
      expect(seen.topics[0]).toMatchObject({ name: 'made', topicId: id, partitions: [{ leaderId: 1 }] })
      const again = await topic(c, 'made').catch((e: unknown) => e)
      expect(again).toBeInstanceOf(BrokerError)
      expect(again).toMatchObject({ code: 'Kafka.TOPIC_ALREADY_EXISTS', faults: [{ code: 36, retriable: false }] })
      expect((again as Error).message).toMatch(/^CreateTopics v7 to 127\.0\.0\.1:\d+: TOPIC_ALREADY_EXISTS \(36\)/)
      await c.close()
    })

    test('raw bytes in and out; a batch larger than what was asked for comes whole', async () => {
      const c = await open('PLAINTEXT')
      const topicId = await topic(c, 'raw')
      const batch = batchOf(Buffer.alloc(900_000, 'x'))
      const made = await c.request({ ...PRODUCE, body: produce('raw', batch), flexible: FLEXIBLE })
      expect(made.bytes.includes(Buffer.from('raw'))).toBe(true)
      const got = await c.request({ ...FETCH, body: [fetchBody(topicId, 1000, 5000)], flexible: FLEXIBLE })
      expect(got.bytes.includes(batch.subarray(CHECKED))).toBe(true)
      got.release()
      expect(pool.freeBytes).toBeGreaterThanOrEqual(batch.length)
      await c.close()
    })

    test('TLS and mTLS', async () => {
      const { ca } = known
      expect(await brokers(await open('SSL', { tls: { ca } }))).toBe(1)
      expect(await brokers(await open('MTLS', { tls: { ca, ...known.client } }))).toBe(1)
      expect(await refusal(open('SSL', { tls: { ca: known.stranger.ca } }))).toMatch(/^HydrantError\(config\) Kafka\.Tls: connecting to/)
      expect(await refusal(open('MTLS', { tls: { ca } }))).toMatch(/Kafka\.Tls: .*certificate/)
      const { cert, key } = known.stranger
      expect(await refusal(open('MTLS', { tls: { ca, cert, key } }))).toMatch(/Kafka\.Tls: .*certificate/)
    })

    test('never plain text where TLS was asked for, and no SASL left out', async () => {
      expect(await refusal(open('SSL'))).toMatch(/TLS/)
      expect(await refusal(open('PLAINTEXT', { tls: { ca: known.ca } }))).toMatch(/does this listener speak TLS\?|Kafka\.Tls/)
      expect(await refusal(open('PLAINTEXT', { sasl: { mechanism: 'PLAIN', ...password } }))).toMatch(/ILLEGAL_SASL_STATE/)
      const anonymous = await open('SASL_PLAINTEXT')
      await expect(anonymous.call(apis.metadata, [[], false])).rejects.toThrow('does this listener want SASL?')
    })

    test.each(['PLAIN', 'SCRAM-SHA-256', 'SCRAM-SHA-512'] as const)('%s: the right password and a wrong one', async (mechanism) => {
      const tls = { ca: known.ca }
      expect(await brokers(await open('SASL_SSL', { tls, sasl: { mechanism, ...password } }))).toBe(1)
      const wrong = await refusal(open('SASL_SSL', { tls, sasl: { mechanism, ...password, password: 'wrong' } }))
      expect(wrong).toMatch(/^HydrantError\(config\) Kafka\.Authentication: authenticating to .* as alice: SASL_AUTHENTICATION_FAILED/)
      expect(wrong).not.toMatch(/wrong/)
    })

    test('OAUTHBEARER: a token and an expired one', async () => {
      const tls = { ca: known.ca }
      expect(await brokers(await open('SASL_SSL', { tls, sasl: token(300) }))).toBe(1)
      expect(await refusal(open('SASL_SSL', { tls, sasl: token(-300) }))).toMatch(/Kafka\.Authentication: .*invalid_token/)
    })

    test('a session is renewed before the broker ends it', async () => {
      const c = await open('SASL_PLAINTEXT', { sasl: { mechanism: 'PLAIN', ...password } })
      const end = clock.monotonic() + 2.5 * SESSION_MS
      for (let calls = 0; clock.monotonic() < end; calls++) {
        await c.call(apis.metadata, [[], false])
        await clock.sleep(50)
      }
      await c.close()
    })

    test('a broker that hangs: no answer in time. Killed in the middle of a request: unknown, at once', async () => {
      const c = await open('PLAINTEXT')
      const topicId = await topic(c, 'empty')
      const hung = await open('PLAINTEXT')
      broker.pause()
      await expect(hung.call(apis.metadata, [[], false], { timeoutMs: 200 })).rejects.toMatchObject({
        code: 'Kafka.Timeout',
        applied: 'unknown',
      })
      broker.resume()
      const poll = c.request({ ...FETCH, body: [fetchBody(topicId, 1000, 25_000)], flexible: FLEXIBLE }).catch((e: unknown) => e)
      await brokers(await open('PLAINTEXT')) // it takes requests again, so it has taken that one
      await broker.kill()
      expect(await poll).toMatchObject({ code: 'Kafka.Closed', applied: 'unknown' })
      expect(await refusal(open('PLAINTEXT'))).toMatch(/Kafka\.Connect: .*ECONNREFUSED/)
      await broker.start()
      expect(await brokers(await open('PLAINTEXT'))).toBe(1)
    })
  })
}
