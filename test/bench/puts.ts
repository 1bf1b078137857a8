/** The put paths: signed requests, acknowledged when durable, in CPU seconds of the daemon, beside a bare node:http and beside moto. */
import { cpuOfForeign, end, message, spawnPart, usageOf } from './child.ts'
import { audit, KEY, Load, Place, STREAM, type Subject } from './daemon.ts'
import type { LoadJob, LoadResult } from './load.ts'
import { startMoto, type Moto } from './moto.ts'
import { median, type Row } from './report.ts'

const RECORD_BYTES = 1_024
const BATCH = 500
const SINGLE_CONNECTIONS = 64
const BATCH_CONNECTIONS = 8
const SINGLE_ROUNDS = 3

export interface PutSizes {
  readonly rounds: number
  /** Requests a round. */
  readonly batches: number
  readonly singles: number
  readonly motoBatches: number
}
interface Figures {
  readonly batch: number[]
  readonly single: number[]
  readonly noop: number[]
  readonly moto: number[]
}

/** While the pipeline is paused: the put path alone. Then everything is delivered and read back. */
export async function measurePuts(sizes: PutSizes): Promise<Row[]> {
  const place = await Place.make({ format: 'raw', compression: 'none', size: '64MiB', interval: '2s' })
  const load = new Load()
  const noop = spawnPart('noop.ts', { core: 'measured', probe: true })
  const moto = await startMoto()
  try {
    const { port } = (await message(noop)) as { port: number }
    const subject = await place.start()
    await subject.pause()
    const bench = new Bench(subject, load)
    const figures: Figures = { batch: [], single: [], noop: [], moto: [] }
    // the first round of each path warms up every process, the engine's compilers above all, and does not count
    for (let round = 0; round <= sizes.rounds; round++) {
      const batch = await bench.batches(sizes.batches)
      const peer = moto ? await bench.moto(moto, sizes.motoBatches) : NaN
      if (round === 0) continue
      figures.batch.push(batch)
      figures.moto.push(peer)
    }
    // rounds of a second: a neighbour of the machine that is busy for a while spoils few of them
    for (let round = 0; round <= SINGLE_ROUNDS * sizes.rounds; round++) {
      const single = await bench.singles(sizes.singles)
      const bare = await bench.noop(noop, port, sizes.singles)
      if (round === 0) continue
      figures.single.push(single)
      figures.noop.push(bare)
    }
    await subject.resume()
    await subject.drained()
    await subject.stop()
    await audit(place, { records: bench.records, bytes: bench.records * RECORD_BYTES, recordBytes: RECORD_BYTES })
    return rowsOf(figures, moto !== null)
  } finally {
    load.end()
    await end(noop)
    await moto?.stop()
    await place.remove()
  }
}

class Bench {
  /** Put so far: the next number. */
  records = 0
  readonly #subject: Subject
  readonly #load: Load
  constructor(subject: Subject, load: Load) {
    this.#subject = subject
    this.#load = load
  }
  async #run(
    job: Pick<LoadJob, 'kind' | 'port' | 'connections' | 'from' | 'records'>,
    cpu: () => Promise<number>,
  ): Promise<[LoadResult, number]> {
    const rest = { credentials: KEY, stream: STREAM, recordBytes: RECORD_BYTES, shape: 'evt300', batch: BATCH } as const
    await this.#load.prepare({ ...job, ...rest })
    const before = await cpu()
    const result = await this.#load.go()
    return [result, (await cpu()) - before]
  }
  async #put(kind: 'batch' | 'single', records: number): Promise<[LoadResult, number]> {
    const connections = kind === 'batch' ? BATCH_CONNECTIONS : SINGLE_CONNECTIONS
    const { api: port } = this.#subject.place.ports
    const job = { kind, port, connections, from: this.records, records }
    this.records += records
    return this.#run(job, async () => (await this.#subject.usage()).cpu)
  }
  /** Payload MB per CPU second. */
  async batches(requests: number): Promise<number> {
    const [r, cpu] = await this.#put('batch', requests * BATCH)
    return r.payload / 1e6 / cpu
  }
  /** Requests per CPU second. */
  async singles(requests: number): Promise<number> {
    const [r, cpu] = await this.#put('single', requests)
    return r.requests / cpu
  }
  async noop(child: Parameters<typeof usageOf>[0], port: number, requests: number): Promise<number> {
    const job = { kind: 'single', port, connections: SINGLE_CONNECTIONS, from: 0, records: requests } as const
    const [r, cpu] = await this.#run(job, async () => (await usageOf(child)).cpu)
    return r.requests / cpu
  }
  async moto(moto: Moto, requests: number): Promise<number> {
    const job = { kind: 'batch', port: moto.port, connections: 1, from: 0, records: requests * BATCH } as const
    const [r, cpu] = await this.#run(job, () => cpuOfForeign(moto.pid))
    return r.payload / 1e6 / cpu
  }
}

const ratios = (a: readonly number[], b: readonly number[]): number[] => a.map((x, i) => x / (b[i] ?? NaN))
function rowOf(id: string, path: string, rounds: readonly number[], unit: string, bar: number, note = ''): Row {
  return { id, path, value: median(rounds), unit, bar, sense: 'at least', rounds, note }
}

function rowsOf(f: Figures, withMoto: boolean): Row[] {
  const batch = 'PutRecordBatch 500 × 1 KB, signed, durable'
  const single = 'PutRecord 1 KB, signed, durable, 64 connections'
  const peer = `moto ${median(f.moto).toFixed(1)} MB`
  const bare = `no-op ${Math.round(median(f.noop))} requests`
  return [
    rowOf('batch', `${batch}: payload per CPU-second`, f.batch, 'MB', 100),
    ...(withMoto ? [rowOf('batch-moto', `${batch}: beside moto`, ratios(f.batch, f.moto), '×', 10, peer)] : []),
    rowOf('single', `${single}: requests per CPU-second`, f.single, 'requests', 8_000),
    rowOf('single-noop', `${single}: beside node:http that does nothing`, ratios(f.single, f.noop), '×', 0.5, bare),
  ]
}
