/** Reads the records of a fetch answer's partition: several record batches, the last of which may be cut off. */
import type { RecordBatch } from '../../sdk/batch.ts'
import type { BufferPool } from '../../sdk/pool.ts'
import { limits } from '../../limits.ts'
import type { Crc32c } from './crc32c.ts'
import { inflate, TooLargeError, type Loose } from './record-batch-codecs.ts'
import {
  AT,
  CODEC_MASK,
  CODECS,
  CONTROL,
  LOG_APPEND_TIME,
  MAGIC,
  readI64,
  RecordBatchError,
  SMALLEST_RECORD,
  TRANSACTIONAL,
  type Codec,
  type RecordBatchProblem,
} from './record-batch.ts'
import { Columns, readRecords, Varints, type RecordsHead } from './record-columns.ts'

/** Entry of the fetch answer's aborted_transactions. */
export interface AbortedTransaction {
  readonly producerId: number
  readonly firstOffset: number
}
/** Records of one partition in an answer to a read_committed fetch. */
export interface RecordSet {
  readonly topic: string
  readonly partition: number
  /** Unchanged until `release`: batches that are not compressed are views of it. */
  readonly bytes: Uint8Array
  /** What was asked for: batches may begin before it, records before it are left out. */
  readonly from: number
  /** In any order. */
  readonly aborted: readonly AbortedTransaction[]
  /** Called once: the set was closed and every batch that is a view of it released. */
  release(): void
}
export interface Part {
  /** null: the set holds no more records. */
  readonly batch: RecordBatch | null
  /** Where to go on: behind the batch's last offset and whatever was filtered, also when batch is null. */
  readonly next: number
  /** Of the batch's records: a part holds those of one epoch. With no batch that of the last one seen, -1 with none. */
  readonly leaderEpoch: number
}

interface Head extends RecordsHead {
  readonly at: number
  readonly end: number
  readonly leaderEpoch: number
  readonly codec: Codec
  readonly attributes: number
  readonly producerId: number
}
/** Batches of the set that become one RecordBatch. */
interface Run {
  readonly heads: Head[]
  readonly parts: Loose[]
  /** Inflated, or as they stand. */
  bytes: number
  count: number
  readonly compressed: boolean
  readonly leaderEpoch: number
}

const ABORT = 0

/**
 * Call read() until `done`, one call at a time; each answers about so many bytes of records. Rejects with RecordBatchError; after that
 * nothing more is read of this set. Close it in any case.
 */
export class RecordSetDecoder {
  /** How long the batch is that the set cuts off; 0: none. Where not even one batch is whole, fetch at least so much. */
  cutBytes = 0
  readonly #set: RecordSet
  readonly #view: DataView
  readonly #crc32c: Crc32c
  readonly #memory: BufferPool
  /** By first offset; those before #abortedAt have begun. */
  readonly #aborted: readonly AbortedTransaction[]
  #abortedAt = 0
  readonly #aborting = new Set<number>()
  #at = 0
  #next: number
  #leaderEpoch = -1
  /** The head that stands at #at, once it was checked. */
  #peeked: Head | null = null
  #holders = 1
  #closed = false

  constructor(set: RecordSet, o: { readonly crc32c: Crc32c; readonly memory: BufferPool }) {
    this.#set = set
    this.#view = new DataView(set.bytes.buffer, set.bytes.byteOffset, set.bytes.length)
    this.#crc32c = o.crc32c
    this.#memory = o.memory
    this.#aborted = set.aborted.length < 2 ? set.aborted : set.aborted.toSorted((a, b) => a.firstOffset - b.firstOffset)
    this.#next = set.from
  }

  /** Nothing more will come of it. */
  get done(): boolean {
    if (this.#closed) return true
    try {
      return this.#peek() === null
    } catch {
      return false // read() tells
    }
  }

  /** The next records, of batches that together have at least `maxBytes` where there are so many: never less than one batch. */
  async read(maxBytes: number): Promise<Part> {
    if (this.#closed) throw new Error(`reading topic ${this.#set.topic} partition ${this.#set.partition}: the record set is closed`)
    try {
      for (let run = await this.#gather(maxBytes); run !== null; run = await this.#gather(maxBytes)) {
        const batch = this.#columns(run)
        if (batch !== null) return { batch, next: this.#next, leaderEpoch: this.#leaderEpoch }
      }
      return { batch: null, next: this.#next, leaderEpoch: this.#leaderEpoch }
    } catch (e) {
      this.close()
      throw e
    }
  }

  /** Batches that were read stay good. */
  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.#letGo()
  }

  #letGo(): void {
    if (--this.#holders === 0) this.#set.release()
  }

  /** Walks over what holds no records for us, and over the batches that become the next part. */
  async #gather(maxBytes: number): Promise<Run | null> {
    let run: Run | null = null
    try {
      for (;;) {
        if (run !== null && run.bytes >= maxBytes) return run
        const head = this.#peek()
        // a position and its epoch go together: what a part walks over is of one epoch, filtered or not
        if (head === null || (run !== null && run.leaderEpoch !== head.leaderEpoch)) return run
        if (!this.#filtered(head)) {
          const compressed = head.codec !== 'none'
          if (run !== null && run.compressed !== compressed) return run
          const part = compressed ? await this.#inflate(head) : null
          const bytes: number = part?.bytes.length ?? head.end - head.at - AT.records
          run ??= { heads: [], parts: [], bytes: 0, count: 0, compressed, leaderEpoch: head.leaderEpoch }
          if (part !== null) run.parts.push(part)
          run.heads.push(head)
          run.bytes += bytes
          run.count += head.count
        }
        this.#pass(head)
      }
    } catch (e) {
      // what was read well is handed out first: the next read meets the error again
      if (run === null) throw e
      return run
    }
  }

  #pass(head: Head): void {
    this.#at = head.end
    this.#peeked = null
    this.#next = Math.max(this.#next, head.baseOffset + head.lastOffsetDelta + 1)
    this.#leaderEpoch = head.leaderEpoch
  }

  /** No record of the batch is for us: it lies below the asked offset, is empty (compacted), a control batch, or was aborted. */
  #filtered(head: Head): boolean {
    const last = head.baseOffset + head.lastOffsetDelta
    const { producerId } = head
    if (producerId >= 0) {
      for (let a = this.#aborted[this.#abortedAt]; a !== undefined && a.firstOffset <= last; a = this.#aborted[++this.#abortedAt]) {
        this.#aborting.add(a.producerId)
      }
    }
    if ((head.attributes & CONTROL) !== 0) {
      if (this.#marker(head) === ABORT) this.#aborting.delete(producerId)
      return true
    }
    if ((head.attributes & TRANSACTIONAL) !== 0 && this.#aborting.has(producerId)) return true
    return head.count === 0 || last < this.#next
  }

  /** Type of a control record (ControlRecordType: its key is i16 version, i16 type); null: none is left of it. */
  #marker(head: Head): number | null {
    if (head.count === 0) return null
    if (head.codec !== 'none' || head.count > 1) {
      throw this.#bad(
        'unsupported',
        head,
        `a control batch of ${head.count} records, compression ${head.codec}: one is read, not compressed`,
      )
    }
    const v = new Varints(this.#set.bytes)
    const one = new Columns(new ArrayBuffer(Columns.bytesEach), 1)
    const problem = readRecords(v, { start: head.at + AT.records, end: head.end }, head, head.baseOffset, one)
    const [start = 0] = one.keyStart
    const [end = 0] = one.keyEnd
    if (problem !== null || end - start < 4 || end > head.end)
      throw this.#bad('malformed', head, problem ?? 'a control record without a type')
    return this.#view.getInt16(start + 2)
  }

  async #inflate(head: Head): Promise<Loose> {
    try {
      const part = await inflate(head.codec, this.#set.bytes.subarray(head.at + AT.records, head.end), this.#memory)
      const { length } = part.bytes
      if (head.count <= length / SMALLEST_RECORD) return part
      part.free()
      throw new Error(`${head.count} records cannot stand in ${length} bytes`)
    } catch (e) {
      const what = e instanceof Error ? e.message : String(e)
      throw this.#bad(e instanceof TooLargeError ? 'too-large' : 'malformed', head, `inflating ${head.codec}: ${what}`, e)
    }
  }

  /** Makes the run's batch: columns in memory of the pool, and behind them the bytes, where they were compressed. */
  #columns(run: Run): RecordBatch | null {
    const tables = run.count * Columns.bytesEach
    const buffer = this.#memory.take(tables + (run.compressed ? run.bytes : 0))
    try {
      const bytes = run.compressed ? new Uint8Array(buffer, tables, run.bytes) : this.#set.bytes
      let at = 0
      const columns = new Columns(buffer, run.count)
      const v = new Varints(bytes)
      for (const [i, head] of run.heads.entries()) {
        let span = { start: head.at + AT.records, end: head.end }
        const part = run.parts[i]
        if (part !== undefined) {
          bytes.set(part.bytes, at)
          span = { start: at, end: (at += part.bytes.length) }
        }
        const problem = readRecords(v, span, head, this.#set.from, columns)
        if (problem !== null) throw this.#bad('malformed', head, problem)
      }
      if (columns.rows === 0) this.#memory.give(buffer)
      return columns.rows === 0 ? null : this.#batch(columns, bytes, buffer, run)
    } catch (e) {
      this.#memory.give(buffer)
      throw e
    } finally {
      for (const part of run.parts) part.free()
    }
  }

  #batch(c: Columns, bytes: Uint8Array, buffer: ArrayBuffer, run: Run): RecordBatch {
    const { rows } = c
    if (!run.compressed) this.#holders++
    let held = true
    return {
      count: rows,
      bytes,
      keyStart: c.keyStart.subarray(0, rows),
      keyEnd: c.keyEnd.subarray(0, rows),
      valueStart: c.valueStart.subarray(0, rows),
      valueEnd: c.valueEnd.subarray(0, rows),
      ...(c.headers ? { headerStart: c.headerStart.subarray(0, rows), headerEnd: c.headerEnd.subarray(0, rows) } : {}),
      position: c.position.subarray(0, rows),
      arrivalMs: c.arrivalMs.subarray(0, rows),
      release: () => {
        if (!held) return
        held = false
        this.#memory.give(buffer)
        if (!run.compressed) this.#letGo()
      },
    }
  }

  #bad(problem: RecordBatchProblem, head: { readonly baseOffset: number }, what: string, cause?: unknown): RecordBatchError {
    const { topic, partition } = this.#set
    return new RecordBatchError(problem, { topic, partition, offset: head.baseOffset }, what, cause)
  }

  /** The head at #at, checked with its batch's sum; null: no whole batch is left. */
  #peek(): Head | null {
    if (this.#peeked !== null) return this.#peeked
    const at = this.#at
    const view = this.#view
    const left = view.byteLength - at
    if (left <= AT.magic) return null
    const baseOffset = readI64(view, at + AT.baseOffset)
    const where = { baseOffset }
    const magic = view.getInt8(at + AT.magic)
    if (magic !== MAGIC) {
      const older =
        magic === 0 || magic === 1 ? ' (written before Kafka 0.11: rewrite the topic, with a broker of 3.x or by copying it)' : ''
      throw this.#bad('unsupported', where, `its message format is v${magic}, read is v2${older}`)
    }
    const length = view.getInt32(at + AT.length)
    const bytes = length + AT.leaderEpoch
    if (bytes < AT.records) throw this.#bad('malformed', where, `a length of ${length} is less than its head`)
    if (bytes > limits.kafkaBatchBytes) throw this.#bad('too-large', where, `${bytes} bytes, the limit is ${limits.kafkaBatchBytes}`)
    if (bytes > left) {
      this.cutBytes = bytes
      return null
    }
    const sum = this.#crc32c(this.#set.bytes.subarray(at + AT.attributes, at + bytes))
    const written = view.getUint32(at + AT.crc)
    if (sum !== written) throw this.#bad('checksum', where, `checksum ${sum}, written ${written}, over ${bytes} bytes`)
    return (this.#peeked = this.#head(at, at + bytes, baseOffset))
  }

  #head(at: number, end: number, baseOffset: number): Head {
    const view = this.#view
    const where = { baseOffset }
    const attributes = view.getInt16(at + AT.attributes)
    const lastOffsetDelta = view.getInt32(at + AT.lastOffsetDelta)
    const count = view.getInt32(at + AT.count)
    const codec = CODECS[attributes & CODEC_MASK]
    if (codec === undefined) throw this.#bad('unsupported', where, `compression ${attributes & CODEC_MASK} is not known`)
    if (baseOffset < 0 || lastOffsetDelta < 0 || !Number.isSafeInteger(baseOffset + lastOffsetDelta + 1)) {
      throw this.#bad('malformed', where, `its offsets go from ${baseOffset} to +${lastOffsetDelta}`)
    }
    // neither the base offset nor the epoch is under the sum
    if (at > 0 && baseOffset < this.#lastEnd) throw this.#bad('malformed', where, `the one before it ends at ${this.#lastEnd}`)
    if (count < 0 || count > lastOffsetDelta + 1 || (codec === 'none' && count > (end - at - AT.records) / SMALLEST_RECORD)) {
      throw this.#bad('malformed', where, `${count} records up to +${lastOffsetDelta} in ${end - at} bytes`)
    }
    if (count > limits.kafkaBatchRecords) {
      throw this.#bad('too-large', where, `${count} records, the limit is ${limits.kafkaBatchRecords}`)
    }
    this.#lastEnd = baseOffset + lastOffsetDelta + 1
    return {
      at,
      end,
      baseOffset,
      lastOffsetDelta,
      count,
      codec,
      attributes,
      leaderEpoch: view.getInt32(at + AT.leaderEpoch),
      producerId: readI64(view, at + AT.producerId),
      baseTimestampMs: readI64(view, at + AT.baseTimestamp),
      appendMs: (attributes & LOG_APPEND_TIME) === 0 ? null : readI64(view, at + AT.maxTimestamp),
    }
  }
  #lastEnd = 0
}
