import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { realHost } from '../../core/host/host.ts'
import { limits } from '../../core/limits.ts'
import { bodyWriter, MemoryBudget, type MemoryShare } from '../../core/pipeline/budget.ts'
import type { Body, BodyWriter } from '../../core/format/types.ts'
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

const BLOCK = 64 * 1024
/** A block of the writer's memory, all of one byte. */
async function fill(w: BodyWriter, byte: number): Promise<Uint8Array> {
  const block = w.take(BLOCK).fill(byte)
  await w.write(block)
  return block
}
const drained = async (body: Body): Promise<boolean> => (await all(body.open())).every((b, _, whole) => b === whole[0])

describe('memory comes back', () => {
  test('a released body is made into the next one, and what stood in it is not seen again', async () => {
    const { dir, budget, share } = await place(1 << 20)
    const first = bodyWriter(share, realHost(), dir)
    const blocks = [await fill(first, 1), await fill(first, 1)]
    const body = await first.finish()
    expect([budget.used, budget.pool.freeBytes]).toEqual([2 * BLOCK, 0])
    await body.release()
    expect([budget.used, budget.pool.freeBytes]).toEqual([0, 2 * BLOCK])
    const second = bodyWriter(share, realHost(), dir)
    const again = [await fill(second, 2), await fill(second, 2)]
    expect(new Set(again.map((b) => b.buffer))).toEqual(new Set(blocks.map((b) => b.buffer)))
    const whole = await all((await second.finish()).open())
    expect(whole.equals(Buffer.alloc(2 * BLOCK, 2))).toBe(true)
  })

  test('while somebody who borrowed it may read, it stays what it was; afterwards it comes back', async () => {
    const { dir, budget, share } = await place(1 << 20)
    for (const late of [true, false]) {
      const w = bodyWriter(share, realHost(), dir)
      const block = await fill(w, 7)
      const body = await w.finish()
      const over = [body.borrow(), body.borrow()]
      over[0]?.()
      over[0]?.() // once a reader, however often it says so
      if (!late) over[1]?.()
      await body.release()
      expect(budget.used).toBe(0)
      const next = bodyWriter(share, realHost(), dir)
      const other = await fill(next, 9)
      expect(other.buffer === block.buffer).toBe(!late)
      expect(block[0]).toBe(late ? 7 : 9)
      over[1]?.()
      expect(budget.pool.owns(block.buffer)).toBe(true) // dropped, or the other's
      await next.abort()
    }
  })

  test('a reader that release overtakes is refused, and never sees the next body', async () => {
    const { dir, share } = await place(1 << 20)
    const w = bodyWriter(share, realHost(), dir)
    await fill(w, 1)
    await fill(w, 1)
    const body = await w.finish()
    const reader = body.open()[Symbol.asyncIterator]()
    expect((await reader.next()).done).toBe(false)
    await body.release()
    await expect(reader.next()).rejects.toThrow('released')
    await expect(all(body.open())).rejects.toThrow('released')
  })

  test('blocks come back when they were spilled, and when the writer is given up', async () => {
    const { dir, budget, share } = await place(3 * BLOCK)
    const w = bodyWriter(share, realHost(), dir)
    for (let i = 0; i < 5; i++) await fill(w, 5)
    expect(await readdir(dir)).toHaveLength(1)
    expect(budget.used).toBe(0)
    const freed = budget.pool.freeBytes
    expect(freed).toBe(3 * BLOCK) // those of the spill; the fifth was one of them
    const body = await w.finish()
    expect(body.size).toBe(5 * BLOCK)
    expect(await drained(body)).toBe(true)
    await body.release()
    const given = bodyWriter(share, realHost(), dir)
    await fill(given, 6)
    await given.abort()
    expect([budget.used, budget.pool.freeBytes]).toEqual([0, freed])
    expect(await readdir(dir)).toEqual([])
  })

  test('free memory makes way for bodies that are not made of it', async () => {
    const limit = 16 * BLOCK
    const { dir, budget, share } = await place(limit)
    const w = bodyWriter(share, realHost(), dir)
    for (let i = 0; i < 16; i++) await fill(w, 1)
    await (await w.finish()).release()
    expect(budget.pool.freeBytes).toBe(limit)
    const other = bodyWriter(share, realHost(), dir)
    await other.write(new Uint8Array(limit - BLOCK))
    expect([budget.used, budget.pool.freeBytes]).toEqual([limit - BLOCK, BLOCK])
    await other.abort()
  })

  test('property: bodies and free memory together stay within the budget; without bodies little is kept', async () => {
    const limit = 40 << 20
    const { dir, budget, share } = await place(limit)
    const r = new Seeded(9)
    const bodies: Body[] = []
    for (let round = 0; round < 60; round++) {
      const w = bodyWriter(share, realHost(), dir)
      for (let n = r.int(12); n > 0; n--) {
        const chunk = r.int(3) === 0 ? new Uint8Array(r.int(1 << 20)) : w.take(1 << 20)
        await w.write(chunk)
        expect(budget.used + budget.pool.freeBytes).toBeLessThanOrEqual(limit)
      }
      bodies.push(await w.finish())
      while (bodies.length > r.int(6)) await bodies.shift()?.release()
      expect(budget.used + budget.pool.freeBytes).toBeLessThanOrEqual(limit)
    }
    for (const b of bodies) await b.release()
    expect(budget.used).toBe(0)
    expect(budget.pool.freeBytes).toBeLessThanOrEqual(limits.idleBodyBytes)
  })
})
