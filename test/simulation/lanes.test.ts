import { describe, expect, test } from 'vitest'
import { Lanes } from '../../core/pipeline/lanes.ts'
import type { PipelineSpec } from '../../core/pipeline/spec.ts'
import { audit } from './random.ts'
import { Life, specOf, World } from './world.ts'

// How the keeper of lanes ends one whose sink is in trouble, in virtual time.
const BOUND = 3_600_000
const never = new AbortController().signal
const SLOW: PipelineSpec = ((s) => ({ ...s, sink: { ...s.sink, retry: { durationMs: null, baseMs: 3_000_000, maxMs: 3_000_000 } } }))(
  specOf({ size: 100 }),
)

/** Lanes of one process; `until` is where a deletion drains to. */
function lanesOf(w: World, spec = SLOW): { lanes: Lanes; until: { at: number | null } } {
  const x = new Life(w).context(spec)
  const until: { at: number | null } = { at: null }
  const o = { ...x, spillDir: '/nowhere', ordered: false, openCuts: 16, ready: Promise.resolve(), until: () => until.at }
  const lanes = new Lanes(o, false)
  void lanes.assigned(x.lane)
  return { lanes, until }
}
function start(n = 30): { w: World; all: string[] } {
  const w = new World(1)
  const all = Array.from({ length: n }, (_, i) => `record-${i}`)
  for (const v of all) w.append(v)
  return { w, all }
}
/** The sink refuses everything until then; the back-off after the first refusal is far longer. */
function refusesUntil(w: World, atMs: number): void {
  w.storeFault = () => (w.clock.monotonic() < atMs ? 'refuse' : null)
}

describe('a pause while a back-off is under way', () => {
  test('tries once more at once: a sink that works again gets what is there', async () => {
    const { w, all } = start()
    refusesUntil(w, 10_000)
    const { lanes } = lanesOf(w)
    await w.clock.drive(w.clock.sleep(20_000), BOUND)
    expect(w.objects.size).toBe(0)
    await w.clock.drive(lanes.pause(never), BOUND)
    expect(w.clock.monotonic()).toBeLessThan(21_000)
    const [lane] = await lanes.status()
    expect(lane).toMatchObject({ state: 'paused', openCuts: 0 })
    // what was recorded, and one last batch
    expect(lane?.position).toBeGreaterThan(10)
    audit(w, all.slice(0, lane?.position))
  })
  test('ends at once with a sink that does not: the cut stays recorded, and says why', async () => {
    const { w, all } = start()
    refusesUntil(w, Infinity)
    const { lanes } = lanesOf(w)
    await w.clock.drive(w.clock.sleep(20_000), BOUND)
    await w.clock.drive(lanes.pause(never), BOUND)
    expect(w.clock.monotonic()).toBeLessThan(21_000)
    expect((await lanes.status())[0]).toMatchObject({ state: 'stopped', position: 0, openCuts: 1, reason: 'the store refuses' })
    refusesUntil(w, 0)
    await w.clock.drive(lanes.resume(), BOUND)
    await w.clock.drive(w.clock.sleep(5_000), BOUND)
    audit(w, all)
  })
})

test('a deletion ends a back-off at once, and goes on trying until its deadline', async () => {
  const { w, all } = start()
  const { lanes, until } = lanesOf(w, { ...SLOW, sink: { ...SLOW.sink, retry: { durationMs: null, baseMs: 100, maxMs: 3_000_000 } } })
  refusesUntil(w, 1_010_000)
  await w.clock.drive(w.clock.sleep(1_000_000), BOUND)
  until.at = all.length
  const deadline = new AbortController()
  w.clock.timer(60_000, () => deadline.abort(new Error('drain_timeout')))
  await w.clock.drive(lanes.ended(deadline.signal), BOUND)
  expect(w.clock.monotonic()).toBeLessThan(1_040_000)
  audit(w, all)
})

test('the status says that a cut waits to be given up, and why', async () => {
  const { w, all } = start()
  let puts = 0
  // the first put that is not on probation is applied, and nothing is answered from then on
  w.storeFault = ({ op, key }) => {
    if (!key.startsWith('out/') || w.clock.monotonic() > 60_000) return null
    if (op === 'put' && ++puts === 3) return 'applied'
    return puts >= 3 ? 'fail' : null
  }
  const { lanes } = lanesOf(w, specOf({ size: 100, giveUpMs: 2_000 }))
  await w.clock.drive(w.clock.sleep(30_000), BOUND)
  const [asking] = await lanes.status()
  expect(asking?.reason).toBe(
    'waits to learn whether the object exists before giving up: head to mem, attempt ' + reasonTail(asking?.reason),
  )
  await w.clock.drive(w.clock.sleep(60_000), BOUND)
  expect((await lanes.status())[0]).toMatchObject({ position: all.length, reason: null })
  audit(w, all)
})
const reasonTail = (reason: string | null | undefined): string => /attempt (\d+: no answer came)$/.exec(reason ?? '')?.[1] ?? '?'
