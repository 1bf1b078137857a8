import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { realHost } from '../../core/host/host.ts'
import { limits } from '../../core/limits.ts'
import { openEmbeddedLog } from '../../core/log/embedded/index.ts'
import { batchOf } from '../../core/sdk/batch.ts'
import type { Owned } from '../../core/sdk/log.ts'
import { append, logContract, readAll, Recorder, seen, values } from './contract.ts'
import { fakeHost, folder, gate, openLog } from './helper.ts'

logContract('embedded', async () => {
  const path = mkdtempSync(join(tmpdir(), 'hydrant-log-'))
  const open = (): ReturnType<typeof openEmbeddedLog> =>
    openEmbeddedLog({ path, host: realHost(), events: { emit: () => {} }, freeDiskBytes: 0 })
  let log = await open()
  return {
    log,
    reopen: async () => {
      await log.close()
      return (log = await open())
    },
    stop: async () => {
      await log.close()
      rmSync(path, { recursive: true, force: true })
    },
  }
})

const never = new AbortController().signal
const rows = { maxBytes: 1 << 20, maxWaitMs: 0, signal: never }

test('an id holds the folder id and a random part; each topic has its folder, which goes with it', async () => {
  const { log, path } = await openLog()
  const a = await log.createTopic('a', { partitions: 1 })
  expect(a.id).toMatch(new RegExp(`^${log.folderId}-[0-9a-f]{24}$`))
  expect(readdirSync(join(path, 'streams'))).toEqual([a.id])
  await log.deleteTopic(a)
  expect(readdirSync(join(path, 'streams'))).toEqual([])
})

test('puts that come while another is written share the next row and its time, in the order they came', async () => {
  const g = gate('beforeWrite', (dir) => dir.includes('streams'))
  const { log } = await openLog({}, g.seams)
  const t = await log.createTopic('t', { partitions: 2 })
  g.shut()
  const first = append(log, t, 0, values('a'))
  await g.waiting()
  const others = ['b', 'c', 'd'].map((v) => append(log, t, 0, values(v, `${v}2`)))
  const elsewhere = append(log, t, 1, values('x'))
  g.open()
  expect((await first).baseOffset).toBe(0)
  const answers = await Promise.all(others)
  expect(answers.map((x) => x.baseOffset)).toEqual([1, 3, 5])
  expect(new Set(answers.map((x) => x.appendTimeMs)).size).toBe(1)
  expect((await elsewhere).baseOffset).toBe(0)
  const { batches } = await log.read(t, 0, 0, rows)
  expect(batches.map((b) => b.count)).toEqual([1, 6])
  expect(seen(batches).map((s) => s.value)).toEqual(['a', 'b', 'b2', 'c', 'c2', 'd', 'd2'])
})

test('nobody sees a record, a note or a key before the disk has it', async () => {
  const g = gate('afterWrite')
  const { log } = await openLog({}, g.seams)
  const t = await log.createTopic('t', { partitions: 1 })
  const r = new Recorder()
  const m = await log.join('g', { topics: ['t'] }, r)
  await r.until(() => r.owned.length === 1)
  const [owned] = r.owned
  if (!owned) throw new Error('nothing assigned')
  g.shut()
  const reader = log.read(t, 0, 0, { maxBytes: 100, maxWaitMs: 15_000, signal: never })
  const told: string[] = []
  const appended = append(log, t, 0, values('a')).then(() => told.push('append'))
  await g.waiting()
  const saved = m.commit([{ owned, state: () => ({ offset: 0, leaderEpoch: 1, note: 'n' }) }]).then(() => told.push('commit'))
  const put = log.meta.put('k', new Uint8Array(1), 'any').then(() => told.push('meta'))
  // both writes have passed lmdb and wait for the disk
  for (let i = 0; i < 50; i++) await new Promise((next) => setImmediate(next))
  expect(told).toEqual([])
  expect(await log.bounds(t, 0)).toMatchObject({ stable: 0, highWatermark: 0 })
  expect(await log.offsetAt(t, 0, 'latest')).toBe(0)
  expect(await log.read(t, 0, 0, rows)).toMatchObject({ batches: [], next: 0 })
  g.open()
  expect(seen((await reader).batches)).toMatchObject([{ offset: 0, value: 'a' }])
  await Promise.all([appended, saved, put])
  expect(told.toSorted()).toEqual(['append', 'commit', 'meta'])
})

test('a put larger than a row is stored whole, over several rows; a record larger than a row is refused', async () => {
  const { log } = await openLog()
  const t = await log.createTopic('t', { partitions: 1 })
  const value = Buffer.alloc(limits.recordBytes, 'x')
  const { baseOffset } = await append(log, t, 0, batchOf(Array.from({ length: 10 }, () => ({ value }))))
  expect(baseOffset).toBe(0)
  const { batches, next } = await log.read(t, 0, 0, { ...rows, maxBytes: 32 << 20 })
  expect([batches.map((b) => b.count), next]).toEqual([[4, 4, 2], 10])
  const huge = batchOf([{ value: Buffer.alloc(limits.logRowBytes + 1) }])
  await expect(append(log, t, 0, huge)).rejects.toMatchObject({ code: 'RecordTooLarge', stored: 'no', retriable: false })
  await expect(append(log, t, 0, batchOf([]))).rejects.toMatchObject({ code: 'EmptyBatch', stored: 'no' })
})

test('records waiting for the disk are bounded, and one that waits can be taken back', async () => {
  const g = gate('beforeWrite', (dir) => dir.includes('streams'))
  const { log } = await openLog({}, g.seams)
  const t = await log.createTopic('t', { partitions: 1 })
  const big = batchOf(Array.from({ length: 4 }, () => ({ value: new Uint8Array(limits.recordBytes) })))
  g.shut()
  const first = append(log, t, 0, big)
  await g.waiting()
  const abort = new AbortController()
  const aborted = log.append(t, 0, values('taken back'), { signal: abort.signal })
  const fits = Math.floor(limits.logPendingBytes / (4 * limits.recordBytes)) - 1
  const waiting = Array.from({ length: fits }, () => append(log, t, 0, big))
  await expect(append(log, t, 0, big)).rejects.toMatchObject({ code: 'Overloaded', stored: 'no', retriable: true })
  abort.abort()
  await expect(aborted).rejects.toMatchObject({ code: 'Aborted', stored: 'no' })
  g.open()
  expect((await first).baseOffset).toBe(0)
  expect((await Promise.all(waiting)).map((w) => w.baseOffset)).toEqual(Array.from({ length: fits }, (_, i) => 4 * (i + 1)))
})

test('the clock going back moves no arrival time back; epochs are the boots of the folder', async () => {
  const host = fakeHost()
  const { log, path } = await openLog({ host })
  const t = await log.createTopic('t', { partitions: 1 })
  const a = await append(log, t, 0, values('a'))
  host.nowMs -= 5_000
  expect((await append(log, t, 0, values('b'))).appendTimeMs).toBe(a.appendTimeMs)
  await log.close()
  await (await openLog({ host, path })).log.close() // boot 2 writes nothing
  const { log: third } = await openLog({ host, path })
  expect(third.bootEpoch).toBe(3)
  expect((await append(third, t, 0, values('c'))).appendTimeMs).toBe(a.appendTimeMs)
  const ends = await Promise.all([1, 2, 3, 9].map((e) => third.endOfEpoch(t, 0, e)))
  expect(ends).toEqual([1, 2, 3, 3].map((leaderEpoch) => ({ leaderEpoch, endOffset: leaderEpoch === 3 ? 3 : 2 })))
  // one answer, one epoch
  expect(await third.read(t, 0, 0, rows)).toMatchObject({ next: 2, leaderEpoch: 1 })
  expect(await third.read(t, 0, 2, { ...rows, lastEpoch: 1 })).toMatchObject({ next: 3, leaderEpoch: 3 })
  await expect(third.read(t, 0, 3, { ...rows, lastEpoch: 1 })).rejects.toMatchObject({
    name: 'DivergedError',
    leaderEpoch: 1,
    endOffset: 2,
  })
  await expect(third.read(t, 0, 3, { ...rows, lastEpoch: 4 })).rejects.toMatchObject({ name: 'DivergedError', leaderEpoch: 3 })
})

test('retention trims by age, with appends and at opening', async () => {
  const host = fakeHost()
  const { log, path } = await openLog({ host })
  const t = await log.createTopic('t', { partitions: 1, retentionMs: 100_000 })
  for (const v of ['a', 'b', 'c']) {
    await append(log, t, 0, values(v, v))
    host.nowMs += 60_000
  }
  host.monotonicMs += 61_000
  await append(log, t, 0, values('d')) // a is 180 s old, b 120 s, c 60 s
  const until = performance.now() + 10_000
  while ((await log.bounds(t, 0)).logStart === 0 && performance.now() < until) await new Promise((r) => setImmediate(r))
  expect(await log.bounds(t, 0)).toMatchObject({ logStart: 4, stable: 7 })
  await log.close()
  host.nowMs += 60_000
  const { log: again } = await openLog({ host, path })
  expect((await readAll(again, t, 0, 6)).map((r) => r.value)).toEqual(['d'])
  expect((await again.bounds(t, 0)).logStart).toBe(6)
})

test('a topic whose creation or deletion did not finish is swept; streams without their control state are not', async () => {
  const { log, path } = await openLog()
  const t = await log.createTopic('t', { partitions: 1 })
  await log.close()
  const orphan = join(path, 'streams', `${log.folderId}-${'0'.repeat(24)}`)
  mkdirSync(orphan)
  const { log: again } = await openLog({ path })
  expect(existsSync(orphan)).toBe(false)
  await again.close()
  rmSync(join(path, 'control'), { recursive: true })
  await expect(openLog({ path })).rejects.toThrow(/control state beside it is new/)
  expect(readdirSync(join(path, 'streams'))).toEqual([t.id])
})

test('an assignment may commit before it is over; a group is joined once; its state is removed on request', async () => {
  const { log } = await openLog()
  const t = await log.createTopic('t', { partitions: 1 })
  const saved: string[] = []
  const done = Promise.withResolvers<void>()
  const m = await log.join(
    'g',
    { topics: ['t'] },
    {
      assigned: async (p: readonly Owned[]) => {
        saved.push(...(await m.commit(p.map((owned) => ({ owned, state: () => ({ offset: 0, leaderEpoch: 1, note: 'start' }) })))))
        done.resolve()
      },
      revoking: () => Promise.resolve(),
      lost: () => {},
    },
  )
  await done.promise
  expect(saved).toEqual(['saved'])
  await expect(log.join('g', { topics: ['t'] }, new Recorder())).rejects.toThrow(/joined it already/)
  await expect(log.deleteGroup('g')).rejects.toThrow(/is in it/)
  await m.leave()
  await log.deleteGroup('g')
  const r = new Recorder()
  const again = await log.join('g', { topics: ['t'] }, r)
  await r.until(() => r.owned.length === 1)
  expect(r.owned[0]?.committed).toBeNull()
  expect(await again.commit([{ owned: r.owned[0] as Owned, state: () => ({ offset: 0, leaderEpoch: 1, note: 'ü' }) }])).toEqual([
    'too-large',
  ])
  expect(t.name).toBe('t')
})

test('deleting twice at once deletes once, and never the topic made under the name again', async () => {
  const { log } = await openLog()
  const t = await log.createTopic('t', { partitions: 1 })
  const both = await Promise.allSettled([log.deleteTopic(t), log.deleteTopic(t)])
  expect(both.map((r) => r.status).toSorted()).toEqual(['fulfilled', 'rejected'])
  const again = await log.createTopic('t', { partitions: 1 })
  await expect(log.deleteTopic(t)).rejects.toThrow(/does not exist/)
  expect(await log.describeTopic('t')).toMatchObject(again)
})

test('the positions of a deleted topic are removed with it', async () => {
  const { log } = await openLog()
  const t = await log.createTopic('t', { partitions: 2 })
  const kept = await log.createTopic('kept', { partitions: 1 })
  const r = new Recorder()
  const m = await log.join('g', { pattern: '*' }, r)
  await r.until(() => r.owned.length === 3)
  await m.commit(r.owned.map((owned) => ({ owned, state: () => ({ offset: 0, leaderEpoch: 1, note: owned.topic.name }) })))
  await log.deleteTopic(t)
  const of = [
    { topic: t, partition: 0 },
    { topic: t, partition: 1 },
    { topic: kept, partition: 0 },
  ]
  expect((await m.committed(of)).map((c) => c?.note)).toEqual([undefined, undefined, 'kept'])
})

test('closing waits for what was accepted, answers what waits, and lets the folder go', async () => {
  const g = gate('afterWrite', (dir) => dir.includes('streams'))
  const { log, path } = await openLog({}, g.seams)
  const t = await log.createTopic('t', { partitions: 1 })
  const stop = new AbortController()
  const watch = log.meta.watch('', stop.signal)[Symbol.asyncIterator]()
  await watch.next()
  const watching = watch.next()
  const reading = log.read(t, 0, 1, { ...rows, maxWaitMs: 15_000 }).catch((e: unknown) => e)
  expect(await reading).toMatchObject({ name: 'OutOfRangeError' })
  const waiting = log.read(t, 0, 0, { ...rows, maxWaitMs: 15_000 }).catch((e: unknown) => e)
  g.shut()
  const accepted = append(log, t, 0, values('a'))
  await g.waiting()
  const late = append(log, t, 0, values('b'))
  const closing = log.close()
  await expect(append(log, t, 0, values('c'))).rejects.toMatchObject({ code: 'Closed', stored: 'no' })
  g.open()
  await closing
  expect([(await accepted).baseOffset, (await late).baseOffset]).toEqual([0, 1])
  expect(await waiting).toMatchObject({ message: 'the log is closed' })
  expect((await watching).done).toBe(true)
  const { log: again } = await openLog({ path })
  expect((await readAll(again, t, 0, 0)).map((r) => r.value)).toEqual(['a', 'b'])
})

test('a folder is made when it is not there', async () => {
  const { log } = await openLog({ path: join(folder(), 'deep', 'er') })
  expect(log.health()).toEqual({ ok: true })
  expect(await log.freeBytes()).toBeGreaterThan(0)
})

test('row 32: deleted and created again within one second, or with the clock an hour back, a topic has another id', async () => {
  const host = fakeHost()
  const { log } = await openLog({ host })
  const ids = new Set<string>()
  for (const step of [0, 0, 0, -3_600_000, 0]) {
    host.nowMs += step
    const t = await log.createTopic('a', { partitions: 1 })
    ids.add(t.id)
    await log.deleteTopic(t)
  }
  expect(ids.size).toBe(5)
})
