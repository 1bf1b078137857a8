import { createRequire, findPackageJSON } from 'node:module'
import { dirname, join } from 'node:path'
import { pathToFileURL } from 'node:url'
import type { Host } from '../sdk/host.ts'
import type { AnySinkPlugin, PluginKit } from '../sdk/sink.ts'
import { ConfigError, errorMessage } from '../sdk/errors.ts'
import type { DeclaredPlugin, LoadedPlugin, PluginRegistry } from '../config/types.ts'
import { didYouMean } from '../config/issues.ts'

export type { LoadedPlugin, PluginRegistry } from '../config/types.ts'

/** Sink type → package, for the plugins that are dependencies of hydrant. */
export const BUILT_IN: Readonly<Record<string, string>> = { file: 'hydrant-sink-file', s3: 'hydrant-sink-s3' }

interface Manifest {
  readonly version: string
  readonly main: string | undefined
  readonly exports: unknown
}
export interface RegistryOptions {
  /** Folder of the configuration file: third-party packages are looked for from here, then from hydrant itself. */
  readonly baseDir: string
  readonly host: Host
  readonly kit: PluginKit
}

const CONDITIONS = ['node', 'import', 'default']

/** The entry of an `exports` map for "." that only `import` may use; require.resolve does not find it. */
function importEntry(exports: unknown): string | null {
  if (typeof exports === 'string') return exports
  if (typeof exports !== 'object' || exports === null) return null
  const map = exports as Readonly<Record<string, unknown>>
  if ('.' in map) return importEntry(map['.'])
  for (const [condition, target] of Object.entries(map)) {
    const found = CONDITIONS.includes(condition) ? importEntry(target) : null
    if (found) return found
  }
  return null
}

function packageFile(name: string, base: string): string | null {
  try {
    return findPackageJSON(name, base) ?? null
  } catch {
    return null // not installed there
  }
}

function locate(name: string, bases: readonly string[]): { file: string; base: string } | null {
  for (const base of bases) {
    const file = packageFile(name, base)
    if (file) return { file, base }
  }
  return null
}

async function readManifest(file: string, host: Host): Promise<Manifest> {
  const json = JSON.parse(new TextDecoder().decode(await host.fs.readFile(file))) as Readonly<Record<string, unknown>>
  const { version, main, exports } = json
  return { version: typeof version === 'string' ? version : '', main: typeof main === 'string' ? main : undefined, exports }
}

function entryOf(name: string, file: string, base: string, manifest: Manifest): string {
  try {
    return createRequire(base).resolve(name)
  } catch (e) {
    const entry = importEntry(manifest.exports) ?? manifest.main
    if (!entry) throw new ConfigError('Plugin', `plugin ${name}: its package.json names no entry: ${errorMessage(e)}`)
    return join(dirname(file), entry)
  }
}

const METHODS = ['target', 'limits', 'create'] as const
/** What is missing from a plugin, or null. */
function faultOf(p: unknown): string | null {
  if (typeof p !== 'object' || p === null) return 'its factory returned no plugin'
  const plugin = p as Readonly<Record<string, unknown>>
  if (typeof plugin['name'] !== 'string' || plugin['name'] === '') return 'name is not a text'
  if (!['object', 'record', 'load'].includes(String(plugin['kind'])))
    return `kind is ${JSON.stringify(plugin['kind'])}; allowed: object, record, load`
  if (!['exactly-once', 'at-least-once'].includes(String(plugin['guarantee']))) {
    return `guarantee is ${JSON.stringify(plugin['guarantee'])}; allowed: exactly-once, at-least-once`
  }
  if (typeof plugin['ordered'] !== 'boolean') return 'ordered is not true or false'
  const options = plugin['options']
  if (typeof options !== 'object' || options === null || !('_zod' in options)) return 'options is not a zod schema of the kit it was given'
  const missing = METHODS.find((m) => typeof plugin[m] !== 'function')
  return missing ? `${missing} is not a function` : null
}

/**
 * Finds, checks and loads sink plugins (models.md §8: import without effects, version check, then the factory). Nothing is
 * installed. Built-in ones come from hydrant's own dependencies; any other must be declared with the version that is installed.
 */
export function pluginRegistry(o: RegistryOptions): PluginRegistry {
  const loaded = new Map<string, Promise<LoadedPlugin>>()
  let declared: readonly DeclaredPlugin[] = []
  async function load(type: string, name: string, wanted: string | null): Promise<LoadedPlugin> {
    const here = join(o.baseDir, 'config.yaml')
    const found = locate(name, wanted === null ? [import.meta.filename, here] : [here, import.meta.filename])
    if (!found) {
      const how = wanted === null ? 'reinstall hydrant' : `run: npm install ${name}@${wanted}`
      throw new ConfigError('PluginNotFound', `plugin ${name}: not found from ${o.baseDir} nor from hydrant; ${how}`)
    }
    const manifest = await readManifest(found.file, o.host)
    if (wanted !== null && manifest.version !== wanted) {
      const what = `plugin ${name}: version ${wanted} is declared under plugins, ${manifest.version || 'none'} is installed`
      throw new ConfigError('PluginVersion', `${what} in ${dirname(found.file)}`)
    }
    const entry = entryOf(name, found.file, found.base, manifest)
    let exported: unknown
    try {
      exported = ((await import(pathToFileURL(entry).href)) as { default?: unknown }).default
    } catch (e) {
      throw new ConfigError('Plugin', `plugin ${name}: loading ${entry}: ${errorMessage(e)}`, { cause: e })
    }
    if (typeof exported !== 'function') throw new ConfigError('Plugin', `plugin ${name}: the default export of ${entry} is not a function`)
    let plugin: unknown
    try {
      plugin = (exported as (kit: PluginKit) => unknown)(o.kit)
    } catch (e) {
      throw new ConfigError('Plugin', `plugin ${name}: its factory threw: ${errorMessage(e)}`, { cause: e })
    }
    const fault = faultOf(plugin)
    if (fault) throw new ConfigError('Plugin', `plugin ${name} ${manifest.version}: not a sink plugin: ${fault}`)
    return { type, package: name, version: manifest.version, plugin: plugin as AnySinkPlugin<unknown> }
  }

  return {
    builtIn: Object.keys(BUILT_IN),
    declare(plugins) {
      for (const p of declared) loaded.delete(p.package)
      declared = plugins
    },
    async resolve(type) {
      const builtIn = Object.hasOwn(BUILT_IN, type) ? BUILT_IN[type] : undefined
      const third = declared.find((p) => p.package === type)
      if (!builtIn && !third) {
        const known = [...Object.keys(BUILT_IN), ...declared.map((p) => p.package)]
        const guess = didYouMean(type, known)
        const rule = 'an npm package must be declared under plugins: with its version'
        throw new ConfigError('PluginUnknown', `unknown sink type ${JSON.stringify(type)}${guess}; allowed: ${known.join(', ')}; ${rule}`)
      }
      const asked = loaded.get(type) ?? load(type, builtIn ?? type, builtIn ? null : (third?.version ?? ''))
      loaded.set(type, asked)
      return asked
    },
  }
}
