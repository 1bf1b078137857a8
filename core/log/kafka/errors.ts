import { HydrantError, RetryableError, type Applied } from '../../sdk/errors.ts'
import type { Fault } from './wire.ts'

/** The broker answered, and its answer holds errors: of all of the call, or of some topics or partitions in it. */
export class BrokerError extends HydrantError {
  /** At least one. */
  readonly faults: readonly Fault[]
  /** The whole parsed answer: what stands beside the faults succeeded. */
  readonly response: unknown
  constructor(what: string, faults: readonly Fault[], response: unknown) {
    const told = faults
      .slice(0, 3)
      .map((f) => `${f.name} (${f.code})${f.path === '/' || f.path === '' ? '' : ` at ${f.path}`}: ${f.message}`)
    const more = faults.length > 3 ? ` and ${faults.length - 3} more` : ''
    const kind = faults.every((f) => f.retriable) ? 'retryable' : 'permanent'
    super(kind, `Kafka.${faults[0]?.name ?? 'UNKNOWN'}`, `${what}: ${told.join('; ')}${more}`)
    this.name = 'BrokerError'
    this.faults = faults
    this.response = response
  }
  has(name: string): boolean {
    return this.faults.some((f) => f.name === name)
  }
}

/**
 * The connection ended before the answer. `applied` tells what is known of the call: `no` when none of its bytes were written, else
 * `unknown`: the broker may have done it, or may still do it.
 */
export function cutOff(code: string, what: string, why: string, applied: Applied, cause?: unknown): RetryableError {
  const known = applied === 'no' ? 'it was not sent' : 'whether the broker did it is unknown'
  return new RetryableError(code, `${what}: ${why}; ${known}`, { applied, ...(cause === undefined ? {} : { cause }) })
}
