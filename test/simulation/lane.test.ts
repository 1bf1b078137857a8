import { expect, test } from 'vitest'
import { Life, specOf, World } from './world.ts'
import { runSeed, type SeedOptions } from './random.ts'
import { FAIL_POINTS } from '../../core/host/failpoints.ts'

const BOUND = 3_600_000

function fill(w: World, n: number): string[] {
  const all = Array.from({ length: n }, (_, i) => `record-${i}-${'x'.repeat(w.random.int(40))}`)
  for (const r of all) w.append(r)
  return all
}
function expectOnce(w: World, all: readonly string[]): void {
  const seen = w.delivered()
  expect([...seen.entries()].filter(([, n]) => n !== 1)).toEqual([])
  expect([...seen.keys()].toSorted()).toEqual(all.toSorted())
}
async function drained(w: World, life: Life, spec = specOf({})): Promise<void> {
  const run = life.run(spec)
  w.clock.timer(60_000, () => life.drain.abort(new Error('drain')))
  expect(await w.clock.drive(run, BOUND)).toBe('drained')
}

test('records are delivered once, in cuts of the size asked for', async () => {
  const w = new World(1)
  const all = fill(w, 300)
  await drained(w, new Life(w))
  expectOnce(w, all)
  expect(w.objects.size).toBeGreaterThan(20)
  expect(w.committed?.offset).toBe(300)
})

for (const point of FAIL_POINTS.flatMap((p) => [`${p}.before`, `${p}.after`])) {
  test(`a process that dies at ${point} loses and doubles nothing`, async () => {
    let killed = 0
    for (let nth = 1; nth <= 3; nth++) {
      const w = new World(nth)
      const all = fill(w, 120)
      let seen = 0
      w.crash = (p, life) => life.n === 1 && p === point && ++seen === nth
      const first = new Life(w)
      const run = first.run(specOf({}))
      w.clock.timer(60_000, () => first.drain.abort(new Error('drain')))
      if ((await w.clock.drive(run, BOUND)) === 'died') killed++
      await drained(w, new Life(w))
      expectOnce(w, all)
    }
    const unreachable = /^(decide|adopt|backup|reject|object\.(create|part|complete)|verify\.)/.test(point)
    if (!unreachable) expect(killed).toBeGreaterThan(0)
  })
}

async function campaign(seeds: number, o: SeedOptions): Promise<ReadonlyMap<string, number>> {
  const total = new Map<string, number>()
  for (let seed = 1; seed <= seeds; seed++) for (const [k, n] of await runSeed(seed, o)) total.set(k, (total.get(k) ?? 0) + n)
  return total
}

test('random crashes, refusals, lost answers and hangs, by seed', async () => {
  const met = await campaign(60, {})
  for (const what of ['attempt.failed', 'object.existed', 'cut.delivered']) expect(met.get(what) ?? 0, what).toBeGreaterThan(20)
  expect(met.get('lives')).toBeGreaterThan(120)
}, 120_000)

test('a lost note is healed by adoption: every record once, with the guard off (row 7)', async () => {
  const met = await campaign(60, { loseNotes: true })
  expect(met.get('cut.adopted') ?? 0).toBeGreaterThan(20)
}, 120_000)

test('a sink that is away for longer than retry.duration, and may have done what it did not answer: every record once (I17)', async () => {
  const met = await campaign(60, { giveUp: true })
  for (const what of ['cut.given-up', 'cut.undecided', 'cut.delivered']) expect(met.get(what) ?? 0, what).toBeGreaterThan(20)
}, 120_000)

test('the same where notes are lost: what an earlier life may have shown counts too', async () => {
  const met = await campaign(40, { giveUp: true, loseNotes: true })
  for (const what of ['cut.given-up', 'cut.undecided', 'cut.adopted']) expect(met.get(what) ?? 0, what).toBeGreaterThan(10)
}, 120_000)
