import { execFile, spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { promisify } from 'node:util'
import type { PipelineStatus } from '../../core/pipeline/control.ts'
import { daemonYaml, type DaemonConfig } from './config.ts'

/** How a process ended. */
export interface Exit {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}
export interface StartOptions {
  /** HYDRANT_FAILPOINTS of core/host/failpoints.ts. */
  readonly failpoints?: string
  readonly args?: readonly string[]
  /** Every event becomes a line of its log. */
  readonly debug?: boolean
}

/** What runs the daemon. */
export interface Engine {
  /** Path of a Node; left out: the one of the tests. */
  readonly node?: string
  /** Modules that are loaded before hydrant (`--import`). */
  readonly imports?: readonly string[]
}

const root = join(import.meta.dirname, '../..')
const OUTPUT_LINES = 5_000
const READY_MS = 30_000

/** A free port below the range from which the system takes ports for outgoing connections: it stays free over a restart. */
export async function freePort(): Promise<number> {
  for (let i = 0; i < 100; i++) {
    const port = 10_000 + Math.floor(Math.random() * 20_000)
    const server = createServer()
    const bound = await new Promise<boolean>((resolve) => {
      server.once('error', () => resolve(false))
      server.listen(port, '127.0.0.1', () => resolve(true))
    })
    if (!bound) continue
    await new Promise((resolve) => server.close(resolve))
    return port
  }
  throw new Error('no free port between 10,000 and 30,000 in 100 tries')
}

const living = new Set<ChildProcess>()
process.on('exit', () => {
  for (const c of living) c.kill('SIGKILL')
})

/** One life of the daemon, from start to exit. */
export class Daemon {
  /** http://127.0.0.1:PORT of the Firehose API and of the operator's port. */
  readonly url: string
  readonly adminUrl: string
  readonly pid: number
  /** Its last lines, both streams. */
  readonly output: string[] = []
  readonly exited: Promise<Exit>
  readonly #child: ChildProcess
  readonly #ready = Promise.withResolvers<boolean>()
  #exit: Exit | null = null

  constructor(child: ChildProcess, ports: { api: number; admin: number }) {
    this.#child = child
    this.url = `http://127.0.0.1:${ports.api}`
    this.adminUrl = `http://127.0.0.1:${ports.admin}`
    if (child.pid === undefined) throw new Error('the daemon could not be started')
    this.pid = child.pid
    living.add(child)
    for (const stream of [child.stdout, child.stderr]) if (stream) createInterface({ input: stream }).on('line', (l) => this.#line(l))
    this.exited = once(child, 'exit').then(([code, signal]) => {
      living.delete(child)
      this.#exit = { code: code as number | null, signal: signal as NodeJS.Signals | null }
      this.#ready.resolve(false)
      return this.#exit
    })
  }

  #line(line: string): void {
    this.output.push(line)
    if (this.output.length > OUTPUT_LINES) this.output.splice(0, 1_000)
    if (line.includes('"msg":"ready"')) this.#ready.resolve(true)
  }

  /** What its log said, parsed; lines that are not JSON are left out. */
  events(): Record<string, unknown>[] {
    return this.output.flatMap((l) => (l.startsWith('{') ? [JSON.parse(l) as Record<string, unknown>] : []))
  }

  /** true: it says that it is ready; false: it ended before. Rejects after 30 s. */
  async readyOrDead(): Promise<boolean> {
    return await this.#within(READY_MS, 'ready', this.#ready.promise)
  }

  async ready(): Promise<this> {
    if (!(await this.readyOrDead())) throw this.#failure('ended before it was ready')
    return this
  }

  /** Resolves when a fail point (or kill()) has ended it by SIGKILL; any other end, or none in time, rejects. */
  async killed(withinMs = 30_000): Promise<void> {
    const exit = await this.#within(withinMs, 'killed', this.exited)
    if (exit.signal !== 'SIGKILL') throw this.#failure('was to die by SIGKILL')
  }

  get alive(): boolean {
    return this.#exit === null
  }

  async kill(): Promise<void> {
    this.#child.kill('SIGKILL')
    await this.exited
  }

  signal(s: NodeJS.Signals): void {
    this.#child.kill(s)
  }

  /** SIGTERM; resolves with how it ended. It gets `withinMs`, then SIGKILL and an error. */
  async stop(withinMs = 60_000): Promise<Exit> {
    this.#child.kill('SIGTERM')
    try {
      return await this.#within(withinMs, 'stopped', this.exited)
    } catch (e) {
      this.#child.kill('SIGKILL')
      await this.exited
      throw e
    }
  }

  /** Waits for an end that somebody else asked for. */
  async ended(withinMs = 30_000): Promise<Exit> {
    return await this.#within(withinMs, 'ended', this.exited)
  }

  /** stop() that must end with exit code 0: every open cut was delivered. What was not yet read stays in the log (see Home.finish). */
  async drain(withinMs = 60_000): Promise<void> {
    const exit = await this.stop(withinMs)
    if (exit.code !== 0) throw this.#failure('was to drain and end with code 0')
  }

  async status(): Promise<readonly PipelineStatus[]> {
    const r = await fetch(`${this.adminUrl}/pipelines`)
    if (!r.ok) throw new Error(`GET /pipelines: ${r.status} ${await r.text()}`)
    const body = (await r.json()) as readonly PipelineStatus[] | { pipelines: readonly PipelineStatus[] }
    return 'pipelines' in body ? body.pipelines : body
  }

  /** Polls until `ok` holds for the status; rejects with the last one. */
  async until(ok: (s: readonly PipelineStatus[]) => boolean, withinMs = 30_000, what = 'status'): Promise<readonly PipelineStatus[]> {
    const end = performance.now() + withinMs
    for (;;) {
      const s = await this.status()
      if (ok(s)) return s
      if (performance.now() > end) throw this.#failure(`${what} not reached in ${withinMs} ms; it is ${JSON.stringify(s)}`)
      await new Promise((r) => void setTimeout(r, 25))
    }
  }

  /** Every lane has delivered all that it was given. */
  async drained(withinMs = 30_000): Promise<void> {
    await this.until((s) => s.every((p) => p.lanes.every((l) => l.lagRecords === 0 && l.openCuts === 0)), withinMs, 'drained')
  }

  /** Resident bytes. */
  async rss(): Promise<number> {
    const status = await readFile(`/proc/${this.pid}/status`, 'utf8').catch(() => null)
    if (status !== null) return Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1] ?? NaN) * 1024
    const { stdout } = await promisify(execFile)('ps', ['-o', 'rss=', '-p', String(this.pid)])
    return Number(stdout) * 1024
  }

  #failure(what: string): Error {
    return new Error(`daemon ${this.pid} ${what}; exit ${JSON.stringify(this.#exit)}\n${this.output.slice(-40).join('\n')}`)
  }

  async #within<T>(ms: number, what: string, p: Promise<T>): Promise<T> {
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(this.#failure(`not ${what} in ${ms} ms`)), ms)
    })
    try {
      return await Promise.race([p, late])
    } finally {
      clearTimeout(timer)
    }
  }
}

/** A daemon's folder, ports and configuration: lives through any number of starts. */
export class Home {
  readonly folder: string
  readonly ports: { readonly api: number; readonly admin: number }
  readonly #lives: Daemon[] = []
  #config: DaemonConfig | null = null
  #engine: Engine = {}

  constructor(folder: string, ports: { api: number; admin: number }) {
    this.folder = folder
    this.ports = ports
  }

  static async make(c?: DaemonConfig): Promise<Home> {
    const home = new Home(await mkdtemp(join(tmpdir(), 'hydrant-test-')), { api: await freePort(), admin: await freePort() })
    if (c) await home.configure(c)
    return home
  }

  get configFile(): string {
    return join(this.folder, 'config.yaml')
  }

  async configure(c: DaemonConfig): Promise<void> {
    this.#config = c
    await writeFile(this.configFile, daemonYaml(c, this.ports))
  }

  /** What runs the lives from now on. */
  runBy(engine: Engine): void {
    this.#engine = engine
  }

  /** Does not wait: see ready(), readyOrDead(), killed(). */
  start(o: StartOptions = {}): Daemon {
    const child = spawn(
      this.#engine.node ?? process.execPath,
      [
        ...(this.#engine.imports ?? []).flatMap((i) => ['--import', i]),
        '-C',
        'hydrant-source',
        '--disable-warning=ExperimentalWarning',
        join(root, 'core/main.ts'),
        'serve',
        '-c',
        this.configFile,
        ...(o.args ?? []),
      ],
      {
        cwd: this.folder,
        stdio: ['ignore', 'pipe', 'pipe'],
        env: {
          PATH: process.env['PATH'],
          NODE_COMPILE_CACHE: join(tmpdir(), 'hydrant-compile-cache'),
          ...(o.debug === true ? { HYDRANT_LOG_LEVEL: 'debug' } : {}),
          ...(o.failpoints === undefined ? {} : { HYDRANT_FAILPOINTS: o.failpoints }),
        },
      },
    )
    const d = new Daemon(child, this.ports)
    this.#lives.push(d)
    return d
  }

  /**
   * The last life: no faults, cuts end soon, until everything accepted is delivered; ends with exit code 0. `meanwhile` runs
   * while it is up.
   */
  async finish(meanwhile: (d: Daemon) => Promise<unknown> = () => Promise.resolve()): Promise<Daemon> {
    if (!this.#config) throw new Error('not configured')
    await this.configure({ ...this.#config, pipelines: this.#config.pipelines.map((p) => ({ ...p, interval: '100ms' })) })
    const d = await this.start().ready()
    await meanwhile(d)
    await d.drained()
    await d.drain()
    return d
  }

  /** Kills what still runs and removes the folder. */
  async remove(): Promise<void> {
    for (const d of this.#lives) if (d.alive) await d.kill()
    await rm(this.folder, { recursive: true, force: true })
  }
}
