import { readFileSync } from 'node:fs'
import { constants, gzipSync, zstdCompressSync } from 'node:zlib'
import { createEncoder } from '../../core/format/encoder.ts'
import type { BodyWriter, Compression, FormatSpec } from '../../core/format/types.ts'
import { limits } from '../../core/limits.ts'
import { asWorkBatch, type WorkBatch } from '../../core/sdk/batch.ts'
import { BufferPool } from '../../core/sdk/pool.ts'

/**
 * CPU of the encoders against the bare library call on the same bytes, in one process, interleaved.
 * node -C hydrant-source test/bench/encoder.ts FILE.ndjson [rounds] [only jobs whose name matches]
 */
const [file = '', roundsText = '5', only = ''] = process.argv.slice(2)
const all = new Uint8Array(readFileSync(file))
const rounds = Number(roundsText)

/** The file's lines without their newlines, as batches of about 1 MiB: what a lane reads. */
function batches(): { raw: WorkBatch; lines: WorkBatch; bytes: number }[] {
  const out: { raw: WorkBatch; lines: WorkBatch; bytes: number }[] = []
  for (let at = 0; at < all.length;) {
    const ends: number[] = []
    const from = at
    while (at < all.length && at - from < 1 << 20) {
      const e = all.indexOf(10, at)
      at = e < 0 ? all.length : e + 1
      ends.push(at - from)
    }
    const n = ends.length
    const starts = ends.map((_, i) => (i === 0 ? 0 : (ends[i - 1] ?? 0)))
    const base = {
      count: n,
      bytes: all.subarray(from, at),
      keyStart: new Uint32Array(n),
      keyEnd: new Uint32Array(n),
      valueStart: Uint32Array.from(starts),
      position: new Float64Array(n),
      arrivalMs: new Float64Array(n),
      release: () => {},
    }
    const raw = asWorkBatch({ ...base, valueEnd: Uint32Array.from(ends) })
    const lines = asWorkBatch({ ...base, valueEnd: Uint32Array.from(ends, (e) => e - 1) })
    out.push({ raw, lines, bytes: at - from })
  }
  return out
}

const input = batches()
let stored = 0
const pool = new BufferPool(limits.memoryBytes)
const sink: BodyWriter = {
  take: (bytes) => new Uint8Array(pool.take(bytes), 0, bytes),
  give: (c) => pool.give(c.buffer),
  write: (c) => {
    stored += c.length
    if (pool.owns(c.buffer)) pool.give(c.buffer)
    return Promise.resolve()
  },
  finish: () => Promise.reject(new Error('not used')),
  abort: () => Promise.resolve(),
}

async function encode(spec: FormatSpec): Promise<number> {
  stored = 0
  const e = createEncoder(spec, sink, { entryName: '7f0c2f7e-6a30-4d8a-9f0e-2b6a0d9d3a61' })
  for (const b of input) await e.add(spec.type === 'raw' ? b.raw : b.lines)
  await e.finish().catch(() => {})
  return stored
}
const level1 = { params: { [constants.ZSTD_c_compressionLevel]: 1 } }
const jobs: Record<string, () => Promise<number> | number> = {
  'bare gzipSync(1)': () => gzipSync(all, { level: 1 }).length,
  'bare gzipSync(1), chunkSize 1 MiB': () => gzipSync(all, { level: 1, chunkSize: 1 << 20 }).length,
  'bare zstdCompressSync(1)': () => zstdCompressSync(all, level1).length,
  'bare zstdCompressSync(1), chunkSize 1 MiB': () => zstdCompressSync(all, { ...level1, chunkSize: 1 << 20 }).length,
}
for (const compression of ['none', 'gzip', 'zstd', 'zip', 'snappy', 'hadoop_snappy'] satisfies Compression[]) {
  for (const type of ['raw', 'ndjson'] as const) jobs[`${compression} ${type}`] = () => encode({ type, compression })
}
const seconds = new Map<string, number[]>()
const sizes = new Map<string, number>()
for (let r = 0; r <= rounds; r++) {
  for (const [name, job] of Object.entries(jobs)) {
    if (!new RegExp(only).test(name)) continue
    const before = process.cpuUsage()
    sizes.set(name, await job())
    const used = process.cpuUsage(before)
    if (r > 0) seconds.set(name, [...(seconds.get(name) ?? []), (used.user + used.system) / 1e6])
  }
}
/** Lower quartile: what else runs on the machine only adds. */
const perGB = (name: string): number => {
  const list = (seconds.get(name) ?? []).toSorted((a, b) => a - b)
  return ((list[list.length >> 2] ?? Number.NaN) / all.length) * 1e9
}
for (const name of seconds.keys()) {
  const bare = perGB(`bare ${/zstd/.test(name) ? 'zstdCompressSync' : 'gzipSync'}(1)`)
  const ratio = (all.length / (sizes.get(name) ?? 1)).toFixed(2)
  const cost = /gzip|zip|zstd/.test(name) ? `${(perGB(name) / bare).toFixed(2)} x bare` : ''
  console.log(`${name.padEnd(44)} ${perGB(name).toFixed(2).padStart(6)} CPU-s/GB  ${ratio.padStart(5)} smaller  ${cost}`)
}
