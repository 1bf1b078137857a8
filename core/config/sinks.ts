import { z } from 'zod'
import { errorMessage } from '../sdk/errors.ts'
import type { SinkSpec } from '../delivery/types.ts'
import type { Path } from './document.ts'
import type { Reporter } from './issues.ts'
import { shapeOf } from './introspect.ts'
import { sinkShape, type RawSink } from './schema.ts'
import type { BucketConfig, ConfigIssue, LoadedPlugin, PluginRegistry } from './types.ts'

export interface PluginOptions {
  readonly loaded: LoadedPlugin
  readonly options: Readonly<Record<string, unknown>>
}
type Block = Readonly<Record<string, unknown>>
const isBlock = (v: unknown): v is Block => typeof v === 'object' && v !== null && !Array.isArray(v)
const CORE_KEYS = ['type', ...Object.keys(sinkShape)]

/** Loads the plugin that `type` names and validates `own`, the keys that are the plugin's. */
async function readOptions(type: string, own: Block, path: Path, plugins: PluginRegistry, r: Reporter, also: readonly string[]) {
  let loaded: LoadedPlugin
  try {
    loaded = await plugins.resolve(type)
  } catch (e) {
    return { errors: [r.value([...path, 'type'], errorMessage(e))] }
  }
  if (loaded.plugin.kind !== 'object') {
    return {
      errors: [r.value([...path, 'type'], `sinks of kind ${loaded.plugin.kind} are not available in this version; allowed: kind object`)],
    }
  }
  const parsed = z.safeParse(loaded.plugin.options, own)
  if (!parsed.success) return { errors: r.zod(parsed.error.issues, loaded.plugin.options, path, also) }
  return { read: { loaded, options: parsed.data as Block } }
}

/** The plugin's half of one sink block. Null when the first pass has said what is wrong already. */
export async function readSink(
  raw: unknown,
  path: Path,
  plugins: PluginRegistry,
  r: Reporter,
): Promise<{ read?: PluginOptions; errors?: ConfigIssue[] } | null> {
  if (!isBlock(raw) || typeof raw['type'] !== 'string' || raw['type'] === '') return null
  const own = Object.fromEntries(Object.entries(raw).filter(([k]) => !CORE_KEYS.includes(k)))
  return readOptions(raw['type'], own, path, plugins, r, CORE_KEYS)
}

/**
 * One entry of `buckets:`. `path` alone means the file sink, anything else the s3 sink unless `type` says so; a plugin with a
 * `bucket` key gets the entry's name there.
 */
export async function readBucket(
  name: string,
  raw: unknown,
  plugins: PluginRegistry,
  r: Reporter,
): Promise<{ bucket?: BucketConfig; errors?: ConfigIssue[] } | null> {
  if (!isBlock(raw)) return null
  const { type = 'path' in raw ? 'file' : 's3', ...own } = raw
  if (typeof type !== 'string') return null
  const path = ['buckets', name]
  if (Object.keys(raw).length === 0) {
    return { errors: [r.value(path, 'says nothing: expected {path: folder}, {endpoint: url}, or {type: s3} for AWS')] }
  }
  let named: Block = own
  if (type !== 'file' && !('bucket' in own)) {
    const plugin = await plugins.resolve(type).catch(() => null)
    if (plugin && 'bucket' in (shapeOf(plugin.plugin.options) ?? {})) named = { ...own, bucket: name }
  }
  const { read, errors } = await readOptions(type, named, path, plugins, r, ['type'])
  return read ? { bucket: { type: read.loaded.type, options: read.options } } : { errors: errors ?? [] }
}

/** Core's half of the block, and the plugin's. */
export function sinkSpec(raw: RawSink, own: PluginOptions): SinkSpec {
  return {
    type: own.loaded.type,
    options: own.options,
    prefix: raw.prefix,
    errorPrefix: raw.error_prefix,
    fileExtension: raw.file_extension,
    timeZone: raw.time_zone,
    retry: { durationMs: raw.retry.duration ?? null, baseMs: raw.retry.base, maxMs: raw.retry.max },
    timeoutMs: raw.timeout,
    concurrency: raw.concurrency,
  }
}
