/** Contexts, objects and bytes for the tests of sinks. */
import { crc32 } from 'node:zlib'
import { createHash } from 'node:crypto'
import type { AttemptContext, Logger, OutObject } from './sink.ts'
import { LeaseLostError } from './errors.ts'

/** A logger that keeps what it is told. */
export interface RecordedLog extends Logger {
  readonly lines: { level: 'debug' | 'info' | 'warn' | 'error'; fields: object; message: string }[]
}
export function recordedLog(): RecordedLog {
  const lines: RecordedLog['lines'] = []
  const at = (level: RecordedLog['lines'][number]['level']) => (fields: object, message: string) =>
    void lines.push({ level, fields, message })
  return { lines, debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') }
}

/** A first attempt under a live lease; every field can be replaced. */
export function attemptContext(overrides: Partial<AttemptContext> = {}): AttemptContext {
  return {
    signal: new AbortController().signal,
    attempt: 1,
    recovered: false,
    cut: {
      pipelineId: '5b0f6c1e-0000-4000-8000-000000000001',
      lineage: 1,
      topicId: 'topic-1',
      stream: 'clicks',
      shard: '0',
      start: 0,
      end: 100,
    },
    effect: () => Promise.resolve(),
    failpoint: () => Promise.resolve(),
    log: recordedLog(),
    ...overrides,
  }
}

/** A context whose lease has ended: nothing may become visible under it. */
export function lostLease(overrides: Partial<AttemptContext> = {}): AttemptContext {
  return attemptContext({ effect: () => Promise.reject(new LeaseLostError('the lease of this test has ended')), ...overrides })
}

/** Bytes that differ from place to place, so that a swapped or repeated piece is noticed. */
export function bodyOf(size: number, seed = 1): Uint8Array {
  const words = new Uint32Array(Math.ceil(size / 4))
  let x = (seed * 2_654_435_761) >>> 0 || 1
  for (let i = 0; i < words.length; i++) {
    x ^= x << 13
    x ^= x >>> 17
    x ^= x << 5
    words[i] = x
  }
  return new Uint8Array(words.buffer, 0, size)
}

/** A stable token of a key, in the form of a UUID. */
export function tokenOf(key: string): string {
  const h = createHash('sha1').update(key).digest('hex')
  return `${h.slice(0, 8)}-${h.slice(8, 12)}-5${h.slice(13, 16)}-8${h.slice(17, 20)}-${h.slice(20, 32)}`
}

/** ChecksumCRC32 in S3's form: base64 of 4 bytes, big-endian. */
export function crc32Base64(bytes: Uint8Array): string {
  const b = Buffer.alloc(4)
  b.writeUInt32BE(crc32(bytes))
  return b.toString('base64')
}

/** An object to put: `end` is the cut's end in its metadata; `open` may be replaced to interrupt the body. */
export function outObject(key: string, body: Uint8Array, o: { end?: number } & Partial<OutObject> = {}): OutObject {
  const { end = 100, ...overrides } = o
  const token = overrides.token ?? tokenOf(key)
  return {
    key,
    token,
    size: body.length,
    records: 10,
    contentType: 'application/octet-stream',
    metadata: { end: String(end), records: '10', d: 'a1b2c3d4', o: '00000000', spec: 'spec-1', token },
    crc32: crc32Base64(body),
    open: (start = 0, to = body.length) => pieces(body.subarray(start, to)),
    ...overrides,
  }
}

/** In pieces of 1 MiB, as an encoder hands them over. */
export async function* pieces(body: Uint8Array, size = 1024 * 1024): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < body.length; at += size) yield await Promise.resolve(body.subarray(at, at + size))
}

/** Everything an iterable yields, as one array. */
export async function collect(chunks: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const all: Uint8Array[] = []
  for await (const c of chunks) all.push(c)
  return new Uint8Array(Buffer.concat(all))
}
