/** The built package: how long from its start to the first accepted put, and how large it is when nothing happens. */
import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { FirehoseClient } from '../harness/client.ts'
import { Daemon } from '../harness/daemon.ts'
import { spawnOn, usageOf } from './child.ts'
import { KEY, Place, STREAM } from './daemon.ts'
import { median, type Row } from './report.ts'

const root = join(import.meta.dirname, '../..')
const TRY_MS = 2
const FIRST_PUT_MS = 30_000
const IDLE_SHARDS = 16
const IDLE_MS = 5_000

/** Compiles the packages as they are published: core/dist, plugins/*\/dist. */
export function build(): void {
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [join(root, 'node_modules/typescript/bin/tsc'), '-b', join(root, 'tsconfig.build.json'), '--force'],
    { cwd: root, encoding: 'utf8' },
  )
  if (status !== 0) throw new Error(`building the packages: exit ${status}\n${stdout}${stderr}`)
}

const built = join(root, 'core/bin/hydrant.js')

/** Milliseconds from the start of the process to the answer to its first put, in a new folder. */
async function firstPut(cache: string): Promise<number> {
  const place = await Place.make({ format: 'ndjson', compression: 'gzip', size: '5MiB', interval: '60s' })
  const client = new FirehoseClient({ url: `http://127.0.0.1:${place.ports.api}`, credentials: KEY, connections: 1 })
  try {
    const began = performance.now()
    const child = spawnOn(process.execPath, [built, 'serve', '-c', place.config], {
      core: 'measured',
      cwd: place.folder,
      env: { NODE_COMPILE_CACHE: cache },
    })
    const daemon = new Daemon(child, place.ports)
    const input = { DeliveryStreamName: STREAM, Record: { Data: 'e30K' } }
    for (;;) {
      const answer = await client.call('PutRecord', input).catch(() => null)
      if (answer?.status === 200) break
      if (performance.now() - began > FIRST_PUT_MS) throw new Error(`no put was accepted in ${FIRST_PUT_MS} ms: ${JSON.stringify(answer)}`)
      await new Promise((r) => void setTimeout(r, TRY_MS))
    }
    const ms = performance.now() - began
    await daemon.kill()
    return ms
  } finally {
    client.close()
    await place.remove()
  }
}

async function idleRss(): Promise<number> {
  const place = await Place.make({ format: 'ndjson', compression: 'gzip', size: '5MiB', interval: '60s', shards: IDLE_SHARDS })
  try {
    const child = spawnOn(process.execPath, ['--import', join(import.meta.dirname, 'probe.ts'), built, 'serve', '-c', place.config], {
      core: 'measured',
      cwd: place.folder,
    })
    const daemon = await new Daemon(child, place.ports).ready()
    await Promise.race([once(child, 'exit'), new Promise((r) => void setTimeout(r, IDLE_MS))])
    const { rss } = await usageOf(child)
    await daemon.drain()
    return rss / 1e6
  } finally {
    await place.remove()
  }
}

export async function measureStart(rounds: number): Promise<Row[]> {
  build()
  const cache = await mkdtemp(join(tmpdir(), 'hydrant-bench-cache-'))
  try {
    const cold = await firstPut(cache)
    const times: number[] = []
    for (let i = 0; i < rounds; i++) times.push(await firstPut(cache))
    const rss = await idleRss()
    return [
      {
        id: 'start',
        path: 'start of the built package to the first accepted put',
        value: median(times) / 1000,
        unit: 's',
        bar: 1,
        sense: 'at most',
        rounds: times.map((t) => t / 1000),
        note: `first start of all, nothing compiled before: ${(cold / 1000).toFixed(2)} s`,
      },
      {
        id: 'rss-idle',
        path: `resident, idle, ${IDLE_SHARDS} shards`,
        value: rss,
        unit: 'MB',
        bar: 150,
        sense: 'at most',
        rounds: [rss],
        note: '',
      },
    ]
  } finally {
    await rm(cache, { recursive: true, force: true })
  }
}
