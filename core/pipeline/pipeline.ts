import { OutOfRangeError } from '../sdk/log.ts'
import type { LaneState } from '../stream/source.ts'
import { adopt, conflictError, passGap, replayOrGap } from './adopt.ts'
import { newCut, type LaneBook, type OpenCut } from './book.ts'
import type { Commits } from './commits.ts'
import type { LaneContext } from './context.ts'
import { deliver, retire, type Conflict, type Delivery } from './deliver.ts'
import { fill, LaneReader, type Filled } from './fill.ts'
import { recover } from './recover.ts'
import { reportCut, reportDelivered } from './reports.ts'
import { startWatch } from './watch.ts'

/**
 * One lane: read → transform → partition → encode → CUT → deliver → ADVANCE. Whoever asks when a position is committed finds
 * it here and nowhere else: record() makes a cut durable before its first effect, advance() moves the position after its last.
 *
 * Resolves when the lane has drained or reached its end. Rejects with LaneStoppedError (an operator must look), LeaseLostError
 * (drop everything) or any other error (start the lane again from what is stored).
 */
export async function runLane(given: LaneContext, resume: LaneState | null): Promise<void> {
  const over = new AbortController()
  const x = { ...given, signal: AbortSignal.any([given.signal, over.signal]) }
  x.progress({ state: 'recovering' })
  const { book, commits, fresh } = await recover(x, resume)
  const lane = new LaneRun(x, book, commits, fresh)
  const watch = startWatch(x, book, commits)
  const { pipeline } = x
  const { shard } = x.lane
  x.events.emit({ type: 'lane.started', pipeline, shard, position: book.position, recoveredCuts: book.cuts.length })
  const running = lane.run()
  try {
    await Promise.race([running, lane.failed, watch.failed])
  } catch (e) {
    over.abort(e)
    throw e
  } finally {
    // nothing of this life may still write when the next one begins, on the same lease
    await Promise.allSettled([running])
    await lane.settle()
    await watch.end()
  }
}

class LaneRun {
  readonly #x: LaneContext
  readonly #book: LaneBook
  readonly #commits: Commits
  readonly #reader: { current: LaneReader }
  readonly #open = new Map<OpenCut, Promise<void>>()
  readonly #failed = Promise.withResolvers<never>()
  /** No earlier life can have acted. */
  readonly #fresh: boolean
  /** Effects of an earlier life began before it, monotonic ms. */
  readonly #since: number
  /** Until this lease has created an anchor: one cut in delivery, and the store is asked first. */
  #probation = true
  /** Resolves when the first effects of all cuts so far are visible (I15b). */
  #lastTurn: Promise<void> = Promise.resolve()

  constructor(x: LaneContext, book: LaneBook, commits: Commits, fresh: boolean) {
    this.#x = x
    this.#book = book
    this.#commits = commits
    this.#fresh = fresh
    this.#since = x.host.clock.monotonic()
    this.#reader = { current: new LaneReader(x, book.end) }
    this.#failed.promise.catch(() => {})
  }
  /** Rejects with the error of a delivery that runs beside the flow. */
  get failed(): Promise<never> {
    return this.#failed.promise
  }

  async run(): Promise<void> {
    await this.#replayRecorded()
    this.#x.progress({ state: 'running' })
    for (;;) {
      await this.#room()
      const last = this.#x.drain.aborted
      const filled = await this.#fill()
      if (!filled) break
      const cut = await this.#record(filled)
      await this.#start(cut, filled, false)
      if (last) break
    }
    await Promise.all(this.#open.values())
  }

  async #replayRecorded(): Promise<void> {
    for (let cut = this.#book.cuts[0]; cut; cut = this.#book.cuts[0]) {
      const filled = await replayOrGap(this.#x, this.#book, cut)
      if (filled) {
        await this.#start(cut, filled, true)
        // recovery is one cut at a time, also off probation: it must not want all memory at once (row 22)
        await Promise.all(this.#open.values())
      } else {
        cut.confirmed = true
        await this.#advance()
      }
    }
    if (this.#reader.current.position !== this.#book.end) this.#reader.current = new LaneReader(this.#x, this.#book.end)
  }

  async #fill(): Promise<Filled | null> {
    try {
      return await fill(this.#x, this.#book, this.#reader.current)
    } catch (e) {
      if (!(e instanceof OutOfRangeError)) throw e
      await Promise.all(this.#open.values())
      await passGap(this.#x, this.#book, this.#commits, e)
      this.#reader.current = new LaneReader(this.#x, this.#book.end)
      return this.#fill()
    }
  }

  /** The decisions of a cut must fit the note beside those of the cuts before; alone they always do (fill stops a storm). */
  async #noteRoom({ encoded }: Filled): Promise<void> {
    while (this.#open.size > 0 && !this.#book.hasRoom(encoded.byLimit)) await Promise.race(this.#open.values())
  }

  /** Step 5: the cut joins the lane's state; it is durable when the commit that #start awaits has come back. */
  async #record(filled: Filled): Promise<OpenCut> {
    try {
      await this.#noteRoom(filled)
      this.#x.signal.throwIfAborted()
      return this.#append(filled)
    } catch (e) {
      await filled.encoded.release()
      throw e
    }
  }
  #append({ encoded, flow, reason }: Filled): OpenCut {
    const cut = newCut(encoded, flow.hash, false)
    this.#book.append(cut, this.#reader.current.head)
    reportCut(this.#x, cut, encoded.sourceBytes, reason)
    this.#x.progress({ cutMs: this.#book.cuts[0]?.arrivalMs ?? null })
    return cut
  }

  async #start(cut: OpenCut, filled: Filled, recovered: boolean): Promise<void> {
    const turn = this.#lastTurn
    const visible = Promise.withResolvers<void>()
    // a cut that failed ends whoever waits for its turn
    visible.promise.catch(() => {})
    this.#lastTurn = visible.promise
    const run = this.#deliver(cut, filled, recovered, turn, visible.resolve)
    this.#open.set(cut, run)
    this.#x.progress({ openCuts: this.#open.size, lineage: this.#book.lineage })
    run.then(
      () => this.#open.delete(cut),
      (e: unknown) => {
        this.#open.delete(cut)
        visible.reject(e)
        this.#failed.reject(e)
      },
    )
    if (this.#probation) await run
  }

  async #deliver(cut: OpenCut, filled: Filled, recovered: boolean, turn: Promise<void>, visible: () => void): Promise<void> {
    const { host } = this.#x
    try {
      if (!recovered) {
        await host.failpoint('cut.before')
        await this.#commits.save()
        await host.failpoint('cut.after')
      }
      const probation = this.#probation
      // what was not recorded before can still have been shown: by a life whose note was lost (row 7)
      const actedBefore = recovered || (probation && !this.#fresh) ? this.#since : null
      let job = { x: this.#x, book: this.#book, commits: this.#commits, cut, filled, recovered, probation, actedBefore, turn }
      let delivery: Delivery = await deliver(job)
      if (delivery.kind === 'conflict') {
        const adopted = await this.#adopt(cut, delivery.conflict)
        await filled.encoded.release()
        filled = adopted.filled
        job = { ...job, cut: adopted.cut, filled, recovered: true, actedBefore: this.#since }
        delivery = await deliver(job)
        if (delivery.kind === 'conflict') throw conflictError(this.#x, cut, delivery.conflict)
        cut = adopted.cut
      }
      await turn
      visible()
      if (delivery.created) this.#probation = false
      cut.confirmed = true
      reportDelivered(this.#x, cut, filled.encoded, delivery, recovered)
      await this.#advance()
      await host.failpoint('retire.before')
      await retire(job)
    } finally {
      await filled.encoded.release()
    }
    await host.failpoint('retire.after')
  }

  /** Another life of the lane cut the same start elsewhere: its end is the true one. */
  async #adopt(cut: OpenCut, conflict: Conflict): Promise<{ cut: OpenCut; filled: Filled }> {
    if (!this.#probation || this.#book.cuts[0] !== cut || this.#open.size > 1) throw conflictError(this.#x, cut, conflict)
    const adopted = await adopt(this.#x, this.#book, this.#commits, cut, conflict)
    this.#reader.current.drop()
    this.#reader.current = new LaneReader(this.#x, this.#book.end)
    return adopted
  }

  /** Step 9: over the longest confirmed run of cuts, from the front. */
  async #advance(): Promise<void> {
    const { host, events, pipeline, lane } = this.#x
    if (!this.#book.cuts[0]?.confirmed) return
    await host.failpoint('advance.before')
    if (this.#book.advance().length === 0) return
    // before the wait: another cut may advance meanwhile, and what is said must be stored
    const { position } = this.#book
    await this.#commits.save()
    await host.failpoint('advance.after')
    events.emit({ type: 'position.advanced', pipeline, shard: lane.shard, position })
    this.#x.progress({ position, openCuts: this.#book.cuts.length, cutMs: this.#book.cuts[0]?.arrivalMs ?? null })
  }

  /** Waits until one more cut may be opened: open cuts, note room, memory (row 22). */
  async #room(): Promise<void> {
    const full = (): boolean =>
      this.#open.size > 0 && (this.#open.size >= this.#x.maxOpenCuts || this.#x.memory.crowded || !this.#book.hasRoom([]))
    while (full()) {
      const { memory } = this.#x
      const next = Promise.race(this.#open.values())
      this.#x.progress({ state: 'waiting', reason: memory.crowded ? 'memory' : 'cuts in delivery' })
      await (memory.crowded ? memory.waiting(next) : next)
      this.#x.progress({ state: 'running', reason: null })
    }
  }

  /** After the signal aborted or the flow ended: every delivery has let go of its sink and its memory. */
  async settle(): Promise<void> {
    this.#reader.current.drop()
    await Promise.allSettled(this.#open.values())
  }
}
