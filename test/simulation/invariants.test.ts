import { describe, expect, test } from 'vitest'
import { InvariantError } from '../../core/pipeline/invariants.ts'
import { LaneStoppedError } from '../../core/pipeline/context.ts'
import { parseNote } from '../../core/pipeline/note.ts'
import { LeaseLostError } from '../../core/sdk/errors.ts'
import type { Stage } from '../../core/transform/types.ts'
import { Life, specOf, World, type LifeOptions } from './world.ts'

// Each invariant of docs/exactly-once.md §2, watched from outside: by what the store, the log and the registry are shown.
const BOUND = 3_600_000

function start(seed: number, n = 120): World {
  const w = new World(seed)
  for (let i = 0; i < n; i++) w.append(`record-${i}-${'x'.repeat(w.random.int(30))}`)
  return w
}
async function live(w: World, o: LifeOptions = {}, spec = specOf({ size: 120 })): Promise<'drained' | 'died' | Error> {
  const life = new Life(w, o)
  w.clock.timer(60_000, () => life.drain.abort(new Error('drain')))
  try {
    return await w.clock.drive(life.run(spec), BOUND)
  } catch (e) {
    return e as Error
  } finally {
    life.kill()
  }
}
function broken(end: unknown, name: string): void {
  expect(String(end)).toContain(`invariant ${name} broken`)
  expect(end).toBeInstanceOf(InvariantError)
}
/** Several lives with crashes; `look` sees every store call. */
async function lives(seed: number, look: (w: World, call: { op: string; key: string }) => void): Promise<World> {
  const w = start(seed)
  w.crash = (_, l) => l.n < 6 && w.random.chance(0.02)
  w.storeFault = (call) => {
    look(w, call)
    return w.random.chance(0.1) ? 'applied' : null
  }
  for (let i = 0; i < 8; i++) if ((await live(w)) === 'drained') break
  return w
}
const ranges = (w: World): string[] => {
  const note = parseNote(w.committed?.note ?? '')
  let at = note.position
  return note.cuts.map((c) => `${at}-${(at += c.length)}`)
}

test('I1: an effect starts only when the stored note holds its cut', async () => {
  for (let seed = 1; seed <= 10; seed++) {
    let puts = 0
    const shown: string[] = []
    const w = start(seed)
    w.crash = (_, l) => l.n < 4 && w.random.chance(0.02)
    w.saveFault = () => ({ result: 'saved', apply: true, delayMs: 50 })
    w.storeFault = ({ op }) => {
      if (op === 'put') puts++
      return null
    }
    w.onStored = (o) => {
      shown.push(`${o['start']}-${o['end']}`)
      expect(ranges(w)).toContain(`${o['start']}-${o['end']}`)
    }
    for (let i = 0; i < 6; i++) if ((await live(w)) === 'drained') break
    expect(shown.length).toBeGreaterThan(5)
    expect(puts).toBeGreaterThan(5)
  }
})

describe('I2', () => {
  test('the counter of what is stored rises with every commit', async () => {
    const w = await lives(21, () => {})
    const counters = w.history.map((c) => parseNote(c.note).counter)
    expect(counters).toEqual(counters.toSorted((a, b) => a - b))
    expect(new Set(counters).size).toBe(counters.length)
  })
  test('a membership that lets an older commit pass a newer one is noticed', async () => {
    const w = start(22)
    let n = 0
    w.saveFault = () => ({ result: 'saved', apply: true, delayMs: ++n % 2 === 0 ? 1 : 40 })
    broken(await live(w, { commitsOverlap: true }), 'I2')
  })
})

test('I3: nothing is serialized for a lease that has ended while the commit waited', async () => {
  const w = start(23)
  let ended = false
  let stored = 0
  const end = await live(w, {
    leaseLive: () => !ended,
    beforeSerialize: () => {
      if (w.history.length === 5) {
        ended = true
        stored = w.history.length
      }
      return Promise.resolve()
    },
  })
  broken(end, 'I3')
  expect(w.history.length).toBe(stored)
})

test('I4, I5, I6: stored notes are contiguous, the position never falls, a recorded cut never changes', async () => {
  for (let seed = 31; seed <= 40; seed++) {
    const w = await lives(seed, () => {})
    const known = new Map<number, string>()
    let last = 0
    for (const c of w.history) {
      const note = parseNote(c.note)
      expect(note.position).toBe(c.offset)
      expect(c.offset).toBeGreaterThanOrEqual(last)
      if (c.offset > last && last > 0) expect([...known.keys()].some((s) => s + lengthOf(known.get(s)) === c.offset)).toBe(true)
      last = c.offset
      let at = note.position
      for (const cut of note.cuts) {
        const text = `${cut.length} ${cut.records} ${cut.digest} ${cut.specHash} ${JSON.stringify(cut.byLimit)}`
        expect(known.get(at) ?? text).toBe(text)
        known.set(at, text)
        at += cut.length
      }
      expect(at).toBeLessThanOrEqual(w.records.length)
    }
    expect(known.size).toBeGreaterThan(5)
  }
})
const lengthOf = (text: string | undefined): number => Number(text?.split(' ')[0] ?? NaN)

test('I7: a stage that loses a record stops the lane before anything is shown', async () => {
  const loses: Stage = {
    name: 'loses',
    splits: false,
    apply: (b) => Promise.resolve({ batch: { ...b, count: b.count - 1 }, rejected: [], dropped: [] }),
    close: () => Promise.resolve(),
  }
  const w = start(24)
  expect(String(await live(w, { stages: [loses] }))).toMatch(/lost or made records|invariant I7/)
  expect(w.objects.size).toBe(0)
})

describe('I8: "already there" counts only for the same cut', () => {
  for (const [what, change] of [
    ['digest', { d: '0'.repeat(16) }],
    ['outcome', { o: '0'.repeat(8) }],
    ['end', { end: '3' }],
    ['token', { token: 'other' }],
  ] as const) {
    test(`another ${what} stops the lane, nothing is overwritten`, async () => {
      const probe = start(25)
      await live(probe)
      const [first] = [...probe.objects].filter(([, o]) => o.metadata['start'] === '0')
      const w = start(25)
      const foreign = { bytes: Buffer.from('foreign'), metadata: { ...first![1].metadata, ...change }, by: 0 }
      w.objects.set(first![0], foreign)
      const end = await live(w)
      expect(end).toBeInstanceOf(LaneStoppedError)
      expect((end as LaneStoppedError).code).toBe('Conflict')
      expect(w.objects.get(first![0])).toBe(foreign)
      expect(w.committed?.offset).toBe(0)
    })
  }
})

test('I12: a lane of another topic does not go on from this note', async () => {
  const w = start(26)
  await live(w)
  w.topicId = 't1'
  await w.meta
    .of({ living: () => Promise.resolve() })
    .put('start/p0/t1/shardId-000000000000', Buffer.from('{"position":0,"initialised":true}'), 'any')
  const end = await live(w)
  expect((end as LaneStoppedError).code).toBe('ForeignNote')
})

test('I13: a note names only specs that the registry holds', async () => {
  const w = start(27)
  const meta = w.meta.of({ living: () => Promise.resolve() })
  const missing: string[] = []
  w.saveFault = () => ({ result: 'saved', apply: true, delayMs: 0 })
  w.onCommit = (c) => {
    for (const cut of parseNote(c.note).cuts) if (!w.meta.has(`spec/${cut.specHash}`)) missing.push(cut.specHash)
  }
  expect(await live(w)).toBe('drained')
  expect(missing).toEqual([])
  expect(await meta.get('spec/none')).toBeNull()
})

test('I14: an ordered sink sees one cut at a time, each from where the last one ended', async () => {
  const w = start(28)
  let inside = 0
  let most = 0
  let at = 0
  w.onPut = async (o, sleep) => {
    most = Math.max(most, ++inside)
    await sleep(30)
    inside--
    expect(Number(o['start'])).toBe(at)
    at = Number(o['end'])
  }
  expect(await live(w, { ordered: true })).toBe('drained')
  expect(most).toBe(1)
  expect(at).toBe(120)
})

test('I15: when the lease ends no effect follows', async () => {
  const w = start(29)
  let ended = false
  let after = 0
  w.onStored = () => {
    if (ended) after++
    if (w.objects.size === 4) ended = true
  }
  const end = await live(w, { leaseLive: () => !ended, maxOpenCuts: 16 })
  expect(end instanceof LeaseLostError || end instanceof InvariantError).toBe(true)
  expect(after).toBe(0)
})

test('I15b: first effects become visible in the order of the cuts', async () => {
  for (let seed = 41; seed <= 50; seed++) {
    const shown: number[] = []
    const w = start(seed)
    w.onStored = (o) => shown.push(Number(o['start']))
    w.onPut = (_, sleep) => sleep(w.random.int(200))
    await live(w)
    expect(shown).toEqual(shown.toSorted((a, b) => a - b))
  }
})

async function key(size: number): Promise<string | undefined> {
  const w = start(30)
  await live(w, {}, specOf({ size }))
  return [...w.objects].find(([, o]) => o.metadata['start'] === '0')?.[0]
}

test('I16: the same start has the same name, wherever the cut ends and whenever it is written', async () => {
  const names = await Promise.all([key(60), key(600)])
  expect(names[0]).toBeDefined()
  expect(names[0]).toBe(names[1])
})
