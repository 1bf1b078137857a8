/** Real Apache Kafka brokers (KRaft, each its own controller as well) on free ports of 127.0.0.1, with a data folder of their own. */
import { execFile, spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { installKafka, makeCertificates, type Certificates, type KafkaVersion } from './kafka-install.ts'
import { knownBrokers } from './kafka-probe.ts'
import { freePort } from './service.ts'

const run = promisify(execFile)
const START_MS = 90_000
const STOP_MS = 20_000
const TOOL_MS = 120_000
const LOG_CHARS = 256 * 1024
const BIND_TRIES = 5

/** SSL: the broker shows a certificate; MTLS: the client must as well. PLAINTEXT is always there: the brokers themselves use it. */
export type KafkaListener = 'PLAINTEXT' | 'SSL' | 'MTLS' | 'SASL_PLAINTEXT' | 'SASL_SSL'
export interface KafkaOptions {
  /** Default 4.1.1. */
  readonly version?: KafkaVersion
  /** Default 1. With 3, topics of the broker itself have 3 replicas, of which 2 must be in sync. */
  readonly brokers?: 1 | 3
  /** Besides PLAINTEXT. */
  readonly listeners?: readonly Exclude<KafkaListener, 'PLAINTEXT'>[]
  /** Names and passwords of the SASL listeners, for PLAIN and SCRAM. OAUTHBEARER takes any unsecured token. */
  readonly users?: Readonly<Record<string, string>>
  /** Further broker settings. */
  readonly settings?: Readonly<Record<string, string | number>>
  /** Of each JVM, MiB. */
  readonly heapMiB?: number
}
export interface KafkaBroker {
  readonly id: number
  /** Of its present process. */
  readonly pid: number
  /** The last output of all its processes. */
  readonly logs: string
  port(listener?: KafkaListener): number
  /** SIGKILL; resolves when the process is gone. */
  kill(): Promise<void>
  /** SIGTERM, which hands leaders over; SIGKILL when that takes too long. Resolves when the process is gone. */
  stop(): Promise<void>
  /** Again, on the same ports and data; resolves when it knows every broker that runs. */
  start(): Promise<void>
  /** SIGSTOP: sockets stay open, nothing answers. */
  pause(): void
  resume(): void
}
export interface Kafka {
  readonly version: KafkaVersion
  readonly brokers: readonly KafkaBroker[]
  /** host:port of each broker. */
  bootstrap(listener?: KafkaListener): string[]
  /** Of the TLS listeners; throws without one. */
  readonly certificates: Certificates
  /** Runs one of Kafka's own tools, such as `org.apache.kafka.tools.TopicCommand`; what it printed. Rejects when it fails. */
  tool(mainClass: string, ...args: string[]): Promise<string>
  /** Ends every broker and removes the data. */
  stop(): Promise<void>
}

/** The time-outs that a test wants short; lowering a default below its `min` is fatal, so both are set. */
const SHORT = {
  // a broker that was killed may come back only when its old session is over
  'broker.session.timeout.ms': 4000,
  'broker.heartbeat.interval.ms': 500,
  'group.min.session.timeout.ms': 1000,
  'group.initial.rebalance.delay.ms': 0,
}
const SHORT_848 = {
  'group.consumer.min.session.timeout.ms': 6000,
  'group.consumer.session.timeout.ms': 6000,
  'group.consumer.min.heartbeat.interval.ms': 1000,
  'group.consumer.heartbeat.interval.ms': 1000,
}

interface Node {
  readonly id: number
  readonly controller: number
  readonly ports: Readonly<Record<string, number>>
  readonly folder: string
}

/** Throws MissingServiceError. */
export async function startKafka(o: KafkaOptions = {}): Promise<Kafka> {
  const version = o.version ?? '4.1.1'
  const jars = await installKafka(version)
  const certificates = o.listeners?.some((l) => /SSL|MTLS/.test(l)) ? await makeCertificates() : null
  for (let tries = 1; ; tries++) {
    const folder = await mkdtemp(join(tmpdir(), 'hydrant-kafka-'))
    const brokers = await prepared(o, version, jars, folder, certificates)
    const end = async (): Promise<void> => {
      await Promise.all(brokers.map((b) => b.kill()))
      await rm(folder, { recursive: true, force: true })
    }
    try {
      await Promise.all(brokers.map((b) => b.start()))
    } catch (e) {
      await end()
      if (tries === BIND_TRIES || !/Address already in use|BindException/.test(String(e))) throw e
      continue
    }
    return {
      version,
      brokers,
      bootstrap: (listener) => brokers.map((b) => `127.0.0.1:${b.port(listener)}`),
      get certificates() {
        if (certificates === null) throw new Error('this Kafka was started without a TLS listener')
        return certificates
      },
      tool: async (mainClass, ...args) => {
        const { stdout } = await run('java', [...jvm(128), '-cp', `${jars}/*`, mainClass, ...args], {
          timeout: TOOL_MS,
          maxBuffer: 2 ** 26,
        })
        return stdout
      },
      stop: end,
    }
  }
}

const jvm = (heapMiB: number): string[] => [
  `-Xmx${heapMiB}m`,
  '-XX:+UseSerialGC',
  '-XX:TieredStopAtLevel=1', // starts in half the time; what it computes afterwards is little
  '-Xshare:auto',
  '-Dorg.slf4j.simpleLogger.defaultLogLevel=warn',
]

async function prepared(
  o: KafkaOptions,
  version: KafkaVersion,
  jars: string,
  folder: string,
  certificates: Certificates | null,
): Promise<Broker[]> {
  const nodes: Node[] = []
  for (let id = 1; id <= (o.brokers ?? 1); id++) {
    const ports: Record<string, number> = {}
    for (const l of ['PLAINTEXT', ...(o.listeners ?? [])]) ports[l] = await freePort()
    nodes.push({ id, ports, controller: await freePort(), folder: join(folder, String(id)) })
  }
  if (certificates !== null) {
    await writeFile(join(folder, 'broker.pem'), certificates.broker.key + certificates.broker.cert)
    await writeFile(join(folder, 'ca.pem'), certificates.ca)
  }
  // any 16 bytes: two clusters on one machine must differ, and a folder name does
  const clusterId = Buffer.from(folder.slice(-16).padStart(16)).toString('base64url')
  const users = Object.entries(o.users ?? {}).flatMap(([name, password]) =>
    ['SCRAM-SHA-256', 'SCRAM-SHA-512'].flatMap((m) => ['--add-scram', `${m}=[name=${name},password=${password}]`]),
  )
  await Promise.all(
    nodes.map(async (n) => {
      await mkdir(n.folder)
      const file = join(n.folder, 'server.properties')
      const lines = Object.entries(properties(o, version, n, nodes, folder)).map(([k, v]) => `${k}=${v}\n`)
      await writeFile(file, lines.join(''))
      const format = ['kafka.tools.StorageTool', 'format', '-t', clusterId, '-c', file, ...users]
      await run('java', [...jvm(128), '-cp', `${jars}/*`, ...format], { timeout: TOOL_MS })
    }),
  )
  const brokers: Broker[] = []
  for (const n of nodes) brokers.push(new Broker(n, [...jvm(o.heapMiB ?? 256), '-cp', `${jars}/*`], brokers))
  return brokers
}

const protocol = (listener: string): string => (listener === 'MTLS' ? 'SSL' : listener)

function properties(
  o: KafkaOptions,
  version: KafkaVersion,
  n: Node,
  nodes: readonly Node[],
  folder: string,
): Record<string, string | number> {
  const names = Object.keys(n.ports)
  const all = nodes.length
  return {
    'process.roles': 'broker,controller',
    'node.id': n.id,
    'controller.quorum.voters': nodes.map((m) => `${m.id}@127.0.0.1:${m.controller}`).join(','),
    listeners: [...names.map((l) => `${l}://127.0.0.1:${n.ports[l]}`), `CONTROLLER://127.0.0.1:${n.controller}`].join(','),
    'advertised.listeners': names.map((l) => `${l}://127.0.0.1:${n.ports[l]}`).join(','),
    'controller.listener.names': 'CONTROLLER',
    'inter.broker.listener.name': 'PLAINTEXT',
    'listener.security.protocol.map': ['CONTROLLER:PLAINTEXT', ...names.map((l) => `${l}:${protocol(l)}`)].join(','),
    'log.dirs': join(n.folder, 'data'),
    'offsets.topic.replication.factor': all,
    'offsets.topic.num.partitions': 5, // of 50: each is a folder to open at the start
    'transaction.state.log.replication.factor': all,
    'transaction.state.log.min.isr': all === 1 ? 1 : 2,
    'transaction.state.log.num.partitions': 5,
    ...(version === '3.9.1' ? {} : { 'share.coordinator.state.topic.replication.factor': all, 'share.coordinator.state.topic.min.isr': 1 }),
    'default.replication.factor': all,
    'min.insync.replicas': all === 1 ? 1 : 2,
    'auto.create.topics.enable': 'false',
    'log.cleaner.dedupe.buffer.size': 16 * 1024 * 1024, // of 128 MiB, more than half of the heap
    ...SHORT,
    ...(version === '3.9.1' ? {} : SHORT_848),
    ...(names.some((l) => /SSL|MTLS/.test(l)) ? tlsProperties(folder) : {}),
    ...(names.includes('MTLS') ? { 'listener.name.mtls.ssl.client.auth': 'required' } : {}),
    ...saslProperties(names, o.users ?? {}),
    ...o.settings,
  }
}

const tlsProperties = (folder: string): Record<string, string> => ({
  'ssl.keystore.type': 'PEM',
  'ssl.keystore.location': join(folder, 'broker.pem'),
  'ssl.truststore.type': 'PEM',
  'ssl.truststore.location': join(folder, 'ca.pem'),
})

function saslProperties(names: readonly string[], users: Readonly<Record<string, string>>): Record<string, string> {
  const sasl = names.filter((l) => l.startsWith('SASL_'))
  if (sasl.length === 0) return {}
  const security = 'org.apache.kafka.common.security'
  const plain = Object.entries(users).map(([name, password]) => ` user_${name}="${password}"`)
  const modules = {
    plain: `${security}.plain.PlainLoginModule required${plain.join('')};`,
    'scram-sha-256': `${security}.scram.ScramLoginModule required;`,
    'scram-sha-512': `${security}.scram.ScramLoginModule required;`,
    oauthbearer: `${security}.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="broker";`,
  }
  const settings: Record<string, string> = { 'sasl.enabled.mechanisms': Object.keys(modules).join(',').toUpperCase() }
  for (const l of sasl) {
    for (const [m, module] of Object.entries(modules)) settings[`listener.name.${l.toLowerCase()}.${m}.sasl.jaas.config`] = module
  }
  return settings
}

class Broker implements KafkaBroker {
  readonly #node: Node
  readonly #java: readonly string[]
  readonly #all: readonly Broker[]
  #child: ChildProcess | null = null
  #exited: Promise<unknown> = Promise.resolve()
  #wanted = false
  #logs = ''

  constructor(node: Node, java: readonly string[], all: readonly Broker[]) {
    this.#node = node
    this.#java = java
    this.#all = all
  }

  get id(): number {
    return this.#node.id
  }
  get pid(): number {
    if (this.#child?.pid === undefined) throw new Error(`broker ${this.id} does not run`)
    return this.#child.pid
  }
  get logs(): string {
    return this.#logs
  }
  port(listener: KafkaListener = 'PLAINTEXT'): number {
    const port = this.#node.ports[listener]
    if (port === undefined) throw new Error(`this Kafka was started without a listener ${listener}`)
    return port
  }

  async start(): Promise<void> {
    if (this.#child !== null) throw new Error(`broker ${this.id} runs already, as process ${this.#child.pid}`)
    const args = [...this.#java, 'kafka.Kafka', join(this.#node.folder, 'server.properties')]
    const child = spawn('java', args, { stdio: ['ignore', 'pipe', 'pipe'] })
    const keep = (b: Buffer): void => void (this.#logs = (this.#logs + b.toString()).slice(-LOG_CHARS))
    child.stdout.on('data', keep)
    child.stderr.on('data', keep)
    const killNow = (): void => void child.kill('SIGKILL')
    process.once('exit', killNow)
    this.#child = child
    this.#wanted = true
    this.#exited = once(child, 'exit')
    const gone = (): void => {
      process.off('exit', killNow)
      if (this.#child === child) this.#child = null
      this.#wanted = false
    }
    this.#exited.then(gone, gone)
    const deadline = performance.now() + START_MS
    while (this.#child === child) {
      if (await this.#ready()) return
      if (performance.now() > deadline) {
        await this.kill()
        throw new Error(`starting broker ${this.id}: not ready in ${START_MS} ms\n${this.#logs}`)
      }
      await sleep(50)
    }
    throw new Error(`starting broker ${this.id}: it ended\n${this.#logs}`)
  }

  /** It answers, is alive, and knows every broker that should be there. */
  async #ready(): Promise<boolean> {
    const known = await knownBrokers(this.port())
    return known !== null && this.#child !== null && this.#all.every((b) => !b.#wanted || known.includes(b.id))
  }

  async kill(): Promise<void> {
    this.#child?.kill('SIGKILL')
    await this.#exited.catch(() => {}) // it could not be spawned: told by start
  }
  async stop(): Promise<void> {
    const child = this.#child
    if (child === null) return
    child.kill('SIGTERM')
    const late = setTimeout(() => child.kill('SIGKILL'), STOP_MS)
    await this.#exited
    clearTimeout(late)
  }
  pause(): void {
    process.kill(this.pid, 'SIGSTOP')
  }
  resume(): void {
    process.kill(this.pid, 'SIGCONT')
  }
}
