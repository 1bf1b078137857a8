/** From the embedded log to compressed files: CPU per GB beside bare zlib, memory while 1 GB of backlog drains, heap allocated per record. */
import { call, end, sampled, spawnPart, startProfile, startSampling, profiled } from './child.ts'
import type { BareResult } from './bare.ts'
import { audit, KEY, Load, Place, STREAM, type BenchPipeline } from './daemon.ts'
import { Rows } from './data.ts'
import type { Allocator, Usage } from './probe.ts'
import { median, type Row } from './report.ts'

type Compression = 'none' | 'gzip' | 'zstd'
const BARS: Readonly<Record<'gzip' | 'zstd', number>> = { gzip: 1.43, zstd: 2 }
/** Objects of 64 MiB; everything else is a default: one shard, 256 MiB of memory. */
const pipeline = (compression: Compression): BenchPipeline => ({ format: 'ndjson', compression, size: '64MiB', interval: '2s' })
const BARE_MS = 120_000
const shape = 'evt300'

interface Drained {
  readonly records: number
  readonly bytes: number
  readonly cpu: number
  readonly heapAllocated: number
  readonly peakRss: number
  readonly allocators: readonly Allocator[]
  readonly profile: string | null
}

interface Job {
  readonly compression: Compression
  readonly bytes: number
  /** running: a daemon that has drained a part before; fresh: one that was started on the full log. */
  readonly daemon: 'running' | 'fresh'
  readonly watch?: 'allocations' | 'cpu'
}
const WARM_BYTES = 0.1e9

/** Fills a log while the pipeline is paused, then resumes it and waits until all is delivered and read back. */
async function drain({ compression, bytes, daemon, watch }: Job): Promise<Drained> {
  const rows = new Rows(shape)
  const warm = daemon === 'running' ? rows.countFor(WARM_BYTES) : 0
  const records = rows.countFor(bytes)
  const place = await Place.make(pipeline(compression))
  const load = new Load()
  const put = async (from: number, count: number): Promise<void> => {
    const job = { kind: 'rows', port: place.ports.api, credentials: KEY, stream: STREAM, connections: 4, from, records: count } as const
    await load.prepare({ ...job, recordBytes: 0, shape, batch: 500 })
    await load.go()
  }
  try {
    let subject = await place.start()
    if (warm > 0) {
      await put(0, warm)
      await subject.drained()
    }
    await subject.pause()
    await put(warm, records)
    if (daemon === 'fresh') {
      await subject.stop()
      subject = await place.start()
    }
    if (watch === 'allocations') await startSampling(subject.child)
    if (watch === 'cpu') await startProfile(subject.child)
    const before = await subject.usage()
    let after: Usage = before
    await subject.resume()
    await subject.drained((u) => (after = u))
    const allocators = watch === 'allocations' ? await sampled(subject.child) : []
    const profile = watch === 'cpu' ? await profiled(subject.child) : null
    await subject.stop()
    await audit(place, { records: warm + records, bytes: rows.size(warm + records) })
    return {
      records,
      bytes: rows.size(warm + records) - rows.size(warm),
      cpu: after.cpu - before.cpu,
      heapAllocated: after.heapAllocated - before.heapAllocated,
      peakRss: after.peakRss,
      allocators,
      profile,
    }
  } finally {
    load.end()
    await place.remove()
  }
}

/** Bare and hydrant take turns; the ratio is that of a turn. */
export async function measureDrains(o: { rounds: number; bytes: number }): Promise<Row[]> {
  const bare = spawnPart('bare.ts', { core: 'measured' })
  const rows: Row[] = []
  try {
    const records = new Rows(shape).countFor(o.bytes)
    for (const compression of ['gzip', 'zstd'] as const) {
      const ratios: number[] = []
      const costs: number[] = []
      const floors: number[] = []
      for (let round = 0; round < o.rounds; round++) {
        const floor = (await call(bare, { shape, rows: records, compression }, BARE_MS)) as BareResult
        const d = await drain({ compression, bytes: o.bytes, daemon: 'running' })
        floors.push((floor.cpu / floor.bytes) * 1e9)
        costs.push((d.cpu / d.bytes) * 1e9)
        ratios.push(d.cpu / d.bytes / (floor.cpu / floor.bytes))
      }
      rows.push({
        id: `drain-${compression}`,
        path: `embedded log → ${compression} level 1 → file: CPU beside bare ${compression === 'gzip' ? 'gzipSync' : 'zstdCompressSync'}`,
        value: median(ratios),
        unit: '×',
        bar: BARS[compression],
        sense: 'at most',
        rounds: ratios,
        note: `${median(costs).toFixed(2)} and ${median(floors).toFixed(2)} CPU-s per GB`,
      })
    }
  } finally {
    await end(bare)
  }
  return rows
}

const HEAP_BAR = 64

const once = (x: number) => ({ value: x, sense: 'at most', rounds: [x] }) as const

/** 1 GB of backlog: the largest resident size, and what the JavaScript heap saw of each record. */
export async function measureBacklog(bytes: number): Promise<Row[]> {
  const d = await drain({ compression: 'gzip', bytes, daemon: 'fresh' })
  const plain = await drain({ compression: 'none', bytes, daemon: 'fresh' })
  const perRecord = d.heapAllocated / d.records
  const peak = d.peakRss / 1e6
  return [
    {
      id: 'rss-backlog',
      path: '1 GB of backlog through the default budget: resident at most',
      ...once(peak),
      unit: 'MB',
      bar: 400,
      note: '',
    },
    {
      id: 'rss-backlog-none',
      path: 'the same into objects that are not compressed',
      ...once(plain.peakRss / 1e6),
      unit: 'MB',
      bar: 400,
      note: '',
    },
    {
      id: 'heap',
      path: 'JavaScript heap allocated per record of that backlog, all of the daemon',
      ...once(perRecord),
      unit: 'B',
      bar: HEAP_BAR,
      note: `a record has ${Math.round(d.bytes / d.records)} B; an empty object takes 28`,
    },
  ]
}

/** Which functions allocated on the heap while a backlog drained: bytes per record, largest first. */
export async function allocationProfile(bytes: number): Promise<string> {
  const d = await drain({ compression: 'gzip', bytes, daemon: 'fresh', watch: 'allocations' })
  const lines = d.allocators.slice(0, 20).map((a) => `${(a.bytes / d.records).toFixed(2).padStart(8)}  ${a.name}`)
  const all = d.allocators.reduce((sum, a) => sum + a.bytes, 0) / d.records
  return [
    `${d.records} records of ${Math.round(d.bytes / d.records)} B; heap bytes per record, by function:`,
    ...lines,
    `${all.toFixed(2).padStart(8)}  all`,
  ].join('\n')
}

/** A CPU profile of the main thread while a backlog drained: the file's path. */
export async function cpuProfile(bytes: number): Promise<string> {
  return (await drain({ compression: 'gzip', bytes, daemon: 'running', watch: 'cpu' })).profile ?? ''
}
