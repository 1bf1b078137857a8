import { describe, expect, test } from 'vitest'
import { attempts, type EffectScope, type SinkHandle } from '../../core/delivery/attempts.ts'
import { Breaker, Slots } from '../../core/delivery/breaker.ts'
import { ConfigError, errorCode, PermanentError, RetryableError } from '../../core/sdk/errors.ts'
import type { AttemptContext, ObjectSink } from '../../core/sdk/sink.ts'
import type { HydrantEvent } from '../../core/telemetry/events.ts'
import { Seeded, VirtualClock } from '../simulation/scheduler.ts'

interface Bench {
  clock: VirtualClock
  events: HydrantEvent[]
  handle(o?: Partial<SinkHandle>): SinkHandle
  scope(o?: Partial<EffectScope>): EffectScope
}
function bench(): Bench {
  const clock = new VirtualClock()
  const random = new Seeded(1)
  const events: HydrantEvent[] = []
  const emit = (e: HydrantEvent): void => void events.push(e)
  const never = new AbortController().signal
  const breaker = new Breaker({ clock, events: { emit }, sink: 's', target: 't' })
  return {
    clock,
    events,
    handle: (o) => ({
      name: 's',
      type: 's',
      sink: {} as ObjectSink,
      retry: { durationMs: null, baseMs: 100, maxMs: 1000 },
      timeoutMs: 1000,
      slots: new Slots(8),
      breaker,
      ordered: false,
      ...o,
    }),
    scope: (o) => ({
      host: { clock, random, fs: null as never, failpoint: () => Promise.resolve() },
      events: { emit },
      log: { debug() {}, info() {}, warn() {}, error() {} },
      pipeline: 'p',
      lease: { id: 'l', signal: never, live: () => true },
      signal: never,
      cut: { pipelineId: 'p', lineage: 1, topicId: 't', stream: 's', shard: '0', start: 0, end: 1 },
      recovered: false,
      turn: () => Promise.resolve(),
      mayAct: () => {},
      ...o,
    }),
  }
}
const O = { operation: 'put', timeoutMs: 1000 }

test('retries until it succeeds, with jitter below a doubling cap', async () => {
  const b = bench()
  let n = 0
  const work = (): Promise<string> => (++n < 8 ? Promise.reject(new Error('no')) : Promise.resolve('yes'))
  expect(await b.clock.drive(attempts(b.handle(), b.scope(), O, work), 60_000)).toBe('yes')
  const delays = b.events.flatMap((e) => (e.type === 'attempt.failed' ? [e.delayMs] : []))
  expect(delays.length).toBe(7)
  delays.forEach((d, i) => expect(d).toBeLessThanOrEqual(Math.min(1000, 100 * 2 ** i)))
})
describe('what is never retried', () => {
  for (const e of [new PermanentError('P', 'no'), new ConfigError('C', 'no')]) {
    test(e.name, async () => {
      const b = bench()
      await expect(
        b.clock.drive(
          attempts(b.handle(), b.scope(), O, () => Promise.reject(e)),
          60_000,
        ),
      ).rejects.toBe(e)
    })
  }
  test('a lost lease', async () => {
    const b = bench()
    const lease = { id: 'l', signal: new AbortController().signal, live: () => false }
    await expect(
      b.clock.drive(
        attempts(b.handle(), b.scope({ lease }), O, (c) => c.effect()),
        60_000,
      ),
    ).rejects.toThrow('lease')
  })
})
test('a call that hangs is cut off at the time-out and tried again', async () => {
  const b = bench()
  let n = 0
  const aborted: boolean[] = []
  const work = (c: { signal: AbortSignal }): Promise<number> =>
    ++n === 1 ? new Promise(() => c.signal.addEventListener('abort', () => aborted.push(true))) : Promise.resolve(n)
  expect(await b.clock.drive(attempts(b.handle(), b.scope(), O, work), 60_000)).toBe(2)
  expect(aborted).toEqual([true])
  expect(b.events).toContainEqual(expect.objectContaining({ type: 'attempt.failed', code: 'Timeout' }))
})
test('the clock stands still and no slot is held while an attempt waits for its turn', async () => {
  const b = bench()
  const handle = b.handle({ slots: new Slots(1) })
  const turn = Promise.withResolvers<void>()
  const second = attempts(handle, b.scope({ turn: () => turn.promise }), O, async (c) => {
    await c.effect()
    return 'second'
  })
  const first = b.clock.sleep(50_000).then(() => attempts(handle, b.scope(), O, () => Promise.resolve('first')))
  void first.then(() => turn.resolve())
  expect(await b.clock.drive(Promise.all([first, second]), 100_000)).toEqual(['first', 'second'])
  expect(b.events.filter((e) => e.type === 'attempt.failed')).toEqual([])
})
test('retry.duration ends it, unless there is no other place', async () => {
  const b = bench()
  const handle = b.handle({ retry: { durationMs: 5_000, baseMs: 10, maxMs: 100 } })
  await expect(
    b.clock.drive(
      attempts(handle, b.scope(), O, () => Promise.reject(new Error('no'))),
      60_000,
    ),
  ).rejects.toThrow('retried for 5 s')
  let n = 0
  const forever = attempts(handle, b.scope(), { ...O, forever: true }, () =>
    ++n < 300 ? Promise.reject(new Error('no')) : Promise.resolve(n),
  )
  expect(await b.clock.drive(forever, 600_000)).toBe(300)
})
test('a target that refuses everything sees at most 20 requests a second, however many lanes wait', async () => {
  const b = bench()
  const at: number[] = []
  const end = new AbortController()
  const lanes = Array.from({ length: 64 }, () =>
    attempts(b.handle(), b.scope({ signal: end.signal }), O, () => {
      at.push(b.clock.monotonic())
      return Promise.reject(new RetryableError('SlowDown', 'no'))
    }).catch(() => 'ended'),
  )
  b.clock.timer(20_000, () => end.abort(new Error('end')))
  await b.clock.drive(Promise.all(lanes), 60_000)
  // the first calls of all lanes were under way before the first refusal came back
  const later = at.filter((t) => t > 0)
  for (let s = 0; s < 19_000; s += 500) expect(later.filter((t) => t >= s && t < s + 1000).length).toBeLessThanOrEqual(20)
  expect(later.length).toBeGreaterThan(100)
})
test('Retry-After is obeyed', async () => {
  const b = bench()
  let n = 0
  const at: number[] = []
  const work = (): Promise<number> => {
    at.push(b.clock.monotonic())
    return ++n === 1 ? Promise.reject(new RetryableError('SlowDown', 'no', { retryAfterMs: 7_000 })) : Promise.resolve(n)
  }
  await b.clock.drive(attempts(b.handle(), b.scope(), O, work), 60_000)
  expect(at[1]! - at[0]!).toBeGreaterThanOrEqual(7_000)
})

const noted = async (work: (n: number, c: AttemptContext) => Promise<string>): Promise<number[]> => {
  const b = bench()
  const at: number[] = []
  let n = 0
  const o = { ...O, inDoubt: (endedAt: number) => void at.push(endedAt) }
  await b.clock.drive(
    attempts(b.handle(), b.scope(), o, (c) => work(++n, c)),
    60_000,
  )
  return at
}
const once = (e: Error, acts: boolean) => async (n: number, c: AttemptContext) => {
  if (acts) await c.effect()
  if (n === 1) throw e
  return 'yes'
}
const hangs = async (n: number, c: AttemptContext): Promise<string> => {
  await c.effect()
  return n === 1 ? new Promise(() => {}) : 'yes'
}

describe('what may have been applied', () => {
  const no = new RetryableError('Refused', 'no', { applied: 'no' })
  const unknown = new RetryableError('Reset', 'no answer')
  test('an attempt that failed without an answer, after its effect() had resolved', async () => {
    expect((await noted(once(unknown, true))).length).toBe(1)
  })
  test('also where the error is a foreign one', async () => {
    expect((await noted(once(Object.assign(new Error('ECONNRESET'), { applied: 'no' }), true))).length).toBe(1)
  })
  test('not one whose error says that it was not applied, nor one that never came to its effect', async () => {
    expect(await noted(once(no, true))).toEqual([])
    expect(await noted(once(unknown, false))).toEqual([])
  })
  test('an attempt that hangs after its effect(), at its time-out', async () => {
    expect(await noted(hangs)).toEqual([1000])
  })
})

describe('a lane that drains', () => {
  const slow = { retry: { durationMs: null, baseMs: 30_000, maxMs: 30_000 } }
  /** Fails always; the drain begins at `at`. Resolves with when attempts began, and when it ended. */
  async function draining(at: number, o: { takesMs?: number; error?: Error; turn?: () => Promise<void> } = {}) {
    const b = bench()
    const drain = new AbortController()
    b.clock.timer(at, () => drain.abort(new Error('drain')))
    const began: number[] = []
    const scope = b.scope({ drain: drain.signal, ...(o.turn ? { turn: o.turn } : {}) })
    const ends = attempts(b.handle(slow), scope, O, async () => {
      began.push(b.clock.monotonic())
      if (o.takesMs !== undefined) await b.clock.sleep(o.takesMs)
      throw o.error ?? new RetryableError('SlowDown', 'no')
    }).catch((e: unknown) => e)
    const end = await b.clock.drive(ends, 600_000)
    return { began, end: errorCode(end), at: b.clock.monotonic() }
  }
  test('waits out no back-off: one attempt at once, the last', async () => {
    const { began, end, at } = await draining(500)
    expect({ began, end }).toEqual({ began: [0, 500], end: 'SlowDown' })
    expect(at).toBe(500)
  })
  test('an attempt that is under way is followed by one more', async () => {
    // the target gets an attempt every 100 ms
    expect(await draining(500, { takesMs: 700 })).toEqual({ began: [0, 800], end: 'SlowDown', at: 1_500 })
  })
  test('one that begins when it drains already has two', async () => {
    const { began, at } = await draining(0, { takesMs: 10 })
    expect({ began, at }).toEqual({ began: [0, 110], at: 120 })
  })
  test('a rest that the target asked for is not sat out', async () => {
    const error = new RetryableError('SlowDown', 'no', { retryAfterMs: 200_000 })
    expect(await draining(500, { error })).toEqual({ began: [0], end: 'Resting', at: 500 })
  })
  test('it ends after the cuts before had their turn', async () => {
    const before = Promise.withResolvers<void>()
    const b = bench()
    const drain = AbortSignal.abort(new Error('drain'))
    let ended = false
    const work = attempts(b.handle(), b.scope({ drain, turn: () => before.promise }), O, () => Promise.reject(new Error('no')))
    void work.catch(() => (ended = true))
    await b.clock.drive(b.clock.sleep(5_000), 60_000)
    expect(ended).toBe(false)
    before.resolve()
    await expect(b.clock.drive(work, 60_000)).rejects.toThrow('no')
  })
})

test('somebody waits for the lane: its back-off ends at once, the next one is short again, and it goes on', async () => {
  const b = bench()
  const hurry = new AbortController()
  const handle = b.handle({ retry: { durationMs: null, baseMs: 100, maxMs: 30_000 } })
  const began: number[] = []
  b.clock.timer(60_000, () => hurry.abort(new Error('delete')))
  const work = attempts(handle, b.scope({ hurry: hurry.signal }), O, () => {
    began.push(b.clock.monotonic())
    return began.at(-1)! < 61_000 ? Promise.reject(new Error('no')) : Promise.resolve('yes')
  })
  expect(await b.clock.drive(work, 600_000)).toBe('yes')
  expect(began).toContain(60_000)
  const after = began.filter((t) => t > 60_000)
  expect(after.length).toBeGreaterThan(2)
  expect(after[0]! - 60_000).toBeLessThanOrEqual(100)
})
