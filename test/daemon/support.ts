import { mkdtemp, readFile, readdir, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import { loadConfig } from '../../core/config/load.ts'
import { startDaemon, type Daemon, type DaemonOptions } from '../../core/daemon.ts'
import { realHost } from '../../core/host/host.ts'
import { pluginKit } from '../../core/plugin/kit.ts'
import { pluginRegistry } from '../../core/plugin/registry.ts'
import type { Shared } from '../../core/pipeline/running.ts'
import type { HydrantEvent } from '../../core/telemetry/events.ts'
import { createLogger } from '../../core/telemetry/log.ts'

export interface Running {
  readonly daemon: Daemon
  readonly events: HydrantEvent[]
  /** Resolves with the first event (from now on) that fits. */
  event<T extends HydrantEvent['type']>(type: T, fits?: (e: HydrantEvent & { type: T }) => boolean): Promise<HydrantEvent & { type: T }>
  call(operation: string, body: object): Promise<{ status: number; body: Record<string, unknown> }>
  put(stream: string, values: readonly string[]): Promise<void>
  admin(path: string, body?: object): Promise<{ status: number; body: unknown }>
  addShards(stream: string, total: number): Promise<void>
  stop(drainMs?: number): Promise<void>
}

class Recorder {
  readonly events: HydrantEvent[] = []
  readonly #listeners = new Set<(e: HydrantEvent) => void>()
  readonly on = (e: HydrantEvent): void => {
    this.events.push(e)
    for (const l of this.#listeners) l(e)
  }
  readonly next: Running['event'] = (type, fits = () => true) =>
    new Promise((resolve) => {
      const l = (e: HydrantEvent): void => {
        if (e.type !== type || !fits(e as never)) return
        this.#listeners.delete(l)
        resolve(e as never)
      }
      this.#listeners.add(l)
    })
}

/** A folder and the daemons of one test in it: `afterEach(() => world.end())`. */
export class Daemons {
  #folder: Folder | null = null
  #running: Running[] = []
  get folder(): Folder {
    if (!this.#folder) throw new Error('begin() makes the folder')
    return this.#folder
  }
  async begin(): Promise<void> {
    this.#folder = await Folder.make()
    this.#running = []
  }
  async start(...args: Parameters<Folder['start']>): Promise<Running> {
    const r = await this.folder.start(...args)
    this.#running.push(r)
    return r
  }
  async stop(r: Running, drainMs?: number): Promise<void> {
    this.#running = this.#running.filter((x) => x !== r)
    await r.stop(drainMs)
  }
  async end(): Promise<void> {
    await Promise.allSettled(this.#running.map((r) => r.stop()))
    await this.folder.remove()
  }
}

export class Folder {
  readonly path: string
  constructor(path: string) {
    this.path = path
  }
  static async make(): Promise<Folder> {
    return new Folder(await mkdtemp(join(tmpdir(), 'hydrant-daemon-')))
  }
  remove(): Promise<void> {
    return rm(this.path, { recursive: true, force: true })
  }

  async start(
    yaml: string,
    more: Partial<Pick<DaemonOptions, 'restored' | 'test'>> & { yamlLater?: () => string; memory?: string; api?: string } = {},
  ): Promise<Running> {
    const host = realHost()
    const text = `log: {type: embedded, path: ./data}\napi: {listen: "127.0.0.1:0"${more.api ?? ''}}\nadmin: {listen: "127.0.0.1:0"}\nlimits: {free_disk: 16MiB, memory: ${more.memory ?? '64MiB'}}\n${yaml}`
    const plugins = pluginRegistry({ baseDir: this.path, host, kit: pluginKit })
    const load = async (t: string) => {
      const loaded = await loadConfig({ file: join(this.path, 'config.yaml'), text: t, env: {}, host, plugins })
      if ('errors' in loaded) throw new Error(JSON.stringify(loaded.errors))
      return loaded.config
    }
    const recorder = new Recorder()
    const config = await load(text)
    let shared: Shared | null = null
    const daemon = await startDaemon({
      config,
      host,
      log: createLogger({ level: 'silent' }),
      debug: false,
      plugins,
      restored: more.restored ?? false,
      yaml: async () => (more.yamlLater ? (await load(text.replace(yaml, more.yamlLater()))).pipelines : config.pipelines),
      test: {
        ...more.test,
        on: recorder.on,
        shared: (x) => {
          shared = x
          more.test?.shared?.(x)
        },
      },
    })
    const api = `http://${daemon.api.host}:${daemon.api.port}`
    const call = caller(api)
    return {
      daemon,
      events: recorder.events,
      event: recorder.next,
      call,
      put: async (stream, values) => {
        const r = await call('PutRecordBatch', {
          DeliveryStreamName: stream,
          Records: values.map((v) => ({ Data: Buffer.from(v).toString('base64') })),
        })
        if (r.status !== 200 || r.body['FailedPutCount'] !== 0) throw new Error(JSON.stringify(r))
      },
      admin: async (path, body) => {
        const r = await fetch(
          `${daemon.admin}${path}`,
          body ? { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) } : {},
        )
        return { status: r.status, body: await r.json() }
      },
      addShards: async (stream, total) => {
        await shared?.streams.addShards(stream, total)
      },
      stop: async (drainMs = 10_000) => {
        await daemon.stop(AbortSignal.timeout(drainMs))
      },
    }
  }

  /** Files below a folder, without what the file sink keeps for itself. */
  async files(below: string): Promise<string[]> {
    const found: string[] = []
    const walk = async (dir: string): Promise<void> => {
      for (const name of await readdir(dir).catch(() => [])) {
        if (name.startsWith('.')) continue
        const path = join(dir, name)
        if ((await stat(path)).isDirectory()) await walk(path)
        else found.push(path)
      }
    }
    await walk(join(this.path, below))
    return found.toSorted()
  }
  /** All lines of all objects below a folder, gunzipped where the name says so. */
  async lines(below: string): Promise<string[]> {
    const all: string[] = []
    for (const f of await this.files(below)) {
      const bytes = await readFile(f)
      all.push(...(f.endsWith('.gz') ? gunzipSync(bytes) : bytes).toString('utf8').split('\n').filter((l) => l !== '')) // prettier-ignore
    }
    return all
  }
}

/** Calls an operation of the Firehose API, unsigned. */
function caller(api: string): Running['call'] {
  return async (operation, body) => {
    const r = await fetch(api, {
      method: 'POST',
      headers: { 'x-amz-target': `Firehose_20150804.${operation}`, 'content-type': 'application/x-amz-json-1.1' },
      body: JSON.stringify(body),
    })
    return { status: r.status, body: (await r.json()) as Record<string, unknown> }
  }
}
