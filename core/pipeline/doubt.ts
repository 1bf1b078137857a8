import type { SinkHandle } from '../delivery/attempts.ts'

/** A body is expected to move at least so fast, beside the attempt's time-out. */
const SLOWEST_BYTES_PER_MS = 1024

/** The longest life of an attempt to put so many bytes, ms: its request time-out and the time for the size. */
export function lifeMs(h: Pick<SinkHandle, 'timeoutMs'>, bytes: number): number {
  return h.timeoutMs + bytes / SLOWEST_BYTES_PER_MS
}

/**
 * What is known of one object at the sink before its cut may be given up (step 8, I17): may it stand there, or still come to stand,
 * although nobody has said so? A request that got no answer is counted as on its way for the longest life of an attempt after its own
 * end; "not there" proves something only when it was asked for after that. Times are monotonic ms.
 */
export class Doubt {
  readonly #lifeMs: number
  #settledAt: number | null = null

  /** `since`: an earlier life may have acted until then; null = none can have. */
  constructor(lifeOfAttemptMs: number, since: number | null) {
    this.#lifeMs = lifeOfAttemptMs
    if (since !== null) this.raise(since)
  }
  /** An attempt that may have been applied ended at `endedAt`. */
  raise(endedAt: number): void {
    this.#settledAt = Math.max(this.#settledAt ?? -Infinity, endedAt + this.#lifeMs)
  }
  /** false = no effect of this object stands, and none will. */
  get any(): boolean {
    return this.#settledAt !== null
  }
  /** From when on the sink's "not there" is true for good; -Infinity where nothing is on its way. */
  get settledAt(): number {
    return this.#settledAt ?? -Infinity
  }
  /** The sink was asked at `askedAt` and said that nothing is there. */
  absent(askedAt: number): void {
    if (askedAt >= this.settledAt) this.#settledAt = null
  }
}
