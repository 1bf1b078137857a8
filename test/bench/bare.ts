/** The floor of the drain: node:zlib alone on the same bytes, in the same order. Pieces of 4 MB, chunkSize 1 MB: its cheapest setting. */
import { constants, gzipSync, zstdCompressSync } from 'node:zlib'
import { Rows, type Shape } from './data.ts'

export interface BareJob {
  readonly shape: Shape
  readonly rows: number
  readonly compression: 'gzip' | 'zstd'
}
export interface BareResult {
  readonly cpu: number
  readonly bytes: number
  readonly stored: number
}
const PIECE = 4 << 20
const chunkSize = 1 << 20
const zstd = { chunkSize, params: { [constants.ZSTD_c_compressionLevel]: 1 } }

function run(job: BareJob): BareResult {
  const rows = new Rows(job.shape)
  let used = 0
  let stored = 0
  let bytes = 0
  const compress = (piece: Buffer): void => {
    const before = process.cpuUsage()
    stored += (job.compression === 'gzip' ? gzipSync(piece, { level: 1, chunkSize }) : zstdCompressSync(piece, zstd)).length
    const { user, system } = process.cpuUsage(before)
    used += user + system
    bytes += piece.length
  }
  let waiting: Buffer[] = []
  let length = 0
  for (let at = 0; at < job.rows;) {
    const got = rows.take(at, job.rows)
    at = got.next
    waiting.push(got.bytes)
    length += got.bytes.length
    if (length < PIECE && at < job.rows) continue
    const all = Buffer.concat(waiting)
    let from = 0
    for (; all.length - from >= PIECE; from += PIECE) compress(all.subarray(from, from + PIECE))
    waiting = [all.subarray(from)]
    length = all.length - from
  }
  if (length > 0) compress(Buffer.concat(waiting))
  return { cpu: used / 1e6, bytes, stored }
}

process.on('message', (job: BareJob) => process.send?.(run(job)))
