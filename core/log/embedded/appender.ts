/**
 * The one writer of a stream. Puts wait in the order of their arrival while a transaction is made durable; then all of them go into the
 * next one, the puts of a partition merged into rows. Writers that have just been answered are likely to put again: the next transaction
 * waits until as many puts are there as the last one had and as came during it, for the linger time at most. Measured with 64 connections
 * that wait for their answers: without it they fall apart into two groups, 32 puts a transaction; with it all go into one, at a seventh
 * more puts a second. A lone writer never waits.
 */
import type { RecordBatch } from '../../sdk/batch.ts'
import { AppendError } from '../../sdk/log.ts'
import { BufferPool } from '../../sdk/pool.ts'
import { limits } from '../../limits.ts'
import type { Clock } from '../../sdk/host.ts'
import { WriteError, type Env, type Op } from './env.ts'
import { encodeRow, oneRecordBytes, recordBytes, type Segment } from './frames.ts'
import type { DiskGuard, Poison } from './health.ts'
import { rowKey } from './keys.ts'
import type { Partition } from './partition.ts'

export interface Appended {
  readonly baseOffset: number
  readonly appendTimeMs: number
}
interface Put {
  readonly partition: Partition
  readonly batch: RecordBatch
  readonly bytes: number
  readonly signal: AbortSignal
  resolve(a: Appended): void
  reject(e: AppendError): void
}
/** A partition's part of one transaction. */
interface Share {
  readonly partition: Partition
  readonly puts: { put: Put; baseOffset: number }[]
  next: number
  readonly timeMs: number
  open: { segments: Segment[]; bytes: number; base: number } | null
}

export interface AppenderContext {
  readonly stream: string
  readonly env: Env
  readonly epoch: number
  readonly clock: Clock
  readonly poison: Poison
  readonly disk: DiskGuard
  readonly lingerMs: number
  /** After every transaction that is durable. */
  written(): void
}

/** Rows being written, all streams together: lmdb has copied them when a transaction is durable. */
const memory = new BufferPool(limits.logRowPoolBytes, 4_096)

export class Appender {
  readonly #c: AppenderContext
  #queue: Put[] = []
  #pendingBytes = 0
  #running: Promise<void> | null = null
  /** Puts that are likely to come together: those of the last transaction and those that came during it. */
  #likely = 0
  #wake: (() => void) | null = null
  #closed: AppendError | null = null
  /** One listener for all puts of a signal: those of an API come a thousand to one. */
  readonly #watched = new Map<AbortSignal, () => void>()
  #mostSignals: number = limits.logWatchedSignals

  constructor(c: AppenderContext) {
    this.#c = c
  }

  append(partition: Partition, batch: RecordBatch, signal: AbortSignal): Promise<Appended> {
    const bytes = recordBytes(batch, 0, batch.count)
    const refusal = this.#refusal(batch, bytes, signal)
    if (refusal !== null) return Promise.reject(refusal)
    return new Promise((resolve, reject) => {
      if (!this.#watched.has(signal)) this.#watch(signal)
      this.#queue.push({ partition, batch, bytes, signal, resolve, reject })
      this.#pendingBytes += bytes
      if (this.#wake !== null && this.#enough()) this.#wake()
      this.#running ??= this.#run()
    })
  }

  #watch(signal: AbortSignal): void {
    if (this.#watched.size >= this.#mostSignals) {
      const waiting = new Set(this.#queue.map((p) => p.signal))
      for (const s of this.#watched.keys()) if (!waiting.has(s)) this.#unwatch(s)
      // where all of them are waited for, the next look comes after as many again
      this.#mostSignals = Math.max(limits.logWatchedSignals, this.#watched.size * 2)
    }
    const onAbort = (): void => this.#takeBack(signal)
    this.#watched.set(signal, onAbort)
    signal.addEventListener('abort', onAbort, { once: true })
  }
  #unwatch(signal: AbortSignal): void {
    const onAbort = this.#watched.get(signal)
    this.#watched.delete(signal)
    if (onAbort) signal.removeEventListener('abort', onAbort)
  }

  /** The signal aborts: its puts leave the queue. What is being written gets its answer. */
  #takeBack(signal: AbortSignal): void {
    this.#watched.delete(signal)
    const gone = this.#queue.filter((p) => p.signal === signal)
    this.#queue = this.#queue.filter((p) => p.signal !== signal)
    for (const put of gone) {
      const message = 'the append was aborted before it was written'
      this.#settle(put, () => put.reject(new AppendError('Aborted', message, { stored: 'no', retriable: true, cause: signal.reason })))
    }
  }

  #refusal(batch: RecordBatch, bytes: number, signal: AbortSignal): AppendError | null {
    const no = (code: string, message: string, retriable: boolean): AppendError =>
      new AppendError(code, `appending ${batch.count} records to ${this.#c.stream}: ${message}`, { stored: 'no', retriable })
    if (this.#closed !== null) return this.#closed
    if (this.#c.poison.reason !== null) return no('Poisoned', this.#c.poison.reason, false)
    if (signal.aborted) return no('Aborted', 'aborted before it began', true)
    if (batch.count === 0) return no('EmptyBatch', 'an empty batch has no offset', false)
    if (this.#pendingBytes + bytes > limits.logPendingBytes && this.#queue.length > 0) {
      return no('Overloaded', `${this.#pendingBytes} bytes wait for the disk, the limit is ${limits.logPendingBytes}`, true)
    }
    if (bytes > limits.logRowBytes) {
      for (let i = 0; i < batch.count; i++) {
        const one = oneRecordBytes(batch, i)
        if (one > limits.logRowBytes) {
          return no('RecordTooLarge', `record ${i} has ${one} bytes, the limit is ${limits.logRowBytes}`, false)
        }
      }
    }
    const reserve = this.#c.disk.refusal(this.#c.stream)
    return reserve === null ? null : no('DiskReserve', reserve, true)
  }

  async #run(): Promise<void> {
    while (this.#queue.length > 0) {
      await this.#gather()
      const puts = this.#take()
      if (puts.length > 0) await this.#write(puts)
    }
    this.#running = null
  }

  /** Lets the puts of this turn of the event loop in, and waits for those that are likely to come. */
  async #gather(): Promise<void> {
    await new Promise<void>((r) => void setImmediate(r))
    if (this.#enough() || this.#closed !== null) return
    await new Promise<void>((resolve) => {
      const cancel = this.#c.clock.timer(this.#c.lingerMs, resolve)
      this.#wake = () => {
        cancel()
        resolve()
      }
    })
    this.#wake = null
  }
  #enough(): boolean {
    return this.#queue.length >= this.#likely || this.#pendingBytes >= limits.logFlushBytes
  }

  #take(): Put[] {
    let bytes = 0
    let n = 0
    while (n < this.#queue.length && (n === 0 || bytes + (this.#queue[n]?.bytes ?? 0) <= limits.logTransactionBytes)) {
      bytes += this.#queue[n]?.bytes ?? 0
      n++
    }
    return this.#queue.splice(0, n)
  }

  async #write(puts: readonly Put[]): Promise<void> {
    const shares = new Map<Partition, Share>()
    const ops: Op[] = []
    try {
      this.#mustBeSound('fenced')
      for (const put of puts) this.#add(put, shares, ops)
      for (const s of shares.values()) this.#closeRow(s, ops)
      // no other write of rows is under way, and the transaction holds only while this daemon's boot epoch stands in the
      // environment: so the offsets above are those of the write transaction itself
      await this.#c.env.write(ops)
      this.#mustBeSound('unknown')
    } catch (e) {
      const error = this.#failed(e)
      for (const put of puts) this.#settle(put, () => put.reject(error))
      return
    }
    // after a failed write nobody knows who still looks there: those rows are left to the collector
    for (const { value } of ops) if (value !== null && memory.owns(value.buffer)) memory.give(value.buffer)
    // before the answers: who is back at once is one of those already
    this.#likely = puts.length + this.#queue.length
    this.#c.disk.wrote(this.#c.stream)
    this.#c.written()
    for (const s of shares.values()) {
      s.partition.advance(s.next, s.timeMs, this.#c.epoch)
      for (const { put, baseOffset } of s.puts) {
        this.#settle(put, () => put.resolve({ baseOffset, appendTimeMs: s.timeMs }))
      }
    }
  }

  /** No acknowledgement once the log is poisoned, also when another stream did it. */
  #mustBeSound(fault: 'fenced' | 'unknown'): void {
    if (this.#c.poison.reason !== null) throw new WriteError(fault, this.#c.poison.reason)
  }

  #settle(put: Put, answer: () => void): void {
    this.#pendingBytes -= put.bytes
    answer()
  }

  #failed(e: unknown): AppendError {
    const { stream, poison, disk } = this.#c
    const fault = e instanceof WriteError ? e.fault : 'unknown'
    const message = e instanceof Error ? e.message : String(e)
    if (fault === 'full') {
      disk.full(stream, message)
      return new AppendError('DiskFull', message, { stored: 'no', retriable: true, cause: e })
    }
    poison.set(stream, message)
    return new AppendError('Poisoned', message, { stored: fault === 'fenced' ? 'no' : 'unknown', retriable: false, cause: e })
  }

  #add(put: Put, shares: Map<Partition, Share>, ops: Op[]): void {
    const { partition, batch } = put
    let s = shares.get(partition)
    if (s === undefined) {
      const timeMs = Math.max(Math.trunc(this.#c.clock.now()), partition.lastTimeMs)
      shares.set(partition, (s = { partition, puts: [], next: partition.stable, timeMs, open: null }))
    }
    s.puts.push({ put, baseOffset: s.next })
    for (let from = 0; from < batch.count;) {
      const headers = batch.headerStart !== undefined
      const row = s.open
      const other = row !== null && (row.segments[0]?.batch.headerStart !== undefined) !== headers
      if (row !== null && (other || row.bytes + oneRecordBytes(batch, from) > limits.logRowBytes)) this.#closeRow(s, ops)
      const open = (s.open ??= { segments: [], bytes: 0, base: s.next })
      const { to, bytes } = fitting(put, from, limits.logRowBytes - open.bytes)
      open.segments.push({ batch, from, to, bytes })
      open.bytes += bytes
      s.next += to - from
      from = to
    }
  }

  #closeRow(s: Share, ops: Op[]): void {
    if (s.open === null) return
    const { segments, base } = s.open
    const stamp = { baseOffset: base, appendTimeMs: s.timeMs, leaderEpoch: this.#c.epoch }
    const value = encodeRow(segments, stamp, (bytes) => memory.take(bytes))
    const epoch = base === s.partition.stable ? s.partition.epochOp(this.#c.epoch, base) : null
    if (epoch !== null) ops.push(epoch)
    ops.push({ key: rowKey({ ...stamp, partition: s.partition.index, count: s.next - base, bytes: value.length }), value })
    s.open = null
  }

  /** Refuses from now on, waits for what was accepted. */
  async close(e: AppendError): Promise<void> {
    this.#closed = e
    this.#wake?.()
    while (this.#running !== null) await this.#running
  }
}

/** How many records from `from` on fit into `room` bytes (at least one). */
function fitting(put: Put, from: number, room: number): { to: number; bytes: number } {
  const { batch } = put
  if (from === 0 && put.bytes <= room) return { to: batch.count, bytes: put.bytes }
  let to = from
  let bytes = 0
  do {
    bytes += oneRecordBytes(batch, to)
    to++
  } while (to < batch.count && bytes + oneRecordBytes(batch, to) <= room)
  return { to, bytes }
}
