/** What the cluster knows, and when it asks: two scripted brokers, and a clock that the test moves. */
import { afterEach, beforeEach, expect, test } from 'vitest'
import { realHost } from '../../../core/host/host.ts'
import { Cluster } from '../../../core/log/kafka/cluster.ts'
import { dial } from '../../../core/log/kafka/socket.ts'
import { apis, Writer } from '../../../core/log/kafka/wire.ts'
import { limits } from '../../../core/limits.ts'
import { BufferPool } from '../../../core/sdk/pool.ts'
import { FakeBroker, TestClock, type Asked } from './fake-broker.ts'

const TOPIC = { name: 'events', id: '01234567-89ab-cdef-0123-456789abcdef' }
interface Told {
  readonly leader: number
  readonly epoch: number
}
let brokers: FakeBroker[]
let clock: TestClock
let cluster: Cluster
/** What the brokers say of the topic's partitions; null: there is no such topic. */
let told: Told[] | null
let topicError: number
let clusterId: string
/** Ports, one for each attempt. */
let dials: number[]

beforeEach(async () => {
  brokers = [await FakeBroker.start(), await FakeBroker.start()]
  clock = new TestClock()
  told = [
    { leader: 1, epoch: 5 },
    { leader: 2, epoch: 3 },
  ]
  topicError = 0
  clusterId = 'one'
  dials = []
  for (const b of brokers) b.handle = answer
  cluster = clusterOf([brokers[0]?.port ?? 0])
})
afterEach(async () => {
  await cluster.close()
  await Promise.all(brokers.map((b) => b.stop()))
})

function clusterOf(ports: readonly number[]): Cluster {
  return new Cluster({
    bootstrap: ports.map((port) => ({ host: '127.0.0.1', port })),
    clientId: 'test',
    security: { tls: null, sasl: null },
    host: { ...realHost(), clock, random: { bytes: (n) => new Uint8Array(n), float: () => 0.5 } },
    pool: new BufferPool(1 << 20),
    dial: (to, on) => {
      dials.push(to.port)
      return dial(to, on)
    },
  })
}
function answer(a: Asked): void {
  if (a.key === apis.metadata.key) a.answer(metadata(), { tags: true })
  else if (a.key === apis.findCoordinator.key) a.answer(coordinator(), { tags: true })
  else a.answer(a.body)
}
function metadata(): Buffer {
  const error = topicError === 0 && told === null ? 100 : topicError
  return Writer.create()
    .appendInt32(0)
    .appendArray(
      brokers,
      (w, b, i) =>
        void w
          .appendInt32(i + 1)
          .appendString('127.0.0.1')
          .appendInt32(b.port)
          .appendString(null),
    )
    .appendString(clusterId)
    .appendInt32(2)
    .appendArray([TOPIC], (w, t) => {
      w.appendInt16(error).appendString(t.name).appendUUID(t.id).appendBoolean(false)
      w.appendArray(told ?? [], (p, x, i) => {
        p.appendInt16(x.leader < 0 ? 5 : 0)
          .appendInt32(i)
          .appendInt32(x.leader)
          .appendInt32(x.epoch)
        for (let n = 0; n < 3; n++) p.appendArray([] as number[], () => {})
      })
      w.appendInt32(0)
    })
    .appendTaggedFields().buffer
}
const coordinator = (): Buffer =>
  Writer.create()
    .appendInt32(0)
    .appendArray(['g'], (w, g) => {
      w.appendString(g)
        .appendInt32(2)
        .appendString('127.0.0.1')
        .appendInt32(brokers[1]?.port ?? 0)
        .appendInt16(0)
        .appendString(null)
    })
    .appendTaggedFields().buffer
const asked = (api: { readonly key: number }): number => brokers.reduce((n, b) => n + b.asked.filter((a) => a.key === api.key).length, 0)
const turn = (): Promise<void> => new Promise((r) => void setImmediate(r))

test('a leader is asked for once, and again when it moved; many who say so at once ask once', async () => {
  expect(await cluster.leader(TOPIC, 0)).toEqual({ partition: 0, leader: 1, leaderEpoch: 5 })
  expect(await cluster.leader(TOPIC, 1)).toEqual({ partition: 1, leader: 2, leaderEpoch: 3 })
  expect(asked(apis.metadata)).toBe(1)
  told = [
    { leader: 2, epoch: 6 },
    { leader: 2, epoch: 3 },
  ]
  for (const p of [0, 1, 0]) cluster.moved(TOPIC.id, p)
  expect(await Promise.all([0, 1, 0].map(async (p) => (await cluster.leader(TOPIC, p)).leader))).toEqual([2, 2, 2])
  expect(asked(apis.metadata)).toBe(2)
})

test('a leader that still refuses after it was asked for is asked for again only after a while, and a longer one each time', async () => {
  await cluster.leader(TOPIC, 0)
  cluster.moved(TOPIC.id, 0)
  await cluster.leader(TOPIC, 0)
  for (const [n, doubled] of [1, 2, 4].entries()) {
    cluster.moved(TOPIC.id, 0)
    const again = cluster.leader(TOPIC, 0)
    await turn()
    clock.advance(limits.kafkaBackoffMs * doubled * 0.75 - 1)
    await turn()
    expect(asked(apis.metadata)).toBe(2 + n)
    clock.advance(1)
    await again
    expect(asked(apis.metadata)).toBe(3 + n)
  }
  cluster.settled(TOPIC.id, 0)
  cluster.moved(TOPIC.id, 0)
  await cluster.leader(TOPIC, 0)
  expect(asked(apis.metadata)).toBe(6)
})

test('a broker that is behind does not take a newer leader back', async () => {
  await cluster.leader(TOPIC, 0)
  told = [
    { leader: 2, epoch: 4 },
    { leader: 1, epoch: 4 },
  ]
  const topic = await cluster.topicById(TOPIC.id)
  expect(topic?.partitions).toEqual([
    { partition: 0, leader: 1, leaderEpoch: 5 },
    { partition: 1, leader: 1, leaderEpoch: 4 },
  ])
})

test('no leader, no partition, no topic: said, and asked again by the next', async () => {
  told = [{ leader: -1, epoch: 1 }]
  await expect(cluster.leader(TOPIC, 0)).rejects.toMatchObject({ code: 'Kafka.NoLeader' })
  await expect(cluster.leader(TOPIC, 7)).rejects.toMatchObject({ code: 'Kafka.NoPartition' })
  told = null
  await expect(cluster.leader(TOPIC, 0)).rejects.toMatchObject({ code: 'Kafka.NoTopic' })
  expect(await cluster.topicByName('events')).toBeNull()
  told = [{ leader: 1, epoch: 2 }]
  expect((await cluster.topicByName('events'))?.id).toBe(TOPIC.id)
})

test('a topic that this client may not see is not a topic that is not there', async () => {
  topicError = 29
  await expect(cluster.topicByName('events')).rejects.toMatchObject({ code: 'Kafka.TOPIC_AUTHORIZATION_FAILED' })
})

test('no topic is made by asking for one', async () => {
  await cluster.topicByName('events')
  const body = brokers[0]?.asked[0]?.body
  expect(body?.subarray(-3)).toEqual(Buffer.of(0, 0, 0)) // allow_auto_topic_creation, authorized operations, tagged fields
})

test('each purpose has its own connection, and those who want one at once share it', async () => {
  const [a, b, c] = await Promise.all([cluster.connection('fetch', 2), cluster.connection('fetch', 2), cluster.connection('commit', 2)])
  expect(a).toBe(b)
  expect(a).not.toBe(c)
  await a?.close()
  expect(await cluster.connection('fetch', 2)).not.toBe(a)
  expect(await cluster.coordinator('g', 'commit')).toBe(c)
  await cluster.coordinator('g', 'group')
  expect(asked(apis.findCoordinator)).toBe(1)
  cluster.coordinatorMoved('g')
  await cluster.coordinator('g', 'group')
  expect(asked(apis.findCoordinator)).toBe(2)
  await expect(cluster.connection('fetch', 9)).rejects.toMatchObject({ code: 'Kafka.NoBroker' })
})

test('a broker that is down: another one answers; the next attempt to reach it waits', async () => {
  const [first] = brokers
  await cluster.connection('fetch', 2)
  await first?.stop()
  expect(await cluster.topicByName('events')).not.toBeNull()
  await expect(cluster.connection('fetch', 1)).rejects.toMatchObject({ code: 'Kafka.Connect' })
  const before = dials.length
  const again = cluster.connection('fetch', 1).catch((e: { code: string }) => e.code)
  for (let i = 0; i < 10; i++) await turn()
  expect(dials.length).toBe(before)
  clock.advance(limits.kafkaBackoffMs)
  expect(await again).toBe('Kafka.Connect')
  expect(dials.slice(before)).toEqual([first?.port])
  brokers[0] = await FakeBroker.start()
})

test('no broker answers: every address with its reason', async () => {
  const ports = brokers.map((b) => b.port)
  const none = clusterOf(ports)
  await Promise.all(brokers.map((b) => b.stop()))
  const e = await none.topicByName('events').catch((reason: unknown) => reason)
  expect(e).toMatchObject({ code: 'Kafka.Unreachable', applied: 'no' })
  for (const port of ports) expect((e as Error).message).toMatch(new RegExp(`127\\.0\\.0\\.1:${port}: .*ECONNREFUSED`))
  await none.close()
  brokers = [await FakeBroker.start()]
})

test('another cluster at the same address is refused', async () => {
  await cluster.topicByName('events')
  clusterId = 'two'
  await expect(cluster.topicByName('events')).rejects.toMatchObject({ code: 'Kafka.OtherCluster' })
})

test('close ends what is open and what is being opened', async () => {
  await cluster.connection('fetch', 1)
  for (const b of brokers) b.mute = true
  const opening = cluster.connection('produce', 2).catch((e: { code: string }) => e.code)
  while (brokers.some((b) => b.connections === 0)) await turn()
  await cluster.close()
  expect(await opening).toBe('Kafka.Closed')
  while (brokers.some((b) => b.connections > 0)) await turn()
  await expect(cluster.topicByName('events')).rejects.toMatchObject({ code: 'Kafka.Closed' })
})
