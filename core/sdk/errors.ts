/**
 * Errors are recognized by a registered symbol, not by instanceof: two copies of the package must agree
 * (see undici's errors). An error without the symbol counts as retryable, for a bounded time.
 */
const KIND: unique symbol = Symbol.for('hydrant.error')
export type ErrorKind = 'retryable' | 'permanent' | 'config' | 'lease-lost'
/**
 * Did the failed attempt make something visible, or may it still? `no`: certainly not, neither now nor later: no connection came about,
 * or the receiver's own answer refuses. `unknown`, the default: everything else (no answer, a time-out, a reset, a 5xx). Core gives a cut
 * up to its backup only where nothing of it can stand at the sink, so a wrong `no` doubles records.
 */
export type Applied = 'no' | 'unknown'

export class HydrantError extends Error {
  readonly [KIND]: ErrorKind
  /** Short stable code for metrics and error objects, such as `S3.SlowDown`. */
  readonly code: string
  readonly applied: Applied
  constructor(kind: ErrorKind, code: string, message: string, options?: { cause?: unknown; applied?: Applied }) {
    super(message, options)
    this.name = `HydrantError(${kind})`
    this[KIND] = kind
    this.code = code
    this.applied = options?.applied ?? 'unknown'
  }
}
/** The same call may succeed later: core retries with back-off. */
export class RetryableError extends HydrantError {
  /** The receiver asked to be left alone for so long. */
  readonly retryAfterMs: number | undefined
  constructor(code: string, message: string, options?: { cause?: unknown; retryAfterMs?: number; applied?: Applied }) {
    super('retryable', code, message, options)
    this.retryAfterMs = options?.retryAfterMs
  }
}
/** This call will never succeed as it is (the data or the target says no): core stops the lane and says so. */
export class PermanentError extends HydrantError {
  constructor(code: string, message: string, options?: { cause?: unknown; applied?: Applied }) {
    super('permanent', code, message, options)
  }
}
/** The configuration is wrong: core stops the lane until it is changed. */
export class ConfigError extends HydrantError {
  constructor(code: string, message: string, options?: { cause?: unknown; applied?: Applied }) {
    super('config', code, message, options)
  }
}
/** Thrown by AttemptContext.effect(): this process no longer owns the shard. Never caught by a sink. */
export class LeaseLostError extends HydrantError {
  constructor(message: string) {
    super('lease-lost', 'LeaseLost', message)
  }
}
/** The kind of an error, or undefined for a foreign one (which core treats as retryable). */
export function errorKind(e: unknown): ErrorKind | undefined {
  return typeof e === 'object' && e !== null ? (e as { [KIND]?: ErrorKind })[KIND] : undefined
}
/** What an error says of its attempt; `unknown` for a foreign one. */
export function errorApplied(e: unknown): Applied {
  return errorKind(e) !== undefined && (e as { applied?: unknown }).applied === 'no' ? 'no' : 'unknown'
}
export function errorCode(e: unknown): string {
  const code = typeof e === 'object' && e !== null ? (e as { code?: unknown }).code : undefined
  return typeof code === 'string' ? code : e instanceof Error ? e.name : 'Unknown'
}
export function errorMessage(e: unknown): string {
  return e instanceof Error ? e.message : String(e)
}
