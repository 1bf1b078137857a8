import { describe, expect, test } from 'vitest'
import { parseNote } from '../../core/pipeline/note.ts'
import { audit } from './random.ts'
import { Life, specOf, World, type StoreFault } from './world.ts'

// Step 8, I17: a cut is given up only where nothing of it can stand at the sink. `out/` is the sink, `errors/` the backup.
const BOUND = 3_600_000
const GIVE_UP_MS = 2_000
const SPEC = specOf({ size: 100, giveUpMs: GIVE_UP_MS })

function start(seed: number, n = 30): { w: World; all: string[] } {
  const w = new World(seed)
  const all = Array.from({ length: n }, (_, i) => `record-${i}`)
  for (const v of all) w.append(v)
  return { w, all }
}
/** Runs one life; it is asked to drain after `drainMs`. */
async function live(w: World, drainMs = 60_000): Promise<'drained' | 'died' | 'ended'> {
  const life = new Life(w)
  w.clock.timer(drainMs, () => life.drain.abort(new Error('drain')))
  try {
    return await w.clock.drive(life.runToEnd(SPEC), BOUND)
  } finally {
    life.kill()
  }
}
/** Faults of the sink alone. */
function sinkDoes(w: World, what: (op: 'put' | 'head', n: number) => StoreFault): void {
  const calls = { put: 0, head: 0 }
  w.storeFault = ({ op, key }) => (key.startsWith('out/') ? what(op, ++calls[op]) : null)
}
const count = (w: World, type: string): number => w.events.filter((e) => e.type === type).length
const keys = (w: World, prefix: string): number => [...w.objects.keys()].filter((k) => k.startsWith(prefix)).length
/** The object that a mute sink has stored is not given up, the one that it has not is: the first cut of the second kind. */
function muteFrom(w: World, from: number, first: StoreFault): { at: number; answers: (atMs: number) => void } {
  let answersAt = Infinity
  const mute = { at: NaN, answers: (atMs: number) => void (answersAt = atMs) }
  sinkDoes(w, (op, n) => {
    if (w.clock.monotonic() >= answersAt) return null
    if (op === 'put' && n === from) {
      mute.at = w.clock.monotonic()
      return first
    }
    return Number.isNaN(mute.at) ? null : 'fail'
  })
  return mute
}

test('a sink that refuses everything: given up in time, without asking', async () => {
  const { w, all } = start(1)
  let givenUpAt = NaN
  w.onEvent = (e) => {
    if (e.type === 'cut.given-up' && Number.isNaN(givenUpAt)) givenUpAt = w.clock.monotonic()
  }
  sinkDoes(w, () => 'refuse')
  expect(await live(w)).toBe('drained')
  // the first cut is on probation: HEAD is tried for retry.duration
  expect(givenUpAt).toBeLessThan(2 * GIVE_UP_MS)
  expect([keys(w, 'out/'), count(w, 'cut.undecided')]).toEqual([0, 0])
  audit(w, all)
})

for (const [what, first] of [
  ['what it has stored stays delivered', 'applied'],
  ['what it has not stored is given up', 'fail'],
] as const) {
  test(`a sink that answers nothing for ten minutes: the lane waits, then ${what}`, async () => {
    const { w, all } = start(2)
    muteFrom(w, 3, first).answers(600_000)
    let early = 0
    w.onEvent = (e) => {
      if (e.type === 'cut.given-up' && w.clock.monotonic() < 600_000) early++
    }
    expect(await live(w, 700_000)).toBe('drained')
    expect(early).toBe(0)
    expect(count(w, 'cut.undecided')).toBe(2)
    expect(count(w, 'cut.given-up')).toBe(first === 'fail' ? 1 : 0)
    audit(w, all)
  })
}

test('a put that comes to stand after the sink has said "not there" is waited for', async () => {
  const { w, all } = start(3)
  // the put fails at once and lands 900 ms later, when HEAD has been answered already: longer than retry.duration, within its life
  const late = { ...SPEC, sink: { ...SPEC.sink, retry: { durationMs: 0, baseMs: 50, maxMs: 200 } } }
  w.lateMs = () => 900
  sinkDoes(w, (op, n) => (op === 'put' && n === 3 ? 'late' : null))
  const life = new Life(w)
  w.clock.timer(60_000, () => life.drain.abort(new Error('drain')))
  expect(await w.clock.drive(life.runToEnd(late), BOUND)).toBe('drained')
  expect(count(w, 'cut.undecided')).toBe(2)
  expect(count(w, 'cut.given-up')).toBe(0)
  audit(w, all)
})

async function killed(point: string, seed: number): Promise<{ w: World; all: string[] }> {
  const { w, all } = start(seed, 60)
  let seen = 0
  w.crash = (p, life) => life.n === 1 && p === point && ++seen === 2
  expect(await live(w)).toBe('died')
  expect(parseNote(w.committed?.note ?? '').cuts.length).toBeGreaterThan(0)
  return { w, all }
}

describe('a recovered cut', () => {
  for (const point of ['object.put.before', 'object.put.after']) {
    test(`killed at ${point}: not given up while the sink refuses, for it may stand there`, async () => {
      const { w, all } = await killed(point, 4)
      sinkDoes(w, () => 'refuse')
      expect(await live(w, 300_000)).toBe('ended')
      expect(count(w, 'cut.given-up')).toBe(0)
      sinkDoes(w, () => null)
      expect(await live(w)).toBe('drained')
      audit(w, all)
    })
  }
  test('given up once the sink was asked: later cuts, that nobody can have written, need no asking', async () => {
    const { w, all } = await killed('object.put.before', 5)
    // HEAD is answered, puts are refused
    sinkDoes(w, (op) => (op === 'put' ? 'refuse' : null))
    expect(await live(w, 300_000)).toBe('drained')
    expect(count(w, 'cut.given-up')).toBeGreaterThan(2)
    // a request of the earlier life may have been on its way when probation asked for the first cut; not when it asked for the next
    expect(count(w, 'cut.undecided')).toBe(2)
    audit(w, all)
  })
})

test('a lane that drains while a cut is undecided ends at once and decides nothing', async () => {
  const { w, all } = start(6)
  muteFrom(w, 3, 'applied')
  expect(await live(w, 60_000)).toBe('ended')
  expect(w.clock.monotonic()).toBeLessThan(60_500)
  expect(count(w, 'cut.given-up')).toBe(0)
  expect(w.events.filter((e) => e.type === 'cut.undecided').map((e) => e.waiting)).toEqual([true, false])
  sinkDoes(w, () => null)
  expect(await live(w)).toBe('drained')
  audit(w, all)
})
