/** The Kafka log's view of a cluster of three real brokers, while one of them dies, hangs and comes back. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { realHost } from '../../core/host/host.ts'
import { Cluster } from '../../core/log/kafka/cluster.ts'
import { apis } from '../../core/log/kafka/wire.ts'
import { BufferPool } from '../../core/sdk/pool.ts'
import type { Kafka, KafkaBroker } from '../services/kafka.ts'
import { requireKafka } from '../services/require.ts'

const host = realHost()
const start = await requireKafka('4.1.1', 'the Kafka log on a cluster of three brokers')

describe.skipIf(!start)('three brokers', () => {
  let kafka: Kafka
  let cluster: Cluster
  beforeAll(async () => {
    const started = await start?.({ brokers: 3 })
    if (!started) throw new Error('no brokers')
    kafka = started
    const bootstrap = kafka.brokers.map((b) => ({ host: '127.0.0.1', port: b.port() }))
    const security = { tls: null, sasl: null }
    cluster = new Cluster({ bootstrap, clientId: 'hydrant-test', security, host, pool: new BufferPool(1 << 20) })
  })
  afterAll(async () => {
    await cluster?.close()
    await kafka?.stop()
  })
  const broker = (id: number): KafkaBroker => {
    const b = kafka.brokers.find((one) => one.id === id)
    if (!b) throw new Error(`no broker ${id}`)
    return b
  }
  async function topic(name: string): Promise<{ name: string; id: string }> {
    const spec = { name, numPartitions: 3, replicationFactor: 3, assignments: [], configs: [] }
    const made = await (await cluster.controller()).call(apis.createTopics, [[spec], 30_000, false])
    return { name, id: made.topics[0]?.topicId ?? '' }
  }
  /** The leader, when it is another than before. */
  const newLeader = (t: { name: string; id: string }, before: number): Promise<void> =>
    expect
      .poll(
        async () => {
          cluster.moved(t.id, 0)
          const { leader } = await cluster.leader(t, 0)
          return leader !== before
        },
        { timeout: 60_000, interval: 100 },
      )
      .toBe(true)

  test('the leader of a partition is killed: another one is found, with a higher epoch', async () => {
    const t = await topic('events')
    await expect.poll(() => cluster.leader(t, 0).then((l) => l.leader, String), { timeout: 20_000, interval: 50 }).toBeTypeOf('number')
    const before = await cluster.leader(t, 0)
    const fetching = await cluster.connection('fetch', before.leader)
    await broker(before.leader).kill()
    expect(await fetching.ended).toMatchObject({ code: 'Kafka.Closed' })
    await newLeader(t, before.leader)
    const after = await cluster.leader(t, 0)
    expect(after.leaderEpoch).toBeGreaterThan(before.leaderEpoch)
    expect((await cluster.connection('fetch', after.leader)).live).toBe(true)
    await broker(before.leader).start()
  })

  test('a broker hangs: the others are asked, and its partitions move', async () => {
    const t = await topic('more')
    await expect.poll(() => cluster.leader(t, 0).then((l) => l.leader, String), { timeout: 20_000, interval: 50 }).toBeTypeOf('number')
    const before = await cluster.leader(t, 0)
    broker(before.leader).pause()
    try {
      await newLeader(t, before.leader)
    } finally {
      broker(before.leader).resume()
    }
  })

  const found = (): Promise<number> => cluster.coordinator('readers', 'group').then((c) => c.port)

  test('the coordinator of a group is killed: another one is found', async () => {
    await expect.poll(() => found().catch(String), { timeout: 30_000, interval: 100 }).toBeTypeOf('number')
    const port = await found()
    const dead = kafka.brokers.find((b) => b.port() === port)
    await dead?.kill()
    const other = (): Promise<unknown> => {
      cluster.coordinatorMoved('readers')
      return found().then((p) => p !== port, String)
    }
    await expect.poll(other, { timeout: 60_000, interval: 100 }).toBe(true)
    await dead?.start()
  })
})
