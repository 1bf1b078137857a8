import { execFileSync } from 'node:child_process'
import { uncompressSync } from 'snappy'
import type { Body, BodyWriter, Compression } from '../../core/format/types.ts'
import { memoryWriter } from '../../core/format/body.ts'
import { asWorkBatch, batchOf, type WorkBatch } from '../../core/sdk/batch.ts'

export const entryName = '7f0c2f7e-6a30-4d8a-9f0e-2b6a0d9d3a61'

/** Small deterministic generator (mulberry32). */
export function seeded(seed: number): () => number {
  let a = seed >>> 0
  return () => {
    a = (a + 0x6d2b79f5) >>> 0
    let t = Math.imul(a ^ (a >>> 15), a | 1)
    t = (t + Math.imul(t ^ (t >>> 7), t | 61)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
}

/** Half-repetitive bytes: they compress, but not to nothing. */
export function someBytes(n: number, random: () => number): Uint8Array {
  const b = new Uint8Array(n)
  for (let i = 0; i < n; i++) {
    const r = random() * 512
    b[i] = r < 256 ? 97 : r
  }
  return b
}

export async function contentOf(body: Body, start?: number, end?: number): Promise<Buffer> {
  const chunks: Uint8Array[] = []
  for await (const c of body.open(start, end)) chunks.push(c)
  return Buffer.concat(chunks)
}

const recordOf = (value: Uint8Array | null, position: number) => ({ value, position, key: position % 5 === 4 ? Buffer.from('key') : null })

/** The values as batches of at most `per` records. Some have keys, so that some values lie back to back and some do not. */
export function batchesOf(values: readonly (Uint8Array | null)[], per: number): WorkBatch[] {
  const out: WorkBatch[] = []
  for (let i = 0; i < values.length; i += per) {
    out.push(asWorkBatch(batchOf(values.slice(i, i + per).map((value, j) => recordOf(value, i + j)))))
  }
  return out
}

/** What the object must hold before compression. */
export function expected(values: readonly (Uint8Array | null)[], o: { newline?: boolean; delimiter?: Uint8Array }): Buffer {
  const parts: Uint8Array[] = []
  for (const [i, v] of values.entries()) {
    if (i > 0 && o.delimiter) parts.push(o.delimiter)
    if (v) parts.push(v)
    if (o.newline) parts.push(Buffer.from('\n'))
  }
  return Buffer.concat(parts)
}

const python = (code: string, input: Uint8Array): Buffer =>
  execFileSync('python3', ['-c', code], { input, maxBuffer: 1 << 30, stdio: ['pipe', 'pipe', 'inherit'] })

/** Reads one entry and checks its CRC, its name and that there is no other. */
const unzip = `
import io, sys, zipfile
z = zipfile.ZipFile(io.BytesIO(sys.stdin.buffer.read()))
assert z.namelist() == ['${entryName}'], z.namelist()
assert z.infolist()[0].date_time == (1980, 1, 1, 0, 0, 0), z.infolist()[0].date_time
assert z.testzip() is None
sys.stdout.buffer.write(z.read(z.namelist()[0]))
`

function unXerial(b: Buffer): Buffer {
  if (b.subarray(0, 8).toString('latin1') !== '\x82SNAPPY\0' || b.readUInt32BE(8) !== 1 || b.readUInt32BE(12) !== 1)
    throw new Error('header')
  const out: Buffer[] = []
  for (let at = 16; at < b.length;) {
    const n = b.readUInt32BE(at)
    const raw = uncompressSync(b.subarray(at + 4, at + 4 + n)) as Buffer
    if (raw.length > 32 * 1024) throw new Error(`block of ${raw.length}`)
    out.push(raw)
    at += 4 + n
  }
  return Buffer.concat(out)
}

/** As Hadoop's BlockDecompressorStream with a 256 KiB buffer reads it. */
function unHadoop(b: Buffer): Buffer {
  const out: Buffer[] = []
  for (let at = 0; at < b.length;) {
    let left = b.readUInt32BE(at)
    at += 4
    while (left > 0) {
      const n = b.readUInt32BE(at)
      if (n > 256 * 1024) throw new Error(`compressed chunk of ${n}: Hadoop cannot hold it`)
      const raw = uncompressSync(b.subarray(at + 4, at + 4 + n)) as Buffer
      out.push(raw)
      left -= raw.length
      at += 4 + n
    }
    if (left !== 0) throw new Error('lengths')
  }
  return Buffer.concat(out)
}

/** Undone by readers that share no code with the encoder: gzip and python outside this process, own framing readers. */
export function decode(c: Compression, b: Buffer): Buffer {
  const tool = (file: string, args: string[]): Buffer => execFileSync(file, args, { input: b, maxBuffer: 1 << 30 })
  switch (c) {
    case 'gzip':
      return tool('gzip', ['-dc'])
    case 'zip':
      return python(unzip, b)
    case 'zstd':
      return tool(process.execPath, ['-e', 'process.stdin.pipe(require("node:zlib").createZstdDecompress()).pipe(process.stdout)'])
    case 'snappy':
      return unXerial(b)
    case 'hadoop_snappy':
      return unHadoop(b)
    default:
      return b
  }
}

/** A memory writer that fails, or never answers, at the n-th write. */
export function brokenWriter(at: number, how: 'fail' | 'hang'): BodyWriter & { aborted: boolean; reached: Promise<void> } {
  const inner = memoryWriter()
  const reached = Promise.withResolvers<void>()
  let writes = 0
  return {
    aborted: false,
    /** Resolves when the n-th write came. */
    reached: reached.promise,
    take: (bytes) => inner.take(bytes),
    give: (chunk) => inner.give(chunk),
    async write(chunk) {
      if (writes++ !== at) return inner.write(chunk)
      reached.resolve()
      if (how === 'fail') throw new Error('disk full')
      return new Promise<void>(() => {})
    },
    finish: () => inner.finish(),
    async abort() {
      this.aborted = true
      await inner.abort()
    },
  }
}
