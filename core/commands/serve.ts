import { loadConfig } from '../config/load.ts'
import type { Config, PluginRegistry } from '../config/types.ts'
import { startDaemon, type Daemon, type DaemonOptions } from '../daemon.ts'
import { realHost } from '../host/host.ts'
import { pluginKit } from '../plugin/kit.ts'
import { pluginRegistry } from '../plugin/registry.ts'
import type { Host } from '../sdk/host.ts'
import type { Logger } from '../sdk/sink.ts'
import { createLogger, logLevel } from '../telemetry/log.ts'
import { dirname, resolve } from 'node:path'

const EXIT_MS = 500

export interface ServeOptions {
  readonly config: string
  readonly restored: boolean
  /** Print the one command that sends a record (npm start). */
  readonly hint: boolean
  readonly test?: NonNullable<DaemonOptions['test']>
}

/**
 * `hydrant serve`: runs until SIGTERM or SIGINT, then drains within drain_timeout. Resolves with the exit code. SIGHUP reads the
 * certificates again; where there are none it stops the daemon like the others (a terminal was closed).
 */
export async function runServe(o: ServeOptions): Promise<number> {
  const host = realHost()
  const level = logLevel(process.env['HYDRANT_LOG_LEVEL'])
  const log = createLogger({ level })
  const file = resolve(o.config)
  const plugins = pluginRegistry({ baseDir: dirname(file), host, kit: pluginKit })
  const config = await load(file, host, plugins)
  if (!config) return 1
  for (const w of config.warnings) log.warn({ line: w.line, column: w.column, path: w.path }, w.message)
  const yaml = async (): Promise<Config['pipelines']> => {
    const again = await loadConfig({ file, env: process.env, host, plugins })
    if ('errors' in again) throw new Error(`${file}: ${again.errors.map((e) => `${e.line}:${e.column} ${e.message}`).join('; ')}`)
    return again.config.pipelines
  }
  const signals = stopSignals(config.api.tls ? ['SIGTERM', 'SIGINT'] : ['SIGTERM', 'SIGINT', 'SIGHUP'])
  let started: Daemon | null = null
  if (config.api.tls) process.on('SIGHUP', () => void started?.reloadCertificates())
  const daemon = await startDaemon({
    config,
    host,
    log,
    debug: level === 'debug',
    plugins,
    restored: o.restored,
    yaml,
    ...(o.test ? { test: o.test } : {}),
  })
  started = daemon
  announce(config, daemon, log, o.hint)
  const signal = await signals.first
  log.info({ signal, drainMs: config.drainMs }, 'stopping: no new records, open cuts are delivered')
  const deadline = AbortSignal.any([AbortSignal.timeout(config.drainMs), signals.second])
  const { open } = await daemon.stop(deadline)
  const clean = open !== null && open.length === 0
  if (clean) log.info({}, 'stopped; every open cut is delivered')
  else log.warn({ open: open ?? 'unknown' }, 'stopped with open cuts: they go on at the next start')
  const code = clean ? 0 : 1
  // a sink call that never settles must not keep the process
  setTimeout(() => process.exit(code), EXIT_MS).unref()
  return code
}

async function load(file: string, host: Host, plugins: PluginRegistry): Promise<Config | null> {
  const loaded = await loadConfig({ file, env: process.env, host, plugins })
  if ('config' in loaded) return loaded.config
  for (const e of loaded.errors) process.stderr.write(`${file}:${e.line}:${e.column} ${e.path}: ${e.message}\n`)
  return null
}

/** The first asks for a drain, the second ends it at once. */
function stopSignals(names: readonly NodeJS.Signals[]): { first: Promise<string>; second: AbortSignal } {
  const first = Promise.withResolvers<string>()
  const second = new AbortController()
  let seen = 0
  for (const name of names) {
    process.on(name, () => {
      if (++seen === 1) first.resolve(name)
      else second.abort(new Error(`${name} again`))
    })
  }
  return { first: first.promise, second: second.signal }
}

function announce(config: Config, daemon: Daemon, log: Logger, hint: boolean): void {
  const scheme = config.api.tls ? 'https' : 'http'
  const api = `${scheme}://${daemon.api.host.includes(':') ? `[${daemon.api.host}]` : daemon.api.host}:${daemon.api.port}`
  const { auth } = config.api
  log.info({ api, admin: daemon.admin, auth, data: config.log.path, pipelines: config.pipelines.length }, 'ready')
  if (!hint) return
  const stream = config.pipelines[0]?.name ?? 'STREAM'
  const record = Buffer.from('{"hello":"hydrant"}\n').toString('base64')
  process.stdout.write(
    `hydrant is listening on ${api}. Send a record:\n\n` +
      `  curl -s ${api} -H 'X-Amz-Target: Firehose_20150804.PutRecord' -H 'Content-Type: application/x-amz-json-1.1' \\\n` +
      `    -d '{"DeliveryStreamName":"${stream}","Record":{"Data":"${record}"}}'\n\n` +
      `It arrives below ${config.baseDir}/data within the pipeline's interval. Health and metrics: ${daemon.admin}. Stop with Ctrl-C.\n`,
  )
}
