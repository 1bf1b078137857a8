import { z } from 'zod'
import { loadConfig, type Loaded } from '../../core/config/load.ts'
import type { Config, LoadedPlugin, PluginRegistry } from '../../core/config/types.ts'
import { ConfigError } from '../../core/sdk/errors.ts'
import { pluginKit } from '../../core/sdk/kit.ts'
import type { FileSystem, Host } from '../../core/sdk/host.ts'
import type { AnySinkPlugin } from '../../core/sdk/sink.ts'

const bytes = (s: string): Uint8Array => new TextEncoder().encode(s)

/** A host whose files are these; anything else it is asked for fails the test. */
export function hostOf(files: Readonly<Record<string, string | Uint8Array>>): Host {
  const at = (path: string): Uint8Array | null => {
    const f = files[path]
    return f === undefined ? null : typeof f === 'string' ? bytes(f) : f
  }
  const fs: Pick<FileSystem, 'stat' | 'readFile'> = {
    stat: async (path) => {
      const f = at(path)
      return f ? { size: f.length, isDirectory: false, mtimeMs: 0 } : null
    },
    readFile: async (path) => at(path) ?? Promise.reject(Object.assign(new Error(`ENOENT ${path}`), { code: 'ENOENT' })),
  }
  return { fs } as Host
}

const never = (): never => {
  throw new Error('not in this test')
}
function plugin(type: string, options: z.ZodType, kind: 'object' | 'record' = 'object'): LoadedPlugin {
  const made = {
    name: type,
    kind,
    guarantee: 'exactly-once',
    ordered: false,
    summary: type,
    options,
    target: never,
    limits: never,
    create: never,
  }
  return { type, package: `hydrant-sink-${type}`, version: '1.0.0', plugin: made as unknown as AnySinkPlugin<unknown> }
}
const known = [
  plugin('file', z.strictObject({ path: z.string().min(1) })),
  plugin(
    's3',
    z.strictObject({
      bucket: z.string().regex(/^[a-z0-9.-]+$/, 'expected a bucket name'),
      endpoint: z.url().optional(),
      credentials: z.strictObject({ access_key: z.string(), secret_key: pluginKit.secret() }).optional(),
      salt: pluginKit.secret().optional(),
      part_size: pluginKit.bytes().prefault('8MiB'),
    }),
  ),
  plugin('records', z.strictObject({}), 'record'),
]
export const plugins: PluginRegistry = {
  builtIn: ['file', 's3'],
  declare() {},
  resolve: async (type) => known.find((p) => p.type === type) ?? Promise.reject(new ConfigError('x', `unknown sink type "${type}"`)),
}

export const FILE = '/etc/hydrant/config.yaml'
export function load(text: string, o: { env?: Record<string, string>; files?: Record<string, string | Uint8Array> } = {}): Promise<Loaded> {
  return loadConfig({ file: FILE, text, env: o.env ?? {}, host: hostOf(o.files ?? {}), plugins })
}
/** Every error as `line:column path: message`. */
export async function errorsOf(text: string, o: Parameters<typeof load>[1] = {}): Promise<string[]> {
  const r = await load(text, o)
  return 'errors' in r ? r.errors.map((e) => `${e.line}:${e.column} ${e.path}: ${e.message}`) : []
}
export async function configOf(text: string, o: Parameters<typeof load>[1] = {}): Promise<Config> {
  const r = await load(text, o)
  if ('errors' in r) throw new Error(JSON.stringify(r.errors, null, 1))
  return r.config
}
/** A pipeline `p` with these extra lines (indented by 4) below its source; line 5 is the first of them. */
export function pipeline(lines: string, sink = '{type: file, path: ./out}'): string {
  return `pipelines:\n  p:\n    source: {direct_put: {}}\n    sink: ${sink}\n${lines}`
}
