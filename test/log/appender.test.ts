import { getEventListeners } from 'node:events'
import { expect, test } from 'vitest'
import { limits } from '../../core/limits.ts'
import { Appender, type Appended, type AppenderContext } from '../../core/log/embedded/appender.ts'
import { WriteError, type Op } from '../../core/log/embedded/env.ts'
import { Partition } from '../../core/log/embedded/partition.ts'
import { AppendError } from '../../core/sdk/log.ts'
import { poisonPools } from '../harness/poison.ts'
import { values } from './contract.ts'

poisonPools()
const never = new AbortController().signal
const turn = (): Promise<void> => new Promise((resolve) => void setImmediate(resolve))

interface Write {
  readonly rows: Uint8Array[]
  done(e?: Error): void
}
/** An appender whose disk and clock are in the hands of the test. */
class Bench {
  readonly writes: Write[] = []
  /** Ends of the waits that are under way. */
  readonly sleeping: (() => void)[] = []
  slept = 0
  readonly poison = { reason: null as string | null, set: (_: string, reason: string): void => void (this.poison.reason ??= reason) }
  readonly partition = new Partition(0)
  readonly appender: Appender
  constructor() {
    const write = (ops: readonly Op[]): Promise<void> =>
      new Promise((resolve, reject) => {
        const rows = ops.flatMap((o) => (o.value !== null && o.value.length > 8 ? [o.value] : []))
        this.writes.push({ rows, done: (e) => (e ? reject(e) : resolve()) })
      })
    const timer = (_: number, fn: () => void): (() => void) => {
      this.slept++
      this.sleeping.push(fn)
      return () => void this.sleeping.splice(this.sleeping.indexOf(fn), 1)
    }
    this.appender = new Appender({
      stream: 's',
      env: { write },
      epoch: 1,
      clock: { now: () => 1, monotonic: () => 1, timer },
      poison: this.poison,
      disk: { refusal: () => null, wrote: () => {}, full: () => {} },
      lingerMs: 2,
      written: () => {},
    } as unknown as AppenderContext)
  }
  put(value: string, signal = never): Promise<Appended> {
    const answer = this.appender.append(this.partition, values(value), signal)
    answer.catch(() => {})
    return answer
  }
  /** The write under way, once it is. */
  async write(): Promise<Write> {
    for (let i = 0; i < 10 && this.writes.length === 0; i++) await turn()
    return this.writes.shift() ?? expect.unreachable('nothing is being written')
  }
  /** The time to wait for others is over. */
  async linger(): Promise<void> {
    for (let i = 0; i < 3; i++) await turn()
    this.sleeping.pop()?.()
  }
  /** A transaction of so many puts, durable. */
  async together(n: number): Promise<void> {
    const first = this.put('first')
    const w = await this.write()
    const others = Array.from({ length: n - 1 }, (_, i) => this.put(`${i}`))
    w.done()
    await first
    if (n === 1) return
    // the first one is likely to come again: it does not
    await this.linger()
    ;(await this.write()).done()
    await Promise.all(others)
  }
}

test('a lone writer never waits for others', async () => {
  const b = new Bench()
  for (let i = 0; i < 5; i++) await b.together(1)
  expect(b.slept).toBe(0)
})

test('writers that were answered together are waited for, and go as soon as they are there', async () => {
  const b = new Bench()
  await b.together(4)
  const { slept } = b
  const puts = [b.put('a'), b.put('b')]
  await turn()
  await turn()
  expect([b.slept - slept, b.writes.length]).toEqual([1, 0])
  puts.push(b.put('c'))
  const w = await b.write()
  expect(w.rows.length).toBe(1)
  w.done()
  expect((await Promise.all(puts)).map((p) => p.baseOffset)).toEqual([4, 5, 6])
})

test('who does not come is waited for once, for the linger time', async () => {
  const b = new Bench()
  await b.together(4)
  const { slept } = b
  for (let i = 0; i < 3; i++) {
    const put = b.put('alone')
    if (i === 0) await b.linger()
    ;(await b.write()).done()
    await put
  }
  expect(b.slept - slept).toBe(1)
})

test('enough bytes do not wait', async () => {
  const b = new Bench()
  await b.together(9)
  const { slept } = b
  const put = b.put('x'.repeat(limits.logFlushBytes))
  ;(await b.write()).done()
  await put
  expect(b.slept).toBe(slept)
})

test('a close ends the wait: what was accepted is written, what comes is refused', async () => {
  const b = new Bench()
  await b.together(4)
  const put = b.put('accepted')
  await turn()
  await turn()
  const closed = b.appender.close(new AppendError('Closed', 'closed', { stored: 'no', retriable: true }))
  await expect(b.put('late')).rejects.toMatchObject({ code: 'Closed' })
  ;(await b.write()).done()
  expect((await put).baseOffset).toBe(4)
  await closed
})

test('a put that is taken back while others are waited for leaves, alone or not', async () => {
  const b = new Bench()
  await b.together(4)
  const abort = new AbortController()
  const gone = [b.put('gone', abort.signal), b.put('gone too', abort.signal)]
  await turn()
  await turn()
  abort.abort(new Error('enough'))
  for (const g of gone) await expect(g).rejects.toMatchObject({ code: 'Aborted', stored: 'no' })
  b.sleeping.pop()?.()
  await turn()
  expect(b.writes).toEqual([])
  const put = b.put('kept')
  await b.linger()
  ;(await b.write()).done()
  expect((await put).baseOffset).toBe(4)
})

test('poison that comes while others are waited for: nothing is written', async () => {
  const b = new Bench()
  await b.together(4)
  const put = b.put('x')
  b.poison.set('other', 'a flush failed')
  await b.linger()
  await expect(put).rejects.toMatchObject({ code: 'Poisoned', stored: 'no' })
  expect(b.writes).toEqual([])
})

test('a row is used again only after its transaction is durable, and never after a failed one', async () => {
  const [a, other] = [new Bench(), new Bench()]
  const put = a.put('a'.repeat(3_000))
  const held = await a.write()
  const before = Buffer.from(held.rows[0] ?? [])
  for (let i = 0; i < 20; i++) {
    const p = other.put(`${i}`.repeat(1_500))
    ;(await other.write()).done()
    await p
  }
  expect(Buffer.compare(before, held.rows[0] ?? new Uint8Array(0))).toBe(0)
  held.done()
  await put
  expect(held.rows[0]?.every((byte) => byte === 0xdd)).toBe(true) // given back, and overwritten by this test's pools
  const lost = a.put('lost')
  const failing = await a.write()
  const row = Buffer.from(failing.rows[0] ?? [])
  failing.done(new WriteError('unknown', 'the disk is gone'))
  await expect(lost).rejects.toMatchObject({ code: 'Poisoned', stored: 'unknown' })
  expect(Buffer.compare(row, failing.rows[0] ?? new Uint8Array(0))).toBe(0)
})

test('one listener a signal, and few signals that no put waits for', async () => {
  const b = new Bench()
  const shared = new AbortController().signal
  const all = Array.from({ length: 300 }, () => new AbortController().signal)
  const held = b.put('held')
  const w = await b.write()
  const waiting = all.flatMap((s) => [b.put('x', s), b.put('y', shared)])
  for (const s of [shared, ...all]) expect(getEventListeners(s, 'abort').length).toBe(1)
  w.done()
  await held
  await b.linger()
  ;(await b.write()).done()
  await Promise.all(waiting)
  for (let i = 0; i < 1_000; i++) {
    const put = b.put('z', new AbortController().signal)
    if (i === 0) await b.linger()
    ;(await b.write()).done()
    await put
  }
  for (const s of [shared, ...all]) expect(getEventListeners(s, 'abort').length).toBe(0)
})
