import { createRequire, findPackageJSON } from 'node:module'
import { dirname, join } from 'node:path'
import { tmpdir } from 'node:os'
import { pathToFileURL } from 'node:url'
import { gunzipSync } from 'node:zlib'
import type { FirehoseClient } from '@aws-sdk/client-firehose'
import { loadConfig } from '../config/load.ts'
import { startDaemon, type Daemon } from '../daemon.ts'
import { realHost } from '../host/host.ts'
import { pluginKit } from '../plugin/kit.ts'
import { pluginRegistry } from '../plugin/registry.ts'
import { ConfigError } from '../sdk/errors.ts'
import type { Host } from '../sdk/host.ts'
import { createLogger, logLevel } from '../telemetry/log.ts'

const BATCH = 250
const BAR = 30
const DELIVERY_MS = 30_000
const BUCKET = 'demo'
const CONFIG = `
log: {type: embedded, path: ./data}
api: {listen: "127.0.0.1:0"}
admin: {listen: "127.0.0.1:0"}
limits: {free_disk: 64MiB}
buckets: {default: {path: ./buckets}}
`

interface Source {
  readonly stream: string
  readonly what: string
  readonly records: readonly object[]
}

/** `hydrant demo`: a daemon in a temporary folder, real records through the Firehose API with the AWS SDK, then what arrived. */
export async function runDemo(): Promise<number> {
  const host = realHost()
  const sources = await readSources(host)
  const folder = join(tmpdir(), `hydrant-demo-${Buffer.from(host.random.bytes(6)).toString('hex')}`)
  await host.fs.mkdir(folder)
  try {
    out(
      `hydrant demo: ${sources.map((s) => `${s.records.length} ${s.what}`).join(' and ')} through the Firehose API, on the embedded log in ${folder}`,
    )
    const daemon = await openDaemon(host, folder)
    const sent = await send(daemon, sources)
    await delivery(host, daemon)
    const { open } = await daemon.stop(AbortSignal.timeout(30_000))
    if (open === null || open.length > 0) out('the drain timed out')
    const delivered = await show(host, join(folder, 'buckets', BUCKET), sources)
    out(`sent ${sent}, delivered ${delivered}`)
    return sent === delivered ? 0 : 1
  } finally {
    await host.fs.remove(folder)
  }
}

function out(line: string): void {
  process.stdout.write(`${line}\n`)
}

async function readSources(host: Host): Promise<Source[]> {
  const data = join(dirname(packageFile('vega-datasets')), 'data')
  const json = async (name: string): Promise<unknown> => JSON.parse(Buffer.from(await host.fs.readFile(join(data, name))).toString('utf8'))
  const quakes = (await json('earthquakes.json')) as { features: object[] }
  const flights = (await json('flights-20k.json')) as object[]
  return [
    { stream: 'earthquakes', what: 'earthquakes (USGS)', records: quakes.features },
    { stream: 'flights', what: 'flights', records: flights },
  ]
}

function packageFile(name: string): string {
  const file = findPackageJSON(name, import.meta.url)
  if (file === undefined)
    throw new ConfigError('Demo', `the demo needs the packages of a clone of the repository: ${name} is not installed`)
  return file
}

async function openDaemon(host: Host, folder: string): Promise<Daemon> {
  const plugins = pluginRegistry({ baseDir: folder, host, kit: pluginKit })
  const loaded = await loadConfig({ file: join(folder, 'config.yaml'), text: CONFIG, env: {}, host, plugins })
  if ('errors' in loaded) throw new Error(loaded.errors.map((e) => e.message).join('; '))
  const level = logLevel(process.env['HYDRANT_LOG_LEVEL'] ?? 'warn')
  return startDaemon({
    config: loaded.config,
    host,
    log: createLogger({ level }),
    debug: level === 'debug',
    plugins,
    restored: false,
    yaml: () => Promise.resolve([]),
  })
}

/** The unmodified SDK: the endpoint is all that it is told. */
async function send(daemon: Daemon, sources: readonly Source[]): Promise<number> {
  const sdk = (await import(
    pathToFileURL(createRequire(packageFile('@aws-sdk/client-firehose')).resolve('@aws-sdk/client-firehose')).href
  )) as typeof import('@aws-sdk/client-firehose')
  const client = new sdk.FirehoseClient({
    endpoint: `http://${daemon.api.host}:${daemon.api.port}`,
    region: 'us-east-1',
    credentials: { accessKeyId: 'demo', secretAccessKey: 'demo' },
  })
  let sent = 0
  try {
    for (const s of sources) {
      await createStream(client, sdk, s.stream)
      for (let at = 0; at < s.records.length; at += BATCH) {
        const batch = s.records.slice(at, at + BATCH)
        const Records = batch.map((r) => ({ Data: Buffer.from(JSON.stringify(r)) }))
        const answer = await client.send(new sdk.PutRecordBatchCommand({ DeliveryStreamName: s.stream, Records }))
        sent += batch.length - (answer.FailedPutCount ?? 0)
        bar(s.stream, at + batch.length, s.records.length)
      }
    }
  } finally {
    client.destroy()
  }
  return sent
}

async function createStream(client: FirehoseClient, sdk: typeof import('@aws-sdk/client-firehose'), stream: string): Promise<void> {
  await client.send(
    new sdk.CreateDeliveryStreamCommand({
      DeliveryStreamName: stream,
      ExtendedS3DestinationConfiguration: {
        RoleARN: 'arn:aws:iam::000000000000:role/demo',
        BucketARN: `arn:aws:s3:::${BUCKET}`,
        Prefix: `${stream}/!{timestamp:yyyy/MM/dd}/`,
        ErrorOutputPrefix: 'errors/!{firehose:error-output-type}/',
        BufferingHints: { SizeInMBs: 1, IntervalInSeconds: 1 },
        CompressionFormat: 'GZIP',
        ProcessingConfiguration: { Enabled: true, Processors: [{ Type: 'AppendDelimiterToRecord' }] },
      },
    }),
  )
}

interface Lag {
  readonly pipelines: readonly { readonly lanes: readonly { readonly lagRecords: number }[] }[]
}

/** Every record is durable by now; waits until every one is delivered, for at most half a minute. */
async function delivery(host: Host, daemon: Daemon): Promise<void> {
  const until = host.clock.monotonic() + DELIVERY_MS
  let most = 0
  for (;;) {
    const { pipelines } = (await (await fetch(`${daemon.admin}/pipelines`)).json()) as Lag
    const lag = pipelines.flatMap((p) => p.lanes).reduce((n, l) => n + l.lagRecords, 0)
    most = Math.max(most, lag, 1)
    if (lag === 0 || host.clock.monotonic() > until) return bar('delivered', most, most)
    bar('delivered', most - lag, most)
    await host.clock.sleep(100)
  }
}

function bar(name: string, done: number, of: number): void {
  const full = Math.round((done / of) * BAR)
  const end = done === of ? '\n' : ''
  if (process.stdout.isTTY) process.stdout.write(`\r${name.padEnd(12)} [${'#'.repeat(full)}${'.'.repeat(BAR - full)}] ${done}/${of}${end}`)
  else if (end) process.stdout.write(`${name.padEnd(12)} [${'#'.repeat(BAR)}] ${done}/${of}\n`)
}

/** Reads the bucket back as a user would, and counts. */
async function show(host: Host, bucket: string, sources: readonly Source[]): Promise<number> {
  let rows = 0
  for (const s of sources) {
    const files = await walk(host, join(bucket, s.stream))
    let bytes = 0
    let first = ''
    let mine = 0
    for (const f of files) {
      const stored = await host.fs.readFile(f)
      bytes += stored.length
      const lines = gunzipSync(stored).toString('utf8').split('\n')
      mine += lines.length
      first ||= lines[0] ?? ''
    }
    rows += mine
    out(`${s.stream}: ${files.length} objects, ${mine} rows, ${bytes} bytes gzip`)
    if (files[0]) out(`  ${files[0].slice(bucket.length + 1)}`)
    out(`  ${first.length > 160 ? `${first.slice(0, 160)}…` : first}`)
  }
  return rows
}

async function walk(host: Host, folder: string): Promise<string[]> {
  const found: string[] = []
  if ((await host.fs.stat(folder)) === null) return found
  for (const name of (await host.fs.list(folder)).toSorted()) {
    if (name.startsWith('.')) continue
    const path = join(folder, name)
    if ((await host.fs.stat(path))?.isDirectory) found.push(...(await walk(host, path)))
    else found.push(path)
  }
  return found
}
