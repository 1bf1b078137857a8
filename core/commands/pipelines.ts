import type { PipelineStatus } from '../pipeline/control.ts'
import { errorMessage } from '../sdk/errors.ts'
import { issueLine, openConfig } from './check.ts'
import type { Output } from './output.ts'

export interface PipelinesOptions {
  readonly admin?: string
  readonly config?: string
  readonly json: boolean
  readonly force?: boolean
  readonly shard?: string
  readonly from?: string
}
const DEFAULT_ADMIN = 'http://127.0.0.1:4581'
const EVERYWHERE = ['0.0.0.0', '::']

/** What went wrong, with a word for scripts: the daemon's own code, or usage, config, unreachable, not-admin. */
class Failure extends Error {
  readonly code: string
  constructor(code: string, message: string, options?: { cause: unknown }) {
    super(message, options)
    this.code = code
  }
}
const usage = (message: string): Failure => new Failure('usage', message)

async function adminAddress(o: PipelinesOptions): Promise<string> {
  if (o.admin !== undefined) {
    const url = URL.parse(o.admin)
    if (!url || !/^https?:$/.test(url.protocol)) throw usage(`--admin ${JSON.stringify(o.admin)}: expected a URL, such as ${DEFAULT_ADMIN}`)
    return url.origin
  }
  if (o.config === undefined) return DEFAULT_ADMIN
  const { loaded } = await openConfig(o.config)
  if ('errors' in loaded) {
    const { config } = o
    throw new Failure('config', loaded.errors.map((e) => issueLine(config, e).trimEnd()).join('\n'))
  }
  const { host, port } = loaded.config.admin.listen
  const name = EVERYWHERE.includes(host) ? '127.0.0.1' : host
  return `http://${name.includes(':') ? `[${name}]` : name}:${port}`
}

/** `--from` as the admin API takes it. */
function fromOf(text: string): unknown {
  if (text === 'earliest') return text
  if (/^\d{1,15}$/.test(text)) return { position: Number(text) }
  const ms = Date.parse(text)
  if (Number.isNaN(ms) || !/^\d{4}-\d\d-\d\dT/.test(text)) {
    throw usage(`--from ${JSON.stringify(text)}: expected earliest, a position, or a time such as 2026-01-31T00:00:00Z`)
  }
  return { timestamp: new Date(ms).toISOString() }
}

function bodyOf(action: string, o: PipelinesOptions): unknown {
  const shard = o.shard === undefined ? {} : { shard: o.shard }
  if (action === 'apply') return { force: o.force ?? false }
  if (action === 'release') return { force: o.force ?? false, ...shard }
  if (action === 'replay') return { from: fromOf(o.from ?? ''), ...shard }
  return {}
}

async function call(address: string, path: string, body: unknown): Promise<Readonly<Record<string, unknown>>> {
  let response: Response
  try {
    const post = { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) }
    response = await fetch(address + path, body === undefined ? {} : post)
  } catch (e) {
    const cause = e instanceof Error ? e.cause : undefined
    const why = `no daemon answers at ${address} (${errorMessage(cause ?? e)}): is it running? hydrant serve -c FILE`
    throw new Failure('unreachable', why, { cause: e })
  }
  // every answer of the AWS API has this header, none of the admin port has
  if (response.headers.has('x-amzn-requestid')) {
    await response.body?.cancel()
    throw new Failure(
      'not-admin',
      `${address} is the port of the API (api.listen), not the admin port (admin.listen, ${DEFAULT_ADMIN} by default)`,
    )
  }
  const text = await response.text()
  let answer: Readonly<Record<string, unknown>> & { error?: { code?: string; message?: string } }
  try {
    answer = JSON.parse(text) as typeof answer
  } catch {
    throw new Failure('not-admin', `${address}${path} answered ${response.status}, not JSON: is this the admin address of a hydrant?`)
  }
  if (!response.ok) {
    const { code = 'internal', message = `${address}${path} answered ${response.status}` } = answer.error ?? {}
    throw new Failure(code, message)
  }
  return answer
}

/** Columns as wide as their widest cell; the last one is free. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, i) => Math.max(...rows.map((r) => (r[i] ?? '').length)))
  const line = (r: readonly string[]): string => r.map((cell, i) => (i === r.length - 1 ? cell : cell.padEnd(widths[i] ?? 0))).join('  ')
  return rows.map((r) => `${line(r).trimEnd()}\n`).join('')
}

function age(ms: number): string {
  return ms < 1_000 ? `${Math.round(ms)}ms` : ms < 600_000 ? `${(ms / 1000).toFixed(1)}s` : `${Math.round(ms / 60_000)}m`
}
function listing(pipelines: readonly PipelineStatus[]): string {
  const head = ['NAME', 'FROM', 'SINK', 'SHARD', 'STATE', 'POSITION', 'LAG', 'FRESHNESS', 'REASON']
  const rows = pipelines.flatMap((p) => {
    const state = p.paused ? 'paused' : p.status.toLowerCase()
    if (p.lanes.length === 0) return [[p.name, p.origin, p.sink, '-', state, '-', '-', '-', '']]
    return p.lanes.map((l) => [
      p.name, p.origin, p.sink, l.shard, p.paused ? 'paused' : l.state, String(l.position), String(l.lagRecords), age(l.freshnessMs), l.reason ?? '',
    ]) // prettier-ignore
  })
  return rows.length === 0 ? 'no pipelines\n' : table([head, ...rows])
}

/** What an action did, in a line or a few. */
function report(action: string, name: string, a: Readonly<Record<string, unknown>>): string {
  if (action === 'pause') return `${name}: paused\n`
  if (action === 'resume') return `${name}: resumed\n`
  if (action === 'apply') return `${name}: ${a['changed'] === true ? 'in force' : 'was in force already'}, spec ${String(a['specHash'])}\n`
  if (action === 'replay') {
    const shards = a['shards'] as readonly { shard: string; from: number }[]
    return shards.map((s) => `${name}/${s.shard}: delivering again from position ${s.from}, lineage ${String(a['lineage'])}\n`).join('')
  }
  const shards = a['shards'] as readonly { shard: string; released: number; message: string }[]
  return shards.map((s) => `${name}/${s.shard}: ${s.released} released: ${s.message}\n`).join('')
}

/** `hydrant pipelines ACTION [NAME]` against the admin API of a running daemon. 2 = wrong usage. With --json errors are JSON, too. */
export async function runPipelines(action: string, name: string | undefined, o: PipelinesOptions, output: Output): Promise<number> {
  try {
    const body = action === 'list' ? undefined : bodyOf(action, o)
    const address = await adminAddress(o)
    const path = name === undefined ? '/pipelines' : `/pipelines/${encodeURIComponent(name)}/${action}`
    const answer = await call(address, path, body)
    if (o.json) output.out(`${JSON.stringify(answer, null, 2)}\n`)
    else output.out(name === undefined ? listing(answer['pipelines'] as readonly PipelineStatus[]) : report(action, name, answer))
    return 0
  } catch (e) {
    const code = e instanceof Failure ? e.code : 'internal'
    if (o.json) output.out(`${JSON.stringify({ error: { code, message: errorMessage(e) } }, null, 2)}\n`)
    else output.err(code === 'config' ? `${errorMessage(e)}\n` : `hydrant: ${errorMessage(e)}\n`)
    return code === 'usage' ? 2 : 1
  }
}
