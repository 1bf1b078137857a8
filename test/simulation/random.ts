import { Life, specOf, World, type LifeOptions, type StoreFault } from './world.ts'

const BOUND = 24 * 3_600_000
const FAULTY_LIVES = 25

export interface SeedOptions {
  readonly loseNotes?: boolean
  /** Cuts are given up to a backup, and the sink is away for longer than retry.duration now and then. */
  readonly giveUp?: boolean
}

/**
 * One seeded run: a producer, lives that die at random fail points, a store that refuses, hangs and loses answers. Throws with the
 * seed when a record is lost or doubled, or when the lane does not finish once the faults have stopped.
 */
export async function runSeed(seed: number, o: SeedOptions = {}): Promise<ReadonlyMap<string, number>> {
  const w = new World(seed)
  const r = w.random
  const prefix = r.chance(0.5) ? 'out/' : 'out/!{timestamp:HH}/'
  const giveUp = o.giveUp === true ? { giveUpMs: 200 + r.int(2_500) } : {}
  const spec = specOf({ size: 50 + r.int(600), intervalMs: r.int(4) * 400, prefix, ...giveUp })
  const all = Array.from({ length: 40 + r.int(200) }, (_, i) => `r${i}-${'y'.repeat(r.int(60))}`)
  const pCrash = r.float() * 0.06
  const pStore = r.float() * 0.4
  const options: LifeOptions = { unguarded: o.loseNotes === true, maxOpenCuts: 1 + r.int(16) }
  let faults = true
  w.crash = () => faults && r.chance(pCrash)
  const noise = (): StoreFault => (faults && r.chance(pStore) ? (['fail', 'applied', 'hang'] as const)[r.int(3)]! : null)
  const away = o.giveUp === true ? outages(w) : noise
  w.storeFault = ({ op, key }) => (faults && key.startsWith('out/') ? away(op) : noise())
  w.saveFault = () => ({ result: faults && r.chance(0.05) ? 'refused' : 'saved', apply: true, delayMs: r.int(30) })
  const refusedNotApplied = w.saveFault
  w.saveFault = (l) => {
    const f = refusedNotApplied(l)
    return { ...f, apply: f.result === 'saved' || r.chance(0.5) }
  }
  const produced = produce(w, all)
  try {
    for (let lives = 0; lives < 60; lives++) {
      faults = lives < FAULTY_LIVES
      if (o.loseNotes && w.committed && r.chance(0.5)) w.committed = { ...w.committed, note: '' }
      const life = new Life(w, options)
      const drainMs = faults ? 200 + r.int(o.giveUp === true ? 20_000 : 4_000) : 300_000
      w.clock.timer(drainMs, () => life.drain.abort(new Error('drain')))
      const end = await w.clock.drive(life.runToEnd(spec), BOUND)
      life.kill()
      if (end === 'drained' && !faults && w.committed?.offset === all.length) break
    }
    await produced
    audit(w, all)
    return reached(w)
  } catch (e) {
    const how = `${o.loseNotes ? ' with lost notes' : ''}${o.giveUp ? ' giving up' : ''}`
    throw new Error(`seed ${seed}${how}: ${e instanceof Error ? e.message : String(e)}`, { cause: e })
  }
}

/** The sink works, or refuses everything, or answers nothing and may do all the same what it was asked; for some seconds each. */
function outages(w: World): (op: 'put' | 'head') => StoreFault {
  const r = w.random
  let phase: 'up' | 'refuses' | 'mute' = 'up'
  const next = (): void => {
    phase = (['up', 'refuses', 'mute', 'mute'] as const)[r.int(4)]!
    w.clock.timer(300 + r.int(6_000), next)
  }
  next()
  return (op) => {
    if (phase === 'up') return null
    if (phase === 'refuses') return 'refuse'
    return op === 'head' ? 'fail' : (['fail', 'applied', 'late', 'hang'] as const)[r.int(4)]!
  }
}

/** How often each fault was met: one that never happened proved nothing. */
function reached(w: World): ReadonlyMap<string, number> {
  const counts = new Map<string, number>([['lives', w.lives]])
  for (const e of w.events) counts.set(e.type, (counts.get(e.type) ?? 0) + 1)
  return counts
}

async function produce(w: World, all: readonly string[]): Promise<void> {
  for (const value of all) {
    if (w.random.chance(0.3)) await w.clock.sleep(w.random.int(300))
    w.append(value)
  }
}

/** Every record once, in the sink or where its cut was given up to. */
export function audit(w: World, all: readonly string[]): void {
  if (w.spoiled.length > 0) throw new Error(`the bytes of ${w.spoiled.join(' ')} changed while a put held them`)
  const seen = w.anywhere()
  const doubled = [...seen].filter(([, n]) => n > 1).map(([id]) => id)
  const lost = all.filter((id) => !seen.has(id))
  const phantom = [...seen.keys()].filter((id) => !all.includes(id))
  if (doubled.length + lost.length + phantom.length > 0) {
    throw new Error(
      `lost ${lost.length} (${lost.slice(0, 3).join(' ')}), doubled ${doubled.length} (${doubled.slice(0, 3).join(' ')}), phantom ${phantom.length}`,
    )
  }
}
