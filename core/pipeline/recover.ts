import { LaneBook } from './book.ts'
import { Commits } from './commits.ts'
import { LaneStoppedError, type LaneContext } from './context.ts'
import { ForeignNoteError, parseNote, type Note } from './note.ts'
import type { LaneState } from '../stream/source.ts'

/**
 * Steps 2 and 3 of docs/exactly-once.md: position and note are read back, or written for the first time from the start that
 * the registry holds. No default exists (I10): whatever does not fit stops the lane with what to do.
 *
 * `fresh`: no earlier life of the lane can have acted, for none was initialised.
 */
export async function recover(x: LaneContext, resume: LaneState | null): Promise<{ book: LaneBook; commits: Commits; fresh: boolean }> {
  const { lane, registry, pipelineId } = x
  const start = await registry.createStart(pipelineId, lane.topicId, lane.shard, 0)
  x.progress({ position: resume?.position ?? start.position })
  const fresh = !start.initialised
  if (resume === null || resume.note === '') {
    if (start.initialised && !x.unguarded) throw await missing(x, resume)
    return { ...(await initialise(x, resume?.position ?? start.position)), fresh }
  }
  const note = readNote(x, resume)
  if (fresh) await registry.initialised(pipelineId, lane.topicId, lane.shard)
  await verify(x, note, resume)
  const book = new LaneBook(note, resume.leaderEpoch, true)
  return { book, commits: new Commits(x, book), fresh }
}

async function initialise(x: LaneContext, position: number): Promise<{ book: LaneBook; commits: Commits }> {
  const { lane, registry, pipelineId, host } = x
  const { leaderEpoch } = await lane.bounds()
  const note: Note = { pipelineId, lineage: 1, topicId: lane.topicId, position, counter: 0, cuts: [] }
  const book = new LaneBook(note, leaderEpoch, false)
  const commits = new Commits(x, book)
  await host.failpoint('init.before')
  await commits.save()
  await host.failpoint('init.after')
  await registry.initialised(pipelineId, lane.topicId, lane.shard)
  return { book, commits }
}

async function missing(x: LaneContext, resume: LaneState | null): Promise<LaneStoppedError> {
  const last = await x.registry.lastCheckpoint(x.pipelineId, x.lane.topicId, x.lane.shard)
  const known = last ? `the last checkpoint is position ${last.offset}` : 'no checkpoint was written yet'
  return new LaneStoppedError(
    resume ? 'NoteMissing' : 'PositionMissing',
    `${x.pipeline} ${x.lane.shard}: the stored ${resume ? `position ${resume.position} has no note` : 'position is gone'}; ${known}. ` +
      `Nothing is read or delivered until \`hydrant pipelines replay ${x.pipeline}\` says where to go on.`,
  )
}

function readNote(x: LaneContext, resume: LaneState): Note {
  const { lane, pipeline, pipelineId } = x
  const stop = (why: string): LaneStoppedError =>
    new LaneStoppedError(
      'ForeignNote',
      `${pipeline} ${lane.shard}: ${why}. Nothing is delivered until \`hydrant pipelines replay ${pipeline}\` says where to go on.`,
    )
  let note: Note
  try {
    note = parseNote(resume.note)
  } catch (e) {
    if (e instanceof ForeignNoteError) throw stop(e.message)
    throw e
  }
  if (note.pipelineId !== pipelineId) throw stop(`the note belongs to pipeline ${note.pipelineId}, this one is ${pipelineId}`)
  if (note.topicId !== lane.topicId) throw stop(`the note belongs to topic ${note.topicId}, this one is ${lane.topicId}`)
  if (note.position !== resume.position) throw stop(`the note is for position ${note.position}, the position is ${resume.position}`)
  return note
}

/** The log still holds the records that the note speaks of, and they are the same ones (rows 8, 9, 24). */
async function verify(x: LaneContext, note: Note, resume: LaneState): Promise<void> {
  const { lane, pipeline } = x
  const bounds = await lane.bounds()
  const last = note.cuts.reduce((at, c) => at + c.length, note.position)
  if (last > bounds.stable) {
    throw new LaneStoppedError(
      'LogTooShort',
      `${pipeline} ${lane.shard}: positions up to ${last} are recorded, the log ends at ${bounds.stable}: it has lost its tail or was restored from a backup ` +
        '(then start with `hydrant serve --restored`)',
    )
  }
  let end = note.position
  const marks = [{ epoch: resume.leaderEpoch, end }]
  for (const c of note.cuts) marks.push({ epoch: c.epoch, end: (end += c.length) })
  for (const m of marks) {
    const e = await lane.endOfEpoch(m.epoch)
    if (e.leaderEpoch === m.epoch && e.endOffset >= m.end) continue
    throw new LaneStoppedError(
      'LogDiverged',
      `${pipeline} ${lane.shard}: positions up to ${m.end} were read in epoch ${m.epoch}, which now ends at ${e.endOffset}: other records may stand there`,
    )
  }
}
