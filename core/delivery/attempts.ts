import type { AttemptContext, Logger, ObjectSink } from '../sdk/sink.ts'
import type { Host } from '../sdk/host.ts'
import { errorCode, errorKind, errorMessage, LeaseLostError, RetryableError } from '../sdk/errors.ts'
import type { Lease } from '../sdk/log.ts'
import { limits } from '../limits.ts'
import type { Events } from '../telemetry/events.ts'
import type { Breaker, Slots } from './breaker.ts'
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
  /** Waits for the cut's turn of first effects; resolves at once for later objects. */
  turn(): Promise<void>
  /** What an operator should see while attempts fail; null = the last one succeeded. */
  trouble?(what: string | null): void
  /** I1: the cut's own entry is acknowledged and the lease is live. Throws. */
  mayAct(): void
}

/**
 * Calls `work` until it resolves. Permanent and config errors and a lost lease reject at once; everything else is tried
 * again with full jitter between base and max. Waiting for the turn holds no slot and no clock.
 */
export async function attempts<T>(
  h: SinkHandle,
  s: EffectScope,
  o: { operation: string; timeoutMs: number; forever?: boolean },
  work: (c: AttemptContext) => Promise<T>,
): Promise<T> {
  let firstFailure: number | null = null
  for (let attempt = 1; ; attempt++) {
    await h.slots.take(s.signal)
    const one = new Attempt(h, s, attempt, o.timeoutMs)
    try {
      await h.breaker.pass(s.signal)
      one.startClock()
      const result = await one.race(work(one))
      h.breaker.succeeded()
      if (attempt > 1) s.trouble?.(null)
      return result
    } catch (e) {
      const kind = errorKind(e)
      if (s.signal.aborted || !s.lease.live() || kind === 'lease-lost') throw s.signal.aborted ? (s.signal.reason as Error) : e
      const final = kind === 'permanent' || kind === 'config' || isInvariant(e)
      if (final) throw e
      const retryAfterMs = e instanceof RetryableError ? Math.min(e.retryAfterMs ?? 0, limits.retryAfterMs) : 0
      h.breaker.failed(retryAfterMs)
      firstFailure ??= s.host.clock.monotonic()
      const spent = s.host.clock.monotonic() - firstFailure
      if (!o.forever && h.retry.durationMs !== null && spent >= h.retry.durationMs) throw new RetryExhaustedError(o.operation, spent, e)
      const cap = Math.min(h.retry.maxMs, h.retry.baseMs * 2 ** Math.min(attempt - 1, 20))
      const delayMs = Math.max(retryAfterMs, s.host.random.float() * cap)
      const { code, message } = { code: errorCode(e), message: errorMessage(e) }
      s.events.emit({ type: 'attempt.failed', pipeline: s.pipeline, sink: h.name, operation: o.operation, attempt, code, message, delayMs })
      s.trouble?.(`${o.operation} to ${h.name}, attempt ${attempt}: ${message}`)
      one.end()
      await s.host.clock.sleep(delayMs, s.signal)
    } finally {
      one.end()
    }
  }
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
