/** Reads of one partition: rows below the durable watermark, verified, copied once. */
import { sliceBatch, type RecordBatch } from '../../sdk/batch.ts'
import { DivergedError, OutOfRangeError, type ReadResult } from '../../sdk/log.ts'
import type { Clock } from '../../sdk/host.ts'
import { BufferPool } from '../../sdk/pool.ts'
import { limits } from '../../limits.ts'
import type { Env } from './env.ts'
import { CorruptRowError, decodeRow } from './frames.ts'
import type { RowKey } from './keys.ts'
import type { Partition } from './partition.ts'

export interface ReadOptions {
  readonly maxBytes: number
  readonly maxWaitMs: number
  readonly lastEpoch?: number
  readonly signal: AbortSignal
}

/** `gone` answers why the topic can no longer be read, or null. */
export async function read(
  p: Partition,
  env: Env,
  from: number,
  o: ReadOptions,
  c: { clock: Clock; boot: number; gone(): Error | null },
): Promise<ReadResult> {
  const until = c.clock.monotonic() + o.maxWaitMs
  for (;;) {
    o.signal.throwIfAborted()
    const gone = c.gone()
    if (gone !== null) throw gone
    check(p, from, o, c.boot)
    if (env.renewing !== null) {
      await env.renewing
      continue
    }
    if (from < p.stable) return collect(p, env, from, o.maxBytes)
    const left = until - c.clock.monotonic()
    if (left <= 0) {
      return { batches: [], next: from, leaderEpoch: p.epochs.at(-1)?.epoch ?? c.boot, ...boundsOf(p) }
    }
    await changed(p, left, o.signal, c.clock)
  }
}

export function boundsOf(p: Partition): { logStart: number; stable: number; highWatermark: number } {
  return { logStart: p.logStart, stable: p.stable, highWatermark: p.stable }
}

function check(p: Partition, from: number, o: ReadOptions, boot: number): void {
  if (!Number.isSafeInteger(from) || from < p.logStart || from > p.stable) throw new OutOfRangeError(from, boundsOf(p))
  if (o.lastEpoch === undefined) return
  const end = p.endOfEpoch(o.lastEpoch, boot)
  if (end.leaderEpoch !== o.lastEpoch || end.endOffset < from) throw new DivergedError(end)
}

/** Resolves when the partition changed, the time is over or the signal aborts. */
function changed(p: Partition, ms: number, signal: AbortSignal, clock: Clock): Promise<void> {
  return new Promise((resolve) => {
    const over = new AbortController()
    const done = (): void => {
      forget()
      over.abort()
      signal.removeEventListener('abort', done)
      resolve()
    }
    const forget = p.onChange(done)
    signal.addEventListener('abort', done, { once: true })
    clock
      .sleep(ms, over.signal)
      .finally(done)
      .catch(() => {}) // rejects when something else was first
  })
}

/** The rows from the one that holds `from` on: one search where a reader goes on at the end of a row, as it mostly does. */
function* rowsHolding(p: Partition, env: Env, from: number): Generator<RowKey> {
  let atStart = false
  for (const row of p.rows(env, from)) {
    if (!atStart && row.baseOffset !== from) break
    atStart = true
    yield row
  }
  const first = atStart ? null : p.floor(env, from)
  if (first !== null) yield* p.rows(env, first.baseOffset)
}

function collect(p: Partition, env: Env, from: number, maxBytes: number): ReadResult {
  const where = `${env.dir} partition ${p.index}`
  const batches: RecordBatch[] = []
  let leaderEpoch: number | null = null
  let next = from
  let bytes = 0
  for (const row of rowsHolding(p, env, from)) {
    leaderEpoch ??= row.leaderEpoch
    if (row.baseOffset >= p.stable || row.leaderEpoch !== leaderEpoch) break
    if (batches.length > 0 && bytes + row.bytes > maxBytes) break
    const skip = next - row.baseOffset
    if (skip >= row.count || skip < 0 || (skip > 0 && batches.length > 0)) {
      throw new CorruptRowError(`${where} offset ${next}`, `the row there holds [${row.baseOffset}, ${row.baseOffset + row.count})`)
    }
    const batch = load(env, row, where)
    batches.push(skip === 0 ? batch : sliceBatch(batch, skip, batch.count, () => batch.release()))
    bytes += row.bytes
    next = row.baseOffset + row.count
    if (bytes >= maxBytes) break
  }
  if (leaderEpoch === null)
    throw new CorruptRowError(`${where} offset ${from}`, `no row holds it, although the log is [${p.logStart}, ${p.stable})`)
  return { batches, next, leaderEpoch, ...boundsOf(p) }
}

const pool = new BufferPool(limits.logReadPoolBytes)

/** The row's private copy and the numbers beside it, in memory that comes back at release. */
function load(env: Env, k: RowKey, where: string): RecordBatch {
  const at = `${where} offset ${k.baseOffset}`
  const stored = env.peek(k.key)
  if (!stored) throw new CorruptRowError(at, 'the row vanished while it was read')
  const numbersAt = Math.ceil(stored.length / 8) * 8
  const buffer = pool.take(numbersAt + 16 * k.count)
  const frame = new Uint8Array(buffer, 0, stored.length)
  frame.set(stored)
  let held = true
  const release = (): void => {
    if (held) pool.give(buffer)
    held = false
  }
  const row = decodeRow(frame, at, { numbers: new Float64Array(buffer, numbersAt, 2 * k.count), release })
  const same =
    row.baseOffset === k.baseOffset &&
    row.batch.count === k.count &&
    row.appendTimeMs === k.appendTimeMs &&
    row.leaderEpoch === k.leaderEpoch
  if (!same)
    throw new CorruptRowError(
      at,
      `its key says ${k.count} records of epoch ${k.leaderEpoch}, its head ${row.batch.count} of ${row.leaderEpoch}`,
    )
  return row.batch
}

/** The first offset whose append time is ≥ the asked one, `stable` if there is none. Times rise with the offsets. */
export function offsetAtTime(p: Partition, env: Env, timestampMs: number): number {
  let low = p.logStart
  let high = p.stable
  while (low < high) {
    const mid = low + Math.floor((high - low) / 2)
    const row = p.floor(env, mid)
    if (row === null) throw new CorruptRowError(`${env.dir} partition ${p.index} offset ${mid}`, 'no row holds it')
    if (row.appendTimeMs < timestampMs) low = row.baseOffset + row.count
    else high = Math.max(row.baseOffset, p.logStart)
  }
  return low
}
