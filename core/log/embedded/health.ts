/** Two states in which a log refuses: poisoned (for good) and out of disk space (until there is some). */
import { limits } from '../../limits.ts'
import type { Host } from '../../sdk/host.ts'
import type { Events } from '../../telemetry/events.ts'

/** Set once: after a failed flush, or when another daemon opened the folder. Nothing is acknowledged after it. */
export class Poison {
  readonly #events: Events
  readonly #listeners = new Set<() => void>()
  #reason: string | null = null

  constructor(events: Events) {
    this.#events = events
  }
  get reason(): string | null {
    return this.#reason
  }
  set(stream: string, reason: string): void {
    if (this.#reason !== null) return
    this.#reason = reason
    this.#events.emit({ type: 'log.poisoned', stream, reason })
    for (const l of this.#listeners) l()
  }
  on(l: () => void): void {
    this.#listeners.add(l)
  }
}

/** Knows, cheaply, whether the free-disk reserve is touched; tells each stream's change once. */
export class DiskGuard {
  readonly #path: string
  readonly #host: Host
  readonly #events: Events
  readonly #reserve: number
  readonly #refusing = new Map<string, 'reserve' | 'full'>()
  #free: number
  #checkedAt: number
  #checking = false
  #cancel: (() => void) | null = null
  #closed = false

  private constructor(path: string, host: Host, events: Events, reserve: number, free: number) {
    this.#path = path
    this.#host = host
    this.#events = events
    this.#reserve = reserve
    this.#free = free
    this.#checkedAt = host.clock.monotonic()
  }
  static async open(path: string, host: Host, events: Events, reserve: number): Promise<DiskGuard> {
    return new DiskGuard(path, host, events, reserve, (await host.fs.statfs(path)).freeBytes)
  }

  /** null = go ahead; else why not. Called for every append: looks at the disk at most every 250 ms, in the background. */
  refusal(stream: string): string | null {
    if (this.#host.clock.monotonic() - this.#checkedAt >= limits.diskCheckMs) this.#check()
    if (this.#free >= this.#reserve) return null
    const reason = `${this.#free} bytes free on the disk of ${this.#path}, the reserve is ${this.#reserve}`
    this.#refuse(stream, 'reserve', reason)
    return reason
  }
  /** A write found no room although the reserve said so. */
  full(stream: string, reason: string): void {
    this.#refuse(stream, 'full', reason)
  }
  /** An append of the stream became durable. */
  wrote(stream: string): void {
    if (this.#refusing.size > 0 && this.#refusing.delete(stream)) this.#events.emit({ type: 'log.resumed', stream })
  }
  forget(stream: string): void {
    this.#refusing.delete(stream)
  }
  refusing(): boolean {
    return this.#refusing.size > 0
  }
  async freeBytes(): Promise<number> {
    return (await this.#host.fs.statfs(this.#path)).freeBytes
  }
  close(): void {
    this.#closed = true
    this.#cancel?.()
  }

  #refuse(stream: string, why: 'reserve' | 'full', reason: string): void {
    const before = this.#refusing.get(stream)
    this.#refusing.set(stream, why)
    if (before === undefined) this.#events.emit({ type: 'log.refusing', stream, reason })
    if (this.#cancel === null && !this.#closed) this.#cancel = this.#host.clock.timer(limits.diskRecheckMs, () => this.#recheck())
  }
  #recheck(): void {
    this.#cancel = null
    if (this.#closed || this.#refusing.size === 0) return
    this.#check()
    this.#cancel = this.#host.clock.timer(limits.diskRecheckMs, () => this.#recheck())
  }
  #check(): void {
    if (this.#checking || this.#closed) return
    this.#checking = true
    this.#host.fs.statfs(this.#path).then(
      ({ freeBytes }) => this.#checked(freeBytes),
      (e: unknown) => {
        this.#checked(0) // a disk that cannot be asked is not written to
        this.#events.emit({ type: 'warning', code: 'Log.Statfs', message: `asking the free space of ${this.#path}: ${String(e)}` })
      },
    )
  }
  #checked(free: number): void {
    this.#checking = false
    this.#checkedAt = this.#host.clock.monotonic()
    this.#free = free
    if (free < this.#reserve) return
    for (const [stream, why] of this.#refusing) if (why === 'reserve') this.wrote(stream)
  }
}
