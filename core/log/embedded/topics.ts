/** The topics of a folder: names, ids, options, and for each its environment, partitions and writer. */
import { readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { ConfigError, PermanentError } from '../../sdk/errors.ts'
import { AppendError, type TopicInfo, type TopicOptions, type TopicRef } from '../../sdk/log.ts'
import { limits } from '../../limits.ts'
import { makeFolders } from '../../host/folders.ts'
import type { Host } from '../../sdk/host.ts'
import type { Events } from '../../telemetry/events.ts'
import { Appender } from './appender.ts'
import type { Change, Control } from './control.ts'
import { Env, WriteError, type Op, type Seams } from './env.ts'
import type { DiskGuard, Poison } from './health.ts'
import { afterPrefix, checkName, TOPIC, textKey } from './keys.ts'
import { Partition } from './partition.ts'
import { offsetAtTime } from './reader.ts'

/** What is stored of a topic, under its name. `dir` stays when a restored folder gives the topic another id. */
interface StoredTopic extends TopicInfo {
  readonly dir: string
}
export interface Topic {
  stored: StoredTopic
  readonly env: Env
  readonly partitions: Partition[]
  readonly appender: Appender
  gone: Error | null
  retainedAt: number
}
export interface TopicListener {
  created(t: Topic): void
  grown(t: Topic, from: number): void
  deleted(t: Topic): void
}
export interface TopicsContext {
  readonly path: string
  readonly host: Host
  readonly events: Events
  readonly control: Control
  readonly poison: Poison
  readonly disk: DiskGuard
  readonly seams: Seams
  readonly lingerMs: number
}

export class Topics {
  readonly #c: TopicsContext
  readonly #byName = new Map<string, Topic>()
  readonly #byId = new Map<string, Topic>()
  readonly #making = new Set<string>()
  readonly #listeners: TopicListener[] = []

  private constructor(c: TopicsContext) {
    this.#c = c
  }

  static async open(c: TopicsContext): Promise<Topics> {
    const topics = new Topics(c)
    const dir = join(c.path, 'streams')
    await makeFolders(dir)
    const stored = storedTopics(c.control)
    sweep(dir, new Set(stored.map((s) => s.dir)), c.control)
    for (let i = 0; i < stored.length; i += limits.logOpenAtOnce) {
      const some = await Promise.allSettled(stored.slice(i, i + limits.logOpenAtOnce).map(async (s) => topics.#show(await topics.#open(s))))
      const failed = some.find((r) => r.status === 'rejected')
      if (failed === undefined) continue
      await topics.close()
      throw failed.reason
    }
    return topics
  }

  listen(l: TopicListener): void {
    this.#listeners.push(l)
  }

  async #open(stored: StoredTopic): Promise<Topic> {
    const env = new Env(join(this.#c.path, 'streams', stored.dir), this.#c.seams)
    try {
      return await this.#load(stored, env)
    } catch (e) {
      await env.close()
      throw e
    }
  }

  async #load(stored: StoredTopic, env: Env): Promise<Topic> {
    const c = this.#c
    await env.takeOver(c.control.bootEpoch) // durable before anything of it is visible
    if (env.missingBytes > 0) {
      const message = `the data file of stream ${stored.name} is cut off: ${env.missingBytes} bytes are missing in ${env.dir}`
      c.events.emit({ type: 'warning', code: 'Log.CutOff', message })
    }
    const partitions = Array.from({ length: stored.options.partitions }, (_, i) => Partition.load(env, i))
    const { poison, disk, lingerMs } = c
    const written = (): void => void this.retain(topic).catch((e: unknown) => this.retentionFailed(topic, e))
    const { clock } = c.host
    const appender = new Appender({ stream: stored.name, env, epoch: c.control.bootEpoch, clock, poison, disk, lingerMs, written })
    const topic: Topic = { stored, env, partitions, appender, gone: null, retainedAt: -Infinity }
    try {
      for (const p of partitions) await this.#removeRows(topic, p) // a trim that did not finish
      await this.retain(topic)
    } catch (e) {
      this.retentionFailed(topic, e) // a full disk does not keep a log from opening
    }
    return topic
  }

  #show(topic: Topic): void {
    this.#byName.set(topic.stored.name, topic)
    this.#byId.set(topic.stored.id, topic)
  }

  async create(name: string, options: TopicOptions): Promise<TopicRef> {
    checkOptions(name, options)
    checkName('creating topic', name)
    const exists = (): PermanentError => new PermanentError('Log.TopicExists', `creating topic ${name}: it exists`)
    if (this.#byName.has(name) || this.#making.has(name)) throw exists()
    this.#making.add(name)
    const id = newTopicId(this.#c.control.folderId, this.#c.host)
    const stored: StoredTopic = { name, id, dir: id, options }
    try {
      const topic = await this.#open(stored)
      try {
        await this.#c.control.submit((c) => {
          if (c.get(textKey(TOPIC, name)) !== undefined) throw exists()
          putTopic(c, stored)
        })
      } catch (e) {
        await this.#drop(topic, exists())
        throw e
      }
      this.#show(topic)
      for (const l of this.#listeners) l.created(topic)
      return { name, id }
    } finally {
      this.#making.delete(name)
    }
  }

  async addPartitions(t: TopicRef, total: number): Promise<void> {
    const topic = this.must(t)
    if (total === topic.partitions.length) return
    await this.#change(topic, { partitions: total })
    const before = topic.partitions.length // now: another call may have come first
    for (let i = topic.partitions.length; i < total; i++) topic.partitions.push(Partition.load(topic.env, i))
    if (topic.partitions.length > before) for (const l of this.#listeners) l.grown(topic, before)
  }

  async configure(t: TopicRef, o: Partial<TopicOptions>): Promise<void> {
    const topic = this.must(t)
    if (o.partitions !== undefined && o.partitions !== topic.partitions.length) await this.addPartitions(t, o.partitions)
    await this.#change(topic, o)
    topic.retainedAt = -Infinity
  }

  async #change(topic: Topic, o: Partial<TopicOptions>): Promise<void> {
    checkOptions(topic.stored.name, { ...topic.stored.options, ...o })
    await this.#c.control.submit((c) => {
      const now = this.#mustBeStored(c, topic.stored)
      if (o.partitions !== undefined && o.partitions < now.options.partitions) {
        throw new PermanentError(
          'Log.Partitions',
          `topic ${now.name} has ${now.options.partitions} partitions: ${o.partitions} would be fewer`,
        )
      }
      const stored = { ...now, options: { ...now.options, ...o } }
      putTopic(c, stored)
      c.after(() => void (topic.stored = stored))
    })
  }

  #mustBeStored(c: Change, t: TopicRef): StoredTopic {
    const found = c.get(textKey(TOPIC, t.name))
    const now = found === undefined ? null : parseTopic(found)
    if (now === null || now.id !== t.id) throw unknownTopic(t)
    return now
  }

  /** `also` removes what hangs on the topic, in the same transaction. */
  async delete(t: TopicRef, also: (c: Change, id: string) => void): Promise<void> {
    const topic = this.must(t)
    await this.#c.control.submit((c) => {
      this.#mustBeStored(c, t)
      c.put(textKey(TOPIC, t.name), null)
      also(c, t.id)
    })
    for (const l of this.#listeners) l.deleted(topic)
    await this.#drop(topic, unknownTopic(t))
    this.#c.disk.forget(t.name)
  }

  async #drop(topic: Topic, gone: Error): Promise<void> {
    topic.gone = gone
    if (this.#byName.get(topic.stored.name) === topic) this.#byName.delete(topic.stored.name)
    this.#byId.delete(topic.stored.id)
    await this.#closeTopic(topic, 'UnknownTopic', gone)
    rmSync(join(this.#c.path, 'streams', topic.stored.dir), { recursive: true, force: true })
  }

  async #closeTopic(topic: Topic, code: string, gone: Error): Promise<void> {
    topic.gone = gone
    await topic.appender.close(new AppendError(code, gone.message, { stored: 'no', retriable: false }))
    for (const p of topic.partitions) p.wake()
    await topic.env.close()
  }

  all(): readonly Topic[] {
    return [...this.#byId.values()]
  }
  byName(name: string): Topic | null {
    return this.#byName.get(name) ?? null
  }
  byId(id: string): Topic | null {
    return this.#byId.get(id) ?? null
  }
  must(t: TopicRef): Topic {
    const topic = this.#byId.get(t.id)
    if (topic === undefined) throw unknownTopic(t)
    return topic
  }
  partition(t: TopicRef, index: number): { topic: Topic; partition: Partition } {
    const topic = this.must(t)
    const partition = topic.partitions[index]
    if (partition === undefined) {
      throw new PermanentError(
        'Log.UnknownPartition',
        `topic ${t.name} has partitions 0 to ${topic.partitions.length - 1}, asked for ${index}`,
      )
    }
    return { topic, partition }
  }

  /** Forgets what is below `offset`: first durably, then the rows that are wholly below it. */
  trimBefore(topic: Topic, p: Partition, offset: number): Promise<void> {
    const result = p.trimming.then(() => this.#trim(topic, p, offset))
    p.trimming = result.catch(() => {}) // the caller has the error
    return result
  }

  async #trim(topic: Topic, p: Partition, offset: number): Promise<void> {
    if (!Number.isSafeInteger(offset) || offset < 0 || offset > p.stable) {
      throw new RangeError(`trimming ${topic.stored.name} partition ${p.index} before ${offset}: the log is [${p.logStart}, ${p.stable})`)
    }
    if (offset <= p.logStart) return
    await topic.env.write([p.startOp(offset)])
    p.logStart = offset
    await this.#removeRows(topic, p)
  }

  async #removeRows(topic: Topic, p: Partition): Promise<void> {
    if (p.logStart === 0) return
    for (let removed = 0; ; removed++) {
      const ops: Op[] = []
      let bytes = 0
      while (topic.env.renewing !== null) await topic.env.renewing
      for (const row of p.rows(topic.env, 0)) {
        if (row.baseOffset + row.count > p.logStart || ops.length === limits.logTrimRows || bytes > limits.logTrimBytes) break
        ops.push({ key: row.key, value: null, bytes: row.bytes })
        bytes += row.bytes
      }
      if (ops.length === 0) {
        // lmdb gives freed pages out from the second transaction after: on a full disk no append would ever be that one
        if (removed > 0 && this.#c.disk.refusing()) await topic.env.write([p.startOp(p.logStart)])
        return
      }
      await topic.env.write(ops)
    }
  }

  /** Trims by age; called at opening and with appends, at most once a minute a topic. */
  async retain(topic: Topic): Promise<void> {
    const { retentionMs } = topic.stored.options
    const now = this.#c.host.clock.monotonic()
    if (retentionMs === undefined || now - topic.retainedAt < limits.retentionEveryMs) return
    topic.retainedAt = now
    const oldest = this.#c.host.clock.now() - retentionMs
    for (const p of topic.partitions) {
      while (topic.env.renewing !== null) await topic.env.renewing
      await this.trimBefore(topic, p, offsetAtTime(p, topic.env, oldest))
    }
  }

  /** Retention is tried again in a minute; a write that must not be trusted poisons the log as any other. */
  retentionFailed(topic: Topic, e: unknown): void {
    if (topic.gone !== null) return
    if (e instanceof WriteError && e.fault !== 'full') this.#c.poison.set(topic.stored.name, e.message)
    this.#c.events.emit({ type: 'warning', code: 'Log.Retention', message: `trimming ${topic.stored.name} by age: ${String(e)}` })
  }

  async close(): Promise<void> {
    await Promise.all(this.all().map((t) => this.#closeTopic(t, 'Closed', new Error('the log is closed'))))
  }
}

export function unknownTopic(t: TopicRef): PermanentError {
  return new PermanentError('Log.UnknownTopic', `topic ${t.name} with id ${t.id} does not exist (any more)`)
}

const TOPIC_DIR = /^[0-9a-f]{16}-[0-9a-f]{24}$/

/** Removes what a creation or deletion that did not finish has left behind. */
function sweep(dir: string, known: ReadonlySet<string>, control: Control): void {
  const orphans = readdirSync(dir).filter((name) => TOPIC_DIR.test(name) && !known.has(name))
  if (control.bootEpoch === 1 && orphans.length > 0) {
    throw new ConfigError(
      'Log.ControlMissing',
      `${dir} holds ${orphans.length} streams, but the control state beside it is new: was the folder restored in part? ` +
        `Restore its control folder too, or move the streams away`,
    )
  }
  for (const name of orphans) rmSync(join(dir, name), { recursive: true, force: true })
}

function checkOptions(name: string, o: TopicOptions): void {
  if (!Number.isInteger(o.partitions) || o.partitions < 1 || o.partitions > limits.shards) {
    throw new PermanentError('Log.Partitions', `topic ${name}: ${o.partitions} partitions, 1 to ${limits.shards} are possible`)
  }
  if (o.retentionMs !== undefined && !(o.retentionMs > 0)) {
    throw new PermanentError('Log.Retention', `topic ${name}: a retention of ${o.retentionMs} ms`)
  }
}

const hex = (b: Uint8Array): string => Buffer.from(b.buffer, b.byteOffset, b.length).toString('hex')
export const newFolderId = (host: Host): string => hex(host.random.bytes(8))
/** Unique for ever: never from a clock, never from the name (exactly-once.md rows 32, 33). */
const newTopicId = (folderId: string, host: Host): string => `${folderId}-${hex(host.random.bytes(12))}`

function putTopic(c: Change, t: StoredTopic): void {
  c.put(textKey(TOPIC, t.name), Buffer.from(JSON.stringify(t)))
}
function parseTopic(row: Uint8Array): StoredTopic {
  return JSON.parse(Buffer.from(row.buffer, row.byteOffset, row.length).toString()) as StoredTopic
}
function storedTopics(control: Control): StoredTopic[] {
  const start = textKey(TOPIC, '')
  const found: StoredTopic[] = []
  for (const key of control.env.keys({ start, end: afterPrefix(start) })) {
    const row = control.env.get(key)
    if (row) found.push(parseTopic(row))
  }
  return found
}
/** A folder restored from a backup: every topic gets another id (the positions of the old ids are not found under it). */
export function renewTopicIds(control: Control, c: Change, folderId: string, host: Host): void {
  for (const t of storedTopics(control)) putTopic(c, { ...t, id: newTopicId(folderId, host) })
}
