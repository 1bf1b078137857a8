import { OutOfRangeError } from '../sdk/log.ts'
import { attempts } from '../delivery/attempts.ts'
import { newCut, type LaneBook, type OpenCut } from './book.ts'
import type { Commits } from './commits.ts'
import { LaneStoppedError, type LaneContext } from './context.ts'
import { namesOf, scopeOf, type Conflict } from './deliver.ts'
import { encodeRange, replay, type Filled } from './fill.ts'
import { parseRuns } from './note.ts'

/**
 * Adoption (step 6): the store shows an object of ours with this start and another end, spec or set of decisions: a note was
 * lost. Where the log's records prove it (D over [start, its end) equals its D, and O with its decisions), its cut is the true
 * one: committed first, then finished. Anything else stops the lane.
 */
export async function adopt(
  x: LaneContext,
  book: LaneBook,
  commits: Commits,
  mine: OpenCut,
  conflict: Conflict,
): Promise<{ cut: OpenCut; filled: Filled }> {
  const { key, stored } = conflict
  const m = stored.metadata
  const end = Number(m['end'])
  const refuse = (why: string): LaneStoppedError =>
    new LaneStoppedError(
      'Conflict',
      `${x.pipeline} ${x.lane.shard}: "${key}" holds another cut of start ${mine.start} (end ${m['end']}, digest ${m['d']}): ${why}. Nothing was overwritten.`,
    )
  if (!Number.isSafeInteger(end) || end <= mine.start || m['spec'] === undefined) throw refuse('its metadata is not readable')
  if (end > (await x.lane.bounds()).stable) throw refuse('the log is shorter than it')
  const flow = await x.flow(m['spec'])
  const forced = m['x'] === undefined ? [] : parseRuns(m['x'])
  const encoded = await encodeRange(x, book, flow, { start: mine.start, end }, forced)
  try {
    if (encoded.digest !== m['d']) throw refuse(`the log's records up to its end have digest ${encoded.digest}`)
    if (encoded.outcome !== m['o']) throw refuse(`with its decisions the outcome is ${encoded.outcome}, it says ${m['o']}`)
    const cut = newCut(encoded, flow.hash, conflict.givenUp ?? mine.givenUp)
    await x.host.failpoint('adopt.before')
    book.adopt(cut)
    await commits.save()
    await x.host.failpoint('adopt.after')
    x.events.emit({ type: 'cut.adopted', pipeline: x.pipeline, shard: x.lane.shard, start: cut.start, end, recordedEnd: mine.end })
    return { cut, filled: { encoded, flow, reason: 'recovered' } }
  } catch (e) {
    await encoded.release()
    throw e
  }
}

/**
 * A recorded cut again. Where retention has passed its records (row 24) the store is asked first: an object of that cut ends it
 * (null). Else on_gap decides: stop, or deliver what is left of it under its own names.
 */
export async function replayOrGap(x: LaneContext, book: LaneBook, cut: OpenCut): Promise<Filled | null> {
  try {
    return await replay(x, book, cut)
  } catch (e) {
    if (!(e instanceof OutOfRangeError)) throw e
    if (await anchorStands(x, book, cut)) return null
    const gap = Math.min(e.logStart, cut.end)
    if (x.onGap === 'stop') throw gapError(x, cut.start, gap)
    x.events.emit({ type: 'records.expired', pipeline: x.pipeline, shard: x.lane.shard, from: cut.start, to: gap })
    if (gap >= cut.end) return null
    const flow = await x.flow(cut.specHash)
    return { encoded: await encodeRange(x, book, flow, cut, cut.byLimit, gap), flow, reason: 'recovered' }
  }
}

/** The names of a cut need only its start and its first arrival, which the note holds. */
async function anchorStands(x: LaneContext, book: LaneBook, cut: OpenCut): Promise<boolean> {
  const flow = await x.flow(cut.specHash)
  const scope = scopeOf({ x, book, cut, recovered: true, turn: Promise.resolve() })
  const wanted = cut.givenUp ? 'backup' : 'anchor'
  for (const { handle, key } of namesOf(x, book, cut, flow).filter((n) => n.kind === wanted)) {
    const work = { operation: 'head', timeoutMs: handle.timeoutMs, forever: true }
    const stored = await attempts(handle, scope, work, (c) => handle.sink.head(key, c))
    if (stored !== null && stored.metadata['end'] === String(cut.end) && stored.metadata['d'] === cut.digest) return true
  }
  return false
}

/** Nothing is recorded and the log has lost what comes next: the operator's decision, never ours. */
export async function passGap(x: LaneContext, book: LaneBook, commits: Commits, e: OutOfRangeError): Promise<void> {
  const from = book.end
  if (e.logStart <= from)
    throw new LaneStoppedError('OutOfRange', `${x.pipeline} ${x.lane.shard}: position ${from} is beyond the log's end ${e.stable}`)
  if (x.onGap === 'stop') throw gapError(x, from, e.logStart)
  x.events.emit({ type: 'records.expired', pipeline: x.pipeline, shard: x.lane.shard, from, to: e.logStart })
  book.skipTo(e.logStart)
  await commits.save()
}

function gapError(x: LaneContext, from: number, to: number): LaneStoppedError {
  return new LaneStoppedError(
    'Gap',
    `${x.pipeline} ${x.lane.shard}: the log no longer holds [${from}, ${to}), which was never delivered. ` +
      `\`hydrant pipelines replay ${x.pipeline} --from ${to}\` goes on behind the gap.`,
  )
}

/** A name of ours holds another cut, and adopting it is out of the question. */
export function conflictError(x: LaneContext, cut: OpenCut, c: Conflict): LaneStoppedError {
  const m = c.stored.metadata
  return new LaneStoppedError(
    'Conflict',
    `${x.pipeline} ${x.lane.shard}: "${c.key}" already holds another cut: end ${m['end']}, digest ${m['d']}, outcome ${m['o']}, ` +
      `where [${cut.start}, ${cut.end}) with digest ${cut.digest} was to be written. Nothing was overwritten.`,
  )
}
