import { mkdtemp, mkdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { constants, crc32, gunzipSync, gzipSync } from 'node:zlib'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { assertClean, audit, MUST_BE_ZERO, table, type AuditInput, type AuditResult } from './audit.ts'
import { Outcomes } from './outcomes.ts'
import { makeRecord, type RecordId } from './records.ts'

let folder: string
let outcomes: Outcomes
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hydrant-audit-'))
  outcomes = new Outcomes(77)
})
afterEach(() => rm(folder, { recursive: true, force: true }))

const acked = (n: number, producer = 0): RecordId[] => {
  const ids = outcomes.issue(producer, n)
  outcomes.mark(ids, 'ok')
  return ids
}
const bytesOf = (ids: readonly RecordId[]): Buffer => Buffer.concat(ids.map((id) => makeRecord(id, 100)))
const hex8 = (n: number): string => n.toString(16).padStart(8, '0')
/** One object with its sidecar; `end` counts the records of all before. */
async function store(token: string, body: Uint8Array, end: number, records: number, o: Record<string, string> = {}): Promise<void> {
  const key = `a/x-${token}`
  const path = join(folder, key)
  await mkdir(join(dirname(path), '.hydrant'), { recursive: true })
  await writeFile(path, body)
  const plain = body[0] === 0x1f ? gunzipSync(body, { finishFlush: constants.Z_SYNC_FLUSH }) : body
  const outcome = Buffer.from([0, records, 0, 0, 0])
  const claims = { start: String(end - records), end: String(end), records: String(records) }
  const metadata = { token, ...claims, d: '00000000' + hex8(crc32(plain)), o: hex8(crc32(outcome)), ...o }
  await writeFile(join(dirname(path), '.hydrant', `${token}.json`), JSON.stringify({ key, metadata }))
}
const run = (o: Partial<AuditInput> = {}): Promise<AuditResult> =>
  audit({ outcomes, delivered: [{ kind: 'folder', root: folder }], compression: 'none', ...o })
const wrong = (r: AuditResult): Record<string, number> => Object.fromEntries(MUST_BE_ZERO.filter((k) => r[k] > 0).map((k) => [k, r[k]]))

const broken = async (o: Partial<AuditInput>): Promise<string[]> => (await run(o)).examples.filter((e) => e.startsWith('broken'))

const line = (id: RecordId): string => JSON.stringify({ rawData: Buffer.from(makeRecord(id, 9)).toString('base64'), errorCode: 'X' }) + '\n'

describe('the audit', () => {
  test('nothing is wrong where nothing is wrong; unknown ids may be in or not', async () => {
    const [a, b] = [acked(3), acked(2)]
    const maybe = outcomes.issue(0, 2)
    await store('t1', bytesOf(a), 3, 3)
    await store('t2', bytesOf([...b, ...maybe.slice(0, 1)]), 6, 3)
    const r = assertClean(await run(), 'clean')
    expect(r).toMatchObject({ accepted: 5, unknown: 2, unknownIn: 1, delivered: 6, objects: 2 })
  })

  test('lost, duplicate, phantom (a refused id, an id never sent)', async () => {
    const ids = acked(4)
    const refused = outcomes.issue(0, 1)
    outcomes.mark(refused, 'fail')
    await store('t1', bytesOf([...ids.slice(0, 2), ...refused, { run: 77, producer: 9, seq: 0 }]), 4, 4)
    await store('t2', bytesOf(ids.slice(1, 3)), 6, 2)
    const r = await run()
    expect(wrong(r)).toEqual({ lost: 1, duplicate: 1, phantom: 2 })
    expect(() => assertClean(r, 'x')).toThrow(/lost .* 1 {2}<-- must be 0/)
    expect(table(r)).toContain('never sent')
  })

  test('a record of another run is a phantom', async () => {
    await store('t1', makeRecord({ run: 78, producer: 0, seq: 0 }, 5), 1, 1)
    expect(wrong(await run())).toEqual({ phantom: 1 })
  })

  test('a changed byte, a missing or doubled newline', async () => {
    const ids = acked(2)
    const body = bytesOf(ids)
    body[60] = (body[60] ?? 0) ^ 1
    await store('t1', body, 2, 2)
    expect(wrong(await run())).toEqual({ corrupt: 1 })
    await store('t1', body, 2, 2, { d: '00000000' + hex8(crc32(bytesOf(ids))) })
    expect(wrong(await run())).toEqual({ corrupt: 1, broken: 1 })
    expect((await run({ format: 'ndjson' })).corrupt).toBe(3)
  })

  test('disorder within an object, per producer', async () => {
    const ids = acked(3)
    await store('t1', bytesOf([...ids.slice(1), ...ids.slice(0, 1)]), 3, 3)
    expect(wrong(await run())).toEqual({ disorder: 1 })
  })

  test('a file cut short, metadata that lies, no sidecar, ranges that overlap', async () => {
    const ids = acked(4)
    await store('t1', gzipSync(bytesOf(ids)).subarray(0, 50), 4, 4)
    expect(wrong(await run({ compression: 'gzip' }))).toMatchObject({ lost: 4 })
    const lies = { records: '5', d: '0000000000000000', o: '00000000', token: 'y', end: '3' }
    for (const [k, v] of Object.entries(lies)) {
      await store('t1', gzipSync(bytesOf(ids)), 4, 4, { [k]: v })
      expect(wrong(await run({ compression: 'gzip' }))).toEqual({ broken: 1 })
    }
    await store('t1', gzipSync(bytesOf(ids.slice(0, 2))), 2, 2)
    await store('t2', gzipSync(bytesOf(ids.slice(2))), 3, 2)
    expect(wrong(await run({ compression: 'gzip' }))).toEqual({ broken: 1 })
    await rm(join(folder, 'a/.hydrant/t2.json'))
    expect(wrong(await run({ compression: 'gzip' }))).toEqual({ broken: 1 })
  })

  test('several shards: ranges that overlap too often, or do not join', async () => {
    // two shards: [0, 2) [2, 4) and [0, 3) [3, 4)
    const ranges = [[0, 2], [2, 4], [0, 3], [3, 4]] as const // prettier-ignore
    for (const [i, [from, to]] of ranges.entries()) await store(`t${i}`, bytesOf(acked(to - from)), to, to - from)
    expect(await broken({ shards: 2 })).toEqual([])
    expect(await broken({ shards: 3 })).toEqual([])
    expect((await broken({ shards: 1 })).length).toBeGreaterThan(0)
    await store('t9', bytesOf(acked(2)), 6, 2)
    expect(await broken({ shards: 2 })).toEqual([])
    await store('t9', bytesOf(acked(2)), 2, 2)
    expect((await broken({ shards: 2 })).join()).toMatch(/is one range too many at 0 for 2 shards/)
    // no position is in three ranges, yet they are no two chains
    await store('t9', bytesOf(acked(1)), 6, 1)
    expect(await broken({ shards: 2 })).toEqual([expect.stringMatching(/\[5, 6\) begins where no other range of its shard ends/)])
    expect(await broken({ shards: 2, stages: true })).toEqual([])
  })

  test('rejected records count once, in one place, as the client made them', async () => {
    const ids = acked(3)
    await store('t1', bytesOf(ids.slice(0, 2)), 3, 2, { records: '3', start: '0' })
    await mkdir(join(folder, 'err'))
    await writeFile(join(folder, 'err/e'), ids.slice(2).map(line).join(''))
    expect(wrong(await run({ stages: true }))).toEqual({})
    await writeFile(join(folder, 'err/e'), ids.slice(1).map(line).join(''))
    expect(wrong(await run({ stages: true }))).toEqual({ doubly: 1 })
  })

  test('backup holds every accepted record; dropped records are counted, not found', async () => {
    const ids = acked(3)
    await store('t1', bytesOf(ids.slice(0, 2)), 2, 2)
    const backup = join(folder, '../', folder.split('/').at(-1) + '-b')
    await mkdir(backup)
    await writeFile(join(backup, 'o'), bytesOf(ids.slice(0, 2)))
    expect(wrong(await run({ dropped: 1, backup: [{ kind: 'folder', root: backup }] }))).toEqual({ unbacked: 1 })
    expect(wrong(await run())).toEqual({ lost: 1 })
    await rm(backup, { recursive: true })
  })
})
