import { dirname, resolve } from 'node:path'
import { certificateExpiry } from '../api/certificates.ts'
import { configJsonSchema } from '../config/json-schema.ts'
import { loadConfig, type Loaded } from '../config/load.ts'
import { bucketTarget } from '../config/buckets.ts'
import { showSize } from '../config/units.ts'
import type { Config, ConfigIssue, PluginRegistry } from '../config/types.ts'
import { networkFileSystem, tryFolder } from '../host/folders.ts'
import { realHost } from '../host/host.ts'
import { pluginKit } from '../plugin/kit.ts'
import { pluginRegistry } from '../plugin/registry.ts'
import { errorMessage } from '../sdk/errors.ts'
import type { Host } from '../sdk/host.ts'
import type { Logger, ObjectSink } from '../sdk/sink.ts'
import { limits } from '../limits.ts'
import type { Output } from './output.ts'

const quiet: Logger = { debug() {}, info() {}, warn() {}, error() {} }

interface Opened {
  readonly host: Host
  readonly plugins: PluginRegistry
  readonly loaded: Loaded
}
/** Loads a file the way serve does. */
export async function openConfig(file: string): Promise<Opened> {
  const host = realHost()
  const plugins = pluginRegistry({ baseDir: dirname(resolve(file)), host, kit: pluginKit })
  return { host, plugins, loaded: await loadConfig({ file, env: process.env, host, plugins }) }
}
/** `FILE:LINE:COL path: message`, as compilers do, so that editors can jump there. */
export function issueLine(file: string, i: ConfigIssue, kind = ''): string {
  return `${file}:${i.line}:${i.column} ${kind}${i.path === '' ? '' : `${i.path}: `}${i.message}\n`
}

interface Target {
  readonly name: string
  readonly type: string
  readonly options: Readonly<Record<string, unknown>>
  readonly timeoutMs: number
}
export interface Finding {
  readonly target: string
  readonly level: 'ok' | 'warning' | 'error'
  readonly message: string
}

/** Every sink and bucket of a configuration, once each. */
function targetsOf(config: Config): Target[] {
  const sinks = config.pipelines.flatMap((p) => [
    { name: `pipelines.${p.name}.sink`, ...p.sink },
    ...(p.rejects ? [{ name: `pipelines.${p.name}.backup.sink`, ...p.rejects }] : []),
  ])
  // `default` has no bucket of its own to reach unless it is a folder
  const buckets = Object.keys(config.buckets)
    .filter((name) => name !== 'default')
    .map((name) => ({ name: `buckets.${name}`, ...bucketTarget(config.buckets, name), timeoutMs: limits.attemptMs }))
  return [...sinks, ...buckets]
}

async function probe(sink: ObjectSink, t: Target): Promise<Finding[]> {
  if (!sink.probe) return [{ target: t.name, level: 'ok', message: `${t.type} has nothing to probe` }]
  const found = await sink.probe(AbortSignal.timeout(t.timeoutMs))
  return found.map((f) => ({ target: t.name, ...f }))
}

/** Makes each sink (no network), and with `reach` asks it to probe its target. Never rejects for a sink's fault. */
async function trySinks(config: Config, o: Opened, reach: boolean): Promise<Finding[]> {
  const tried = targetsOf(config).map(async (t): Promise<Finding[]> => {
    try {
      const { plugin } = await o.plugins.resolve(t.type)
      if (plugin.kind !== 'object') return []
      const context = { host: o.host, log: quiet, pipelineId: 'check', memory: limits.multipartBytes, baseDir: config.baseDir }
      const sink = plugin.create(t.options, context)
      try {
        return reach ? await probe(sink, t) : []
      } finally {
        await sink.close()
      }
    } catch (e) {
      const timedOut = e instanceof Error && e.name === 'TimeoutError'
      return [{ target: t.name, level: 'error', message: timedOut ? `no answer within ${t.timeoutMs} ms` : errorMessage(e) }]
    }
  })
  return (await Promise.all(tried)).flat()
}

/** The folder of the log, by the rules that the log has at its start. Nothing is left behind. */
async function tryLog(config: Config): Promise<Finding> {
  const { path } = config.log
  const say = (level: Finding['level'], message: string): Finding => ({ target: 'log', level, message })
  try {
    const { type, freeBytes } = await tryFolder('log.path', path)
    const network = networkFileSystem(type)
    if (network !== null)
      return say('error', `log.path ${path} is on ${network}: locks and memory maps do not hold there. Use a local disk`)
    const free = `${Math.floor(freeBytes / 1024 ** 2)} MiB are free`
    if (freeBytes >= config.limits.freeDiskBytes) return say('ok', `${path}: files can be created, ${free}`)
    return say('warning', `${path}: ${free}, less than limits.free_disk (${showSize(config.limits.freeDiskBytes)}): puts would be refused`)
  } catch (e) {
    return say('error', errorMessage(e))
  }
}

/** As the alarm of the runbook. */
const CERTIFICATE_DAYS = 7
const DAY_MS = 86_400_000

/** The certificate of the API, as serve will find it. */
async function tryCertificate(config: Config, host: Host): Promise<Finding[]> {
  const { tls } = config.api
  if (!tls) return []
  const say = (level: Finding['level'], message: string): Finding[] => [{ target: 'api.tls', level, message }]
  try {
    const expiresMs = await certificateExpiry(tls, host)
    const end = `${tls.cert} ends ${new Date(expiresMs).toISOString()}`
    const left = expiresMs - host.clock.now()
    return left <= 0 ? say('error', `${end}: it has expired`) : say(left < CERTIFICATE_DAYS * DAY_MS ? 'warning' : 'ok', end)
  } catch (e) {
    return say('error', errorMessage(e))
  }
}

/** `hydrant check`: 0 = the file is good (warnings are no fault), 1 = it is not, or a probe found an error. */
export async function runCheck(o: { config: string; json: boolean; probe: boolean }, output: Output): Promise<number> {
  const opened = await openConfig(o.config)
  const { loaded } = opened
  const errors = 'errors' in loaded ? loaded.errors : []
  const warnings = 'config' in loaded ? loaded.config.warnings : []
  const probes = 'config' in loaded ? await trySinks(loaded.config, opened, o.probe) : []
  if ('config' in loaded) probes.unshift(...(await tryCertificate(loaded.config, opened.host)))
  if ('config' in loaded && o.probe) probes.unshift(await tryLog(loaded.config))
  const ok = errors.length === 0 && probes.every((p) => p.level !== 'error')
  if (o.json) {
    output.out(`${JSON.stringify({ file: o.config, ok, errors, warnings, probes }, null, 2)}\n`)
    return ok ? 0 : 1
  }
  for (const e of errors) output.err(issueLine(o.config, e))
  for (const w of warnings) output.out(issueLine(o.config, w, 'warning: '))
  for (const p of probes) output[p.level === 'error' ? 'err' : 'out'](`${p.target}: ${p.level}: ${p.message}\n`)
  if (ok && 'config' in loaded) {
    const n = loaded.config.pipelines.length
    output.out(`${o.config}: good, ${n} ${n === 1 ? 'pipeline' : 'pipelines'}\n`)
  }
  return ok ? 0 : 1
}

/** `hydrant config schema`. */
export async function runConfigSchema(output: Output): Promise<number> {
  const plugins = pluginRegistry({ baseDir: process.cwd(), host: realHost(), kit: pluginKit })
  output.out(`${JSON.stringify(await configJsonSchema(plugins), null, 2)}\n`)
  return 0
}
