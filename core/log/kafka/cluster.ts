import { limits } from '../../limits.ts'
import { ConfigError, errorKind, errorMessage, PermanentError, RetryableError } from '../../sdk/errors.ts'
import type { Host } from '../../sdk/host.ts'
import type { BufferPool } from '../../sdk/pool.ts'
import { Connection, type Security } from './connection.ts'
import { BrokerError } from './errors.ts'
import type { Dial } from './socket.ts'
import { apis, faultOf, type AnswerOf } from './wire.ts'

/** Each purpose has its own connection to a broker: a fetch that waits for records must not hold back a heartbeat. */
export type Purpose = 'control' | 'fetch' | 'group' | 'commit' | 'produce'
export interface Address {
  readonly host: string
  readonly port: number
}
export interface PartitionAt {
  readonly partition: number
  /** Broker id; -1 while there is none. */
  readonly leader: number
  readonly leaderEpoch: number
}
export interface TopicAt {
  readonly name: string
  /** 32 hexadecimal digits with four dashes, as every answer of the wire library has it. */
  readonly id: string
  /** By number. */
  readonly partitions: readonly PartitionAt[]
}
export interface ClusterOptions {
  readonly bootstrap: readonly Address[]
  readonly clientId: string
  readonly security: Security
  readonly host: Host
  readonly pool: BufferPool
  readonly dial?: Dial
}
type Metadata = AnswerOf<typeof apis.metadata>
type Which = readonly { readonly topicId: string }[] | readonly { readonly name: string }[] | null

/** Doubles with each failure, up to limits.kafkaMaxBackoffMs, and is spread over its upper half. */
class Backoff {
  #failures = 0
  #until = 0
  readonly #host: Host
  constructor(host: Host) {
    this.#host = host
  }
  failed(): void {
    const ms = Math.min(limits.kafkaBackoffMs * 2 ** this.#failures++, limits.kafkaMaxBackoffMs)
    this.#until = this.#host.clock.monotonic() + ms * (0.5 + this.#host.random.float() / 2)
  }
  worked(): void {
    this.#failures = this.#until = 0
  }
  async wait(signal: AbortSignal): Promise<void> {
    const left = this.#until - this.#host.clock.monotonic()
    if (left > 0) await this.#host.clock.sleep(left, signal)
    signal.throwIfAborted()
  }
}

/**
 * Which brokers there are, who leads what, and one connection for each purpose and broker. What it knows may be old: whoever is refused
 * says so (`moved`, `coordinatorMoved`) and asks again. Nothing is repeated here but questions without an effect.
 */
export class Cluster {
  readonly #o: ClusterOptions
  readonly #closing = new AbortController()
  readonly #connections = new Map<string, Promise<Connection>>()
  readonly #backoffs = new Map<string, Backoff>()
  readonly #brokers = new Map<number, Address>()
  readonly #topics = new Map<string, TopicAt>()
  /** By topic id and partition: whose leader refused, until one took what it was sent. */
  readonly #moved = new Map<string, { stale: boolean; readonly backoff: Backoff }>()
  readonly #asking = new Map<string, Promise<TopicAt | null>>()
  readonly #coordinators = new Map<string, number>()
  #clusterId: string | null = null
  #controller = -1

  constructor(o: ClusterOptions) {
    this.#o = o
  }

  /** Asked now. null: there is no topic of this name. */
  async topicByName(name: string): Promise<TopicAt | null> {
    return (await this.#ask([{ name }]))[0] ?? null
  }
  /** Asked now. null: there is no topic of this id, whatever its name stands for today. */
  async topicById(id: string): Promise<TopicAt | null> {
    return (await this.#ask([{ topicId: id }]))[0] ?? null
  }
  /** Asked now: all that this client may see, but those of the brokers themselves. */
  async allTopics(): Promise<TopicAt[]> {
    return this.#ask(null)
  }

  /**
   * From what is known, asked when nothing is. Rejects with RetryableError while there is no leader,
   * and where the cluster knows no such topic or partition: one broker may be behind the others, so the caller decides how long it believes it.
   */
  async leader(topic: { readonly name: string; readonly id: string }, partition: number): Promise<PartitionAt> {
    const moved = this.#moved.get(`${topic.id} ${partition}`)
    const sure = (t: TopicAt | undefined): boolean => moved?.stale !== true && (t?.partitions[partition]?.leader ?? -1) >= 0
    let known: TopicAt | null | undefined = this.#topics.get(topic.id)
    if (!sure(known)) {
      await moved?.backoff.wait(this.#closing.signal)
      known = this.#topics.get(topic.id) // somebody else may have asked meanwhile
      if (!sure(known)) known = await this.#refresh(topic.id)
      if (moved) moved.stale = false
    }
    const found = known?.partitions[partition]
    if (found && found.leader >= 0) return found
    this.moved(topic.id, partition)
    const none = (code: string, why: string): Error =>
      new RetryableError(code, `finding the leader of partition ${partition} of ${topic.name} (${topic.id}): ${why}`, { applied: 'no' })
    if (!known) throw none('Kafka.NoTopic', 'the cluster has no topic of this id')
    if (!found) throw none('Kafka.NoPartition', `it has ${known.partitions.length} partitions`)
    throw none('Kafka.NoLeader', 'it has none at the moment')
  }

  /** The leader refused, or its connection ended: the next `leader` asks, at first at once, then with back-off. */
  moved(topicId: string, partition: number): void {
    const key = `${topicId} ${partition}`
    const m = this.#moved.get(key)
    if (!m) this.#moved.set(key, { stale: true, backoff: new Backoff(this.#o.host) })
    else if (!m.stale) {
      m.stale = true
      m.backoff.failed()
    }
  }
  /** The leader took what it was sent. */
  settled(topicId: string, partition: number): void {
    this.#moved.delete(`${topicId} ${partition}`)
  }

  /** The connection to a broker. Concurrent callers share one attempt; after a failed one the next waits. */
  async connection(purpose: Purpose, broker: number): Promise<Connection> {
    let at = this.#brokers.get(broker)
    if (!at) {
      await this.#ask([])
      at = this.#brokers.get(broker)
    }
    if (at) return this.#connection(purpose, at)
    const known = [...this.#brokers.keys()].join(', ')
    throw new RetryableError('Kafka.NoBroker', `connecting to broker ${broker}: the cluster knows ${known}`, { applied: 'no' })
  }

  /** The controller's broker: where topics are made and removed. */
  async controller(): Promise<Connection> {
    if (this.#controller < 0) await this.#ask([])
    return this.connection('control', this.#controller)
  }
  controllerMoved(): void {
    this.#controller = -1
  }

  /** The group's coordinator, for heartbeats (`group`) or commits (`commit`). */
  async coordinator(group: string, purpose: 'group' | 'commit' | 'control'): Promise<Connection> {
    const known = this.#coordinators.get(group)
    if (known !== undefined) return this.connection(purpose, known)
    const { coordinators } = await this.#anyone((c) => c.call(apis.findCoordinator, [0, [group]], ASKED))
    const [found] = coordinators
    if (!found) throw new RetryableError('Kafka.NoCoordinator', `finding the coordinator of group ${group}: the answer has none`)
    this.#brokers.set(found.nodeId, { host: found.host, port: found.port })
    this.#coordinators.set(group, found.nodeId)
    return this.connection(purpose, found.nodeId)
  }
  /** NOT_COORDINATOR, or its connection ended: the next `coordinator` asks. */
  coordinatorMoved(group: string): void {
    this.#coordinators.delete(group)
  }

  /** Every connection ends; who waits for one is told. */
  async close(): Promise<void> {
    this.#closing.abort(new RetryableError('Kafka.Closed', 'the Kafka log is being closed', { applied: 'no' }))
    const open = await Promise.allSettled(this.#connections.values())
    await Promise.all(open.flatMap((c) => (c.status === 'fulfilled' ? [c.value.close()] : [])))
  }

  #refresh(topicId: string): Promise<TopicAt | null> {
    const asked = this.#asking.get(topicId)
    if (asked) return asked
    const asking = this.topicById(topicId).finally(() => this.#asking.delete(topicId))
    this.#asking.set(topicId, asking)
    return asking
  }

  /** Topics that are not there are left out; another error of one is an error of the question. */
  async #ask(which: Which): Promise<TopicAt[]> {
    const answer = await this.#anyone((c) => askMetadata(c, which))
    this.#learn(answer)
    const found: TopicAt[] = []
    for (const t of answer.topics) {
      if (NOT_THERE.has(t.errorCode)) this.#topics.delete(t.topicId)
      else if (t.errorCode !== 0) {
        const fault = faultOf(t.errorCode, `/topics/${t.name ?? t.topicId}`)
        throw new BrokerError('asking for metadata', [fault], answer)
      } else if (!t.isInternal && t.name) found.push(this.#topic(t.name, t))
    }
    return found
  }

  #learn(m: Metadata): void {
    const clusterId = m.clusterId ?? null
    this.#clusterId ??= clusterId
    if (clusterId !== this.#clusterId) {
      const text = `asking for metadata: cluster ${clusterId} answered, and until now it was ${this.#clusterId}`
      throw new PermanentError('Kafka.OtherCluster', text, { applied: 'no' })
    }
    if (m.brokers.length > 0) this.#brokers.clear()
    for (const b of m.brokers) this.#brokers.set(b.nodeId, { host: b.host, port: b.port })
    this.#controller = m.controllerId
  }

  /** A broker that is behind may tell of an older leader: an epoch never goes back (KIP-320). */
  #topic(name: string, t: Metadata['topics'][number]): TopicAt {
    const before = this.#topics.get(t.topicId)
    const partitions: PartitionAt[] = []
    for (const p of t.partitions) {
      const old = before?.partitions[p.partitionIndex]
      const now = { partition: p.partitionIndex, leader: p.leaderId, leaderEpoch: p.leaderEpoch }
      const moved = this.#moved.get(`${t.topicId} ${p.partitionIndex}`)
      if (moved) moved.stale = false
      partitions[p.partitionIndex] = old && old.leaderEpoch > now.leaderEpoch ? old : now
    }
    const topic = { name, id: t.topicId, partitions }
    this.#topics.set(topic.id, topic)
    return topic
  }

  /**
   * Asks whichever broker answers: first those that are connected, then the others in a random order, then the addresses of the
   * configuration. Only for questions without an effect.
   */
  async #anyone<T>(question: (c: Connection) => Promise<T>): Promise<T> {
    const known = [...this.#brokers.values()]
      .map((at) => ({ at, order: (this.#connections.has(keyOf('control', at)) ? 0 : 1) + this.#o.host.random.float() }))
      .toSorted((a, b) => a.order - b.order)
      .map(({ at }) => at)
    const all = new Map([...known, ...this.#o.bootstrap].map((at) => [keyOf('control', at), at]))
    const failures: unknown[] = []
    for (const at of all.values()) {
      this.#closing.signal.throwIfAborted()
      try {
        return await question(await this.#connection('control', at))
      } catch (e) {
        if (e instanceof BrokerError) throw e
        failures.push(e)
      }
    }
    this.#closing.signal.throwIfAborted()
    const text = `asking the cluster: none of ${failures.length} addresses answered: ${failures.map(errorMessage).join('; ')}`
    if (failures.some((e) => errorKind(e) === 'config')) throw new ConfigError('Kafka.Unreachable', text, { applied: 'no' })
    throw new RetryableError('Kafka.Unreachable', text, { applied: 'no' })
  }

  #connection(purpose: Purpose, at: Address): Promise<Connection> {
    const key = keyOf(purpose, at)
    const there = this.#connections.get(key)
    if (there) return there
    const opening = this.#opened(key, at)
    this.#connections.set(key, opening)
    const gone = (): void => {
      if (this.#connections.get(key) === opening) this.#connections.delete(key)
    }
    opening.then((c) => void c.ended.then(gone), gone)
    return opening
  }

  async #opened(key: string, at: Address): Promise<Connection> {
    const { clientId, security, host, pool, dial } = this.#o
    const backoff = this.#backoffs.get(key) ?? new Backoff(host)
    this.#backoffs.set(key, backoff)
    await backoff.wait(this.#closing.signal)
    try {
      const { signal } = this.#closing
      const c = await Connection.open({ ...at, clientId, security, clock: host.clock, pool, signal, ...(dial ? { dial } : {}) })
      backoff.worked()
      return c
    } catch (e) {
      backoff.failed()
      throw e
    }
  }
}

/** UNKNOWN_TOPIC_OR_PARTITION, INVALID_TOPIC_EXCEPTION, UNKNOWN_TOPIC_ID. */
const NOT_THERE: ReadonlySet<number> = new Set([3, 17, 100])
const ASKED = { timeoutMs: limits.kafkaAskMs }
const keyOf = (purpose: Purpose, a: Address): string => `${purpose} ${a.host}:${a.port}`

/** Never makes a topic by asking for it. Errors of single topics and partitions stand in the answer. */
async function askMetadata(c: Connection, which: Which): Promise<Metadata> {
  try {
    return await c.call(apis.metadata, [which === null ? null : [...which], false], ASKED)
  } catch (e) {
    if (e instanceof BrokerError && e.faults.every((f) => f.path.startsWith('/topics/'))) {
      return e.response as Metadata
    }
    throw e
  }
}
