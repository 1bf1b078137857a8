/** What the embedded log does when the process, the disk or the folder fails. */
import { execFileSync, spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { createInterface } from 'node:readline'
import { cpSync, mkdirSync, readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { open as openLmdb } from 'lmdb'
import { expect, onTestFinished, test } from 'vitest'
import { Env } from '../../core/log/embedded/env.ts'
import type { EmbeddedLog } from '../../core/log/embedded/open.ts'
import { batchOf } from '../../core/sdk/batch.ts'
import { errorMessage } from '../../core/sdk/errors.ts'
import type { AppendError, TopicRef } from '../../core/sdk/log.ts'
import { append, readAll, Recorder, values, type Seen } from './contract.ts'
import { folderError, refusePlatform } from '../../core/host/folders.ts'
import { failure, fakeHost, folder, gate, openLog } from './helper.ts'

const never = new AbortController().signal
const streams = (dir: string): boolean => dir.includes('streams')

interface Child {
  readonly process: ChildProcess
  readonly lines: Record<string, unknown>[]
  /** Resolves once `n` lines have come. */
  until(n: number): Promise<void>
  /** Resolves when it has ended and all it said is in `lines`. */
  readonly over: Promise<number | null>
}
function child(mode: string, path: string, o: { env?: NodeJS.ProcessEnv; armed?: string } = {}): Child {
  const script = join(import.meta.dirname, 'child.ts')
  const args = ['-C', 'hydrant-source', script, mode, path, ...(o.armed === undefined ? [] : [o.armed])]
  const started = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'ignore'], env: { ...process.env, ...o.env } })
  onTestFinished(() => void started.kill('SIGKILL'))
  const lines: Record<string, unknown>[] = []
  const waiting: { n: number; resolve(): void }[] = []
  const reader = createInterface({ input: started.stdout })
  reader.on('line', (line) => {
    if (!line.endsWith('}')) return // cut off by the kill: it was not heard
    lines.push(JSON.parse(line) as Record<string, unknown>)
    for (const w of waiting) if (lines.length >= w.n) w.resolve()
  })
  const closed = new Promise<void>((r) => reader.on('close', r))
  const over = new Promise<number | null>((resolve) => started.on('exit', (code) => void closed.then(() => resolve(code))))
  const until = (n: number): Promise<void> =>
    new Promise((resolve, reject) => {
      waiting.push({ n, resolve })
      if (lines.length >= n) resolve()
      void over.then((code) => reject(new Error(`the child ended (${code}) after ${lines.length} of ${n} lines`)))
    })
  return { process: started, lines, until, over }
}

test('kill -9 while writing, again and again: no acknowledged record is lost, no offset is given twice', { timeout: 60_000 }, async () => {
  const path = folder()
  const acks: { p: number; baseOffset: number; count: number; id: string }[] = []
  for (let round = 0; round < 4; round++) {
    const c = child('write', path)
    await c.until(60 + round * 40)
    c.process.kill('SIGKILL')
    await c.over
    for (const l of c.lines) if (typeof l['id'] === 'string') acks.push(l as unknown as (typeof acks)[number])
  }
  const { log } = await openLog({ path })
  expect(log.bootEpoch).toBe(5)
  const t = (await log.describeTopic('t')) as TopicRef
  const found: Map<number, Seen>[] = []
  for (const p of [0, 1, 2, 3]) {
    const all = await readAll(log, t, p, 0)
    expect(all.map((r) => r.offset)).toEqual(all.map((_, i) => i))
    expect(new Set(all.map((r) => r.value?.split(':')[0])).size).toBe(all.length)
    found.push(new Map(all.map((r) => [r.offset, r])))
  }
  expect(acks.length).toBeGreaterThan(400)
  expect(new Set(acks.map((a) => `${a.p}@${a.baseOffset}`)).size).toBe(acks.length)
  for (const a of acks) {
    for (let i = 0; i < a.count; i++) {
      expect(found[a.p]?.get(a.baseOffset + i)?.value).toBe(`${a.id}.${i}:${'x'.repeat((i * 37) % 900)}`)
    }
  }
})

test('one daemon a folder: another process and this process are refused by pid; a dead holder is no holder', async () => {
  const path = folder()
  const c = child('hold', path)
  await c.until(1)
  await expect(openLog({ path })).rejects.toThrow(`in use by another daemon (pid ${c.process.pid})`)
  c.process.kill('SIGKILL')
  await c.over
  const { log } = await openLog({ path })
  expect(log.bootEpoch).toBe(2)
  await expect(openLog({ path })).rejects.toThrow(`in use by this process (pid ${process.pid})`)
  expect((await append(log, await log.createTopic('a', { partitions: 1 }), 0, values('a'))).baseOffset).toBe(0)
})

test('a network file system is refused unless it is allowed', async () => {
  const host = fakeHost()
  for (const [type, name] of [
    [0x6969, 'NFS'],
    [0x517b, 'SMB'],
    [-11317950, 'CIFS'],
    [0x65735546, 'FUSE'],
  ] as const) {
    host.disk = { type, freeBytes: 1e12 }
    await expect(openLog({ host })).rejects.toThrow(`is on ${name}`)
  }
  const { log } = await openLog({ host, allowNetworkFs: true })
  expect(log.health().ok).toBe(true)
})

test('a copied folder is refused; started as restored it has other ids, all records and no positions', async () => {
  const { log, path } = await openLog()
  const t = await log.createTopic('t', { partitions: 1 })
  await append(log, t, 0, values('a'))
  const r = new Recorder()
  const m = await log.join('g', { topics: ['t'] }, r)
  await r.until(() => r.owned.length === 1)
  expect(await m.commit(r.owned.map((owned) => ({ owned, state: () => ({ offset: 1, leaderEpoch: 1, note: 'n' }) })))).toEqual(['saved'])
  const copy = join(folder(), 'copy')
  cpSync(path, copy, { recursive: true }) // while it runs
  await expect(openLog({ path: copy })).rejects.toThrow(/is a copy.*hydrant serve --restored/)
  const { log: restored } = await openLog({ path: copy, restored: true })
  const t2 = (await restored.describeTopic('t')) as TopicRef
  expect(restored.folderId).not.toBe(log.folderId)
  expect(t2.id).not.toBe(t.id)
  expect(t2.id.startsWith(restored.folderId)).toBe(true)
  expect((await readAll(restored, t2, 0, 0)).map((x) => x.value)).toEqual(['a'])
  const r2 = new Recorder()
  await restored.join('g', { topics: ['t'] }, r2)
  await r2.until(() => r2.owned.length === 1)
  expect(r2.owned[0]?.committed).toBeNull()
  await restored.close()
  const { log: again } = await openLog({ path: copy })
  expect(await again.describeTopic('t')).toMatchObject(t2)
  await log.close()
  await openLog({ path }) // the original is not touched
})

async function poisonedAfter(log: EmbeddedLog, path: string, dirs: readonly string[]): Promise<void> {
  for (const dir of dirs) {
    const other = new Env(join(path, dir), {})
    await other.takeOver(log.bootEpoch + 1)
  }
}

test('another daemon that opened the folder: nothing is written any more, everybody is told', async () => {
  const { log, path, events } = await openLog()
  const t = await log.createTopic('t', { partitions: 1 })
  await append(log, t, 0, values('a'))
  const r = new Recorder()
  const m = await log.join('g', { topics: ['t'] }, r)
  await r.until(() => r.owned.length === 1)
  await poisonedAfter(log, path, [`streams/${t.id}`, 'control'])
  await expect(append(log, t, 0, values('b'))).rejects.toMatchObject({ code: 'Poisoned', stored: 'no', retriable: false })
  await expect(append(log, t, 0, values('c'))).rejects.toThrow(/another daemon has opened this folder \(boot 2, this daemon is boot 1\)/)
  expect(log.health()).toMatchObject({ ok: false, reason: expect.stringContaining('another daemon') as string })
  expect(r.lostOnes.map((l) => l.why)).toEqual(['fenced'])
  expect(await m.commit(r.owned.map((owned) => ({ owned, state: () => ({ offset: 1, leaderEpoch: 1, note: 'n' }) })))).toEqual(['fenced'])
  await expect(log.meta.put('k', new Uint8Array(1), 'any')).rejects.toThrow(/another daemon/)
  expect(events.filter((e) => e.type === 'log.poisoned')).toHaveLength(1)
  expect((await readAll(log, t, 0, 0)).map((x) => x.value)).toEqual(['a'])
})

test('a commit meets another daemon first: its answer is fenced', async () => {
  const { log, path } = await openLog()
  const t = await log.createTopic('t', { partitions: 1 })
  const r = new Recorder()
  const m = await log.join('g', { topics: ['t'] }, r)
  await r.until(() => r.owned.length === 1)
  await poisonedAfter(log, path, ['control'])
  expect(await m.commit(r.owned.map((owned) => ({ owned, state: () => ({ offset: 1, leaderEpoch: 1, note: 'n' }) })))).toEqual(['fenced'])
  expect(await m.committed([{ topic: t, partition: 0 }])).toEqual([null])
  expect(r.lostOnes).toHaveLength(1)
  await expect(append(log, t, 0, values('b'))).rejects.toMatchObject({ stored: 'no', retriable: false })
})

test('a failed flush: no acknowledgement after it, of any stream, and the answers say what may be stored', async () => {
  const g = gate('afterWrite', (dir) => streams(dir))
  const { log, events } = await openLog({}, g.seams)
  const a = await log.createTopic('a', { partitions: 1 })
  const b = await log.createTopic('b', { partitions: 1 })
  await append(log, a, 0, values('acknowledged'))
  g.shut()
  const outcomes = [append(log, a, 0, values('1')), append(log, b, 0, values('2'))]
  await g.waiting()
  const queued = append(log, a, 0, values('3'))
  g.fail(failure(5))
  g.open()
  const codes = (await Promise.allSettled([...outcomes, queued])).map((x) =>
    x.status === 'rejected' ? (x.reason as AppendError).stored : x.value,
  )
  expect(codes).toEqual(['unknown', 'unknown', 'no'])
  g.fail(null)
  await expect(append(log, b, 0, values('4'))).rejects.toMatchObject({ code: 'Poisoned', stored: 'no', retriable: false })
  expect(events.filter((e) => e.type === 'log.poisoned')).toHaveLength(1)
  expect((await readAll(log, a, 0, 0)).map((x) => x.value)).toEqual(['acknowledged'])
  expect(await log.bounds(b, 0)).toMatchObject({ stable: 0 })
})

test('a failed flush of the control state: the commit is unknown, the lease ends', async () => {
  const g = gate('afterWrite', (dir) => !streams(dir))
  const { log } = await openLog({}, g.seams)
  await log.createTopic('t', { partitions: 1 })
  const r = new Recorder()
  const m = await log.join('g', { topics: ['t'] }, r)
  await r.until(() => r.owned.length === 1)
  const commit = (): Promise<readonly string[]> =>
    m.commit(r.owned.map((owned) => ({ owned, state: () => ({ offset: 1, leaderEpoch: 1, note: 'n' }) })))
  g.fail(failure(5))
  expect(await commit()).toEqual(['unknown'])
  expect(r.owned[0]?.lease.live()).toBe(false)
  g.fail(null)
  expect(await commit()).toEqual(['fenced'])
})

test('a stream poisons the log while commits are on their way: what was written is unknown, what waits is not written', async () => {
  let failing = false
  const g = gate('afterWrite', (dir) => !streams(dir))
  const fail = (dir: string): Promise<void> => (failing && streams(dir) ? Promise.reject(failure(5)) : Promise.resolve())
  const { log } = await openLog({}, { ...g.seams, beforeWrite: fail })
  const t = await log.createTopic('t', { partitions: 1 })
  const r = new Recorder()
  const m = await log.join('g', { topics: ['t'] }, r)
  await r.until(() => r.owned.length === 1)
  const commit = (offset: number): Promise<readonly string[]> =>
    m.commit(r.owned.map((owned) => ({ owned, state: () => ({ offset, leaderEpoch: 1, note: '' }) })))
  g.shut()
  const written = commit(1)
  await g.waiting()
  const waits = commit(2)
  failing = true
  await expect(append(log, t, 0, values('a'))).rejects.toMatchObject({ stored: 'unknown' })
  g.open()
  expect([await written, await waits]).toEqual([['unknown'], ['fenced']])
  expect((await m.committed([{ topic: t, partition: 0 }]))[0]?.offset).toBe(1)
})

test('the disk full between puts: each answer is what the log holds (row 34)', async () => {
  const g = gate('beforeWrite', streams)
  const { log, events } = await openLog({}, g.seams)
  const t = await log.createTopic('t', { partitions: 2 })
  g.shut()
  const a = append(log, t, 0, values('a'))
  await g.waiting()
  g.open()
  await a
  g.shut()
  const b = append(log, t, 0, values('b'))
  await g.waiting()
  const lingering = [append(log, t, 0, values('c1', 'c2')), append(log, t, 1, values('c3'))]
  g.fail(failure('ENOSPC'))
  g.open()
  const refused = await Promise.allSettled([b, ...lingering])
  for (const r of refused) expect(r).toMatchObject({ status: 'rejected', reason: { code: 'DiskFull', stored: 'no', retriable: true } })
  expect((await readAll(log, t, 0, 0)).map((x) => x.value)).toEqual(['a'])
  expect(await log.meta.put('k', new Uint8Array(1), 'any')).toBe(1)
  g.fail(null)
  const [d, e] = await Promise.all([append(log, t, 0, values('d')), append(log, t, 1, values('e'))])
  expect([d.baseOffset, e.baseOffset]).toEqual([1, 0])
  expect((await readAll(log, t, 0, 0)).map((x) => [x.offset, x.value])).toEqual([[0, 'a'], [1, 'd']]) // prettier-ignore
  expect(events.map((x) => x.type)).toEqual(['log.refusing', 'log.resumed'])
})

async function settle(): Promise<void> {
  for (let i = 0; i < 5; i++) await new Promise((r) => setImmediate(r))
}

test('the free-disk reserve: appends are refused before they are written, once told, and go on by themselves', async () => {
  const host = fakeHost()
  const { log, events } = await openLog({ host, freeDiskBytes: 1_000 })
  const t = await log.createTopic('t', { partitions: 1 })
  await append(log, t, 0, values('a'))
  host.disk = { type: 0, freeBytes: 999 }
  host.monotonicMs += 300
  await append(log, t, 0, values('b')) // this one makes the log look
  await settle()
  for (let i = 0; i < 3; i++) {
    await expect(append(log, t, 0, values('no'))).rejects.toMatchObject({ code: 'DiskReserve', stored: 'no', retriable: true })
  }
  expect(await log.meta.put('k', new Uint8Array(1), 'any')).toBe(1)
  expect((await readAll(log, t, 0, 0)).map((x) => x.value)).toEqual(['a', 'b'])
  expect(events.map((e) => e.type)).toEqual(['log.refusing'])
  host.disk = { type: 0, freeBytes: 1_000 }
  const timers = host.timers.splice(0)
  for (const fire of timers) fire() // nobody appends: the log looks by itself
  await settle()
  expect(events.map((e) => e.type)).toEqual(['log.refusing', 'log.resumed'])
  expect((await append(log, t, 0, values('c'))).baseOffset).toBe(2)
})

async function damage(path: string, t: TopicRef, change: (frame: Buffer) => Buffer): Promise<void> {
  const root = openLmdb<Uint8Array, Uint8Array>({
    path: join(path, 'streams', t.id),
    encoding: 'binary',
    keyEncoding: 'binary',
    maxDbs: 2,
    overlappingSync: false,
  })
  const data = root.openDB<Uint8Array, Uint8Array>({ name: 'data', encoding: 'binary', keyEncoding: 'binary' })
  const rows = [...data.getKeys()].filter((k) => k[0] === 1)
  const key = rows[1]
  const row = key && data.get(key)
  if (!row) throw new Error('no second row to damage')
  await data.put(key, change(Buffer.from(row)))
  await root.close()
}

test.each([
  ['a flipped bit in a value', (b: Buffer) => Buffer.from([...b.subarray(0, -1), (b.at(-1) ?? 0) ^ 1]), /checksum/],
  ['a row cut off', (b: Buffer) => b.subarray(0, 50), /checksum/],
  ['a foreign row', () => Buffer.alloc(100), /magic/],
])('%s is a clear error and is never skipped; what stands before it is readable', async (_, change, says) => {
  const { log, path } = await openLog()
  const t = await log.createTopic('t', { partitions: 1 })
  for (const v of ['a', 'b', 'c']) await append(log, t, 0, values(v))
  await log.close()
  await damage(path, t, change)
  const { log: again } = await openLog({ path })
  const read = (from: number): Promise<{ next: number }> => again.read(t, 0, from, { maxBytes: 1, maxWaitMs: 0, signal: never })
  expect((await read(0)).next).toBe(1)
  await expect(read(1)).rejects.toThrow(says)
  await expect(read(1)).rejects.toThrow(/partition 0 offset 1/)
  expect((await read(2)).next).toBe(3)
})

test('bits flipped in the data file of a stopped log are noticed', async () => {
  const { log, path } = await openLog()
  const t = await log.createTopic('t', { partitions: 1 })
  const needle = 'needle'.repeat(50)
  await append(log, t, 0, values('a', needle, 'b'))
  await log.close()
  const file = join(path, 'streams', t.id, 'data.mdb')
  const bytes = readFileSync(file)
  for (let i = bytes.indexOf(needle); i >= 0; i = bytes.indexOf(needle, i + 1)) bytes[i + 100] = (bytes[i + 100] ?? 0) ^ 4
  writeFileSync(file, bytes)
  const { log: again } = await openLog({ path })
  await expect(again.read(t, 0, 0, { maxBytes: 1, maxWaitMs: 0, signal: never })).rejects.toThrow(/checksum/)
})

test('a data file that was cut off answers with errors, it does not kill the process', async () => {
  const { log, path } = await openLog()
  const t = await log.createTopic('t', { partitions: 1 })
  for (let i = 0; i < 20; i++) await append(log, t, 0, batchOf([{ value: Buffer.alloc(50_000, `${i}`) }]))
  await log.close()
  const file = join(path, 'streams', t.id, 'data.mdb')
  truncateSync(file, statSync(file).size - 300_000)
  const c = child('cut', path)
  expect(await c.over).toBe(0)
  expect(c.lines).toContainEqual({ event: 'warning' })
  expect(c.lines.some((l) => typeof l['error'] === 'string' && /corrupt|checksum|MDB_/.test(l['error']))).toBe(true)
})

function compile(): string | null {
  const dir = folder()
  const source = join(import.meta.dirname, 'disk-faults.c')
  const library = join(dir, 'disk-faults.so')
  const built = process.platform === 'linux' ? spawnSync('cc', ['-shared', '-fPIC', '-O1', '-o', library, source, '-ldl']) : null
  return built?.status === 0 ? library : null
}

test('the system calls fail: ENOSPC is refused and over, EIO of fdatasync poisons', async (context) => {
  const library = compile()
  if (library === null) {
    context.skip('no C compiler, or not Linux')
    return
  }
  const armed = folder()
  const c = child('faults', folder(), { armed, env: { LD_PRELOAD: library, HYDRANT_DISK_FAULTS: armed } })
  expect(await c.over).toBe(0)
  expect(c.lines.slice(1)).toEqual([
    { what: 'before', baseOffset: 0 },
    { event: 'log.refusing' },
    { what: 'full', code: 'DiskFull', stored: 'no', retriable: true },
    { event: 'log.resumed' },
    { what: 'room again', baseOffset: 1 },
    { event: 'log.poisoned' },
    { what: 'flush fails', code: 'Poisoned', stored: 'unknown', retriable: false },
    { what: 'flush fails', code: 'Poisoned', stored: 'unknown', retriable: false },
    { what: 'after', code: 'Poisoned', stored: 'no', retriable: false },
    { health: false, stable: 2 },
  ])
})

test('a small disk, really full: refused, trimmed, written again, and all that was acknowledged is there', async (context) => {
  const mount = join(folder(), 'disk')
  mkdirSync(mount)
  if (process.platform !== 'linux' || spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=6m', 'tmpfs', mount]).status !== 0) {
    context.skip('this user may not mount a small disk')
    return
  }
  onTestFinished(() => void execFileSync('umount', [mount]))
  const path = join(mount, 'data')
  const c = child('fill', path)
  expect(await c.over).toBe(0)
  const puts = c.lines.filter((l) => l['what'] !== undefined)
  const acked = puts.filter((l) => l['baseOffset'] !== undefined)
  const refused = puts.filter((l) => l['code'] !== undefined)
  expect(acked.length).toBeGreaterThan(15)
  expect(refused.length).toBeGreaterThan(100)
  for (const r of refused) expect(r).toMatchObject({ code: 'DiskFull', stored: 'no', retriable: true })
  expect(puts.slice(-5).every((l) => l['baseOffset'] !== undefined)).toBe(true)
  const { log } = await openLog({ path })
  const t = (await log.describeTopic('t')) as TopicRef
  const all = await readAll(log, t, 0, 10)
  expect(all.map((r) => r.offset)).toEqual(acked.slice(10).map((a) => a['baseOffset']))
  await log.close()
})

const said = (path: string): Promise<string> =>
  openLog({ path }).then(
    () => 'opened',
    (e: unknown) => errorMessage(e),
  )
test('a data folder that cannot be used: what was attempted, and why not', async () => {
  const root = folder()
  writeFileSync(join(root, 'file'), 'x')
  expect(await said(join(root, 'file'))).toBe(`log.path ${root}/file: ${root}/file is a file, not a folder (EEXIST): name a folder`)
  expect(await said(join(root, 'file', 'a', 'b'))).toBe(
    `log.path ${root}/file/a/b: ${root}/file is a file, not a folder (ENOTDIR): name a folder`,
  )
  // fs.mkdir with `recursive` never comes back from this one
  if (process.platform === 'linux')
    expect(await said('/proc/hydrant/a')).toBe('log.path /proc/hydrant/a: no folder can be made there (ENOENT): name another one')
  expect(() => refusePlatform('win32')).toThrow(/^hydrant keeps its log on Linux and macOS only: .* WSL 2 or the container image$/)
  for (const p of ['linux', 'darwin'] as const) expect(() => refusePlatform(p)).not.toThrow()
  const denied = await folderError('log.path', '/x/y', Object.assign(new Error('EACCES'), { code: 'EACCES', path: '/x' }))
  expect(denied.message).toMatch(
    /^log\.path \/x\/y: user \d+ may not create files at \/x \(EACCES\): make it writable, or name another folder$/,
  )
  expect((await openLog({ path: join(root, 'a', 'b', 'c') })).log.health()).toEqual({ ok: true })
})
