import { crc32 } from 'node:zlib'
import { type Compressor, deflateCompressor, type Emit } from './compressors.ts'

/** What is known of the one entry when all of it is written. */
export interface ZipEntry {
  readonly name: string
  /** CRC-32 of the uncompressed bytes. */
  readonly crc: number
  readonly size: number
  readonly compressedSize: number
}

const MAX32 = 0xffff_ffff
/** Bit 3: sizes and CRC follow the data, since nobody knows them when the header is written. */
const FLAGS = 1 << 3
const DEFLATED = 8
/** 1980-01-01 00:00, the earliest DOS time: no clock in the bytes. */
const DOS_TIME = 0x0021_0000
/** Regular file, rw-r--r--, in the Unix half of the external attributes. */
const ATTRIBUTES = (0o100644 << 16) >>> 0
const UNIX = 3 << 8

/** Bytes of little-endian fields: [size in bytes, value]. */
function fields(...of: readonly (readonly [1 | 2 | 4 | 8, number])[]): Buffer {
  const b = Buffer.alloc(of.reduce((sum, [n]) => sum + n, 0))
  let at = 0
  for (const [n, value] of of) {
    if (n === 8) b.writeBigUInt64LE(BigInt(value), at)
    else b.writeUIntLE(value, at, n)
    at += n
  }
  return b
}

/** APPNOTE 4.3.7. */
export function zipHeader(name: string): Buffer {
  const n = Buffer.byteLength(name)
  return Buffer.concat([
    fields([4, 0x0403_4b50], [2, 20], [2, FLAGS], [2, DEFLATED], [4, DOS_TIME], [4, 0], [4, 0], [4, 0], [2, n], [2, 0]),
    Buffer.from(name),
  ])
}

/** Everything after the data: data descriptor, central directory, end; with zip64 records when a number passes 32 bits. */
export function zipTrailer(e: ZipEntry): Buffer {
  const name = Buffer.from(e.name)
  const dataEnd = 30 + name.length + e.compressedSize
  const large = e.size >= MAX32 || e.compressedSize >= MAX32
  const width = large ? 8 : 4
  const descriptor = fields([4, 0x0807_4b50], [4, e.crc], [width, e.compressedSize], [width, e.size])
  const directoryAt = dataEnd + descriptor.length
  const large64 = large || directoryAt >= MAX32
  const version = large64 ? 45 : 20
  const extra = large ? fields([2, 1], [2, 16], [8, e.size], [8, e.compressedSize]) : Buffer.alloc(0)
  const sizes = large ? ([4, MAX32] as const) : null
  const directory = Buffer.concat([
    fields([4, 0x0201_4b50], [2, UNIX | version], [2, version], [2, FLAGS], [2, DEFLATED], [4, DOS_TIME], [4, e.crc]),
    fields(sizes ?? [4, e.compressedSize], sizes ?? [4, e.size], [2, name.length], [2, extra.length], [2, 0], [2, 0], [2, 0]),
    fields([4, ATTRIBUTES], [4, 0]),
    name,
    extra,
  ])
  const n = directory.length
  const end64At = directoryAt + n
  const end64 = large64
    ? Buffer.concat([
        fields([4, 0x0606_4b50], [8, 44], [2, UNIX | 45], [2, 45], [4, 0], [4, 0], [8, 1], [8, 1], [8, n], [8, directoryAt]),
        fields([4, 0x0706_4b50], [4, 0], [8, end64At], [4, 1]),
      ])
    : Buffer.alloc(0)
  const end = fields([4, 0x0605_4b50], [2, 0], [2, 0], [2, 1], [2, 1], [4, n], [4, Math.min(directoryAt, MAX32)], [2, 0])
  return Buffer.concat([descriptor, directory, end64, end])
}

/** A zip archive with one deflated entry (firehose.md §3.3). */
export function zipCompressor(name: string, level: number, emit: Emit): Compressor {
  let crc = 0
  let size = 0
  let compressedSize = 0
  let headed = false
  const inner = deflateCompressor(level, async (chunk) => {
    compressedSize += chunk.length
    await emit(chunk)
  })
  const head = async (): Promise<void> => {
    if (headed) return
    headed = true
    await emit(zipHeader(name))
  }
  return {
    keepsPieces: inner.keepsPieces,
    unit: inner.unit,
    async press(piece) {
      await head()
      crc = crc32(piece, crc)
      size += piece.length
      await inner.press(piece)
    },
    async end() {
      await head()
      await inner.end()
      await emit(zipTrailer({ name, crc, size, compressedSize }))
    },
    abort: () => inner.abort(),
  }
}
