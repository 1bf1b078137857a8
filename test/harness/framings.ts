import { crc32, gunzipSync, inflateRawSync, zstdDecompressSync } from 'node:zlib'

/** Readers of the stored forms, written from the formats' descriptions: hydrant's own encoders and its snappy package are not used here. Each throws when the object is not one whole, undamaged file. */
export type Stored = 'none' | 'gzip' | 'zip' | 'snappy' | 'hadoop_snappy' | 'zstd'

export function unpack(bytes: Uint8Array, as: Stored): Uint8Array {
  if (as === 'none') return bytes
  if (as === 'gzip') return whole(gunzipSync(bytes, { info: true }), bytes.length, 'gzip')
  if (as === 'zstd') return whole(zstdDecompressSync(bytes, { info: true }), bytes.length, 'zstd')
  if (as === 'zip') return unzip(bytes)
  return as === 'snappy' ? unsnappyJava(bytes) : unsnappyHadoop(bytes)
}

interface WithInfo {
  readonly buffer: Buffer
  readonly engine: { readonly bytesWritten: number }
}
function whole(x: unknown, size: number, form: string): Uint8Array {
  const { buffer, engine } = x as WithInfo
  if (engine.bytesWritten !== size) throw new Error(`${form}: ${size - engine.bytesWritten} bytes after the end`)
  return buffer
}

const view = (b: Uint8Array): DataView => new DataView(b.buffer, b.byteOffset, b.byteLength)
function need(ok: boolean, what: string): asserts ok {
  if (!ok) throw new Error(what)
}

/** A zip file of exactly one deflated or stored entry. Sizes are taken from the central directory. */
function unzip(bytes: Uint8Array): Uint8Array {
  const v = view(bytes)
  const end = bytes.length - 22
  need(end >= 0 && v.getUint32(end, true) === 0x06054b50, 'zip: no end record at the end of the file')
  need(v.getUint16(end + 10, true) === 1, `zip: ${v.getUint16(end + 10, true)} entries`)
  const dir = v.getUint32(end + 16, true)
  need(v.getUint32(dir, true) === 0x02014b50, 'zip: no central directory')
  const [method, crc, packed, size] = [v.getUint16(dir + 10, true), v.getUint32(dir + 16, true), v.getUint32(dir + 20, true), v.getUint32(dir + 24, true)] // prettier-ignore
  const local = v.getUint32(dir + 42, true)
  need(v.getUint32(local, true) === 0x04034b50, 'zip: no local header')
  const body = local + 30 + v.getUint16(local + 26, true) + v.getUint16(local + 28, true)
  const stored = bytes.subarray(body, body + packed)
  const out = method === 0 ? stored : inflateRawSync(stored)
  need(out.length === size, `zip: ${out.length} of ${size} bytes`)
  need(crc32(out) === crc, 'zip: CRC differs')
  return out
}

/** One raw snappy block (format_description.txt of google/snappy). */
export function unsnappy(b: Uint8Array): Uint8Array {
  let at = 0
  let size = 0
  for (let shift = 0; ; shift += 7) {
    const byte = b[at++]
    need(byte !== undefined && shift < 35, 'snappy: bad length')
    size += (byte & 0x7f) * 2 ** shift
    if (byte < 0x80) break
  }
  const out = new Uint8Array(size)
  let to = 0
  const little = (n: number): number => {
    let x = 0
    for (let i = 0; i < n; i++) x += (b[at++] ?? 0) * 2 ** (8 * i)
    return x
  }
  while (at < b.length) {
    const tag = b[at++] ?? 0
    const kind = tag & 3
    if (kind === 0) {
      const length = (tag >> 2 < 60 ? tag >> 2 : little((tag >> 2) - 59)) + 1
      need(at + length <= b.length && to + length <= size, 'snappy: literal beyond the end')
      out.set(b.subarray(at, at + length), to)
      at += length
      to += length
      continue
    }
    const length = kind === 1 ? ((tag >> 2) & 7) + 4 : (tag >> 2) + 1
    const back = kind === 1 ? ((tag >> 5) << 8) + little(1) : little(kind === 2 ? 2 : 4)
    need(back > 0 && back <= to && to + length <= size, 'snappy: copy from outside')
    for (let i = 0; i < length; i++, to++) out[to] = out[to - back] ?? 0
  }
  need(to === size, `snappy: ${to} of ${size} bytes`)
  return out
}

function unsnappyJava(b: Uint8Array): Uint8Array {
  const magic = [0x82, 0x53, 0x4e, 0x41, 0x50, 0x50, 0x59, 0x00]
  need(
    magic.every((x, i) => b[i] === x),
    'snappy-java: wrong magic',
  )
  const v = view(b)
  const parts: Uint8Array[] = []
  let at = 16
  while (at < b.length) {
    need(at + 4 <= b.length, 'snappy-java: cut length')
    const length = v.getInt32(at)
    need(length > 0 && at + 4 + length <= b.length, 'snappy-java: cut block')
    parts.push(unsnappy(b.subarray(at + 4, at + 4 + length)))
    at += 4 + length
  }
  return Buffer.concat(parts)
}

function unsnappyHadoop(b: Uint8Array): Uint8Array {
  const v = view(b)
  const parts: Uint8Array[] = []
  let at = 0
  while (at < b.length) {
    need(at + 4 <= b.length, 'hadoop-snappy: cut length')
    let left = v.getInt32(at)
    at += 4
    while (left > 0) {
      need(at + 4 <= b.length, 'hadoop-snappy: cut chunk length')
      const length = v.getInt32(at)
      need(length > 0 && at + 4 + length <= b.length, 'hadoop-snappy: cut chunk')
      const part = unsnappy(b.subarray(at + 4, at + 4 + length))
      parts.push(part)
      left -= part.length
      at += 4 + length
    }
    need(left === 0, 'hadoop-snappy: block longer than it says')
  }
  return Buffer.concat(parts)
}
