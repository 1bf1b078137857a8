/** What every Log must do, in the words of core/sdk/log.ts alone: run against the embedded log and against Kafka. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { NONE, batchOf, valueOf, type RecordBatch } from '../../core/sdk/batch.ts'
import {
  ConflictError,
  OutOfRangeError,
  type Committed,
  type GroupMember,
  type Log,
  type MetaChange,
  type Owned,
  type TopicRef,
} from '../../core/sdk/log.ts'
import { limits } from '../../core/limits.ts'

export interface LogUnderTest {
  log: Log
  /** Closes the log and opens it again on the same storage. */
  reopen(): Promise<Log>
  /** Closes it and removes the storage. */
  stop(): Promise<void>
}

const never = new AbortController().signal
const text = (s: string): Uint8Array => Buffer.from(s)
export const values = (...v: string[]): RecordBatch => batchOf(v.map((s) => ({ value: text(s) })))
export const append = (log: Log, t: TopicRef, p: number, b: RecordBatch): Promise<{ baseOffset: number; appendTimeMs: number }> =>
  log.append(t, p, b, { signal: never })

export interface Seen {
  readonly offset: number
  readonly key: string | null
  readonly value: string | null
  readonly headers: string
  readonly arrivalMs: number
}
const slice = (b: RecordBatch, start: number, end: number): string => Buffer.from(b.bytes.subarray(start, end)).toString('latin1')

export function seen(batches: readonly RecordBatch[]): Seen[] {
  return batches.flatMap((b) =>
    Array.from({ length: b.count }, (_, i) => {
      const value = valueOf(b, i)
      const keyEnd = b.keyEnd[i] ?? NONE
      return {
        offset: b.position[i] ?? -1,
        key: keyEnd === NONE ? null : slice(b, b.keyStart[i] ?? 0, keyEnd),
        value: value === null ? null : Buffer.from(value).toString('latin1'),
        headers: b.headerStart && b.headerEnd ? slice(b, b.headerStart[i] ?? 0, b.headerEnd[i] ?? 0) : '',
        arrivalMs: b.arrivalMs[i] ?? -1,
      }
    }),
  )
}
/** All records from `from` up to the durable end. */
export async function readAll(log: Log, t: TopicRef, p: number, from: number, maxBytes = 1 << 20): Promise<Seen[]> {
  const found: Seen[] = []
  for (let at = from; ;) {
    const r = await log.read(t, p, at, { maxBytes, maxWaitMs: 0, signal: never })
    found.push(...seen(r.batches))
    for (const b of r.batches) b.release()
    if (r.next >= r.stable) return found
    at = r.next
  }
}

/** A member that keeps what it is told, and lets a test wait for it. */
export class Recorder implements GroupMember {
  readonly owned: Owned[] = []
  readonly lostOnes: { owned: Owned; why: 'fenced' | 'uncertain' }[] = []
  readonly #waiting: { enough(): boolean; resolve(): void }[] = []
  assigned(p: readonly Owned[]): Promise<void> {
    this.owned.push(...p)
    this.#wake()
    return Promise.resolve()
  }
  revoking(): Promise<void> {
    return Promise.resolve()
  }
  lost(p: readonly Owned[], why: 'fenced' | 'uncertain'): void {
    for (const owned of p) this.lostOnes.push({ owned, why })
    this.#wake()
  }
  until(enough: () => boolean): Promise<void> {
    return new Promise((resolve) => {
      this.#waiting.push({ enough, resolve })
      this.#wake()
    })
  }
  #wake(): void {
    for (const w of this.#waiting) if (w.enough()) w.resolve()
  }
}

const at =
  (offset: number, note = `note ${offset}`): (() => Committed) =>
  () => ({ offset, leaderEpoch: 1, note })

export function logContract(name: string, make: () => Promise<LogUnderTest>): void {
  describe(`${name}: the contract of a log`, () => {
    let it: LogUnderTest
    let log: Log
    beforeEach(async () => {
      it = await make()
      log = it.log
    })
    afterEach(() => it.stop())

    topics(() => ({ it, log }))
    appendsAndReads(() => ({ it, log }))
    bounds(() => ({ it, log }))
    groups(() => ({ it, log }))
    metadata(() => ({ it, log }))
  })
}

type Get = () => { it: LogUnderTest; log: Log }

function topics(get: Get): void {
  test('topics are made, described, listed by pattern and deleted; a name made again gets another id', async () => {
    const { log } = get()
    const a = await log.createTopic('orders.a', { partitions: 2, retentionMs: 86_400_000 })
    await log.createTopic('orders.b', { partitions: 1 })
    await log.createTopic('other', { partitions: 1 })
    expect(await log.describeTopic('orders.a')).toMatchObject({ ...a, options: { partitions: 2, retentionMs: 86_400_000 } })
    expect(await log.describeTopic('nothing')).toBeNull()
    expect((await log.listTopics('orders.*')).map((t) => t.name)).toEqual(['orders.a', 'orders.b'])
    await expect(log.createTopic('other', { partitions: 1 })).rejects.toThrow(/other/)
    await append(log, a, 0, values('old'))
    await log.deleteTopic(a)
    expect(await log.describeTopic('orders.a')).toBeNull()
    const again = await log.createTopic('orders.a', { partitions: 1 })
    expect(again.id).not.toBe(a.id)
    expect(await readAll(log, again, 0, 0)).toEqual([])
    await expect(append(log, a, 0, values('into the old one'))).rejects.toMatchObject({ name: 'AppendError', stored: 'no' })
    await expect(log.read(a, 0, 0, { maxBytes: 1, maxWaitMs: 0, signal: never })).rejects.toThrow(/orders.a/)
  })

  test('partitions are added, never taken away; options change', async () => {
    const { log } = get()
    const t = await log.createTopic('grow', { partitions: 1 })
    await expect(append(log, t, 1, values('x'))).rejects.toMatchObject({ stored: 'no' })
    await log.addPartitions(t, 3)
    expect(await append(log, t, 2, values('x'))).toMatchObject({ baseOffset: 0 })
    await expect(log.addPartitions(t, 2)).rejects.toThrow(/partitions/)
    await Promise.all([log.addPartitions(t, 4), log.addPartitions(t, 5)].map((p) => p.catch(() => {}))) // the larger one holds
    await log.configureTopic(t, { retentionMs: 60_000 })
    expect((await log.describeTopic('grow'))?.options).toMatchObject({ partitions: 5, retentionMs: 60_000 })
  })
}

function appendsAndReads(get: Get): void {
  test('what was appended is read back: keys, nulls, headers, offsets, one arrival time a put', async () => {
    const { log } = get()
    const t = await log.createTopic('t', { partitions: 2 })
    const plain = batchOf([{ key: text('k'), value: text('v') }, { value: null, key: text('') }, { value: text('') }])
    const header = { ...values('with'), headerStart: Uint32Array.of(0), headerEnd: Uint32Array.of(4) }
    const first = await append(log, t, 1, plain)
    const second = await append(log, t, 1, header)
    expect(second.baseOffset).toBeGreaterThanOrEqual(first.baseOffset + 3)
    expect(second.appendTimeMs).toBeGreaterThanOrEqual(first.appendTimeMs)
    const arrivalMs = first.appendTimeMs
    expect(await readAll(log, t, 1, first.baseOffset)).toEqual([
      { offset: first.baseOffset, key: 'k', value: 'v', headers: '', arrivalMs },
      { offset: first.baseOffset + 1, key: '', value: null, headers: '', arrivalMs },
      { offset: first.baseOffset + 2, key: null, value: '', headers: '', arrivalMs },
      { offset: second.baseOffset, key: null, value: 'with', headers: 'with', arrivalMs: second.appendTimeMs },
    ])
    expect(await readAll(log, t, 0, 0)).toEqual([])
  })

  test('puts at once of many writers: every record once, offsets answered are offsets read, order of a writer kept', async () => {
    const { log } = get()
    const t = await log.createTopic('busy', { partitions: 3 })
    const answered = new Map<string, string>()
    await Promise.all(
      Array.from({ length: 12 }, async (_, w) => {
        for (let i = 0; i < 8; i++) {
          const names = Array.from({ length: 1 + ((w * 7 + i) % 5) }, (_, k) => `${w}.${i}.${k}`)
          const { baseOffset } = await append(log, t, w % 3, values(...names))
          for (const [k, n] of names.entries()) answered.set(n, `${w % 3}@${baseOffset + k}`)
        }
      }),
    )
    const found = new Map<string, string>()
    for (const p of [0, 1, 2]) {
      let last = -1
      for (const r of await readAll(log, t, p, 0, 600)) {
        expect(r.offset).toBeGreaterThan(last)
        last = r.offset
        found.set(r.value ?? '', `${p}@${r.offset}`)
      }
    }
    expect(Object.fromEntries(found)).toEqual(Object.fromEntries(answered))
  })

  test('a read starts anywhere, gives at least one record however small maxBytes, and goes on at next', async () => {
    const { log } = get()
    const t = await log.createTopic('t', { partitions: 1 })
    await append(log, t, 0, values(...Array.from({ length: 10 }, (_, i) => `a${i}`)))
    await append(log, t, 0, values('b'.repeat(5000)))
    const r = await log.read(t, 0, 7, { maxBytes: 1, maxWaitMs: 0, signal: never })
    expect(seen(r.batches)[0]).toMatchObject({ offset: 7, value: 'a7' })
    expect(r.next).toBeGreaterThan(7)
    expect((await readAll(log, t, 0, 3, 1)).map((s) => s.offset)).toEqual([3, 4, 5, 6, 7, 8, 9, 10])
  })

  test('a read at the end waits for the next record; it ends when the time is over or the signal aborts', async () => {
    const { log } = get()
    const t = await log.createTopic('t', { partitions: 1 })
    await append(log, t, 0, values('a'))
    const empty = await log.read(t, 0, 1, { maxBytes: 100, maxWaitMs: 20, signal: never })
    expect(empty).toMatchObject({ batches: [], next: 1, stable: 1, highWatermark: 1 })
    const waiting = log.read(t, 0, 1, { maxBytes: 100, maxWaitMs: 15_000, signal: never })
    await append(log, t, 0, values('b'))
    expect(seen((await waiting).batches)).toMatchObject([{ offset: 1, value: 'b' }])
    const abort = new AbortController()
    const aborted = log.read(t, 0, 2, { maxBytes: 100, maxWaitMs: 15_000, signal: abort.signal })
    abort.abort(new Error('enough'))
    await expect(aborted).rejects.toThrow('enough')
  })

  test('records survive a restart, and epochs tell where each life of the log ended', async () => {
    const { it, log } = get()
    const t = await log.createTopic('t', { partitions: 1 })
    await append(log, t, 0, values('a', 'b'))
    const before = await log.read(t, 0, 0, { maxBytes: 100, maxWaitMs: 0, signal: never })
    const again = await it.reopen()
    expect(await again.describeTopic('t')).toMatchObject(t)
    expect((await readAll(again, t, 0, 0)).map((r) => r.value)).toEqual(['a', 'b'])
    expect(await again.endOfEpoch(t, 0, before.leaderEpoch)).toEqual({ leaderEpoch: before.leaderEpoch, endOffset: 2 })
    const lastEpoch = before.leaderEpoch
    await append(again, t, 0, values('c'))
    const on = await again.read(t, 0, 2, { maxBytes: 100, maxWaitMs: 0, lastEpoch, signal: never })
    expect(seen(on.batches)).toMatchObject([{ offset: 2, value: 'c' }])
    expect((await again.bounds(t, 0)).leaderEpoch).toBe(on.leaderEpoch)
  })
}

function bounds(get: Get): void {
  test('out of range is an error with the bounds; trimming moves the start exactly', async () => {
    const { it, log } = get()
    const t = await log.createTopic('t', { partitions: 1 })
    await append(log, t, 0, values('a', 'b', 'c'))
    await append(log, t, 0, values('d', 'e'))
    await log.trimBefore(t, 0, 1)
    expect(await log.bounds(t, 0)).toMatchObject({ logStart: 1, stable: 5, highWatermark: 5 })
    await log.trimBefore(t, 0, 4)
    await expect(log.read(t, 0, 3, { maxBytes: 1, maxWaitMs: 0, signal: never })).rejects.toMatchObject({
      name: 'OutOfRangeError',
      logStart: 4,
      stable: 5,
    })
    await expect(log.read(t, 0, 6, { maxBytes: 1, maxWaitMs: 0, signal: never })).rejects.toBeInstanceOf(OutOfRangeError)
    expect((await readAll(log, t, 0, 4)).map((r) => r.value)).toEqual(['e'])
    await log.trimBefore(t, 0, 5)
    const again = await it.reopen()
    expect(await again.bounds(t, 0)).toMatchObject({ logStart: 5, stable: 5 })
    expect(await append(again, t, 0, values('f'))).toMatchObject({ baseOffset: 5 })
  })

  test('offsets by time: earliest, latest, and the first record not older', async () => {
    const { log } = get()
    const t = await log.createTopic('t', { partitions: 1 })
    expect(await log.offsetAt(t, 0, 'latest')).toBe(0)
    const a = await append(log, t, 0, values('a', 'a'))
    while (Date.now() <= a.appendTimeMs) await new Promise((r) => setImmediate(r))
    const b = await append(log, t, 0, values('b'))
    expect(b.appendTimeMs).toBeGreaterThan(a.appendTimeMs)
    expect(await log.offsetAt(t, 0, 'earliest')).toBe(0)
    expect(await log.offsetAt(t, 0, 'latest')).toBe(3)
    expect(await log.offsetAt(t, 0, { timestampMs: a.appendTimeMs })).toBe(0)
    expect(await log.offsetAt(t, 0, { timestampMs: a.appendTimeMs + 1 })).toBe(2)
    expect(await log.offsetAt(t, 0, { timestampMs: b.appendTimeMs + 60_000 })).toBe(3)
  })
}

function groups(get: Get): void {
  test('a member owns the partitions of its topics; positions and notes come back after a restart', async () => {
    const { it, log } = get()
    const t = await log.createTopic('t', { partitions: 2 })
    await log.createTopic('not-mine', { partitions: 1 })
    const r = new Recorder()
    const m = await log.join('g', { topics: ['t'] }, r)
    await r.until(() => r.owned.length === 2)
    expect(r.owned.map((o) => o.partition).toSorted((x, y) => x - y)).toEqual([0, 1])
    for (const o of r.owned) expect([o.topic, o.committed, o.lease.live()]).toEqual([t, null, true])
    const one = r.owned.find((o) => o.partition === 1)
    if (!one) throw new Error('partition 1 is not owned')
    expect(await m.commit([{ owned: one, state: at(7) }])).toEqual(['saved'])
    expect(await m.commit([{ owned: one, state: at(3, 'back: the newest commit counts') }])).toEqual(['saved'])
    const state = { offset: 3, leaderEpoch: 1, note: 'back: the newest commit counts' }
    expect(await m.committed([0, 1].map((partition) => ({ topic: t, partition })))).toEqual([null, state])
    await m.leave()
    expect(one.lease.live()).toBe(false)
    expect(one.lease.signal.aborted).toBe(true)
    const again = await it.reopen()
    const r2 = new Recorder()
    const m2 = await again.join('g', { topics: ['t'] }, r2)
    await r2.until(() => r2.owned.length === 2)
    expect(r2.owned.find((o) => o.partition === 1)?.committed).toEqual(state)
    await m2.leave()
  })

  test('each entry of a commit has its own answer; state is asked once, late', async () => {
    const { log } = get()
    const t = await log.createTopic('t', { partitions: 3 })
    const r = new Recorder()
    const m = await log.join('g', { topics: ['t'] }, r)
    await r.until(() => r.owned.length === 3)
    const [a, b, c] = r.owned.toSorted((x, y) => x.partition - y.partition)
    if (!a || !b || !c) throw new Error('three partitions expected')
    let offset = 1
    let asked = 0
    const saving = m.commit([
      { owned: a, state: () => (asked++, { offset, leaderEpoch: 1, note: '' }) },
      { owned: b, state: at(1, 'x'.repeat(limits.noteChars + 1)) },
      { owned: c, state: at(5, 'x'.repeat(limits.noteChars)) },
    ])
    offset = 2
    expect(await saving).toEqual(['saved', 'too-large', 'saved'])
    expect(asked).toBe(1)
    expect(
      (
        await m.committed([
          { topic: t, partition: 0 },
          { topic: t, partition: 1 },
        ])
      ).map((x) => x?.offset),
    ).toEqual([offset, undefined])
    const stale: Owned = { ...a, lease: { id: 'another', signal: never, live: () => true } }
    expect(await m.commit([{ owned: stale, state: at(9) }])).toEqual(['fenced'])
    await m.leave()
    expect(await m.commit([{ owned: a, state: at(9) }])).toEqual(['fenced'])
  })

  test('later topics and partitions are assigned, deleted topics are lost, and their positions are gone for the name made again', async () => {
    const { log } = get()
    const a = await log.createTopic('p.a', { partitions: 1 })
    const r = new Recorder()
    const m = await log.join('g', { pattern: 'p.*' }, r)
    await r.until(() => r.owned.length === 1)
    await log.createTopic('p.b', { partitions: 1 })
    await r.until(() => r.owned.some((o) => o.topic.name === 'p.b'))
    await log.addPartitions(a, 2)
    await r.until(() => r.owned.some((o) => o.topic.name === 'p.a' && o.partition === 1))
    const held = r.owned.filter((o) => o.topic.id === a.id)
    expect(await m.commit(held.map((owned) => ({ owned, state: at(1) })))).toEqual(held.map(() => 'saved'))
    await log.deleteTopic(a)
    await r.until(() => r.lostOnes.filter((l) => l.owned.topic.id === a.id && l.why === 'fenced').length >= 2)
    expect(held.some((o) => o.lease.live())).toBe(false)
    expect(await m.commit(held.map((owned) => ({ owned, state: at(2) })))).toEqual(held.map(() => 'fenced'))
    const again = await log.createTopic('p.a', { partitions: 1 })
    await r.until(() => r.owned.some((o) => o.topic.id === again.id))
    expect(r.owned.find((o) => o.topic.id === again.id)?.committed).toBeNull()
    await m.leave()
  })
}

function metadata(get: Get): void {
  test('compare and set: versions rise over the whole store, a wrong version is a conflict', async () => {
    const { it, log } = get()
    const { meta } = log
    expect(await meta.get('a')).toBeNull()
    const v1 = await meta.put('a', text('1'), 'absent')
    const v2 = await meta.put('b', text('2'), 'any')
    expect(v2).toBeGreaterThan(v1)
    expect(await meta.get('a')).toMatchObject({ key: 'a', version: v1 })
    await expect(meta.put('a', text('x'), 'absent')).rejects.toMatchObject({ name: 'ConflictError', actual: v1 })
    await expect(meta.put('a', text('x'), v2)).rejects.toBeInstanceOf(ConflictError)
    const racing = await Promise.allSettled([1, 2, 3].map((i) => meta.put('a', text(`racer ${i}`), v1)))
    expect(racing.filter((r) => r.status === 'fulfilled')).toHaveLength(1)
    const now = (await meta.get('a'))?.version ?? -1
    const deleted = await meta.put('a', null, now)
    expect(deleted).toBeGreaterThan(now)
    expect(await meta.get('a')).toBeNull()
    await expect(meta.put('a', text('x'), now)).rejects.toMatchObject({ actual: 'absent' })
    const again = await it.reopen()
    expect(await again.meta.put('a', text('back'), 'absent')).toBeGreaterThan(deleted)
    expect(Buffer.from((await again.meta.get('b'))?.value ?? []).toString()).toBe('2')
  })

  test('scan gives the keys of a prefix, in order', async () => {
    const { meta } = get().log
    for (const key of ['p/b', 'p/a', 'q/a', 'p/c', 'p']) await meta.put(key, text(key), 'any')
    await meta.put('p/b', null, 'any')
    const found: string[] = []
    for await (const v of meta.scan('p/')) found.push(`${v.key}=${Buffer.from(v.value).toString()}`)
    expect(found).toEqual(['p/a=p/a', 'p/c=p/c'])
  })

  test('watch: a snapshot, then every key in its newest version, in version order, until the signal aborts', async () => {
    const { meta } = get().log
    await meta.put('w/a', text('a1'), 'any')
    await meta.put('x/a', text('not mine'), 'any')
    const stop = new AbortController()
    const changes = meta.watch('w/', stop.signal)[Symbol.asyncIterator]()
    const next = async (): Promise<MetaChange> => {
      const r = await changes.next()
      if (r.done) throw new Error('the watch ended')
      return r.value
    }
    expect(await next()).toMatchObject({ key: 'w/a' })
    expect(await next()).toHaveProperty('caughtUp')
    const newest = new Map<string, number>()
    for (let i = 0; i < 31; i++) newest.set(`w/${i % 3}`, await meta.put(`w/${i % 3}`, text(`${i}`), 'any'))
    newest.set('w/a', await meta.put('w/a', null, 'any'))
    const told = new Map<string, number>()
    let last = 0
    while ([...newest].some(([k, v]) => told.get(k) !== v)) {
      const c = await next()
      if ('caughtUp' in c) throw new Error('caught up twice')
      expect(c.version).toBeGreaterThan(last)
      last = c.version
      told.set(c.key, c.version)
      if (c.key === 'w/a') expect(c.value).toBeNull()
    }
    expect(Object.fromEntries(told)).toEqual(Object.fromEntries(newest))
    const end = changes.next()
    stop.abort()
    expect((await end).done).toBe(true)
  })
}
