/** Embedded logs in temporary folders, with everything that surrounds them in the hands of the test. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { onTestFinished } from 'vitest'
import { realHost } from '../../core/host/host.ts'
import { openWith, type EmbeddedLog, type EmbeddedLogOptions } from '../../core/log/embedded/open.ts'
import type { Seams } from '../../core/log/embedded/env.ts'
import type { Host } from '../../core/sdk/host.ts'
import type { HydrantEvent } from '../../core/telemetry/events.ts'
import { poisonPools } from '../harness/poison.ts'

// a row that lmdb had not copied when it was given back would be read as a corrupt one
poisonPools()

export function folder(): string {
  const path = mkdtempSync(join(tmpdir(), 'hydrant-log-'))
  onTestFinished(() => rmSync(path, { recursive: true, force: true }))
  return path
}

export interface Opened {
  readonly log: EmbeddedLog
  readonly path: string
  readonly events: HydrantEvent[]
}
/** Closed when the test ends. */
export async function openLog(o: Partial<EmbeddedLogOptions> = {}, seams: Seams = {}): Promise<Opened> {
  const path = o.path ?? folder()
  const events: HydrantEvent[] = []
  const log = await openWith({ host: realHost(), freeDiskBytes: 0, ...o, path, events: { emit: (e) => void events.push(e) } }, seams)
  onTestFinished(() => log.close())
  return { log, path, events }
}

/** The real host with a clock and a disk that the test sets. */
export interface FakeHost extends Host {
  nowMs: number
  monotonicMs: number
  disk: { type: number; freeBytes: number }
  readonly timers: (() => void)[]
}
export function fakeHost(): FakeHost {
  const real = realHost()
  const timers: (() => void)[] = []
  const host: FakeHost = {
    ...real,
    nowMs: 1_000_000,
    monotonicMs: 0,
    disk: { type: 0xef53, freeBytes: 1e12 },
    timers,
    clock: {
      ...real.clock,
      now: () => host.nowMs,
      monotonic: () => host.monotonicMs,
      timer: (_, fn) => {
        timers.push(fn)
        return () => {}
      },
    },
    fs: { ...real.fs, statfs: () => Promise.resolve(host.disk) },
  }
  return host
}

/** A gate at the disk: what passes waits until it is opened, or fails. */
export interface Gate {
  readonly seams: Seams
  /** From now on writes wait behind (or before) the disk. */
  shut(): void
  open(): void
  fail(e: Error | null): void
  /** Resolves when a write waits. */
  waiting(): Promise<void>
}
export function gate(where: 'beforeWrite' | 'afterWrite', which: (dir: string) => boolean = () => true): Gate {
  let shut = false
  let error: Error | null = null
  const held: (() => void)[] = []
  const watchers: (() => void)[] = []
  const pass = async (dir: string): Promise<void> => {
    if (!which(dir)) return
    if (shut) {
      await new Promise<void>((resolve) => {
        held.push(resolve)
        for (const w of watchers.splice(0)) w()
      })
    }
    if (error !== null) throw error
  }
  return {
    seams: { [where]: pass },
    shut: () => void (shut = true),
    open: () => {
      shut = false
      for (const resolve of held.splice(0)) resolve()
    },
    fail: (e) => void (error = e),
    waiting: () => (held.length > 0 ? Promise.resolve() : new Promise((resolve) => void watchers.push(resolve))),
  }
}
export function failure(code: string | number): Error {
  return Object.assign(new Error(`the disk says ${code}`), { code })
}
