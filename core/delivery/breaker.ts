import type { Clock } from '../sdk/host.ts'
import { RetryableError } from '../sdk/errors.ts'
import { limits } from '../limits.ts'
import type { Events } from '../telemetry/events.ts'

/** A wait beyond it was asked for by the target (Retry-After): a lane that ends does not sit it out. */
const LONG_REST_MS = 1_000

/** Sleeps; resolves early, with true, when one of `wake` aborts meanwhile. Rejects with the signal's reason. */
export async function nap(clock: Clock, ms: number, signal: AbortSignal, wake: readonly (AbortSignal | undefined)[]): Promise<boolean> {
  const woken = wake.filter((w) => w !== undefined && !w.aborted) as AbortSignal[]
  try {
    await clock.sleep(ms, AbortSignal.any([signal, ...woken]))
    return false
  } catch (e) {
    if (signal.aborted || !woken.some((w) => w.aborted)) throw e
    return true
  }
}

/**
 * One per target (endpoint and bucket), shared by all lanes: after a failure only so many attempts a second pass, until
 * one succeeds. A store that refuses everything sees a trickle, however many lanes wait.
 */
export class Breaker {
  readonly #clock: Clock
  readonly #perSecond: number
  readonly #changed: (open: boolean) => void
  #open = false
  #nextAt = 0

  constructor(o: { clock: Clock; events: Events; sink: string; endpoint?: string; target: string; perSecond?: number }) {
    const { sink, endpoint = '', target } = o
    this.#clock = o.clock
    this.#perSecond = o.perSecond ?? limits.brokenTargetPerSecond
    this.#changed = (open) => o.events.emit({ type: 'breaker.changed', sink, endpoint, target, open })
  }
  get open(): boolean {
    return this.#open
  }
  /** Waits for this attempt's turn. `ending`: once it has aborted a long rest that the target asked for rejects. */
  async pass(signal: AbortSignal, ending?: AbortSignal): Promise<void> {
    while (this.#open) {
      const now = this.#clock.monotonic()
      if (now >= this.#nextAt) {
        this.#nextAt = now + 1000 / this.#perSecond
        return
      }
      const restMs = this.#nextAt - now
      const long = restMs > LONG_REST_MS
      if (long && ending?.aborted) {
        const rest = `the target asked to be left alone for another ${Math.ceil(restMs / 1000)} s`
        throw new RetryableError('Resting', rest, { applied: 'no' })
      }
      await nap(this.#clock, restMs, signal, long ? [ending] : [])
    }
    signal.throwIfAborted()
  }
  succeeded(): void {
    if (!this.#open) return
    this.#open = false
    this.#changed(false)
  }
  failed(retryAfterMs = 0): void {
    const now = this.#clock.monotonic()
    this.#nextAt = Math.max(this.#nextAt, now + Math.max(retryAfterMs, 1000 / this.#perSecond))
    if (this.#open) return
    this.#open = true
    this.#changed(true)
  }
}

/** Counting semaphore, first come first served. */
export class Slots {
  #free: number
  readonly #waiting: (() => void)[] = []
  constructor(n: number) {
    this.#free = n
  }
  async take(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted()
    if (this.#free > 0) {
      this.#free--
      return
    }
    await new Promise<void>((resolve, reject) => {
      const abort = (): void => {
        this.#waiting.splice(this.#waiting.indexOf(wake), 1)
        reject(signal.reason as Error)
      }
      const wake = (): void => {
        signal.removeEventListener('abort', abort)
        resolve()
      }
      this.#waiting.push(wake)
      signal.addEventListener('abort', abort, { once: true })
    })
  }
  give(): void {
    const next = this.#waiting.shift()
    if (next) next()
    else this.#free++
  }
}
