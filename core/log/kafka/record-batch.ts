/**
 * Kafka's record batch, message format v2 (KIP-98; org.apache.kafka.common.record.DefaultRecordBatch). Big-endian:
 *
 *     0  i64 base offset     8 i32 length of what follows   12 i32 leader epoch   16 i8 magic = 2   17 u32 CRC-32C from 21 on
 *    21  i16 attributes     23 i32 last offset delta        27 i64 base timestamp 35 i64 max timestamp
 *    43  i64 producer id    51 i16 producer epoch           53 i32 base sequence  57 i32 count     61 records, compressed or not
 *
 *    a record: varint length, i8 attributes, varlong timestamp delta, varint offset delta, varint key length (-1: null), key,
 *    varint value length (-1: null), value, varint count of headers, a header: varint length, name, varint length (-1: null), value
 */
export const AT = {
  baseOffset: 0,
  length: 8,
  leaderEpoch: 12,
  magic: 16,
  crc: 17,
  attributes: 21,
  lastOffsetDelta: 23,
  baseTimestamp: 27,
  maxTimestamp: 35,
  producerId: 43,
  producerEpoch: 51,
  baseSequence: 53,
  count: 57,
  records: 61,
} as const
export const MAGIC = 2
export const CODEC_MASK = 7
export const LOG_APPEND_TIME = 8
export const TRANSACTIONAL = 16
export const CONTROL = 32
export const CODECS = ['none', 'gzip', 'snappy', 'lz4', 'zstd'] as const
export type Codec = (typeof CODECS)[number]

/** A record with nothing in it: its length, attributes, timestamp, offset, key, value and headers, a byte each. */
export const SMALLEST_RECORD = 7

export type RecordBatchProblem = 'checksum' | 'malformed' | 'unsupported' | 'too-large'
/**
 * A record batch that cannot be read: damaged on its way or in the log, written by a broken producer, or of a kind that is not read.
 * Never skipped. What was damaged on its way is well when it is fetched again; the others need the operator.
 */
export class RecordBatchError extends Error {
  readonly problem: RecordBatchProblem
  readonly topic: string
  readonly partition: number
  /** Where the batch says that it begins. */
  readonly offset: number
  constructor(
    problem: RecordBatchProblem,
    where: { readonly topic: string; readonly partition: number; readonly offset: number },
    what: string,
    cause?: unknown,
  ) {
    super(
      `reading topic ${where.topic} partition ${where.partition}: the record batch at offset ${where.offset}: ${what}; nothing was skipped`,
      { cause },
    )
    this.name = 'RecordBatchError'
    this.problem = problem
    this.topic = where.topic
    this.partition = where.partition
    this.offset = where.offset
  }
}

/** Exact below 2^53; beyond, the nearest number. */
export function readI64(view: DataView, at: number): number {
  return view.getInt32(at) * 0x1_0000_0000 + view.getUint32(at + 4)
}
