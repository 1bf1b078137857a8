/** The provider of real Kafka brokers: what the tests of the Kafka log lean on. */
import { afterEach, describe, expect, test } from 'vitest'
import { knownBrokers } from '../services/kafka-probe.ts'
import type { Kafka } from '../services/kafka.ts'
import { kafkaVersions } from '../services/kafka-install.ts'
import { requireKafka } from '../services/require.ts'

const TOPICS = 'org.apache.kafka.tools.TopicCommand'
let kafka: Kafka | null = null
afterEach(async () => {
  await kafka?.stop()
  kafka = null
})
const gone = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
    return false
  } catch {
    return true // no such process
  }
}

for (const version of kafkaVersions) {
  const start = await requireKafka(version, `real brokers of Kafka ${version}`)

  describe.skipIf(!start)(`Kafka ${version}`, () => {
    test('a broker is killed and comes back with its data; stopped in mid-air it is silent', async () => {
      kafka = (await start?.({ version })) ?? null
      const [broker] = kafka?.brokers ?? []
      if (!kafka || !broker) throw new Error('no broker')
      const [address = ''] = kafka.bootstrap()
      expect(await knownBrokers(broker.port())).toEqual([1])
      await kafka.tool(TOPICS, '--bootstrap-server', address, '--create', '--topic', 'kept', '--partitions', '3')

      const { pid } = broker
      await broker.kill()
      expect(gone(pid)).toBe(true)
      expect(await knownBrokers(broker.port())).toBeNull()
      await broker.start()
      expect(broker.pid).not.toBe(pid)
      expect(await kafka.tool(TOPICS, '--bootstrap-server', address, '--describe', '--topic', 'kept')).toMatch(/PartitionCount: 3/)

      broker.pause()
      expect(await knownBrokers(broker.port())).toBeNull()
      broker.resume()
      expect(await knownBrokers(broker.port())).toEqual([1])
      await broker.stop()
      expect(await knownBrokers(broker.port())).toBeNull()
    })
  })
}

const start = await requireKafka('4.1.1', 'a cluster of three Kafka brokers')
describe.skipIf(!start)('three brokers', () => {
  test('one is killed: the others go on and know it', async () => {
    kafka = (await start?.({ brokers: 3 })) ?? null
    const [first, second, third] = kafka?.brokers ?? []
    if (!first || !second || !third) throw new Error('no three brokers')
    expect((await knownBrokers(second.port()))?.toSorted()).toEqual([1, 2, 3])
    await first.kill()
    const known = async (): Promise<number[] | undefined> => (await knownBrokers(second.port()))?.toSorted()
    await expect.poll(known, { timeout: 30_000, interval: 100 }).toEqual([2, 3])
    await first.start()
    await expect.poll(known, { timeout: 30_000, interval: 100 }).toEqual([1, 2, 3])
  })
})
