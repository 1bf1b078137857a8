import type { Clock } from '../sdk/host.ts'

/**
 * Deadlines for many short calls: all calls that begin in the same second share one signal, so a call costs no timer and no controller.
 * A signal aborts between `ms` and `ms` + 1 s after it was given out.
 */
export class Deadlines {
  readonly #clock: Clock
  readonly #ms: number
  readonly #open = new Map<AbortController, () => void>()
  #current: AbortController | null = null
  #until = 0
  constructor(clock: Clock, ms: number) {
    this.#clock = clock
    this.#ms = ms
  }
  signal(): AbortSignal {
    const now = this.#clock.monotonic()
    if (this.#current === null || now >= this.#until) {
      const c = new AbortController()
      const cancel = this.#clock.timer(this.#ms + 1_000, () => {
        this.#open.delete(c)
        c.abort(new Error(`no answer within ${this.#ms} ms`))
      })
      this.#open.set(c, cancel)
      this.#current = c
      this.#until = now + 1_000
    }
    return this.#current.signal
  }
  /** Aborts every signal given out. */
  abortAll(reason: Error): void {
    for (const [c, cancel] of this.#open) {
      cancel()
      c.abort(reason)
    }
    this.#open.clear()
    this.#current = null
  }
}
