/** kafkajs's own encoder and decoder of record batches, reached where it keeps them: the oracle that runs in every test run. */
import { createRequire } from 'node:module'
import { zstdCompressSync, zstdDecompressSync } from 'node:zlib'
import { lz4Compress, lz4Decompress } from '@platformatic/wasm-utils'
import type { Rec } from './support.ts'

interface KafkaRecord {
  readonly offset: string
  readonly timestamp: string
  readonly key: Buffer | null
  readonly value: Buffer | null
  readonly headers: Readonly<Record<string, Buffer | string | readonly (Buffer | string)[]>>
}
interface Codec {
  compress(encoder: { readonly buffer: Buffer }): Promise<Buffer>
  decompress(bytes: Buffer): Promise<Buffer>
}
const require = createRequire(import.meta.url)
const protocol = 'kafkajs/src/protocol'
const { RecordBatch } = require(`${protocol}/recordBatch/v0`) as {
  readonly RecordBatch: (o: Readonly<Record<string, unknown>>) => Promise<{ readonly buffer: Buffer }>
}
const Record0 = require(`${protocol}/recordBatch/record/v0`) as (o: Readonly<Record<string, unknown>>) => unknown
const decodeBatch = require(`${protocol}/recordBatch/v0/decoder`) as (d: object) => Promise<{ readonly records: readonly KafkaRecord[] }>
const Decoder = require(`${protocol}/decoder`) as new (bytes: Buffer) => object
const { Codecs } = require(`${protocol}/message/compression`) as { Codecs: Record<number, () => Codec> }
const native = createRequire(new URL('../../../core/package.json', import.meta.url))('snappy') as {
  compressSync(b: Buffer): Buffer
  uncompressSync(b: Buffer): Buffer
}

const codec =
  (compress: (b: Buffer) => Uint8Array, decompress: (b: Buffer) => Uint8Array): (() => Codec) =>
  () => ({
    compress: (encoder) => Promise.resolve(Buffer.from(compress(encoder.buffer))),
    decompress: (bytes) => Promise.resolve(Buffer.from(decompress(bytes))),
  })
Codecs[2] = codec(
  (b) => native.compressSync(b),
  (b) => native.uncompressSync(b),
)
Codecs[3] = codec(
  (b) => lz4Compress(b),
  (b) => lz4Decompress(b),
)
Codecs[4] = codec(
  (b) => zstdCompressSync(b),
  (b) => zstdDecompressSync(b),
)

const buffer = (b: Uint8Array | null): Buffer | null => (b === null ? null : Buffer.from(b))

/** `compression` is the number of the codec. kafkajs has no null headers and no two of a name that are apart. */
export async function encodeByKafkajs(records: readonly Rec[], compression: number): Promise<Uint8Array> {
  const [first] = records
  const { offset, ms } = first ?? { offset: 0, ms: 0 }
  const batch = await RecordBatch({
    compression,
    firstOffset: offset,
    firstTimestamp: ms,
    maxTimestamp: Math.max(...records.map((r) => r.ms)),
    lastOffsetDelta: (records.at(-1)?.offset ?? offset) - offset,
    records: records.map((r) =>
      Record0({
        offsetDelta: r.offset - offset,
        timestampDelta: r.ms - ms,
        key: buffer(r.key),
        value: buffer(r.value),
        headers: Object.fromEntries(r.headers.map(([name, value]) => [name, value === null ? '' : Buffer.from(value)])),
      }),
    ),
  })
  return Uint8Array.from(batch.buffer)
}

export async function decodeByKafkajs(bytes: Uint8Array): Promise<Rec[]> {
  const { records } = await decodeBatch(new Decoder(Buffer.from(bytes)))
  return records.map((r) => ({
    offset: Number(r.offset),
    ms: Number(r.timestamp),
    key: r.key,
    value: r.value,
    headers: Object.entries(r.headers).flatMap(([name, values]) =>
      (Array.isArray(values) ? (values as readonly (Buffer | string)[]) : [values as Buffer | string]).map(
        (v) => [name, Buffer.from(v)] as const,
      ),
    ),
  }))
}
