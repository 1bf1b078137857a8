import type { AnySinkPlugin, Logger } from '../sdk/sink.ts'
import type { Host } from '../sdk/host.ts'
import { ConfigError } from '../sdk/errors.ts'
import { limits } from '../limits.ts'
import type { Events } from '../telemetry/events.ts'
import type { SinkHandle } from './attempts.ts'
import { Breaker, Slots } from './breaker.ts'
import type { SinkSpec } from './types.ts'

export interface SinkPoolOptions {
  readonly host: Host
  readonly events: Events
  readonly log: Logger
  readonly baseDir: string
  /** The plugin of a type; loaded before (load()). */
  readonly plugin: (type: string) => Promise<AnySinkPlugin<unknown>>
  /** Where the bucket of an API call lives (the `buckets:` section). */
  readonly bucket: (name: string) => { readonly type: string; readonly options: Readonly<Record<string, unknown>> }
}

/** Opens sinks and wraps them: one handle a pipeline and spec, one breaker a target for the whole daemon. */
export class SinkPool {
  readonly #o: SinkPoolOptions
  readonly #plugins = new Map<string, AnySinkPlugin<unknown>>()
  readonly #handles = new Map<string, Promise<SinkHandle>>()
  readonly #breakers = new Map<string, Breaker>()

  constructor(o: SinkPoolOptions) {
    this.#o = o
  }

  /** Loads the plugin of a spec, so that targetOf() and ordered() can answer at once. */
  async load(type: string): Promise<void> {
    if (type !== 'bucket') this.#plugins.set(type, await this.#o.plugin(type))
  }

  /** What of a sink's options says *where*: a part of the spec's identity. */
  targetOf(spec: SinkSpec): Readonly<Record<string, string>> {
    if (spec.type === 'bucket') return { bucket: bucketName(spec) }
    return this.#loaded(spec.type).target(spec.options)
  }
  ordered(spec: SinkSpec): boolean {
    return spec.type !== 'bucket' && this.#loaded(spec.type).ordered
  }
  #loaded(type: string): AnySinkPlugin<unknown> {
    const plugin = this.#plugins.get(type)
    if (!plugin) throw new Error(`sink plugin ${type} was used before it was loaded`)
    return plugin
  }

  open(spec: SinkSpec, pipelineId: string): Promise<SinkHandle> {
    const key = `${pipelineId} ${JSON.stringify(spec)}`
    let handle = this.#handles.get(key)
    if (!handle) {
      handle = this.#open(spec, pipelineId)
      this.#handles.set(key, handle)
      handle.catch(() => this.#handles.delete(key))
    }
    return handle
  }

  async #open(spec: SinkSpec, pipelineId: string): Promise<SinkHandle> {
    const { host, log, baseDir } = this.#o
    const where = spec.type === 'bucket' ? withBucketOptions(spec, this.#o.bucket(bucketName(spec))) : spec
    await this.load(where.type)
    const plugin = this.#loaded(where.type)
    if (plugin.kind !== 'object')
      throw new ConfigError('SinkKind', `sink ${where.type} is of kind ${plugin.kind}; this version delivers objects only`)
    const options = parsed(plugin, where)
    const sink = plugin.create(options, { host, log, pipelineId, memory: 2 * limits.multipartBytes, baseDir })
    const breaker = this.#breaker(where.type, where.options['endpoint'], plugin.target(options))
    const concurrency = Math.min(spec.concurrency, plugin.limits(options).concurrency)
    const { retry, timeoutMs } = spec
    return { name: where.type, type: where.type, sink, retry, timeoutMs, slots: new Slots(concurrency), breaker, ordered: plugin.ordered }
  }

  #breaker(sink: string, endpoint: unknown, names: Readonly<Record<string, string>>): Breaker {
    const key = JSON.stringify([sink, endpoint ?? '', names])
    const known = this.#breakers.get(key)
    if (known) return known
    const place = { sink, endpoint: shownEndpoint(endpoint), target: shownTarget(names) }
    const breaker = new Breaker({ clock: this.#o.host.clock, events: this.#o.events, ...place })
    this.#breakers.set(key, breaker)
    this.#o.events.emit({ type: 'target.opened', ...place })
    return breaker
  }

  /** A pipeline is gone: its sinks are closed. */
  async forget(pipelineId: string): Promise<void> {
    for (const [key, h] of this.#handles) {
      if (!key.startsWith(`${pipelineId} `)) continue
      this.#handles.delete(key)
      await (await h).sink.close()
    }
  }

  async close(): Promise<void> {
    for (const h of this.#handles.values()) await (await h).sink.close()
    this.#handles.clear()
  }
}

/** An endpoint as metrics and logs show it: without what a URL may hold besides the place. '' where there is none. */
function shownEndpoint(endpoint: unknown): string {
  if (typeof endpoint !== 'string' || !URL.canParse(endpoint)) return ''
  const { protocol, host, pathname } = new URL(endpoint)
  return `${protocol}//${host}${pathname === '/' ? '' : pathname}`
}

/** The one name of a target as it is (`lake`, `/data/out`), several as `cluster=a,index=b`. */
function shownTarget(names: Readonly<Record<string, string>>): string {
  const all = Object.entries(names).toSorted(([a], [b]) => (a < b ? -1 : 1))
  return all.length === 1 ? (all[0]?.[1] ?? '') : all.map(([k, v]) => `${k}=${v}`).join(',')
}

/** Options as the plugin that is installed today takes them: those of a recorded cut may be of another version of it. */
function parsed(plugin: AnySinkPlugin<unknown>, where: { type: string; options: Readonly<Record<string, unknown>> }): unknown {
  const read = plugin.options.safeParse(where.options)
  if (read.success) return read.data
  const why = read.error.issues.map((i) => (i.path.length > 0 ? `${i.path.join('.')}: ${i.message}` : i.message)).join('; ')
  throw new ConfigError('SinkOptions', `sink ${where.type}: its plugin does not take the options: ${why}`)
}

function bucketName(spec: SinkSpec): string {
  const name = spec.options['bucket']
  if (typeof name !== 'string') throw new ConfigError('Bucket', 'a sink of type bucket names no bucket')
  return name
}

/** Options of the API call that only some stores know are passed to those. */
function withBucketOptions(spec: SinkSpec, at: { type: string; options: Readonly<Record<string, unknown>> }): SinkSpec {
  const kms = spec.options['kmsKeyArn']
  return { ...spec, type: at.type, options: { ...at.options, ...(kms !== undefined && at.type === 's3' ? { kms_key: kms } : {}) } }
}
