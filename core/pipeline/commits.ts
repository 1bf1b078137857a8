import { LeaseLostError } from '../sdk/errors.ts'
import type { LaneContext } from './context.ts'
import type { LaneBook, OpenCut } from './book.ts'
import { LaneStoppedError } from './context.ts'
import { invariant } from './invariants.ts'

const REFUSED_RETRY_MS = 200

/** The lane's half of the one writer: asks for a commit of the whole state and notes what was acknowledged. */
export class Commits {
  readonly #x: LaneContext
  readonly #book: LaneBook
  /** A commit that is asked for and not yet serialized: later askers join it. */
  #waiting: Promise<void> | null = null
  #inFlight = 0

  constructor(x: LaneContext, book: LaneBook) {
    this.#x = x
    this.#book = book
  }
  get idle(): boolean {
    return this.#inFlight === 0
  }

  /** Resolves when a state that includes everything done before the call is stored. Rejects when the lane must end. */
  save(): Promise<void> {
    this.#waiting ??= this.#save()
    return this.#waiting
  }

  async #save(): Promise<void> {
    const { lane, host, events, pipeline } = this.#x
    let sent: { counter: number; cuts: readonly OpenCut[] } | null = null
    this.#inFlight++
    try {
      for (;;) {
        const since = host.clock.monotonic()
        const result = await lane.save(() => {
          this.#x.signal.throwIfAborted()
          invariant('I3', lane.lease.live(), () => `lease ${lane.lease.id} is not live at serialization`)
          this.#waiting = null
          const s = this.#book.serialize()
          sent = s
          return s.state
        })
        events.emit({ type: 'commit.finished', pipeline, entries: 1, result, ms: host.clock.monotonic() - since })
        const was = sent as { counter: number; cuts: readonly OpenCut[] } | null
        if (result === 'saved' && was) return this.#book.acked(was.counter, was.cuts)
        if (result !== 'refused') throw this.#ended(result)
        await host.clock.sleep(REFUSED_RETRY_MS, this.#x.signal)
      }
    } finally {
      this.#inFlight--
      // a commit that never got as far as its serialization must not be joined by later ones
      if (!sent) this.#waiting = null
    }
  }

  #ended(result: string): Error {
    const { lane, pipeline } = this.#x
    if (result === 'too-large')
      return new LaneStoppedError('NoteTooLarge', `the log refused a note of ${pipeline} ${lane.shard} as too large`)
    return new LeaseLostError(
      `committing ${pipeline} ${lane.shard}: ${result === 'fenced' ? 'another owner has the shard' : 'the answer was lost'}`,
    )
  }
}
