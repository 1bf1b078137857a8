/** Groups of the embedded log: one process owns everything, so a lease lives until the topic, the membership or the log ends. */
import { PermanentError } from '../../sdk/errors.ts'
import type { CommitEntry, Committed, GroupMember, Lease, Membership, Owned, Saved, TopicRef } from '../../sdk/log.ts'
import { limits } from '../../limits.ts'
import type { Events } from '../../telemetry/events.ts'
import type { Change, Control } from './control.ts'
import { WriteError } from './env.ts'
import type { Poison } from './health.ts'
import { afterPrefix, checkName, GROUP, keyText, textKey } from './keys.ts'
import type { Topic, TopicListener, Topics } from './topics.ts'

const ASCII = /^[\x20-\x7e]*$/

const positionKey = (group: string, topicId: string, partition: number): Uint8Array => textKey(GROUP, `${group}\0${topicId}\0${partition}`)

export class Groups implements TopicListener {
  readonly #topics: Topics
  readonly #control: Control
  readonly #poison: Poison
  readonly #events: Events
  readonly #members = new Map<string, Member>()
  #leases = 0

  constructor(topics: Topics, control: Control, poison: Poison, events: Events) {
    this.#topics = topics
    this.#control = control
    this.#poison = poison
    this.#events = events
    topics.listen(this)
    poison.on(() => {
      for (const m of this.#members.values()) m.lose('fenced', () => true)
    })
  }

  join(group: string, what: { topics: readonly string[] } | { pattern: string }, member: GroupMember): Membership {
    checkName('joining group', group)
    if (this.#members.has(group)) throw new PermanentError('Log.GroupInUse', `joining group ${group}: this process has joined it already`)
    if (this.#poison.reason !== null) throw new PermanentError('Log.Poisoned', `joining group ${group}: ${this.#poison.reason}`)
    const wants = 'topics' in what ? (name: string) => what.topics.includes(name) : globOf(what.pattern)
    const m = new Member(wants, member, {
      lease: () => new EmbeddedLease(`${this.#control.bootEpoch}-${++this.#leases}`),
      load: (id, partition) => this.#load(group, id, partition),
      save: (entries) => this.#save(group, m, entries),
      left: () => void this.#members.delete(group),
      failed: (e) =>
        this.#events.emit({ type: 'warning', code: 'Log.Assigned', message: `group ${group} did not take its assignment: ${String(e)}` }),
    })
    this.#members.set(group, m)
    m.add(this.#topics.all().flatMap((t) => partitionsOf(t, 0)))
    return m
  }

  created(t: Topic): void {
    for (const m of this.#members.values()) m.add(partitionsOf(t, 0))
  }
  grown(t: Topic, from: number): void {
    for (const m of this.#members.values()) m.add(partitionsOf(t, from))
  }
  deleted(t: Topic): void {
    for (const m of this.#members.values()) m.lose('fenced', (o) => o.topic.id === t.stored.id)
  }

  /** Positions and notes of a topic that is being deleted. */
  forgetTopic(c: Change, topicId: string): void {
    this.#remove(c, textKey(GROUP, ''), (text) => text.split('\0')[1] === topicId)
  }
  async deleteGroup(group: string): Promise<void> {
    if (this.#members.has(group)) throw new PermanentError('Log.GroupInUse', `deleting group ${group}: this process is in it`)
    await this.#control.submit((c) => this.#remove(c, textKey(GROUP, `${group}\0`), () => true))
  }
  #remove(c: Change, prefix: Uint8Array, which: (text: string) => boolean): void {
    for (const key of this.#control.env.keys({ start: prefix, end: afterPrefix(prefix) })) if (which(keyText(key))) c.put(key, null)
  }

  #load(group: string, topicId: string, partition: number): Committed | null {
    const row = this.#control.env.get(positionKey(group, topicId, partition))
    return row === undefined ? null : (JSON.parse(Buffer.from(row.buffer, row.byteOffset, row.length).toString()) as Committed)
  }

  async #save(group: string, m: Member, entries: readonly CommitEntry[]): Promise<readonly Saved[]> {
    try {
      // one synchronous step: is the lease live, what is the state, write it
      return await this.#control.submit((c) => entries.map((e) => this.#entry(group, m, e, c)))
    } catch (e) {
      if (!(e instanceof WriteError)) throw e
      const result: Saved = e.fault === 'full' ? 'refused' : e.fault
      return entries.map(() => result)
    }
  }

  #entry(group: string, m: Member, e: CommitEntry, c: Change): Saved {
    const { topic, partition } = e.owned
    if (!m.owns(e.owned) || this.#topics.byId(topic.id) === null) return 'fenced'
    const { offset, leaderEpoch, note } = e.state()
    if (!Number.isSafeInteger(offset) || offset < 0)
      throw new RangeError(`group ${group} commits offset ${offset} of ${topic.name}-${partition}`)
    if (note.length > limits.noteChars || !ASCII.test(note)) return 'too-large'
    c.put(positionKey(group, topic.id, partition), Buffer.from(JSON.stringify({ offset, leaderEpoch, note })))
    return 'saved'
  }

  async close(): Promise<void> {
    await Promise.all([...this.#members.values()].map((m) => m.leave()))
  }
}

class EmbeddedLease implements Lease {
  readonly id: string
  readonly #end = new AbortController()
  constructor(id: string) {
    this.id = id
  }
  get signal(): AbortSignal {
    return this.#end.signal
  }
  live(): boolean {
    return !this.#end.signal.aborted
  }
  end(): void {
    this.#end.abort(new Error(`lease ${this.id} has ended`))
  }
}

interface Shard {
  readonly topic: TopicRef
  readonly partition: number
}
function partitionsOf(t: Topic, from: number): Shard[] {
  const topic = { name: t.stored.name, id: t.stored.id }
  return t.partitions.slice(from).map((p) => ({ topic, partition: p.index }))
}

interface MemberContext {
  lease(): EmbeddedLease
  load(topicId: string, partition: number): Committed | null
  save(entries: readonly CommitEntry[]): Promise<readonly Saved[]>
  left(): void
  failed(e: unknown): void
}

class Member implements Membership {
  readonly #wants: (topic: string) => boolean
  readonly #member: GroupMember
  readonly #c: MemberContext
  readonly #owned = new Map<string, { owned: Owned; lease: EmbeddedLease }>()
  #waiting: Shard[] = []
  #assigning = false
  #commits: Promise<unknown> = Promise.resolve()
  #left = false

  constructor(wants: (topic: string) => boolean, member: GroupMember, c: MemberContext) {
    this.#wants = wants
    this.#member = member
    this.#c = c
  }

  add(shards: readonly Shard[]): void {
    this.#waiting.push(...shards.filter((s) => this.#wants(s.topic.name)))
    if (this.#waiting.length > 0 && !this.#assigning && !this.#left) void this.#assign()
  }

  async #assign(): Promise<void> {
    this.#assigning = true
    // join has resolved before the first assignment: the member may commit from within it
    await new Promise<void>((r) => void setImmediate(r))
    while (this.#waiting.length > 0 && !this.#left) {
      const owned = this.#waiting.splice(0).map((s) => this.#own(s))
      try {
        await this.#member.assigned(owned)
      } catch (e) {
        this.#c.failed(e)
        this.lose('fenced', (o) => owned.includes(o))
      }
    }
    this.#assigning = false
  }

  #own(s: Shard): Owned {
    const lease = this.#c.lease()
    const owned: Owned = { topic: s.topic, partition: s.partition, lease, committed: this.#c.load(s.topic.id, s.partition) }
    this.#owned.set(`${s.topic.id}\0${s.partition}`, { owned, lease })
    return owned
  }

  owns(o: Owned): boolean {
    return o.lease.live() && this.#owned.get(`${o.topic.id}\0${o.partition}`)?.lease === o.lease
  }

  lose(why: 'fenced' | 'uncertain', which: (o: Owned) => boolean): void {
    const lost: Owned[] = []
    for (const [key, { owned, lease }] of this.#owned) {
      if (!which(owned)) continue
      this.#owned.delete(key)
      lease.end()
      lost.push(owned)
    }
    if (lost.length > 0) this.#member.lost(lost, why)
  }

  commit(entries: readonly CommitEntry[]): Promise<readonly Saved[]> {
    const result = this.#c.save(entries)
    this.#commits = Promise.allSettled([this.#commits, result])
    return result
  }

  committed(of: readonly Shard[]): Promise<readonly (Committed | null)[]> {
    return Promise.resolve(of.map(({ topic, partition }) => this.#c.load(topic.id, partition)))
  }

  async leave(): Promise<void> {
    if (this.#left) return
    this.#left = true
    await this.#commits
    for (const { lease } of this.#owned.values()) lease.end()
    this.#owned.clear()
    this.#c.left()
  }
}

/** `*` any characters, `?` one. */
export function globOf(pattern: string): (name: string) => boolean {
  const body = pattern
    .replace(/[.+^${}()|[\]\\]/g, '\\$&')
    .replaceAll('*', '.*')
    .replaceAll('?', '.')
  const re = new RegExp(`^${body}$`)
  return (name) => re.test(name)
}
