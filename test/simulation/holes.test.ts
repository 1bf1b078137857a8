import { gzipSync } from 'node:zlib'
import { describe, expect, test } from 'vitest'
import { LaneStoppedError } from '../../core/pipeline/context.ts'
import { parseNote } from '../../core/pipeline/note.ts'
import type { Stage } from '../../core/transform/types.ts'
import { audit } from './random.ts'
import { Life, specOf, World, type LifeOptions } from './world.ts'

// Numbers are the rows of docs/exactly-once.md §4.
const BOUND = 3_600_000
const values = (n: number): string[] => Array.from({ length: n }, (_, i) => `record-${i}`)

function start(seed: number, n: number): { w: World; all: string[] } {
  const w = new World(seed)
  const all = values(n)
  for (const v of all) w.append(v)
  return { w, all }
}
async function live(
  w: World,
  o: LifeOptions = {},
  spec = specOf({}),
  killAfterMs?: number,
): Promise<{ end: 'drained' | 'died' | Error; life: Life }> {
  const life = new Life(w, o)
  w.clock.timer(60_000, () => life.drain.abort(new Error('drain')))
  if (killAfterMs !== undefined) w.clock.timer(killAfterMs, () => life.kill())
  try {
    return { end: await w.clock.drive(life.run(spec), BOUND), life }
  } catch (e) {
    return { end: e as Error, life }
  } finally {
    life.kill()
  }
}
function dieAt(w: World, point: string, nth = 1, lifeNumber = 1): void {
  let seen = 0
  w.crash = (p, life) => life.n === lifeNumber && p === point && ++seen === nth
}
function stopped(end: unknown, code: string): void {
  expect(end).toBeInstanceOf(LaneStoppedError)
  expect((end as LaneStoppedError).code).toBe(code)
}

/** Rejects every seventh record by its deadline, in the first life only. */
function slowOnce(w: World): Stage {
  return {
    name: 'slow once',
    splits: false,
    apply: (b, c) => {
      const slow = w.lives === 1 && !c.replay
      const keep = Array.from({ length: b.count }, (_, i) => i).filter((i) => !slow || b.position[i]! % 7 !== 3)
      const pick = (a: Uint32Array): Uint32Array => Uint32Array.from(keep, (i) => a[i]!)
      const pickF = (a: Float64Array): Float64Array => Float64Array.from(keep, (i) => a[i]!)
      const rejected = Array.from({ length: b.count }, (_, i) => i)
        .filter((i) => !keep.includes(i))
        .map((i) => ({
          origin: b.origin[i]!,
          sub: b.sub[i]!,
          stage: 'transform' as const,
          code: 'Deadline',
          message: 'too slow',
          attempts: 3,
          byLimit: true,
        }))
      const batch = {
        ...b, count: keep.length, keyStart: pick(b.keyStart), keyEnd: pick(b.keyEnd), valueStart: pick(b.valueStart), valueEnd: pick(b.valueEnd),
        position: pickF(b.position), arrivalMs: pickF(b.arrivalMs), origin: pick(b.origin), sub: pick(b.sub),
      } // prettier-ignore
      return Promise.resolve({ batch, rejected, dropped: [] })
    },
    close: () => Promise.resolve(),
  }
}

describe('row 1: a rejection by a limit is a decision', () => {
  const points = ['cut.after', 'reject.put.before', 'reject.put.after', 'object.put.before', 'object.put.after', 'advance.before']
  for (const point of points) {
    test(`killed at ${point}: every id once, in the object or in the rejects`, async () => {
      const { w, all } = start(3, 60)
      dieAt(w, point)
      const stages = [slowOnce(w)]
      expect((await live(w, { stages })).end).toBe('died')
      expect((await live(w, { stages })).end).toBe('drained')
      const both = [...w.delivered().entries(), ...w.rejected().entries()]
      expect(both.every(([, n]) => n === 1)).toBe(true)
      expect(both.map(([id]) => id).toSorted()).toEqual(all.toSorted())
    })
    test(`killed at ${point} with its note lost: the stored objects tell the decisions`, async () => {
      const { w, all } = start(4, 60)
      dieAt(w, point)
      const stages = [slowOnce(w)]
      await live(w, { stages, unguarded: true })
      if (w.committed) w.committed = { ...w.committed, note: '' }
      expect((await live(w, { stages, unguarded: true })).end).toBe('drained')
      const both = [...w.delivered().entries(), ...w.rejected().entries()]
      expect(both.every(([, n]) => n === 1)).toBe(true)
      expect(both.map(([id]) => id).toSorted()).toEqual(all.toSorted())
    })
  }
})

test('row 1: a limit that rejects more on replay than was decided stops the lane, whatever was decided before', async () => {
  const { w } = start(3, 60)
  dieAt(w, 'cut.after')
  const once = slowOnce(w)
  expect((await live(w, { stages: [once] })).end).toBe('died')
  const slowAgain: Stage = {
    ...once,
    apply: (b) =>
      Promise.resolve({
        batch: { ...b, count: b.count - 1 },
        rejected: [
          { origin: b.origin[b.count - 1]!, sub: 0, stage: 'transform', code: 'Deadline', message: 'too slow', attempts: 3, byLimit: true },
        ],
        dropped: [],
      }),
  }
  stopped((await live(w, { stages: [slowAgain] })).end, 'NewLimit')
  expect(w.objects.size).toBe(0)
})

test('row 6: a pipeline of the same name with another id takes nothing of the former for its own', async () => {
  const { w } = start(5, 50)
  await live(w)
  const before = w.objects.size
  w.pipelineId = 'p1'
  w.committed = null
  w.records.length = 0
  for (let i = 0; i < 50; i++) w.append(`other-${i}`)
  expect((await live(w)).end).toBe('drained')
  expect(w.objects.size).toBeGreaterThan(before)
  expect([...w.delivered().keys()].filter((v) => v.startsWith('other-')).length).toBe(50)
})

describe('row 7: the note is gone', () => {
  test('the lane stops and says what to do', async () => {
    const { w } = start(6, 50)
    dieAt(w, 'cut.after', 2)
    await live(w)
    w.committed = null
    const { end } = await live(w)
    stopped(end, 'PositionMissing')
    expect((end as Error).message).toContain('hydrant pipelines replay s')
  })
  test('a note of another tool stops it too', async () => {
    const { w } = start(7, 50)
    await live(w)
    w.committed = { offset: 10, leaderEpoch: 1, note: 'mirror' }
    stopped((await live(w)).end, 'ForeignNote')
  })
  test('effects become visible in the order of the cuts: never the third alone', async () => {
    const { w, all } = start(8, 120)
    const order: number[] = []
    let first: string | null = null
    w.storeFault = ({ op, key, life }) => {
      if (op !== 'put' || life.n !== 1 || w.objects.size < 2) return null
      first ??= key
      return key === first ? 'hang' : null
    }
    await live(w, {}, specOf({ size: 60 }), 5_000)
    for (const o of w.objects.values()) order.push(Number(o.metadata['start']))
    expect(order).toEqual(order.toSorted((a, b) => a - b))
    const ends = [...w.objects.values()].map((o) => Number(o.metadata['end']))
    expect(order.slice(1)).toEqual(ends.slice(0, -1))
    if (w.committed) w.committed = { ...w.committed, note: '' }
    expect((await live(w, { unguarded: true }, specOf({ size: 90 }))).end).toBe('drained')
    audit(w, all)
  })
})

describe('row 8: other records under the same positions', () => {
  test('a recorded cut whose records changed stops before "done"', async () => {
    const { w } = start(9, 40)
    dieAt(w, 'object.put.after')
    await live(w)
    w.records.splice(0, 3, ...['a', 'b', 'c'].map((v) => ({ value: Buffer.from(v), arrivalMs: w.clock.now() })))
    stopped((await live(w)).end, 'RecordsChanged')
  })
  test('a leader epoch that ends before the recorded positions stops it', async () => {
    const { w } = start(10, 40)
    dieAt(w, 'cut.after')
    await live(w)
    w.epochEnd = 2
    stopped((await live(w)).end, 'LogDiverged')
  })
  test('a log shorter than what is recorded stops it', async () => {
    const { w } = start(11, 40)
    dieAt(w, 'cut.after', 3)
    await live(w)
    w.records.length = 5
    stopped((await live(w)).end, 'LogTooShort')
  })
})

test('row 9: a reader that is shown what is not durable stops', async () => {
  const { w } = start(12, 40)
  w.shownBeyondStable = 3
  const { end } = await live(w)
  expect(String(end)).toContain('invariant I11')
  expect(w.delivered().size).toBeLessThan(40)
})

test('row 13: objects that vanish at once are doubled only inside the documented window', async () => {
  let doubled = 0
  let crashes = 0
  for (let seed = 1; seed <= 20; seed++) {
    const { w, all } = start(seed, 80)
    const taken = new Map<string, number>()
    const take = (): void => {
      for (const line of w.delivered().keys()) taken.set(line, (taken.get(line) ?? 0) + 1)
      w.objects.clear()
    }
    w.crash = (p, life) => {
      if (p === 'object.put.after') take()
      const die = life.n < 8 && w.random.chance(0.05)
      if (die) crashes++
      return die
    }
    for (let i = 0; i < 10; i++) if ((await live(w, {}, specOf({ size: 100 }))).end === 'drained') break
    take()
    expect([...taken.keys()].toSorted()).toEqual(all.toSorted())
    doubled += [...taken.values()].filter((n) => n > 1).length
  }
  // one cut of at most 11 records is between its effect and its advance on probation, at most 16 later
  expect(crashes).toBeGreaterThan(10)
  expect(doubled).toBeLessThanOrEqual(crashes * 16 * 11)
})

function givingUp(): ReturnType<typeof specOf> {
  const s = specOf({ size: 100 })
  return { ...s, sink: { ...s.sink, retry: { durationMs: 2_000, baseMs: 50, maxMs: 200 } }, rejects: { ...s.sink, type: 'backup' } }
}

describe('row 16: giving up to the backup', () => {
  for (const point of ['decide.before', 'decide.after', 'backup.put.before', 'backup.put.after', 'advance.before']) {
    test(`killed at ${point}, then the sink heals: every id once, in the sink or in the backup`, async () => {
      const { w, all } = start(14, 30)
      w.storeFault = ({ key, life }) => (key.startsWith('out/') && life.n === 1 ? 'fail' : null)
      dieAt(w, point)
      expect((await live(w, {}, givingUp())).end).toBe('died')
      expect((await live(w, {}, givingUp())).end).toBe('drained')
      const backup = [...w.objects.keys()].filter((k) => k.startsWith('errors/'))
      const lines = [...w.objects].flatMap(([, o]) => Buffer.from(o.bytes).toString().split('\n')).filter((l) => l !== '')
      expect(lines.toSorted()).toEqual(all.toSorted())
      if (point !== 'decide.before') expect(backup.length).toBeGreaterThan(0)
    })
  }
})

test('row 19: a cut keeps the spec it was recorded with, at whatever commit the process dies', async () => {
  for (let nth = 1; nth <= 8; nth++) {
    const { w, all } = start(15, 80)
    dieAt(w, 'cut.after', nth)
    await live(w, {}, specOf({ size: 60, prefix: 'a/' }))
    expect((await live(w, {}, specOf({ size: 90, prefix: 'b/' }))).end).toBe('drained')
    audit(w, all)
    const bySpec = new Map<string, Set<string>>()
    for (const [key, o] of w.objects) {
      const spec = o.metadata['spec'] ?? ''
      bySpec.set(spec, (bySpec.get(spec) ?? new Set()).add(key.slice(0, 2)))
    }
    expect([...bySpec.values()].every((prefixes) => prefixes.size === 1)).toBe(true)
    if (nth === 1) expect(bySpec.size).toBe(2)
  }
})

async function recorded(): Promise<{ w: World; cut: { start: number; end: number } }> {
  const { w } = start(16, 30)
  dieAt(w, 'object.put.before')
  await live(w)
  const note = parseNote(w.committed?.note ?? '')
  const length = note.cuts[0]?.length ?? 0
  expect(length).toBeGreaterThan(2)
  return { w, cut: { start: note.position, end: note.position + length } }
}

describe('row 24: retention has passed a recorded cut', () => {
  test('its object stands: done', async () => {
    const { w } = start(16, 30)
    dieAt(w, 'object.put.after')
    await live(w)
    const length = parseNote(w.committed?.note ?? '').cuts[0]?.length ?? 0
    w.logStart = length
    expect((await live(w)).end).toBe('drained')
    expect(w.delivered().size).toBe(30)
  })
  test('absent, on_gap stop: the lane stops with the range', async () => {
    const { w, cut } = await recorded()
    w.logStart = cut.end
    const { end } = await live(w)
    stopped(end, 'Gap')
    expect((end as Error).message).toContain(`[${cut.start}, ${cut.end})`)
  })
  test('half gone, on_gap skip: what is left is delivered under its own name, the rest is counted', async () => {
    const { w, cut } = await recorded()
    w.logStart = cut.start + 2
    expect((await live(w, { onGap: 'skip' })).end).toBe('drained')
    expect([...w.delivered().values()].every((n) => n === 1)).toBe(true)
    expect(w.delivered().size).toBe(28)
    const expired = w.events.filter((e) => e.type === 'records.expired')
    expect(expired).toEqual([expect.objectContaining({ from: cut.start, to: cut.start + 2 })])
  })
})

test('row 28: another compressor writes other bytes under the same names, digests and ends', async () => {
  const objects = await Promise.all(
    [1, 9].map(async (level) => {
      const { w } = start(17, 200)
      const s = specOf({ size: 1_000 })
      // the spec is the same for both: only what the compressor does differs, as between two versions of zlib
      const life = new Life(w)
      w.clock.timer(60_000, () => life.drain.abort(new Error('drain')))
      await w.clock.drive(life.run(s), BOUND)
      return [...w.objects].map(([key, o]) => ({ key, m: o.metadata, bytes: gzipSync(o.bytes, { level }) }))
    }),
  )
  const [a, b] = objects
  expect(a?.map((o) => [o.key, o.m])).toEqual(b?.map((o) => [o.key, o.m]))
  expect(a?.some((o, i) => !o.bytes.equals(b?.[i]?.bytes ?? Buffer.alloc(0)))).toBe(true)
})
