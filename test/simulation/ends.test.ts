import { crc32 } from 'node:zlib'
import { expect, test } from 'vitest'
import { crc32Base64 } from '../../core/format/body.ts'
import { LaneStoppedError } from '../../core/pipeline/context.ts'
import { PermanentError } from '../../core/sdk/errors.ts'
import type { Stage } from '../../core/transform/types.ts'
import { Life, specOf, World } from './world.ts'

// How a lane ends: everything it began lets go, and nothing of it writes afterwards.
const BOUND = 600_000

function start(seed: number, n: number): World {
  const w = new World(seed)
  for (let i = 0; i < n; i++) w.append(`record-${i}`)
  return w
}
/** Drops every record from the given position on: cuts that show nothing. */
function dropsFrom(position: number): Stage {
  return {
    name: 'drops',
    splits: false,
    apply: (b) => {
      const keep = Array.from({ length: b.count }, (_, i) => i).filter((i) => b.position[i]! < position)
      const u32 = (a: Uint32Array): Uint32Array => Uint32Array.from(keep, (i) => a[i]!)
      const f64 = (a: Float64Array): Float64Array => Float64Array.from(keep, (i) => a[i]!)
      const dropped = Array.from({ length: b.count }, (_, i) => i)
        .filter((i) => !keep.includes(i))
        .map((i) => ({ origin: b.origin[i]!, sub: b.sub[i]! }))
      const batch = {
        ...b, count: keep.length, keyStart: u32(b.keyStart), keyEnd: u32(b.keyEnd), valueStart: u32(b.valueStart), valueEnd: u32(b.valueEnd),
        position: f64(b.position), arrivalMs: f64(b.arrivalMs), origin: u32(b.origin), sub: u32(b.sub),
      } // prettier-ignore
      return Promise.resolve({ batch, rejected: [], dropped })
    },
    close: () => Promise.resolve(),
  }
}

test('a cut that fails for good ends the cuts that wait for its turn, also those that show nothing', async () => {
  const w = start(1, 80)
  let puts = 0
  w.onPut = (_, sleep) => {
    if (++puts === 3) throw new PermanentError('Refused', 'never')
    return sleep(20)
  }
  const life = new Life(w, { stages: [dropsFrom(40)] })
  w.clock.timer(30_000, () => life.drain.abort(new Error('drain')))
  const end = await w.clock.drive(life.run(specOf({ size: 80 })), BOUND).catch((e: unknown) => e)
  expect(end).toBeInstanceOf(PermanentError)
})

test('a hard end lets go of everything, whatever the store does', async () => {
  const w = start(2, 80)
  w.storeFault = ({ op }) => (op === 'put' && w.objects.size > 2 ? 'hang' : null)
  const life = new Life(w, { stages: [dropsFrom(60)] })
  w.clock.timer(5_000, () => life.end.abort(new Error('the deadline')))
  const end = await w.clock.drive(life.run(specOf({ size: 80 })), BOUND).catch((e: unknown) => e)
  expect(String(end)).toContain('the deadline')
})

test('after a lane has ended it commits nothing more on its lease', async () => {
  for (let seed = 1; seed <= 30; seed++) {
    const w = start(seed, 200)
    let puts = 0
    const failAt = 2 + w.random.int(8)
    w.onPut = async (_, sleep) => {
      await sleep(w.random.int(30))
      if (++puts === failAt) throw new PermanentError('Refused', 'never')
    }
    w.saveFault = () => ({ result: 'saved', apply: true, delayMs: w.random.int(40) })
    const life = new Life(w, { slowFinishMs: 45 })
    const end = await w.clock.drive(life.run(specOf({ size: 60 })), BOUND).catch((e: unknown) => e)
    expect(end instanceof PermanentError || end instanceof LaneStoppedError).toBe(true)
    const before = w.history.length
    await w.clock.drive(w.clock.sleep(10_000), BOUND)
    expect(w.history.length).toBe(before)
  }
})

test('what is said to be the position is stored', async () => {
  for (let seed = 1; seed <= 20; seed++) {
    const w = start(seed, 150)
    w.saveFault = () => ({ result: 'saved', apply: true, delayMs: w.random.int(40) })
    w.onEvent = (e) => {
      if (e.type === 'position.advanced') expect(w.committed?.offset ?? 0).toBeGreaterThanOrEqual(e.position)
    }
    const life = new Life(w)
    w.clock.timer(30_000, () => life.drain.abort(new Error('drain')))
    expect(await w.clock.drive(life.run(specOf({ size: 60 })), BOUND)).toBe('drained')
  }
})

/** Records of which ten fill a piece: bodies are made of memory that comes back. */
function large(n: number): World {
  const w = new World(4)
  for (let i = 0; i < n; i++) w.append(String(i).padEnd(100_000, String.fromCharCode(97 + (i % 26))))
  return w
}

test('a put that was given up and still reads finds the bytes that it was handed, whatever other cuts do with the memory', async () => {
  const w = large(60)
  const tried = new Set<string>()
  let late = 0
  w.onPut = async ({ start = '' }, sleep) => {
    // the first attempt for every cut outlasts its time, and ignores that it was told so
    if (tried.has(start)) return
    tried.add(start)
    await sleep(30_000)
    late++
  }
  const life = new Life(w)
  w.clock.timer(120_000, () => life.drain.abort(new Error('drain')))
  expect(await w.clock.drive(life.run(specOf({ size: 1_000_000 })), BOUND)).toBe('drained')
  expect(late).toBe(6)
  expect(w.spoiled).toEqual([])
  expect(w.delivered()).toEqual(new Map(w.records.map((r) => [Buffer.from(r.value).toString(), 1])))
})

test('a put that was told that the object exists may still be sending it', async () => {
  const w = large(60)
  w.crash = (point, life) => point === 'object.put.after' && life.n === 1
  const first = new Life(w)
  expect(await w.clock.drive(first.run(specOf({ size: 1_000_000 })), BOUND)).toBe('died')
  const second = new Life(w)
  const sink = second.sink()
  const sending: { pieces: Uint8Array[]; crc32: string }[] = []
  second.sink = () => ({
    ...sink,
    put: async (o, c) => {
      const answer = await sink.put(o, c)
      const pieces: Uint8Array[] = []
      if (answer.existed) for await (const piece of o.open()) pieces.push(piece)
      sending.push({ pieces, crc32: o.crc32 })
      return answer
    },
  })
  w.clock.timer(120_000, () => second.drain.abort(new Error('drain')))
  expect(await w.clock.drive(second.run(specOf({ size: 1_000_000 })), BOUND)).toBe('drained')
  const existed = sending.filter((s) => s.pieces.length > 0)
  expect([existed.length, sending.length]).toEqual([1, 6])
  for (const { pieces, crc32: sum } of existed) expect(crc32Base64(crc32(Buffer.concat(pieces)))).toBe(sum)
})
