import type { Clock, Random } from 'hydrant/sdk'

/** xoshiro-like small generator: one seed, one run. */
export class Seeded implements Random {
  #s: number
  constructor(seed: number) {
    this.#s = seed >>> 0 || 1
  }
  #next(): number {
    // mulberry32
    this.#s = (this.#s + 0x6d2b79f5) >>> 0
    let t = this.#s
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return (t ^ (t >>> 14)) >>> 0
  }
  float(): number {
    return this.#next() / 0x1_0000_0000
  }
  bytes(n: number): Uint8Array {
    return Uint8Array.from({ length: n }, () => this.#next() & 0xff)
  }
  int(below: number): number {
    return Math.floor(this.float() * below)
  }
  chance(p: number): boolean {
    return this.float() < p
  }
}

/** Virtual time: nothing waits for real. Timers fire in order of time, then of creation, whenever all promises have settled. */
export class VirtualClock implements Clock {
  #now = 0
  #n = 0
  readonly #timers = new Map<number, { at: number; fn: () => void }>()
  static readonly epoch = 1_800_000_000_000

  now(): number {
    return VirtualClock.epoch + Math.floor(this.#now)
  }
  monotonic(): number {
    return this.#now
  }
  timer(ms: number, fn: () => void): () => void {
    const id = ++this.#n
    this.#timers.set(id, { at: this.#now + Math.max(0, ms), fn })
    return () => void this.#timers.delete(id)
  }
  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason as Error)
      const abort = (): void => {
        cancel()
        reject(signal?.reason as Error)
      }
      const cancel = this.timer(ms, () => {
        signal?.removeEventListener('abort', abort)
        resolve()
      })
      signal?.addEventListener('abort', abort, { once: true })
    })
  }

  /** Runs until `done` settles; rejects when nothing is left to happen or virtual time passes the bound: that is a hang. */
  async drive<T>(done: Promise<T>, untilMs: number): Promise<T> {
    let settled = false
    const mark = (): void => void (settled = true)
    done.then(mark, mark)
    for (;;) {
      // every promise that can settle does so before time moves
      for (let i = 0; i < 3; i++) await new Promise((r) => setImmediate(r))
      if (settled) return done
      const next = [...this.#timers].reduce<[number, { at: number; fn: () => void }] | null>(
        (a, b) => (a === null || b[1].at < a[1].at || (b[1].at === a[1].at && b[0] < a[0]) ? b : a),
        null,
      )
      if (!next) throw new Error(`hang: nothing is scheduled at ${this.#now} ms`)
      if (next[1].at > untilMs) throw new Error(`hang: not done after ${untilMs} ms of virtual time`)
      this.#timers.delete(next[0])
      this.#now = Math.max(this.#now, next[1].at)
      next[1].fn()
    }
  }
}
