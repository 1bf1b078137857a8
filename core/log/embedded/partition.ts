/** What is known of one partition in memory: loaded when the topic is opened, moved only by durable writes. */
import { epochKey, partitionKey, parseRowKey, rowBound, type RowKey } from './keys.ts'
import type { Env, Op } from './env.ts'
import { CorruptRowError } from './frames.ts'

const MAX_OFFSET = 2 ** 48 - 1
const LOG_START_BYTES = 16

export class Partition {
  readonly index: number
  logStart = 0
  /** The durable watermark: the next offset to be given, and the first that no reader sees. */
  stable = 0
  lastTimeMs = 0
  /** Where each boot of the folder that wrote here starts, rising. */
  readonly epochs: { epoch: number; start: number }[] = []
  /** The last trim: one at a time. */
  trimming: Promise<void> = Promise.resolve()
  readonly #waiters = new Set<() => void>()

  constructor(index: number) {
    this.index = index
  }

  static load(env: Env, index: number): Partition {
    const p = new Partition(index)
    const state = env.get(partitionKey(index))
    if (state) {
      const view = new DataView(state.buffer, state.byteOffset, state.length)
      p.logStart = view.getFloat64(0, true)
      p.lastTimeMs = view.getFloat64(8, true)
    }
    for (const key of env.keys({ start: epochKey(index, 0), end: epochKey(index + 1, 0) })) {
      const start = env.get(key)
      if (!start) throw new CorruptRowError(env.dir, `the leader epoch of partition ${index} vanished while it was read`)
      const epoch = Buffer.from(key.buffer, key.byteOffset, key.length).readUInt32BE(5)
      p.epochs.push({ epoch, start: new DataView(start.buffer, start.byteOffset).getFloat64(0, true) })
    }
    const last = p.floor(env, MAX_OFFSET)
    p.stable = Math.max(p.logStart, last === null ? 0 : last.baseOffset + last.count)
    if (last !== null) p.lastTimeMs = Math.max(p.lastTimeMs, last.appendTimeMs)
    return p
  }

  /** The last row whose base offset is ≤ `offset`. */
  floor(env: Env, offset: number): RowKey | null {
    const start = rowBound(this.index, Math.min(offset + 1, MAX_OFFSET))
    for (const key of env.keys({ start, end: rowBound(this.index, 0), reverse: true, limit: 1 })) return parseRowKey(key)
    // the end of a reverse range is exclusive, but no row key is as short as a bound: row 0 is found too
    return null
  }
  /** Rows whose base offset is ≥ `from`, in order. */
  *rows(env: Env, from: number): Generator<RowKey> {
    const end = rowBound(this.index, MAX_OFFSET)
    for (const key of env.keys({ start: rowBound(this.index, from), end })) yield parseRowKey(key)
  }

  /** The write that moves logStart. */
  startOp(logStart: number): Op {
    const value = new Uint8Array(LOG_START_BYTES)
    const view = new DataView(value.buffer)
    view.setFloat64(0, logStart, true)
    view.setFloat64(8, this.lastTimeMs, true)
    return { key: partitionKey(this.index), value }
  }
  /** The write that says where an epoch starts, if this row is its first. */
  epochOp(epoch: number, start: number): Op | null {
    if (this.epochs.at(-1)?.epoch === epoch) return null
    const value = new Uint8Array(8)
    new DataView(value.buffer).setFloat64(0, start, true)
    return { key: epochKey(this.index, epoch), value }
  }

  /** Called once rows [stable, next) are durable. */
  advance(next: number, timeMs: number, epoch: number): void {
    if (this.epochs.at(-1)?.epoch !== epoch) this.epochs.push({ epoch, start: this.stable })
    this.stable = next
    this.lastTimeMs = timeMs
    this.wake()
  }

  /** Every boot count of the folder is an epoch; one without records is empty and ends where the next one starts. */
  endOfEpoch(asked: number, boot: number): { leaderEpoch: number; endOffset: number } {
    const leaderEpoch = Math.min(asked, boot)
    const next = this.epochs.find((e) => e.epoch > leaderEpoch)
    return { leaderEpoch, endOffset: next?.start ?? this.stable }
  }

  /** Calls once when something changed: rows became durable, or the topic went away. */
  onChange(fn: () => void): () => void {
    this.#waiters.add(fn)
    return () => void this.#waiters.delete(fn)
  }
  wake(): void {
    const all = [...this.#waiters]
    this.#waiters.clear()
    for (const fn of all) fn()
  }
}
