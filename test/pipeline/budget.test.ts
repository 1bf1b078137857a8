import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { realHost } from '../../core/host/host.ts'
import { bodyWriter, MemoryBudget, type MemoryShare } from '../../core/pipeline/budget.ts'
import { Seeded } from '../simulation/scheduler.ts'

const emit = (): void => {}
async function place(limit: number): Promise<{ dir: string; budget: MemoryBudget; share: MemoryShare }> {
  const dir = await mkdtemp(join(tmpdir(), 'hydrant-spill-'))
  onTestFinished(() => rm(dir, { recursive: true, force: true }))
  const budget = new MemoryBudget(limit, { emit })
  return { dir, budget, share: budget.share() }
}
async function all(body: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const pieces: Uint8Array[] = []
  for await (const p of body) pieces.push(p)
  return Buffer.concat(pieces)
}

test('what is written is read back by any range, in memory or spilled, and everything is given back', async () => {
  const r = new Seeded(1)
  for (const limit of [1 << 20, 3_000, 0]) {
    const { dir, budget, share } = await place(limit)
    const w = bodyWriter(share, realHost(), dir)
    const chunks = Array.from({ length: 40 }, () => r.bytes(r.int(400)))
    for (const c of chunks) await w.write(c)
    const body = await w.finish()
    const whole = Buffer.concat(chunks)
    expect(body.size).toBe(whole.length)
    for (let i = 0; i < 20; i++) {
      const start = r.int(whole.length)
      const end = start + r.int(whole.length - start)
      expect((await all(body.open(start, end))).equals(whole.subarray(start, end))).toBe(true)
    }
    expect(await readdir(dir)).toHaveLength(limit === 1 << 20 ? 0 : 1)
    await body.release()
    await body.release()
    expect(budget.used).toBe(0)
    expect(await readdir(dir)).toEqual([])
  }
})

test('an abort while a spill file is being opened leaves neither file nor handle', async () => {
  const { dir, budget, share } = await place(0)
  const real = realHost()
  const gate = Promise.withResolvers<void>()
  let open = 0
  const fs = {
    ...real.fs,
    open: async (...args: Parameters<typeof real.fs.open>) => {
      await gate.promise
      const h = await real.fs.open(...args)
      open++
      return { ...h, close: () => h.close().finally(() => open--) }
    },
  }
  const w = bodyWriter(share, { ...real, fs }, dir)
  const writing = w.write(Buffer.alloc(100))
  const aborted = w.abort()
  gate.resolve()
  await writing
  await aborted
  await expect(w.write(Buffer.alloc(1))).rejects.toThrow('given up')
  expect([open, budget.used, await readdir(dir)]).toEqual([0, 0, []])
})

test('pipelines share the budget: one that holds its part leaves the others theirs', async () => {
  const { budget, share } = await place(1_000)
  const other = budget.share()
  expect(share.tryTake(600)).toBe(false)
  expect(share.tryTake(500)).toBe(true)
  expect(share.tryTake(1)).toBe(false)
  expect(other.tryTake(500)).toBe(true)
  share.give(500)
  other.end()
  expect(share.tryTake(400)).toBe(true)
})
