import type { AttemptContext, Logger, ObjectSink } from '../sdk/sink.ts'
import type { Host } from '../sdk/host.ts'
import { errorApplied, errorCode, errorKind, errorMessage, LeaseLostError, RetryableError } from '../sdk/errors.ts'
import type { Lease } from '../sdk/log.ts'
import { limits } from '../limits.ts'
import type { Events } from '../telemetry/events.ts'
import { nap, type Breaker, type Slots } from './breaker.ts'
import type { RetrySpec } from './types.ts'

/** A sink with all that core wraps around it: time-out, retry with full jitter, concurrency, breaker. */
export interface SinkHandle {
  readonly name: string
  readonly type: string
  readonly sink: ObjectSink
  readonly retry: RetrySpec
  readonly timeoutMs: number
  readonly slots: Slots
  readonly breaker: Breaker
  readonly ordered: boolean
}

/** Thrown when retry.duration is over: the caller may give the cut up to the backup. */
export class RetryExhaustedError extends Error {
  constructor(operation: string, ms: number, cause: unknown) {
    super(`${operation}: retried for ${Math.round(ms / 1000)} s without success: ${errorMessage(cause)}`, { cause })
    this.name = 'RetryExhaustedError'
  }
}

export interface EffectScope {
  readonly host: Host
  readonly events: Events
  readonly log: Logger
  readonly pipeline: string
  readonly lease: Lease
  /** Ends every attempt: the lane is stopping or lost its lease. */
  readonly signal: AbortSignal
  readonly cut: AttemptContext['cut']
  readonly recovered: boolean
  /** The lane ends softly: a back-off ends at once, and a failed attempt is followed by one more, the last. */
  readonly drain?: AbortSignal
  /** Somebody waits for the lane, which goes on: a back-off under way ends at once, the next one is short again. */
  readonly hurry?: AbortSignal
  /** Waits for the cut's turn of first effects; resolves at once for later objects. */
  turn(): Promise<void>
  /** What an operator should see while attempts fail; null = the last one succeeded. */
  trouble?(what: string | null): void
  /** I1: the cut's own entry is acknowledged and the lease is live. Throws. */
  mayAct(): void
}

export interface AttemptsOptions {
  readonly operation: string
  /** One attempt, ms. */
  readonly timeoutMs: number
  /** retry.duration does not end it. */
  readonly forever?: boolean
  /** Called after a failed attempt whose effect may stand, or may still come to stand; `endedAt` is monotonic. */
  readonly inDoubt?: (endedAt: number) => void
}

/**
 * Calls `work` until it resolves. Permanent and config errors and a lost lease reject at once; everything else is tried
 * again with full jitter between base and max. Waiting for the turn holds no slot and no clock. While the lane drains nothing is
 * waited for: an attempt that fails is followed by one more, whose error ends it, after the cuts before had their turn.
 */
export async function attempts<T>(h: SinkHandle, s: EffectScope, o: AttemptsOptions, work: (c: AttemptContext) => Promise<T>): Promise<T> {
  const { clock } = s.host
  let firstFailure: number | null = null
  let inARow = 0
  let last = false
  for (let attempt = 1; ; attempt++) {
    await h.slots.take(s.signal)
    const one = new Attempt(h, s, attempt, o.timeoutMs)
    try {
      await h.breaker.pass(s.signal, s.drain)
      one.startClock()
      const result = await one.race(work(one))
      h.breaker.succeeded()
      if (attempt > 1) s.trouble?.(null)
      return result
    } catch (e) {
      if (one.acted && errorApplied(e) !== 'no') o.inDoubt?.(clock.monotonic())
      if (s.signal.aborted) throw s.signal.reason as Error
      if (isFinal(e, s)) throw e
      const retryAfterMs = e instanceof RetryableError ? Math.min(e.retryAfterMs ?? 0, limits.retryAfterMs) : 0
      h.breaker.failed(retryAfterMs)
      firstFailure ??= clock.monotonic()
      const spent = clock.monotonic() - firstFailure
      if (!o.forever && h.retry.durationMs !== null && spent >= h.retry.durationMs) throw new RetryExhaustedError(o.operation, spent, e)
      one.end()
      if (last) {
        await s.turn()
        throw e
      }
      last = s.drain?.aborted === true
      const delayMs = last ? 0 : backoff(h.retry, inARow++, retryAfterMs, s.host)
      const { code, message } = { code: errorCode(e), message: errorMessage(e) }
      s.events.emit({ type: 'attempt.failed', pipeline: s.pipeline, sink: h.name, operation: o.operation, attempt, code, message, delayMs })
      s.trouble?.(`${o.operation} to ${h.name}, attempt ${attempt}: ${message}`)
      if (await nap(clock, delayMs, s.signal, [s.drain, s.hurry])) inARow = 0
      last ||= s.drain?.aborted === true
    } finally {
      one.end()
    }
  }
}

/** Full jitter below a doubling cap, at least what the receiver asked for. */
function backoff(retry: RetrySpec, failures: number, retryAfterMs: number, host: Host): number {
  const cap = Math.min(retry.maxMs, retry.baseMs * 2 ** Math.min(failures, 20))
  return Math.max(retryAfterMs, host.random.float() * cap)
}

function isFinal(e: unknown, s: EffectScope): boolean {
  const kind = errorKind(e)
  return kind === 'permanent' || kind === 'config' || kind === 'lease-lost' || !s.lease.live() || isInvariant(e)
}
function isInvariant(e: unknown): boolean {
  return e instanceof Error && e.name === 'InvariantError'
}

/** One attempt: its own abort signal, a clock that stands still while it waits for its turn, one slot. */
class Attempt implements AttemptContext {
  readonly attempt: number
  readonly #h: SinkHandle
  readonly #s: EffectScope
  readonly #controller = new AbortController()
  readonly #onAbort: () => void
  #cancelTimer: (() => void) | null = null
  #leftMs: number
  #startedAt = 0
  #holdsSlot = true
  #ended = false
  #acted = false

  constructor(h: SinkHandle, s: EffectScope, attempt: number, timeoutMs: number) {
    this.#h = h
    this.#s = s
    this.attempt = attempt
    this.#leftMs = timeoutMs
    this.#onAbort = () => this.#controller.abort(s.signal.reason)
    if (s.signal.aborted) this.#onAbort()
    else s.signal.addEventListener('abort', this.#onAbort, { once: true })
  }
  get signal(): AbortSignal {
    return this.#controller.signal
  }
  /** effect() has resolved: before it a sink makes nothing visible. */
  get acted(): boolean {
    return this.#acted
  }
  get recovered(): boolean {
    return this.#s.recovered
  }
  get cut(): AttemptContext['cut'] {
    return this.#s.cut
  }
  get log(): Logger {
    return this.#s.log
  }
  failpoint(point: string): Promise<void> {
    return this.#s.host.failpoint(point)
  }

  startClock(): void {
    this.#startedAt = this.#s.host.clock.monotonic()
    this.#cancelTimer = this.#s.host.clock.timer(this.#leftMs, () =>
      this.#controller.abort(new RetryableError('Timeout', `no answer within ${Math.round(this.#leftMs)} ms`)),
    )
  }
  #stopClock(): void {
    this.#cancelTimer?.()
    this.#cancelTimer = null
    this.#leftMs = Math.max(1, this.#leftMs - (this.#s.host.clock.monotonic() - this.#startedAt))
  }

  async effect(): Promise<void> {
    this.#stopClock()
    this.#giveSlot()
    await this.#s.turn()
    await this.#h.slots.take(this.#s.signal)
    this.#holdsSlot = true
    if (this.#ended) {
      this.#giveSlot()
      throw new LeaseLostError('the attempt had ended while it waited for its turn')
    }
    this.startClock()
    this.signal.throwIfAborted()
    if (!this.#s.lease.live()) throw new LeaseLostError(`lease ${this.#s.lease.id} has ended`)
    this.#s.mayAct()
    this.#acted = true
  }

  /** A sink that ignores its signal must not hang the lane; its late answer is dropped, names keep it harmless. */
  race<T>(work: Promise<T>): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      const abort = (): void => reject(this.signal.reason as Error)
      this.signal.addEventListener('abort', abort, { once: true })
      if (this.signal.aborted) abort()
      work.then(resolve, reject).finally(() => this.signal.removeEventListener('abort', abort))
    })
  }

  #giveSlot(): void {
    if (!this.#holdsSlot) return
    this.#holdsSlot = false
    this.#h.slots.give()
  }
  end(): void {
    if (this.#ended) return
    this.#ended = true
    this.#cancelTimer?.()
    this.#s.signal.removeEventListener('abort', this.#onAbort)
    this.#giveSlot()
    // whatever the sink still does for this attempt stops here
    this.#controller.abort(new RetryableError('AttemptOver', 'the attempt is over'))
  }
}
