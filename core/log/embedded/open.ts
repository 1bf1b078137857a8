/** Puts the embedded log together. `openWith` takes the seams that tests stand in; index.ts is the door for everybody else. */
import { join } from 'node:path'
import type { RecordBatch } from '../../sdk/batch.ts'
import { AppendError, type Log } from '../../sdk/log.ts'
import type { Host } from '../../sdk/host.ts'
import { limits } from '../../limits.ts'
import type { Events } from '../../telemetry/events.ts'
import { Control } from './control.ts'
import { outward, WriteError, type Seams } from './env.ts'
import { globOf, Groups } from './group.ts'
import { DiskGuard, Poison } from './health.ts'
import { identityOf, lockFolder, refuseNetworkFs, useFolder } from './lock.ts'
import { EmbeddedMeta } from './meta.ts'
import { boundsOf, offsetAtTime, read } from './reader.ts'
import { newFolderId, renewTopicIds, Topics, type Topic } from './topics.ts'

export interface EmbeddedLogOptions {
  /** The data folder; made when it is not there. */
  readonly path: string
  readonly host: Host
  readonly events: Events
  /** Below so many free bytes appends are refused (retriable) and everything else goes on. */
  readonly freeDiskBytes?: number
  /** Transactions of small puts start at most once per so many ms. */
  readonly lingerMs?: number
  /** The folder comes from a backup: it gets a new folder id and every topic a new id. */
  readonly restored?: boolean
  /** Trust a network file system with locks, memory maps and fsync. */
  readonly allowNetworkFs?: boolean
}
export interface EmbeddedLog extends Log {
  /** Random, made with the folder; part of every topic id. */
  readonly folderId: string
  /** How often the folder was opened: the leader epoch of everything appended now. */
  readonly bootEpoch: number
  /** Of the disk of the data folder. */
  freeBytes(): Promise<number>
  /** Not ok: poisoned, nothing more is acknowledged; restart after the cause is gone. */
  health(): { ok: boolean; reason?: string }
  /** Removes the stored positions and notes of a group nobody is in. */
  deleteGroup(group: string): Promise<void>
}

export async function openWith(o: EmbeddedLogOptions, seams: Seams): Promise<EmbeddedLog> {
  const { path, host, events } = o
  await useFolder(path)
  if (!o.allowNetworkFs) await refuseNetworkFs(path, host)
  const lock = lockFolder(path)
  const undo: (() => unknown)[] = [() => lock.release()]
  try {
    const poison = new Poison(events)
    const disk = await DiskGuard.open(path, host, events, o.freeDiskBytes ?? limits.freeDiskBytes)
    const dir = join(path, 'control')
    const control = await Control.open(dir, poison, seams)
    undo.unshift(() => control.close())
    await control.settleFolder({
      path,
      identity: identityOf(join(dir, 'data.mdb')),
      restored: o.restored === true,
      newId: () => newFolderId(host),
      renew: (c, id) => renewTopicIds(control, c, id, host),
    })
    const lingerMs = o.lingerMs ?? limits.logLingerMs
    const topics = await Topics.open({ path, host, events, control, poison, disk, seams, lingerMs })
    undo.unshift(() => topics.close())
    const groups = new Groups(topics, control, poison, events)
    return new Embedded({ host, poison, disk, control, topics, groups, release: () => lock.release() })
  } catch (e) {
    for (const step of undo) await step()
    throw outward(`opening the log in ${path}`, e)
  }
}

interface Parts {
  readonly host: Host
  readonly poison: Poison
  readonly disk: DiskGuard
  readonly control: Control
  readonly topics: Topics
  readonly groups: Groups
  release(): void
}

class Embedded implements EmbeddedLog {
  readonly meta: EmbeddedMeta
  readonly folderId: string
  readonly bootEpoch: number
  readonly #p: Parts
  #closing: Promise<void> | null = null

  constructor(p: Parts) {
    this.#p = p
    this.meta = new EmbeddedMeta(p.control)
    this.folderId = p.control.folderId
    this.bootEpoch = p.control.bootEpoch
  }

  createTopic: Log['createTopic'] = (name, o) => this.#control('creating topic', this.#p.topics.create(name, o))
  addPartitions: Log['addPartitions'] = (t, total) => this.#control('adding partitions', this.#p.topics.addPartitions(t, total))
  configureTopic: Log['configureTopic'] = (t, o) => this.#control('configuring topic', this.#p.topics.configure(t, o))
  deleteTopic: Log['deleteTopic'] = (t) =>
    this.#control(
      'deleting topic',
      this.#p.topics.delete(t, (c, id) => this.#p.groups.forgetTopic(c, id)),
    )
  deleteGroup = (group: string): Promise<void> => this.#control('deleting group', this.#p.groups.deleteGroup(group))

  describeTopic: Log['describeTopic'] = (name) => {
    const t = this.#p.topics.byName(name)
    return Promise.resolve(t === null ? null : infoOf(t))
  }
  listTopics: Log['listTopics'] = (pattern) => {
    const wanted = pattern === undefined ? () => true : globOf(pattern)
    const all = this.#p.topics.all().filter((t) => wanted(t.stored.name))
    return Promise.resolve(all.map(infoOf).toSorted((a, b) => (a.name < b.name ? -1 : 1)))
  }

  append(
    t: { name: string; id: string },
    index: number,
    batch: RecordBatch,
    o: { signal: AbortSignal },
  ): Promise<{ baseOffset: number; appendTimeMs: number }> {
    const topic = this.#p.topics.byId(t.id)
    const partition = topic?.partitions[index]
    if (topic === null || partition === undefined) {
      const code = topic === null ? 'UnknownTopic' : 'UnknownPartition'
      const message = `appending to ${t.name} (${t.id}) partition ${index}: it does not exist`
      return Promise.reject(new AppendError(code, message, { stored: 'no', retriable: false }))
    }
    return topic.appender.append(partition, batch, o.signal)
  }

  read: Log['read'] = async (t, index, from, o) => {
    const { topic, partition } = this.#p.topics.partition(t, index)
    const { clock } = this.#p.host
    return read(partition, topic.env, from, o, { clock, boot: this.bootEpoch, gone: () => topic.gone })
  }
  bounds: Log['bounds'] = async (t, index) => ({ ...boundsOf(this.#p.topics.partition(t, index).partition), leaderEpoch: this.bootEpoch })
  endOfEpoch: Log['endOfEpoch'] = async (t, index, epoch) => this.#p.topics.partition(t, index).partition.endOfEpoch(epoch, this.bootEpoch)
  offsetAt: Log['offsetAt'] = async (t, index, at) => {
    const { topic, partition } = this.#p.topics.partition(t, index)
    if (at === 'earliest') return partition.logStart
    if (at === 'latest') return partition.stable
    while (topic.env.renewing !== null) await topic.env.renewing
    return offsetAtTime(partition, topic.env, at.timestampMs)
  }
  trimBefore: Log['trimBefore'] = async (t, index, offset) => {
    const { topic, partition } = this.#p.topics.partition(t, index)
    await this.#control('trimming', this.#p.topics.trimBefore(topic, partition, offset))
  }
  join: Log['join'] = async (group, what, member) => this.#p.groups.join(group, what, member)

  freeBytes(): Promise<number> {
    return this.#p.disk.freeBytes()
  }
  health(): { ok: boolean; reason?: string } {
    const { reason } = this.#p.poison
    return reason === null ? { ok: true } : { ok: false, reason }
  }

  close(): Promise<void> {
    return (this.#closing ??= this.#close())
  }
  async #close(): Promise<void> {
    const { disk, topics, groups, control } = this.#p
    this.meta.close()
    try {
      await Promise.all([topics.close(), groups.close()]) // both refuse from this moment on
      await control.close()
    } finally {
      disk.close()
      this.#p.release()
    }
  }

  /** No room is retriable; a failed flush or another daemon is not. */
  async #control<T>(what: string, work: Promise<T>): Promise<T> {
    try {
      return await work
    } catch (e) {
      if (!(e instanceof WriteError)) throw e
      if (e.fault !== 'full') this.#p.poison.set('', e.message)
      throw outward(what, e)
    }
  }
}

function infoOf(t: Topic): { name: string; id: string; options: Topic['stored']['options'] } {
  const { name, id, options } = t.stored
  return { name, id, options }
}
