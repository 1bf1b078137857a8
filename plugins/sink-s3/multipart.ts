import { crc32 } from 'node:zlib'
import type { AttemptContext, OutObject } from 'hydrant/sdk'
import type { Headers, Part, S3Api, Upload } from './client.ts'
import { MAX_PARTS } from './options.ts'

/** Parts in flight of one upload; more gain nothing on one connection to one store. */
const MAX_PARALLEL = 4
const ABORT_MS = 5_000

/** All pieces in one array of `size` bytes. Throws what `short` makes if they are more or fewer. */
export async function gather(pieces: AsyncIterable<Uint8Array>, size: number, short: (got: string) => Error): Promise<Uint8Array> {
  let into: Uint8Array | null = null
  let at = 0
  for await (const piece of pieces) {
    if (at + piece.length > size) throw short(`more than ${size}`)
    if (at === 0 && piece.length === size) {
      into = piece // whole in one piece: no copy
    } else {
      into ??= new Uint8Array(size)
      into.set(piece, at)
    }
    at += piece.length
  }
  if (at !== size) throw short(String(at))
  return into ?? new Uint8Array(0)
}

export function crc32Base64(body: Uint8Array): string {
  const b = Buffer.alloc(4)
  b.writeUInt32BE(crc32(body))
  return b.toString('base64')
}

/** At least the configured size, more where 10,000 parts would not do. */
export function partSizeFor(size: number, configured: number): number {
  return Math.max(configured, Math.ceil(size / MAX_PARTS))
}

export interface UploadSettings {
  readonly partSize: number
  /** Bytes that parts in flight may hold. */
  readonly memory: number
  readonly checksum: boolean
  readonly conditional: boolean
  readonly headers: Headers
  /** Pieces of the body; ends with the signal. */
  readonly open: (start: number, end: number, signal: AbortSignal) => AsyncIterable<Uint8Array>
  readonly short: (got: string) => Error
}

/**
 * Uploads the body in parts and completes the upload. Memory: parts in flight, at least one. When anything fails, the upload is
 * aborted (a Complete that was lost on its way cannot be applied later) and the first error is thrown as it came.
 */
export async function uploadInParts(o: OutObject, c: AttemptContext, api: S3Api, s: UploadSettings): Promise<void> {
  await c.failpoint('object.create.before')
  const { uploadId, fullObject } = await api.create(o.key, { ...s.headers, checksum: s.checksum }, c.signal)
  const upload: Upload = { key: o.key, uploadId }
  try {
    await c.failpoint('object.create.after')
    const parts = await uploadParts(o, c, api, upload, s)
    await c.effect()
    await c.failpoint('object.complete.before')
    c.signal.throwIfAborted()
    await api.complete(upload, parts, { conditional: s.conditional, ...(fullObject && s.checksum ? { crc32: o.crc32 } : {}) }, c.signal)
    await c.failpoint('object.complete.after')
  } catch (e) {
    await abandon(upload, api, c)
    throw e
  }
}

async function uploadParts(o: OutObject, c: AttemptContext, api: S3Api, upload: Upload, s: UploadSettings): Promise<readonly Part[]> {
  const count = Math.ceil(o.size / s.partSize)
  const parts: Part[] = []
  const failed = new AbortController()
  const signal = AbortSignal.any([c.signal, failed.signal])
  let next = 0
  const work = async (): Promise<void> => {
    while (next < count) {
      const index = next++
      const start = index * s.partSize
      const end = Math.min(o.size, start + s.partSize)
      const body = await gather(s.open(start, end, signal), end - start, s.short)
      await c.failpoint('object.part.before')
      parts[index] = await api.part(upload, index + 1, body, s.checksum ? crc32Base64(body) : undefined, signal)
      await c.failpoint('object.part.after')
    }
  }
  const parallel = Math.max(1, Math.min(MAX_PARALLEL, count, Math.floor(s.memory / s.partSize)))
  let first: { error: unknown } | null = null
  await Promise.all(
    Array.from({ length: parallel }, () =>
      work().catch((error: unknown) => {
        first ??= { error }
        next = count
        failed.abort()
      }),
    ),
  )
  const failure = first as { error: unknown } | null
  if (failure) throw failure.error
  return parts
}

/** Best effort, also after the attempt's own end: what stays is aborted by the next attempt or by the bucket's lifecycle. */
async function abandon(upload: Upload, api: S3Api, c: AttemptContext): Promise<void> {
  try {
    await api.abort(upload, AbortSignal.timeout(ABORT_MS))
  } catch (e) {
    c.log.debug({ key: upload.key, error: e instanceof Error ? e.message : String(e) }, 'the upload stays until its next attempt')
  }
}
