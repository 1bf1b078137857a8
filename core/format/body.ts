import { crc32 } from 'node:zlib'
import type { Body, BodyWriter } from './types.ts'

/** What S3 calls ChecksumCRC32: base64 of 4 bytes, big-endian. */
export function crc32Base64(crc: number): string {
  const b = Buffer.allocUnsafe(4)
  b.writeUInt32BE(crc >>> 0)
  return b.toString('base64')
}

/**
 * `chunk` in memory of its own size. A short view would keep the buffer behind it alive, and share it with others (Buffer's pool):
 * what goes to a BodyWriter belongs to it.
 */
export function exactly(chunk: Uint8Array): Uint8Array {
  return chunk.length * 4 >= chunk.buffer.byteLength * 3 ? chunk : new Uint8Array(chunk)
}

/** The parts of `chunks` inside [start, end), as views. */
export function* sliceChunks(chunks: readonly Uint8Array[], start: number, end: number): Generator<Uint8Array> {
  let at = 0
  for (const chunk of chunks) {
    const from = Math.max(start - at, 0)
    const to = Math.min(end - at, chunk.length)
    if (from < to) yield chunk.subarray(from, to)
    at += chunk.length
    if (at >= end) return
  }
}

/** A body held in memory. The chunks must not change afterwards. */
export function memoryBody(chunks: readonly Uint8Array[]): Body {
  let crc = 0
  let size = 0
  for (const c of chunks) {
    crc = crc32(c, crc)
    size += c.length
  }
  let held: readonly Uint8Array[] | null = chunks
  return {
    size,
    crc32: crc32Base64(crc),
    get memoryBytes() {
      return held ? size : 0
    },
    async *open(start = 0, end = size) {
      if (!held) throw new Error(`opening a body of ${size} bytes: it was released`)
      if (start < 0 || end > size || start > end) throw new RangeError(`opening a body of ${size} bytes at [${start}, ${end})`)
      yield* sliceChunks(held, start, end)
    },
    borrow: () => () => {},
    release() {
      held = null
      return Promise.resolve()
    },
  }
}

/** A writer into memory without a budget: for small objects of a known bound (error lines, tests). */
export function memoryWriter(): BodyWriter {
  let chunks: Uint8Array[] | null = []
  const open = (): Uint8Array[] => {
    if (!chunks) throw new Error('writing a body: it was finished or aborted')
    return chunks
  }
  return {
    take: (bytes) => new Uint8Array(bytes),
    give: () => {},
    async write(chunk) {
      open().push(chunk)
    },
    async finish() {
      const all = open()
      chunks = null
      return memoryBody(all)
    },
    async abort() {
      chunks = null
    },
  }
}
