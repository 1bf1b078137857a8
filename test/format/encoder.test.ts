import { crc32, gunzipSync } from 'node:zlib'
import { describe, expect, test } from 'vitest'
import { compressionInfo } from '../../core/format/compression.ts'
import { memoryWriter } from '../../core/format/body.ts'
import { gzipCompressor } from '../../core/format/compressors.ts'
import { createEncoder } from '../../core/format/encoder.ts'
import type { BodyWriter, Compression, FormatSpec } from '../../core/format/types.ts'
import { batchesOf, brokenWriter, contentOf, decode, entryName, expected, seeded, someBytes } from './helpers.ts'

const compressions: readonly Compression[] = ['none', 'gzip', 'zip', 'snappy', 'hadoop_snappy', 'zstd']
const delimiter = Buffer.from('####')
const layouts = [
  { name: 'raw', spec: { type: 'raw' }, says: {} },
  { name: 'ndjson', spec: { type: 'ndjson' }, says: { newline: true } },
  { name: 'delimiter', spec: { type: 'raw', delimiter: delimiter.toString('base64') }, says: { delimiter } },
] as const

const make = (spec: FormatSpec) => () => createEncoder(spec, memoryWriter(), { entryName })

async function encode(spec: FormatSpec, values: readonly (Uint8Array | null)[], per: number, pieceBytes?: number): Promise<Buffer> {
  const e = createEncoder(spec, memoryWriter(), { entryName, ...(pieceBytes === undefined ? {} : { pieceBytes }) })
  for (const b of batchesOf(values, per)) await e.add(b)
  const { bytes, records } = e
  const body = await e.finish()
  const stored = await contentOf(body)
  expect(records).toBe(values.length)
  expect(body.size).toBe(stored.length)
  expect(Buffer.from(body.crc32, 'base64').readUInt32BE()).toBe(crc32(stored))
  if (spec.compression === 'none') expect(bytes).toBe(stored.length)
  return stored
}

/** Sizes around everything that has an edge: nothing, one, the short copy, the piece. */
function values(seed: number, piece: number, count: number): (Uint8Array | null)[] {
  const random = seeded(seed)
  const sizes = [0, 1, 2, 23, 24, 25, 300, piece - 2, piece - 1, piece, piece + 1, piece * 2, piece * 3 + 1]
  return Array.from({ length: count }, () => {
    const pick = random()
    if (pick < 0.05) return null
    return someBytes(pick < 0.8 ? Math.floor(random() * 400) : (sizes[Math.floor(random() * sizes.length)] ?? 0), random)
  })
}

describe.each(compressions)('%s', (compression) => {
  test.each(layouts)('$name: what an independent reader finds is what went in, however it was batched', async ({ spec, says }) => {
    const full = { ...spec, compression }
    const input = values(7, 4096, 300)
    const once = await encode(full, input, 300, 4096)
    expect(decode(compression, once).equals(expected(input, says))).toBe(true)
    for (const per of [1, 7, 64]) expect((await encode(full, input, per, 4096)).equals(once)).toBe(true)
  })

  test('what does not compress', async () => {
    const random = seeded(77)
    const input = [Uint8Array.from({ length: 700_000 }, () => random() * 256)]
    expect(decode(compression, await encode({ type: 'raw', compression }, input, 1)).equals(expected(input, {}))).toBe(true)
  })

  test('chunks of a small object hold no more memory than they have bytes', async () => {
    const chunks: Uint8Array[] = []
    const e = createEncoder({ type: 'ndjson', compression }, { ...memoryWriter(), write: async (c) => void chunks.push(c) }, { entryName })
    for (const b of batchesOf([Buffer.from('a'), Buffer.from('b')], 1)) await e.add(b)
    await e.finish()
    expect(chunks.length).toBeGreaterThan(0)
    for (const c of chunks) expect(c.buffer.byteLength).toBeLessThan(1024)
  })

  test('an object without records is a whole file', async () => {
    expect(decode(compression, await encode({ type: 'ndjson', compression }, [], 1)).length).toBe(0)
  })

  test('pieces of the real size', async () => {
    const input = [someBytes((1 << 20) - 1, seeded(1)), someBytes(1, seeded(2)), someBytes((1 << 20) + 1, seeded(3)), null]
    const stored = await encode({ type: 'ndjson', compression }, input, 2)
    expect(decode(compression, stored).equals(expected(input, { newline: true }))).toBe(true)
  })
})

test('property: random sizes, pieces and batches, every layout', async () => {
  const random = seeded(42)
  for (let round = 0; round < 60; round++) {
    const piece = 1 + Math.floor(random() * 600)
    const input = values(round, piece, Math.floor(random() * 80))
    const layout = layouts[round % layouts.length] ?? layouts[0]
    const compression = round % 2 === 0 ? 'none' : 'gzip'
    const stored = await encode({ ...layout.spec, compression }, input, 1 + Math.floor(random() * 9), piece)
    const plain = compression === 'gzip' ? gunzipSync(stored) : stored
    expect(plain.equals(expected(input, layout.says)), `round ${round}, piece ${piece}`).toBe(true)
  }
})

test('the delimiter goes between records of different add calls and not after the last', async () => {
  const spec: FormatSpec = { type: 'raw', compression: 'none', delimiter: Buffer.from('\n').toString('base64') }
  expect((await encode(spec, [Buffer.from('a'), Buffer.from('b'), null, Buffer.from('c')], 1)).toString()).toBe('a\nb\n\nc')
})

test('gzip: no time, no system in the header, level 1 by default', async () => {
  const stored = await encode({ type: 'raw', compression: 'gzip' }, [Buffer.from('x')], 1)
  expect(stored.subarray(0, 10).toString('hex')).toBe('1f8b0800000000000403')
})

test('a higher level is smaller', async () => {
  const random = seeded(9)
  const words = Array.from({ length: 2000 }, () => Buffer.from(someBytes(6, random)).toString('base64'))
  const input = [Buffer.from(Array.from({ length: 50_000 }, () => words[Math.floor(random() ** 3 * 2000)]).join(' '))]
  for (const compression of ['gzip', 'zip', 'zstd'] as const) {
    const low = await encode({ type: 'raw', compression }, input, 1)
    const high = await encode({ type: 'raw', compression, level: 9 }, input, 1)
    expect(high.length).toBeLessThan(low.length)
  }
})

test('what cannot be is refused with the value', () => {
  expect(make({ type: 'raw', compression: 'gzip', level: 10 })).toThrow('level 10 of gzip')
  expect(make({ type: 'raw', compression: 'zstd', level: 20 })).toThrow('1 to 19')
  expect(make({ type: 'raw', compression: 'none', level: 1 })).toThrow('no level')
  expect(make({ type: 'ndjson', compression: 'none', delimiter: 'Cg==' })).toThrow('format raw')
  expect(make({ type: 'raw', compression: 'none', delimiter: 'not base64' })).toThrow('not base64')
  expect(() => createEncoder({ type: 'raw', compression: 'zip' }, memoryWriter())).toThrow('name of the entry')
})

test.each(compressions)('%s: an error of the writer reaches add or finish, abort frees', async (compression) => {
  const out = brokenWriter(0, 'fail')
  const e = createEncoder({ type: 'raw', compression }, out, { entryName, pieceBytes: 1024 })
  const run = async (): Promise<void> => {
    for (const b of batchesOf([someBytes(400_000, seeded(5)), someBytes(400_000, seeded(6))], 1)) await e.add(b)
    await e.finish()
  }
  await expect(run()).rejects.toThrow('disk full')
  await e.abort()
  expect(out.aborted).toBe(true)
  await expect(e.finish()).rejects.toThrow('aborted')
})

test.each(compressions)('%s: abort in the middle of an add ends the add', async (compression) => {
  const out = brokenWriter(1, 'fail')
  const e = createEncoder({ type: 'raw', compression }, out, { entryName, pieceBytes: 64 * 1024 })
  const [batch] = batchesOf([someBytes(4_000_000, seeded(5))], 1)
  if (!batch) throw new Error('no batch')
  const adding = e.add(batch)
  await e.abort()
  await expect(adding).rejects.toThrow(/abort|disk full/)
  await expect(e.add(batch)).rejects.toThrow('aborted')
  await e.abort()
})

test.each(compressions)('%s: abort does not wait for a writer that hangs, and ends the add that does', async (compression) => {
  const out = brokenWriter(0, 'hang')
  const e = createEncoder({ type: 'raw', compression }, out, { entryName, pieceBytes: 64 * 1024 })
  const [batch] = batchesOf([someBytes(1_000_000, seeded(5))], 1)
  if (!batch) throw new Error('no batch')
  const adding = e.add(batch)
  adding.catch(() => {})
  await out.reached
  await e.abort()
  expect(out.aborted).toBe(true)
  await expect(adding).rejects.toThrow('aborted')
})

/** Says how much memory was asked for and not given back, written or not. */
function countingWriter(): BodyWriter & { outstanding: number; taken: number } {
  const inner = memoryWriter()
  const out = new Set<ArrayBufferLike>()
  return {
    taken: 0,
    get outstanding() {
      return out.size
    },
    take(bytes) {
      const chunk = inner.take(bytes)
      out.add(chunk.buffer)
      this.taken++
      return chunk
    },
    give(chunk) {
      if (!out.delete(chunk.buffer)) throw new Error('given back twice')
    },
    write(chunk) {
      out.delete(chunk.buffer)
      return inner.write(chunk)
    },
    finish: () => inner.finish(),
    abort: () => inner.abort(),
  }
}

test.each(compressions)('%s: all memory that was taken is written or given back when the object is finished', async (compression) => {
  for (const [size, count] of [
    [10, 1],
    [3_000, 100],
    [700_000, 3],
    [64 * 1024, 4],
  ] as const) {
    const out = countingWriter()
    const e = createEncoder({ type: 'raw', compression }, out, { entryName, pieceBytes: 64 * 1024 })
    const input = Array.from({ length: count }, (_, i) => someBytes(size, seeded(i)))
    for (const b of batchesOf(input, 10)) await e.add(b)
    const stored = await contentOf(await e.finish())
    expect(out.taken).toBeGreaterThan(0)
    expect(out.outstanding).toBe(0)
    expect(decode(compression, stored).equals(expected(input, {}))).toBe(true)
  }
})

test('an abort gives nothing back that a native thread may still read', async () => {
  const given: Uint8Array[] = []
  const out = { ...memoryWriter(), give: (c: Uint8Array) => void given.push(c) }
  const e = createEncoder({ type: 'raw', compression: 'gzip', level: 9 }, out, { pieceBytes: 1 << 20 })
  const [batch] = batchesOf([someBytes(3 << 20, seeded(5))], 1)
  if (!batch) throw new Error('no batch')
  const adding = e.add(batch)
  await e.abort()
  await expect(adding).rejects.toThrow('abort')
  expect(given).toEqual([])
})

test("the compressor's own buffers are freed when they were copied, all but the one that is being filled", async () => {
  const random = seeded(77)
  const input = Uint8Array.from({ length: 1 << 20 }, () => random() * 256)
  const chunks: Uint8Array[] = []
  const copies: Buffer[] = []
  const c = gzipCompressor(1, async (chunk) => {
    chunks.push(chunk)
    copies.push(Buffer.from(chunk))
  })
  const live = (): number => new Set(chunks.filter((x) => x.length > 0).map((x) => x.buffer)).size
  for (let i = 0; i < 4; i++) {
    await c.press(input)
    expect(chunks.length).toBeGreaterThan(8)
    expect(live()).toBeLessThanOrEqual(1)
  }
  await c.end()
  expect(gunzipSync(Buffer.concat(copies)).equals(Buffer.concat([input, input, input, input]))).toBe(true)
})

test('a compressor that is aborted while it works rejects', async () => {
  const c = gzipCompressor(1, async () => {})
  const pressing = c.press(someBytes(1 << 20, seeded(1)))
  c.abort()
  await expect(pressing).rejects.toThrow('aborted')
  await expect(c.end()).rejects.toThrow('aborted')
})

test('extensions and encodings are those of Firehose', () => {
  expect(Object.fromEntries(compressions.map((c) => [c, Object.values(compressionInfo(c))]))).toEqual({
    none: ['', undefined],
    gzip: ['.gz', 'gzip'],
    zip: ['.zip', 'zip'],
    snappy: ['.snappy', 'snappy-java'],
    hadoop_snappy: ['.snappy', 'hadoop-snappy'],
    zstd: ['.zst', 'zstd'],
  })
})
