import { sliceBatch, type RecordBatch } from '../sdk/batch.ts'
import { limits } from '../limits.ts'
import type { CutReason } from '../telemetry/events.ts'
import type { LaneBook, OpenCut } from './book.ts'
import { LaneStoppedError, type LaneContext } from './context.ts'
import { CutEncoder, type Encoded } from './encode.ts'
import type { Flow } from './flow.ts'
import { invariant } from './invariants.ts'
import { tokenOf } from './names.ts'
import type { BufferSpec } from './spec.ts'
import { noteHasRoom, type Runs } from './note.ts'

/** Reads a lane forward; keeps the rest of a batch that a cut has split. */
export class LaneReader {
  readonly #x: LaneContext
  #batches: { batch: RecordBatch; from: number; epoch: number }[] = []
  /** Where the next record that take() gives stands, or later. */
  #at: number
  #next: number
  head = 0

  constructor(x: LaneContext, at: number) {
    this.#x = x
    this.#at = at
    this.#next = at
  }
  /** Everything below is given out. */
  get position(): number {
    return this.#at
  }
  /** Gives the next records, at most `maxBytes` of values but at least one; null when the wait ends first. The caller releases them. */
  async take(maxBytes: number, maxWaitMs: number, signal: AbortSignal): Promise<{ batch: RecordBatch; epoch: number } | null> {
    let first = this.#batches[0]
    if (!first) {
      const r = await this.#x.lane.read(this.#next, { maxBytes: limits.pieceBytes, maxWaitMs, signal })
      this.head = r.head
      for (const batch of r.batches) {
        const last = batch.position[batch.count - 1]
        invariant('I11', last === undefined || last < r.head, () => `position ${last} was read, the log is stable to ${r.head}`)
        if (batch.count > 0) this.#batches.push({ batch, from: 0, epoch: r.leaderEpoch })
      }
      this.#next = r.next
      if (this.#batches.length === 0) this.#at = r.next
      first = this.#batches[0]
      if (!first) return null
    }
    const { batch, from, epoch } = first
    const to = fits(batch, from, maxBytes)
    first.from = to
    const done = to === batch.count
    if (done) this.#batches.shift()
    this.#at = done ? (this.#batches[0]?.batch.position[0] ?? this.#next) : batch.position[to]!
    if (from === 0 && done) return { batch, epoch }
    return { batch: sliceBatch(batch, from, to, done ? () => batch.release() : undefined), epoch }
  }
  drop(): void {
    for (const { batch } of this.#batches) batch.release()
    this.#batches = []
  }
}

/** How far records from `from` fit into maxBytes of values; at least one. */
function fits(b: RecordBatch, from: number, maxBytes: number): number {
  let bytes = 0
  let i = from
  for (; i < b.count; i++) {
    const end = b.valueEnd[i]!
    const n = end === 0xffff_ffff ? 0 : end - b.valueStart[i]!
    if (bytes + n > maxBytes && i > from) break
    bytes += n
  }
  return i
}

export interface Filled {
  readonly encoded: Encoded
  readonly flow: Flow
  readonly reason: CutReason
}

function encoderFor(x: LaneContext, book: LaneBook, flow: Flow, start: number, o: { forced: Runs; replay: boolean }): CutEncoder {
  const { lane, pipelineId, signal } = x
  const entryName = tokenOf({ pipelineId, lineage: book.lineage, topicId: lane.topicId, shard: lane.shard, start }, '', 'entry')
  return new CutEncoder(start, flow, { ...o, entryName, signal, writer: () => x.writer() })
}

/**
 * Step 4: read, transform and encode until size, interval, note room, shutdown or the end of a draining stream ends the cut.
 * null: the lane is to end and nothing is in hand.
 */
export async function fill(x: LaneContext, book: LaneBook, reader: LaneReader): Promise<Filled | null> {
  const { clock } = x.host
  const stop = AbortSignal.any([x.signal, x.drain])
  const start = book.end
  let encoder: CutEncoder | null = null
  let buffer: BufferSpec | null = null
  let deadline = Infinity
  const ended = (): CutReason | null => {
    if (!encoder || !buffer) return null
    if (encoder.bytes >= buffer.sizeBytes) return 'size'
    if (clock.monotonic() >= deadline) return 'interval'
    if (encoder.byLimit.length > 0 && !book.hasRoom(encoder.byLimit)) return 'note'
    const until = x.until()
    return until !== null && reader.position >= until ? 'shutdown' : null
  }
  const end = async (e: CutEncoder, reason: CutReason): Promise<Filled> => {
    const encoded = await e.finish(reader.position)
    x.progress({ fillMs: null })
    return { encoded, flow: e.flow, reason }
  }
  try {
    for (;;) {
      x.signal.throwIfAborted()
      const reason = ended()
      if (reason && encoder) return await end(encoder, reason)
      const until = x.until()
      if (until !== null && reader.position >= until) return null
      // a draining lane still takes what is there into its last cut, and waits for nothing
      const draining = x.drain.aborted
      const wait = draining ? 0 : Math.min(limits.readWaitMs, Math.max(0, deadline - clock.monotonic()))
      const room = buffer && encoder ? buffer.sizeBytes - encoder.bytes : limits.pieceBytes
      const got = await takeUnlessStopped(reader, Math.min(room, limits.pieceBytes), wait, draining ? x.signal : stop, x)
      x.progress({ head: reader.head })
      if (!got && draining) return encoder ? await end(encoder, 'shutdown') : null
      if (!got) continue
      if (!encoder) {
        const now = await x.current()
        buffer = now.buffer
        encoder = encoderFor(x, book, now.flow, start, { forced: [], replay: false })
        deadline = clock.monotonic() + buffer.intervalMs
      }
      await encoder.add(got.batch, got.epoch)
      if (encoder.byLimit.length > 0) storm(x, book, encoder)
      x.progress({ fillMs: encoder.oldestArrivalMs })
    }
  } catch (e) {
    await encoder?.abort()
    throw e
  }
}

/** More decisions than a note can carry even alone: a limit rejects nearly everything, an operator must look. */
function storm(x: LaneContext, book: LaneBook, encoder: CutEncoder): void {
  const { pipelineId, lineage, topicId, position } = book
  if (noteHasRoom({ pipelineId, lineage, topicId, position, counter: 0, cuts: [] }, encoder.byLimit)) return
  throw new LaneStoppedError(
    'RejectionStorm',
    `${x.pipeline} ${x.lane.shard}: limits reject so many records that the decisions do not fit a note`,
  )
}

async function takeUnlessStopped(
  reader: LaneReader,
  maxBytes: number,
  wait: number,
  stop: AbortSignal,
  x: LaneContext,
): Promise<{ batch: RecordBatch; epoch: number } | null> {
  try {
    return await reader.take(maxBytes, wait, stop)
  } catch (e) {
    if (x.signal.aborted) throw x.signal.reason
    if (stop !== x.signal && x.drain.aborted) return null
    throw e
  }
}

/**
 * Step 6 of recovery: the recorded cut again, streamed from the log under its recorded spec and its decisions. The records must
 * be the ones that were recorded (I6, row 8).
 */
export async function replay(x: LaneContext, book: LaneBook, cut: OpenCut): Promise<Filled> {
  const flow = await x.flow(cut.specHash)
  const encoded = await encodeRange(x, book, flow, cut, cut.byLimit)
  if (encoded.records !== cut.records || encoded.digest !== cut.digest) {
    await encoded.release()
    throw new LaneStoppedError(
      'RecordsChanged',
      `${x.pipeline} ${x.lane.shard}: the cut [${cut.start}, ${cut.end}) was recorded with ${cut.records} records (digest ${cut.digest}), ` +
        `the log now has ${encoded.records} there (digest ${encoded.digest})`,
    )
  }
  if (encoded.newlyLimited) {
    await encoded.release()
    throw new LaneStoppedError(
      'NewLimit',
      `${x.pipeline} ${x.lane.shard}: a limit rejected records of the recorded cut [${cut.start}, ${cut.end}) that it had let pass`,
    )
  }
  return { encoded, flow, reason: 'recovered' }
}

/** Encodes [start, end) once more; `from`: the records before it are gone (on_gap: skip). */
export async function encodeRange(
  x: LaneContext,
  book: LaneBook,
  flow: Flow,
  r: { start: number; end: number },
  forced: Runs,
  from: number = r.start,
): Promise<Encoded> {
  const encoder = encoderFor(x, book, flow, r.start, { forced, replay: true })
  const reader = new LaneReader(x, from)
  try {
    while (reader.position < r.end) {
      const got = await reader.take(limits.pieceBytes, 0, x.signal)
      if (!got) {
        if (reader.position < r.end)
          throw new LaneStoppedError(
            'LogTooShort',
            `${x.pipeline} ${x.lane.shard}: the log has no records at ${reader.position} of [${r.start}, ${r.end})`,
          )
        break
      }
      await encoder.add(within(got.batch, r.end), got.epoch)
    }
    return await encoder.finish(r.end)
  } catch (e) {
    await encoder.abort()
    throw e
  } finally {
    reader.drop()
  }
}

function within(b: RecordBatch, end: number): RecordBatch {
  if ((b.position[b.count - 1] ?? 0) < end) return b
  let n = 0
  while (n < b.count && b.position[n]! < end) n++
  return sliceBatch(b, 0, n, () => b.release())
}
