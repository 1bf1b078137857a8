/** Every bound of hydrant, with its unit and its reason. Bytes unless the name says otherwise. */
const KiB = 1024
const MiB = 1024 * KiB

export const limits = {
  // Firehose API (firehose.md §1.3, §1.5, §1.11)
  recordBytes: 1_024_000, // 1,000 KiB, decoded
  putBatchRecords: 500,
  putBatchBytes: 4 * MiB, // decoded
  /** 4 MiB of data is 5.6 MiB of base64 plus keys. */
  httpBodyBytes: 8 * MiB,
  httpHeaderBytes: 32 * KiB,
  /** Bodies held at once by the front door, all connections: beyond it requests wait unread. */
  httpInFlightBytes: 64 * MiB,
  httpConnections: 10_000 as number,
  /** A client must send its whole request in this time. */
  httpRequestMs: 30_000,
  httpHeadersMs: 10_000,
  httpIdleMs: 65_000,
  /** After its last answer a connection waits so long for the client to close: what the client still sends must not reset the answer. */
  httpEndMs: 2_000,
  /** Fields of a head, as many as nghttp2 takes. */
  httpHeaderFields: 128,
  /** Sequences of names of fields that were seen, kept for the next request, and how long one of them may be. */
  httpKnownHeads: 256,
  httpKnownHeadBytes: 4 * KiB,
  /** The size line of a chunk with its extensions. */
  httpChunkLineBytes: 4 * KiB,
  /** Bodies are read into memory that is used again: blocks of this size and its doubles, this much kept for later, and this when idle. */
  httpBlockBytes: 4 * KiB,
  httpPoolBytes: 16 * MiB,
  httpIdlePoolBytes: 2 * MiB,
  /** How often the files of the certificate are read again, and how large each may be. */
  certificateWatchMs: 60_000,
  certificateBytes: MiB,
  signatureSkewMs: 5 * 60_000,
  /** Body bytes of a refused request that are read and thrown away, so that the client sees the answer and not a reset. */
  httpDiscardBytes: 32 * MiB,
  /** A body must come at least so fast, after the first seconds: a slow client must not hold bytes in flight. */
  httpBodyBytesPerSecond: 64 * KiB,
  httpBodyGraceMs: 5_000,
  /** A request that the log has not answered after so long is answered InternalFailure. */
  httpHandlerMs: 60_000,
  /** Derived signing keys, one for each key, day, region and service. */
  signingKeys: 256,
  /** Cached answers to "may this key do that on this stream", per key. */
  authDecisions: 4_096,
  /** Seen signatures, when the replay cache is on, in each of its two halves of 10 min: 1,600 requests a second. */
  replaySignatures: 1_000_000,
  tagsPerStream: 50,
  deliveryStreams: 5_000,

  // embedded log (architecture §4)
  logRowBytes: 4 * MiB,
  /** So long a transaction waits at most for writers that are likely to put again. */
  logLingerMs: 2,
  /** Appends waiting for the disk, per stream: beyond it puts get a retriable error. */
  logPendingBytes: 64 * MiB,
  /** Address space of a stream at its opening; it grows by itself. 5,000 streams must fit into 47 bits. */
  /** Memory of rows that were read, kept for the next ones, all streams together. */
  logReadPoolBytes: 16 * MiB,
  /** Signals of appends that are listened to at once, per stream, before those that no append waits for are let go. */
  logWatchedSignals: 64,
  /** Memory of rows that were written, kept for the next ones, all streams together. */
  logRowPoolBytes: 8 * MiB,
  /** Bytes of rows that stay mapped after they were read or removed, per stream. */
  logReadMapBytes: 32 * MiB,
  logMapBytes: 256 * MiB,
  /** Pending bytes at which merging gains nothing more. */
  logFlushBytes: 256 * KiB,
  /** One transaction: what stands behind it waits for its flush. */
  logTransactionBytes: 16 * MiB,
  /** Removed by one transaction of a trim: bounds how long appends wait for it. */
  logTrimRows: 1_000,
  logTrimBytes: 64 * MiB,
  /** Room that each data file holds ready, so that opening and small commits work on a full disk. */
  logSlackBytes: 64 * KiB,
  /** Streams opened at once at start. */
  logOpenAtOnce: 16,
  /** Names of topics and groups. */
  logNameChars: 400,
  /** LMDB takes 1,978. */
  metaKeyBytes: 1_900,
  /** How often retention by age looks at a stream. */
  retentionEveryMs: 60_000,
  /** How old the answer of statfs may be while records are written, and while they are refused. */
  diskCheckMs: 250,
  diskRecheckMs: 1_000,
  freeDiskBytes: 1024 * MiB,
  shards: 10_000,

  // kafka (architecture §9)
  /** One record batch, as it is stored and decompressed: guards against lengths that are a lie and against decompression bombs. */
  kafkaBatchBytes: 64 * MiB,
  /** Records of one record batch: each takes 40 bytes of columns, however small it is. */
  kafkaBatchRecords: 2_000_000,
  /** Compressed batches from this size on go to the libuv pool: the way there costs less than a tenth of the work. */
  kafkaPoolBatchBytes: 32 * KiB,
  kafkaConnectMs: 5_000,
  /** A question without an effect: after so long another broker is asked. */
  kafkaAskMs: 5_000,
  /** For what a broker does at once; what it may hold back (a fetch, a join) says its own time. */
  kafkaRequestMs: 30_000,
  /** Of one connection: what an idempotent producer may have under way on a partition. */
  kafkaInFlight: 5,
  /** Requests of one connection that wait for their turn. */
  kafkaQueued: 1_000,
  /** A broker takes no request above this (socket.request.max.bytes), so no batch it holds is larger. */
  kafkaAnswerBytes: 100 * MiB,
  /** What is read before the size of an answer is known; larger answers are read straight into their own memory. */
  kafkaReadBytes: 16 * KiB,
  kafkaBackoffMs: 50,
  kafkaMaxBackoffMs: 5_000,
  /** A connection whose session ends is authenticated again at this share of its life. */
  kafkaSessionShare: 0.8,

  // pipelines (exactly-once.md)
  memoryBytes: 256 * MiB,
  /** One piece: what a lane reads, copies and compresses at once. */
  pieceBytes: MiB,
  /** Output that zlib and zstd gather before they hand it over; freed as soon as it was copied. */
  compressorChunkBytes: 64 * KiB,
  /** Memory of bodies that is kept for the next ones when there are none. With bodies there is at most memoryBytes of both. */
  idleBodyBytes: 16 * MiB,
  openCutsPerLane: 16,
  noteChars: 3_500, // of Kafka's 4,096
  readWaitMs: 1_000,
  /** De-aggregated records of one record; above it the record passes unsplit (firehose.md §6.4). */
  subRecords: 500,
  /** Decompressed bytes of one record: zip-bomb guard. */
  decompressedRecordBytes: 64 * MiB,
  watchMs: 60_000,
  checkpointMs: 600_000,
  drainMs: 30_000,

  // delivery
  retryBaseMs: 100,
  retryMaxMs: 30_000,
  /** A Retry-After beyond it is not obeyed: a proxy's maintenance page must not stop a target for a day. */
  retryAfterMs: 300_000,
  attemptMs: 60_000,
  /** Requests a second to a target that refuses everything, all lanes together. */
  brokenTargetPerSecond: 10,
  sinkConcurrency: 8,
  multipartBytes: 8 * MiB, // part size; bodies above one part are uploaded in parts
  evaluatedPrefixChars: 512,
  prefixChars: 1024,

  // configuration and operator's port
  configBytes: 4 * MiB,
  /** A file that a `${file:…}` reference names. */
  configSecretBytes: 64 * KiB,
  adminBodyBytes: 64 * KiB,
  adminConnections: 100,
  adminRequestMs: 10_000,
  /** Values of one metric label; a later one is counted under `other`. */
  metricLabelValues: 2_000,
} as const

export type Limits = typeof limits

function holds(what: string, ok: boolean): void {
  if (!ok) throw new Error(`limits.ts: ${what} does not hold`)
}
holds('largest record ≤ log row', limits.recordBytes <= limits.logRowBytes)
holds('put batch ≤ log row', limits.putBatchBytes <= limits.logRowBytes)
holds('largest log row ≤ transaction of the log', limits.logRowBytes <= limits.logTransactionBytes)
holds('transaction of the log ≤ records waiting for the disk', limits.logTransactionBytes <= limits.logPendingBytes)
holds('largest log row ≤ Kafka batch', limits.logRowBytes <= limits.kafkaBatchBytes)
holds('base64 of a put batch ≤ HTTP body', (limits.putBatchBytes * 4) / 3 + limits.putBatchRecords * 16 < limits.httpBodyBytes)
holds('HTTP body ≤ bodies in flight', limits.httpBodyBytes <= limits.httpInFlightBytes)
