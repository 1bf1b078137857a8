import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer, type AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'

/** Every provider has this shape. */
export interface Service {
  /** http://127.0.0.1:PORT */
  readonly url: string
  readonly pid: number
  /** The last output of the program. */
  readonly logs: string
  /** Ends the program by its process id and waits for its exit. */
  stop(): Promise<void>
}
export interface Start {
  readonly name: string
  readonly command: string
  args(port: number): readonly string[]
  readonly env?: Readonly<Record<string, string>>
  /** Path that gives any HTTP answer once the service is up. */
  readonly ready: string
}

const START_MS = 30_000
const STOP_MS = 5_000
const LOG_CHARS = 64 * 1024
const BIND_TRIES = 5

/** Starts a program on a free port of 127.0.0.1; resolves when it answers and is alive. A port that was taken meanwhile: again. */
export async function start(s: Start): Promise<Service> {
  for (let tries = 1; ; tries++) {
    const service = await startOnce(s, await freePort())
    if (typeof service !== 'string') return service
    if (tries === BIND_TRIES || !/address already in use|bind:/i.test(service)) throw new Error(`starting ${s.name}: it ended\n${service}`)
  }
}

/** Resolves with the program's output if it ended before it answered. */
async function startOnce(s: Start, port: number): Promise<Service | string> {
  const child = spawn(s.command, s.args(port), { env: { ...process.env, ...s.env }, stdio: ['ignore', 'pipe', 'pipe'] })
  let logs = ''
  const keep = (b: Buffer): void => void (logs = (logs + b.toString()).slice(-LOG_CHARS))
  child.stdout.on('data', keep)
  child.stderr.on('data', keep)
  const failed = Promise.withResolvers<never>()
  child.once('error', failed.reject)
  const exited = once(child, 'exit')
  exited.catch(() => {}) // a spawn error arrives here too; it is told by `failed`
  failed.promise.catch(() => {}) // told by the race below
  const kill = (): void => void child.kill('SIGKILL')
  process.once('exit', kill)
  const ended = (): boolean => child.exitCode !== null || child.signalCode !== null
  const url = `http://127.0.0.1:${port}`
  const stop = async (): Promise<void> => {
    process.off('exit', kill)
    if (ended()) return
    child.kill('SIGTERM')
    const late = setTimeout(kill, STOP_MS)
    await exited
    clearTimeout(late)
  }
  const deadline = performance.now() + START_MS
  while (!ended()) {
    const up = await Promise.race([failed.promise, answers(url + s.ready)])
    // the port may answer because somebody else took it: only a living child counts
    if (up && !ended()) return { url, pid: child.pid ?? 0, stop, get logs() { return logs } } // prettier-ignore
    if (performance.now() > deadline) {
      await stop()
      throw new Error(`starting ${s.name}: no answer from ${url}${s.ready} in ${START_MS} ms\n${logs}`)
    }
    await sleep(20)
  }
  process.off('exit', kill)
  return logs
}

async function answers(url: string): Promise<boolean> {
  try {
    const r = await fetch(url, { signal: AbortSignal.timeout(1000) })
    await r.arrayBuffer()
    return true
  } catch {
    return false // not up yet
  }
}

export async function freePort(): Promise<number> {
  const server = createServer()
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}
