/** Processes of the bench: pinned to a core of their own where the machine can, asked through the preloaded probe. */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import type { Allocator, Answer, Ask, Usage } from './probe.ts'

const ANSWER_MS = 30_000
const here = import.meta.dirname
/** What is measured runs on the last core, the load and this process on the others. Without taskset or with one core nothing is pinned. */
export const pinned = availableParallelism() > 1 && spawnSync('taskset', ['-V'], { stdio: 'ignore' }).status === 0
const last = availableParallelism() - 1
const CORES = { measured: String(last), load: last > 1 ? `0-${last - 1}` : '0' } as const

export interface SpawnOptions {
  readonly core: keyof typeof CORES
  /** A part that is asked for its usage and has no other messages. */
  readonly probe?: boolean
  readonly env?: NodeJS.ProcessEnv
  readonly cwd?: string
}

/** A command on its core; Node's IPC channel is open. */
export function spawnOn(command: string, args: readonly string[], o: SpawnOptions): ChildProcess {
  const all = pinned ? ['taskset', '-c', CORES[o.core], command, ...args] : [command, ...args]
  const [program = '', ...rest] = all
  const child = spawn(program, rest, {
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    env: { ...process.env, ...o.env },
    ...(o.cwd === undefined ? {} : { cwd: o.cwd }),
  })
  const kill = (): void => void child.kill('SIGKILL')
  process.once('exit', kill)
  child.once('exit', () => process.off('exit', kill))
  return child
}

/** Flags for every Node that runs from source with the probe. */
export const sourceFlags = ['-C', 'hydrant-source', '--disable-warning=ExperimentalWarning', '--import', join(here, 'probe.ts')]

/** A part of the bench in a process of its own. */
export function spawnPart(file: string, o: SpawnOptions): ChildProcess {
  const flags = o.probe === true ? sourceFlags : sourceFlags.slice(0, 3)
  const child = spawnOn(process.execPath, [...flags, join(here, file)], o)
  child.stdout?.pipe(process.stderr)
  child.stderr?.pipe(process.stderr)
  return child
}

/** The next message of a child; rejects when it ends or says nothing in time. */
export async function message(child: ChildProcess, withinMs = ANSWER_MS): Promise<unknown> {
  const over = new AbortController()
  const ended = once(child, 'exit', { signal: over.signal }).then(([code, signal]) => {
    throw new Error(`a process of the bench ended: code ${String(code)}, signal ${String(signal)}`)
  })
  const late = AbortSignal.timeout(withinMs)
  try {
    const [m] = (await Promise.race([once(child, 'message', { signal: AbortSignal.any([over.signal, late]) }), ended])) as [unknown]
    return m
  } catch (e) {
    throw late.aborted ? new Error(`a process of the bench said nothing for ${withinMs} ms`, { cause: e }) : e
  } finally {
    over.abort()
    ended.catch(() => {}) // aborted: nobody waits for it any more
  }
}
export async function call(child: ChildProcess, what: object | string, withinMs = ANSWER_MS): Promise<unknown> {
  const answer = message(child, withinMs)
  child.send(what)
  return answer
}

async function ask(child: ChildProcess, what: Ask): Promise<Answer> {
  return (await call(child, what)) as Answer
}
export const usageOf = async (child: ChildProcess): Promise<Usage> => (await ask(child, 'usage')) as Usage
export async function startSampling(child: ChildProcess): Promise<void> {
  await ask(child, 'sample')
}
export const sampled = async (child: ChildProcess): Promise<readonly Allocator[]> => (await ask(child, 'sampled')) as readonly Allocator[]
/** A CPU profile of the main thread from here to `profiled`, which says where the file stands. */
export async function startProfile(child: ChildProcess): Promise<void> {
  await ask(child, 'profile')
}
export const profiled = async (child: ChildProcess): Promise<string> => (await ask(child, 'profiled')) as string

/** Ends a process that the bench started, and waits. */
export async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  child.kill('SIGKILL')
  await once(child, 'exit')
}

/** CPU seconds of a process that is no Node: Linux only, NaN elsewhere. */
export async function cpuOfForeign(pid: number): Promise<number> {
  if (process.platform !== 'linux') return NaN
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8')
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return (Number(fields[11]) + Number(fields[12])) / 100 // utime and stime in ticks of 10 ms
}
