/** As keyEnd or valueEnd: a null key, a null value (tombstone). */
export const NONE = 0xffff_ffff

/**
 * Records of one shard, back to back in one buffer. Positions are numbers (safe integers), times are
 * milliseconds since the epoch. A view of one record is made only where somebody asks for it.
 */
export interface RecordBatch {
  readonly count: number
  readonly bytes: Uint8Array
  /** Key of record i = bytes[keyStart[i] .. keyEnd[i]); keyEnd NONE = null. */
  readonly keyStart: Uint32Array
  readonly keyEnd: Uint32Array
  readonly valueStart: Uint32Array
  readonly valueEnd: Uint32Array
  /** Kafka v2 header encoding, its count in front; an empty range = none, absent = no headers in the batch. */
  readonly headerStart?: Uint32Array
  readonly headerEnd?: Uint32Array
  /** Rising; gaps are legal. */
  readonly position: Float64Array
  /** The log's timestamp of the record. */
  readonly arrivalMs: Float64Array
  /** CRC-32 (IEEE) of all of `bytes`, where the log has just checked it; a slice of the batch has none. */
  readonly crc32?: number
  /** Gives pooled bytes back; called once, by the last holder. */
  release(): void
}

/** After the first stage: records may have been split, dropped or grouped; each still knows where it came from. */
export interface WorkBatch extends RecordBatch {
  /** The batch as it entered: backups and error objects read this. */
  readonly source: RecordBatch
  /** Output i came from source record origin[i]; position, arrival and key are copied from it. Not falling. */
  readonly origin: Uint32Array
  /** 0, 1, 2 … within one position: (position, sub) is unique and deterministic. */
  readonly sub: Uint32Array
  /** Dynamic partitioning: index into groups. */
  readonly group?: Uint32Array
  readonly groups?: readonly Readonly<Record<string, string>>[]
}

export type RejectionStage = 'deaggregate' | 'decompress' | 'transform' | 'partition' | 'convert' | 'deliver'

/** One record that cannot be delivered: it is written raw to the rejects object, under the same cut. */
export interface Rejection {
  /** Index into the source batch of the WorkBatch that the stage was given. */
  readonly origin: number
  readonly sub: number
  readonly stage: RejectionStage
  readonly code: string
  readonly message: string
  readonly attempts: number
  /** A limit (deadline, memory, dead child) said no: not a function of the record, so a decision (exactly-once row 1). */
  readonly byLimit?: boolean
}

/** Slices the records [from, to) of a batch without copying bytes. The slice's release is the caller's `release`. */
export function sliceBatch(b: RecordBatch, from: number, to: number, release: () => void = () => {}): RecordBatch {
  if (from < 0 || to > b.count || from > to) throw new RangeError(`slicing a batch of ${b.count} records: [${from}, ${to})`)
  return {
    count: to - from,
    bytes: b.bytes,
    keyStart: b.keyStart.subarray(from, to),
    keyEnd: b.keyEnd.subarray(from, to),
    valueStart: b.valueStart.subarray(from, to),
    valueEnd: b.valueEnd.subarray(from, to),
    ...(b.headerStart && b.headerEnd ? { headerStart: b.headerStart.subarray(from, to), headerEnd: b.headerEnd.subarray(from, to) } : {}),
    position: b.position.subarray(from, to),
    arrivalMs: b.arrivalMs.subarray(from, to),
    release,
  }
}

/** 0, 1, 2 … and 0, 0, 0 …, shared by every batch that no stage has changed: nobody writes to a batch's columns. */
let counting = new Uint32Array(0)
let zeros = new Uint32Array(0)
function grow(count: number): void {
  if (counting.length >= count) return
  const size = 2 ** Math.ceil(Math.log2(count))
  counting = Uint32Array.from({ length: size }, (_, i) => i)
  zeros = new Uint32Array(size)
}

/** A WorkBatch that is its source unchanged (no stage has split anything). Shares every array; release goes to the source. */
export function asWorkBatch(source: RecordBatch): WorkBatch {
  const { count } = source
  grow(count)
  return { ...source, source, origin: counting.subarray(0, count), sub: zeros.subarray(0, count), release: () => source.release() }
}

/** Builds a batch from separate values: for tests, control paths and single puts, never for a hot path. */
export function batchOf(
  records: readonly { value: Uint8Array | null; key?: Uint8Array | null; position?: number; arrivalMs?: number }[],
): RecordBatch {
  const n = records.length
  const total = records.reduce((a, r) => a + (r.value?.length ?? 0) + (r.key?.length ?? 0), 0)
  const bytes = new Uint8Array(total)
  const b = {
    count: n,
    bytes,
    keyStart: new Uint32Array(n),
    keyEnd: new Uint32Array(n),
    valueStart: new Uint32Array(n),
    valueEnd: new Uint32Array(n),
    position: new Float64Array(n),
    arrivalMs: new Float64Array(n),
    release: () => {},
  }
  let at = 0
  for (const [i, r] of records.entries()) {
    b.keyStart[i] = at
    if (r.key) bytes.set(r.key, at)
    b.keyEnd[i] = r.key ? (at += r.key.length) : NONE
    b.valueStart[i] = at
    if (r.value) bytes.set(r.value, at)
    b.valueEnd[i] = r.value ? (at += r.value.length) : NONE
    b.position[i] = r.position ?? i
    b.arrivalMs[i] = r.arrivalMs ?? 0
  }
  return b
}

/** The value of record i as a view, or null. */
export function valueOf(b: RecordBatch, i: number): Uint8Array | null {
  const end = b.valueEnd[i] ?? NONE
  return end === NONE ? null : b.bytes.subarray(b.valueStart[i] ?? 0, end)
}
