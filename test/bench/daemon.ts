/** A daemon under measurement: started with the probe on a core of its own, filled, paused, drained, and its output read back. */
import type { ChildProcess } from 'node:child_process'
import { cp, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gunzipSync, zstdDecompressSync } from 'node:zlib'
import { daemonYaml, type PipelineConfig } from '../harness/config.ts'
import { Daemon, freePort } from '../harness/daemon.ts'
import { call, sourceFlags, spawnOn, spawnPart, usageOf } from './child.ts'
import { paddedNumber, rowAt } from './data.ts'
import type { LoadJob, LoadResult } from './load.ts'
import type { Usage } from './probe.ts'

export const KEY = { accessKey: 'AKIDBENCH', secretKey: 'wJalrXUtnFEMIK7MDENGbPxRfiCYBENCHKEY' }
export const STREAM = 'bench'
const main = join(import.meta.dirname, '../../core/main.ts')
const POLL_MS = 200
const DRAIN_MS = 300_000

export type BenchPipeline = Pick<PipelineConfig, 'format' | 'compression' | 'shards' | 'size' | 'interval'>

/** One folder: configuration, log and objects. Everything is a default except the pipeline and what a bench must name. */
export class Place {
  readonly folder: string
  readonly ports: { readonly api: number; readonly admin: number }
  private constructor(folder: string, ports: Place['ports']) {
    this.folder = folder
    this.ports = ports
  }
  static async make(p: BenchPipeline): Promise<Place> {
    const folder = await mkdtemp(join(tmpdir(), 'hydrant-bench-'))
    const place = new Place(folder, { api: await freePort(), admin: await freePort() })
    await place.configure(p)
    return place
  }
  get config(): string {
    return join(this.folder, 'config.yaml')
  }
  async configure(p: BenchPipeline): Promise<void> {
    const pipeline: PipelineConfig = { name: STREAM, ...p, sink: { type: 'file', target: join(this.folder, 'out') } }
    await writeFile(this.config, daemonYaml({ pipelines: [pipeline], memory: '256MiB', keys: KEY }, this.ports))
  }
  /** Another place with the same log. */
  async copy(p: BenchPipeline): Promise<Place> {
    const other = await Place.make(p)
    await cp(join(this.folder, 'data'), join(other.folder, 'data'), { recursive: true })
    return other
  }
  async remove(): Promise<void> {
    await rm(this.folder, { recursive: true, force: true })
  }
  /** From source. Resolves when it is ready. */
  async start(flags: readonly string[] = []): Promise<Subject> {
    const args = [...sourceFlags, ...flags, main, 'serve', '-c', this.config]
    const child = spawnOn(process.execPath, args, { core: 'measured', cwd: this.folder })
    const daemon = new Daemon(child, this.ports)
    await daemon.ready()
    return new Subject(this, child, daemon)
  }
}

export class Subject {
  readonly place: Place
  readonly child: ChildProcess
  readonly daemon: Daemon
  constructor(place: Place, child: ChildProcess, daemon: Daemon) {
    this.place = place
    this.child = child
    this.daemon = daemon
  }
  usage(): Promise<Usage> {
    return usageOf(this.child)
  }
  async #operate(action: 'pause' | 'resume'): Promise<void> {
    const r = await fetch(`${this.daemon.adminUrl}/pipelines/${STREAM}/${action}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: '{}',
    })
    if (!r.ok) throw new Error(`${action}: ${r.status} ${await r.text()}`)
  }
  pause(): Promise<void> {
    return this.#operate('pause')
  }
  resume(): Promise<void> {
    return this.#operate('resume')
  }
  /** Polls seldom, so that asking costs nothing; calls `seen` each time. */
  async drained(seen?: (u: Usage) => void): Promise<void> {
    const end = performance.now() + DRAIN_MS
    for (;;) {
      const status = await this.daemon.status()
      if (seen) seen(await this.usage())
      if (status.every((p) => p.lanes.every((l) => l.lagRecords === 0 && l.openCuts === 0))) return
      if (performance.now() > end) throw new Error(`not drained in ${DRAIN_MS} ms: ${JSON.stringify(status)}`)
      await new Promise((r) => void setTimeout(r, POLL_MS))
    }
  }
  async stop(): Promise<void> {
    await this.daemon.drain()
  }
}

/** Runs a load in its own process; `during` gets what was done between the first and the last byte. */
export class Load {
  readonly #child = spawnPart('load.ts', { core: 'load' })
  async prepare(job: LoadJob): Promise<void> {
    await call(this.#child, { prepare: job }, DRAIN_MS)
  }
  async go(): Promise<LoadResult> {
    const r = (await call(this.#child, 'go', DRAIN_MS)) as LoadResult | { error: string }
    if ('error' in r) throw new Error(r.error)
    return r
  }
  end(): void {
    this.#child.kill('SIGKILL')
  }
}

export interface Expected {
  readonly records: number
  /** Bytes of all objects, uncompressed. */
  readonly bytes: number
  /** Padded records of this size; absent = rows with newlines. */
  readonly recordBytes?: number
}

/** Reads every object back and counts each number: throws unless each of [0, records) is there exactly once and nothing else is. Returns the objects. */
export async function audit(place: Place, e: Expected): Promise<{ objects: number; stored: number }> {
  const seen = new Uint8Array(e.records)
  const folder = join(place.folder, 'out', 'objects')
  const entries = await readdir(folder, { recursive: true, withFileTypes: true })
  const files = entries.filter((f) => f.isFile()).map((f) => join(f.parentPath, f.name))
  let stored = 0
  let bytes = 0
  let strange = 0
  for (const file of files) {
    const raw = await readFile(file)
    const body = opened(raw)
    stored += raw.length
    bytes += body.length
    for (let at = 0; at < body.length;) {
      const n = e.recordBytes === undefined ? rowAt(body, at) : paddedNumber(body, at)
      if (n < 0 || n >= e.records) strange++
      else if (seen[n] !== 255) seen[n] = (seen[n] ?? 0) + 1
      at = e.recordBytes === undefined ? nextLine(body, at) : at + e.recordBytes
    }
  }
  const lost = seen.filter((n) => n === 0).length
  const doubled = seen.filter((n) => n > 1).length
  if (lost + doubled + strange > 0 || bytes !== e.bytes) {
    throw new Error(`read back: ${lost} lost, ${doubled} doubled, ${strange} strange; ${bytes} bytes where ${e.bytes} were put`)
  }
  return { objects: files.length, stored }
}

function nextLine(body: Uint8Array, at: number): number {
  const end = body.indexOf(0x0a, at)
  return end === -1 ? body.length : end + 1
}

function opened(raw: Buffer): Buffer {
  if (raw[0] === 0x1f && raw[1] === 0x8b) return gunzipSync(raw, { chunkSize: 1 << 20 })
  if (raw.length >= 4 && raw.readUInt32LE(0) === 0xfd2f_b528) return zstdDecompressSync(raw)
  return raw
}
