import { dirname, isAbsolute, resolve } from 'node:path'
import { z } from 'zod'
import type { Host } from '../sdk/host.ts'
import type { PipelineSpec } from '../pipeline/spec.ts'
import { limits } from '../limits.ts'
import { errorCode, errorMessage } from '../sdk/errors.ts'
import { parseConfigDocument, type Path } from './document.ts'
import { reporter, type Reporter } from './issues.ts'
import { valueAt } from './introspect.ts'
import { DEFAULT_BUCKET_PATH } from './buckets.ts'
import { checkPipeline, pipelineSpec, type Findings } from './pipelines.ts'
import { pathKey, resolveReferences } from './references.ts'
import { checkFolderPrefixes, folderClash } from './places.ts'
import { firstPass, type RawConfig, type RawSink } from './schema.ts'
import { readBucket, readSink, type PluginOptions } from './sinks.ts'
import { showSize } from './units.ts'
import type { ApiConfig, BucketConfig, Config, ConfigIssue, Listen, PluginRegistry } from './types.ts'

export interface LoadOptions {
  /** Path of the file; its folder is where relative paths in it start. */
  readonly file: string
  /** The file's text, when it is not to be read. */
  readonly text?: string
  readonly env: Readonly<Record<string, string | undefined>>
  readonly host: Host
  readonly plugins: PluginRegistry
}
export type Loaded = { readonly config: Config } | { readonly errors: readonly ConfigIssue[] }

const isBlock = (v: unknown): v is Readonly<Record<string, unknown>> => typeof v === 'object' && v !== null && !Array.isArray(v)

const fail = (message: string): { errors: ConfigIssue[] } => ({ errors: [{ line: 1, column: 1, path: '', message }] })

async function readText(o: LoadOptions): Promise<{ text: string } | { errors: ConfigIssue[] }> {
  if (o.text !== undefined) return { text: o.text }
  try {
    const stat = await o.host.fs.stat(o.file)
    if (!stat) return fail(`the file ${o.file} does not exist`)
    if (stat.isDirectory) return fail(`${o.file} is a folder`)
    if (stat.size > limits.configBytes) return fail(`the file has ${stat.size} bytes; the limit is ${limits.configBytes}`)
    return { text: new TextDecoder('utf-8', { fatal: true }).decode(await o.host.fs.readFile(o.file)) }
  } catch (e) {
    const code = (e as { code?: unknown }).code
    return fail(`reading ${o.file}: ${code === 'ERR_ENCODING_INVALID_ENCODED_DATA' ? 'it is not UTF-8 text' : String(code)}`)
  }
}

/** `host:port`; the schema has checked the form. Null when the port is out of range. */
export function parseListen(text: string): Listen | null {
  const colon = text.lastIndexOf(':')
  const host = text.slice(0, colon).replace(/^\[|\]$/g, '')
  const port = Number(text.slice(colon + 1))
  if (!(port <= 65_535)) return null
  const loopback = host === 'localhost' || host === '::1' || /^127(\.\d{1,3}){3}$/.test(host)
  return { host, port, loopback }
}

/** Validates every sink and bucket by its plugin, also in a file with other faults, so that one run shows all. */
async function readPlugins(value: unknown, o: LoadOptions, r: Reporter, errors: ConfigIssue[]) {
  const sinks = new Map<string, PluginOptions>()
  const buckets: Record<string, BucketConfig> = {}
  const pipelines = valueAt(value, ['pipelines'])
  const places: Path[] = Object.keys(isBlock(pipelines) ? pipelines : {}).flatMap((name) => [
    ['pipelines', name, 'sink'],
    ['pipelines', name, 'backup', 'sink'],
  ])
  for (const place of places) {
    const found = await readSink(valueAt(value, place), place, o.plugins, r)
    if (found?.read) sinks.set(pathKey(place), found.read)
    errors.push(...(found?.errors ?? []))
  }
  errors.push(...(await checkDeclared(value, o, r)))
  const given = valueAt(value, ['buckets'])
  const all = { default: { path: DEFAULT_BUCKET_PATH }, ...(isBlock(given) ? given : {}) }
  for (const [name, raw] of Object.entries(all)) {
    const found = await readBucket(name, raw, o.plugins, r)
    if (found?.bucket) buckets[name] = found.bucket
    errors.push(...(found?.errors ?? []))
  }
  return { sinks, buckets }
}

/** A plugin that is declared must be there, also when nothing uses it yet. */
async function checkDeclared(value: unknown, o: LoadOptions, r: Reporter): Promise<ConfigIssue[]> {
  const declared = z.safeParse(firstPass.shape.plugins, valueAt(value, ['plugins']))
  const issues: ConfigIssue[] = []
  for (const [i, p] of (declared.data ?? []).entries()) {
    try {
      await o.plugins.resolve(p.package)
    } catch (e) {
      issues.push(r.value(['plugins', i, errorCode(e) === 'PluginVersion' ? 'version' : 'package'], errorMessage(e)))
    }
  }
  return issues
}

/** Folders of sinks and buckets against the folder of the log, and prefixes against their folder. */
function checkPlaces(
  raw: RawConfig,
  baseDir: string,
  own: { sinks: ReadonlyMap<string, PluginOptions>; buckets: Readonly<Record<string, BucketConfig>> },
  r: Reporter,
  out: Findings,
): void {
  const folder = (at: Path, type: string, options: Readonly<Record<string, unknown>>): void => {
    const clash = type === 'file' ? folderClash(options['path'], baseDir, raw.log.path) : null
    if (clash !== null) out.errors.push(r.value([...at, 'path'], `${r.show([...at, 'path'])}: ${clash}`))
  }
  for (const [name, p] of Object.entries(raw.pipelines)) {
    const both: [Path, RawSink | undefined][] = [
      [['pipelines', name, 'sink'], p.sink],
      [['pipelines', name, 'backup', 'sink'], p.backup?.sink],
    ]
    for (const [at, sink] of both) {
      const read = own.sinks.get(pathKey(at))
      if (!sink || !read) continue
      folder(at, read.loaded.type, read.options)
      if (read.loaded.type === 'file') out.errors.push(...checkFolderPrefixes(sink, at, r))
    }
  }
  for (const [name, b] of Object.entries(own.buckets)) folder(['buckets', name], b.type, b.options)
}

async function checkApi(raw: RawConfig, baseDir: string, host: Host, r: Reporter, out: Findings): Promise<ApiConfig | null> {
  const { api } = raw
  const listen = parseListen(api.listen)
  const before = out.errors.length
  if (!listen) out.errors.push(r.value(['api', 'listen'], `expected a port of 0 to 65535, got ${r.show(['api', 'listen'])}`))
  if (api.auth === 'sigv4' && api.keys.length === 0) out.errors.push(r.value(['api', 'auth'], 'auth: sigv4 needs keys: nobody could call'))
  if (api.auth === 'none' && api.keys.length > 0)
    out.errors.push(r.value(['api', 'keys'], 'keys are given, but auth is none: write auth: sigv4'))
  if (listen && !listen.loopback && api.auth === 'none' && !api.allow_unauthenticated) {
    const ways = 'write auth: sigv4 and keys, or allow_unauthenticated: true if an open port is meant'
    out.errors.push(r.value(['api', 'listen'], `${r.show(['api', 'listen'])} is not loopback, and auth is none: ${ways}`))
  }
  for (const [i, k] of api.keys.entries()) {
    if (api.keys.findIndex((other) => other.access_key === k.access_key) < i) {
      out.errors.push(r.value(['api', 'keys', i, 'access_key'], 'this access key stands twice'))
    }
  }
  const tls = api.tls ? { cert: resolve(baseDir, api.tls.cert), key: resolve(baseDir, api.tls.key) } : null
  for (const part of ['cert', 'key'] as const) {
    if (tls && !(await host.fs.stat(tls[part]))) out.errors.push(r.value(['api', 'tls', part], `the file ${tls[part]} does not exist`))
  }
  if (!listen || out.errors.length > before) return null
  const keys = api.keys.map((k) => ({ accessKey: k.access_key, secretKey: k.secret_key, allow: k.allow, streams: k.streams }))
  const { auth, region, account } = api
  return { listen, auth, keys, region, account, allowUnauthenticated: api.allow_unauthenticated, tls, replayCache: api.replay_cache }
}

function checkAdmin(raw: RawConfig, api: ApiConfig | null, r: Reporter, out: Findings): Listen | null {
  const listen = parseListen(raw.admin.listen)
  const at = ['admin', 'listen']
  if (!listen) out.errors.push(r.value(at, `expected a port of 0 to 65535, got ${r.show(at)}`))
  else if (api && listen.port !== 0 && listen.port === api.listen.port && listen.host === api.listen.host) {
    out.errors.push(r.value(at, `${r.show(at)} is the address of the API already`))
  }
  return listen
}

/** A lane holds a piece that it reads and one that it encodes: too many lanes for the budget wait for each other. */
const LANE_BYTES = 2 * limits.pieceBytes
function checkMemory(raw: RawConfig, r: Reporter, out: Findings): void {
  const lanes = Object.values(raw.pipelines).reduce((n, p) => n + p.source.direct_put.shards * (p.backup?.records === 'all' ? 2 : 1), 0)
  const wanted = lanes * LANE_BYTES
  if (wanted <= raw.limits.memory) return
  const each = showSize(LANE_BYTES)
  out.warnings.push(
    r.value(
      ['limits', 'memory'],
      `${lanes} shards of all pipelines want ${each} each, ${showSize(wanted)} in all; memory is ${showSize(raw.limits.memory)}`,
    ),
  )
}

const DEFAULTS: RawConfig = firstPass.parse({})

/**
 * Reads, checks and completes a configuration. Touches the file, the files it refers to and the plugins it names; no network.
 * Resolves with every error of the file, in the order of the lines; rejects only for faults of the host.
 */
export async function loadConfig(o: LoadOptions): Promise<Loaded> {
  const file = isAbsolute(o.file) ? o.file : resolve(o.file)
  const baseDir = dirname(file)
  const source = await readText(o)
  if ('errors' in source) return source
  const parsed = parseConfigDocument(source.text)
  if ('errors' in parsed) return parsed
  const { document } = parsed
  const resolved = await resolveReferences(document.value ?? {}, { baseDir, env: o.env, host: o.host })
  const r = reporter(document, resolved)
  const out: Findings = { errors: resolved.errors.map((e) => r.value(e.path, e.message)), warnings: [] }

  const first = z.safeParse(firstPass, resolved.value)
  if (!first.success) out.errors.push(...r.zod(first.error.issues, firstPass, []))
  const declared = z.safeParse(firstPass.shape.plugins, valueAt(resolved.value, ['plugins']))
  o.plugins.declare(declared.success ? declared.data : [])
  const { sinks, buckets } = await readPlugins(resolved.value, o, r, out.errors)

  const raw = first.success ? first.data : DEFAULTS
  const api = await checkApi(raw, baseDir, o.host, r, out)
  const admin = checkAdmin(raw, api, r, out)
  const pipelines: PipelineSpec[] = []
  for (const [name, p] of Object.entries(raw.pipelines)) {
    checkPipeline(name, p, raw.limits.profile, r, out)
    const sink = sinks.get(pathKey(['pipelines', name, 'sink']))
    if (sink) pipelines.push(pipelineSpec(name, p, sink, sinks.get(pathKey(['pipelines', name, 'backup', 'sink'])) ?? null))
  }
  checkPlaces(raw, baseDir, { sinks, buckets }, r, out)
  checkMemory(raw, r, out)
  if (out.errors.length > 0 || !api || !admin) return { errors: inOrder(out.errors) }
  return {
    config: {
      file,
      baseDir,
      log: { type: 'embedded', path: resolve(baseDir, raw.log.path), lingerMs: raw.log.linger },
      api,
      limits: {
        profile: raw.limits.profile,
        memoryBytes: raw.limits.memory,
        freeDiskBytes: raw.limits.free_disk,
        deliveryStreams: raw.limits.delivery_streams,
        connections: raw.limits.connections,
      },
      drainMs: raw.drain_timeout,
      buckets,
      admin: { listen: admin },
      pipelines,
      plugins: raw.plugins,
      warnings: inOrder(out.warnings),
    },
  }
}

function inOrder(issues: readonly ConfigIssue[]): ConfigIssue[] {
  // a missing variable makes the value wrong, too: the first word on a place is enough
  const seen = new Set<string>()
  return issues
    .filter((i) => !seen.has(`${i.line}:${i.column}:${i.path}`) && seen.add(`${i.line}:${i.column}:${i.path}`))
    .toSorted((a, b) => a.line - b.line || a.column - b.column)
}
