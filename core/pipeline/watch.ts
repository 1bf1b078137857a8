import { limits } from '../limits.ts'
import { errorMessage } from '../sdk/errors.ts'
import type { LaneBook } from './book.ts'
import type { Commits } from './commits.ts'
import { LaneStoppedError, type LaneContext } from './context.ts'
import { parseNote } from './note.ts'

/**
 * Step 14: every minute what is stored must be what was acknowledged last (a foreign tool may have moved the position), compared
 * only while no commit is in flight. A checkpoint for the operator every ten minutes and at the end.
 */
export function startWatch(x: LaneContext, book: LaneBook, commits: Commits): { failed: Promise<never>; end(): Promise<void> } {
  const { clock } = x.host
  const over = new AbortController()
  const signal = AbortSignal.any([x.signal, over.signal])
  let checkpointAt = clock.monotonic() + limits.checkpointMs
  const checkpoint = async (): Promise<void> => {
    const stored = await x.lane.saved()
    if (stored)
      await x.registry.checkpoint(x.pipelineId, x.lane.topicId, x.lane.shard, {
        offset: stored.position,
        leaderEpoch: stored.leaderEpoch,
        note: stored.note,
      })
  }
  const loop = async (): Promise<void> => {
    for (;;) {
      await clock.sleep(limits.watchMs, signal)
      await compare(x, book, commits)
      if (clock.monotonic() < checkpointAt) continue
      checkpointAt = clock.monotonic() + limits.checkpointMs
      await checkpoint()
    }
  }
  const running = loop()
  const failed = new Promise<never>((_, reject) => {
    running.catch((e: unknown) => {
      if (!signal.aborted) reject(e)
    })
  })
  failed.catch(() => {})
  return {
    failed,
    end: async () => {
      over.abort()
      await Promise.allSettled([running])
      if (!x.lane.lease.live()) return
      // a checkpoint that fails must not hide why the lane ended; the position itself is stored
      await checkpoint().catch((e: unknown) =>
        x.log.warn({ pipeline: x.pipeline, shard: x.lane.shard, err: errorMessage(e) }, 'the last checkpoint was not written'),
      )
    },
  }
}

async function compare(x: LaneContext, book: LaneBook, commits: Commits): Promise<void> {
  if (!commits.idle) return
  const before = book.lastAcked
  const stored = await x.lane.saved()
  if (!commits.idle || book.lastAcked !== before) return
  const counter = stored && stored.note !== '' ? parseNote(stored.note).counter : -1
  if (counter === before) return
  throw new LaneStoppedError(
    'StateChanged',
    `${x.pipeline} ${x.lane.shard}: the stored position is not the one that was saved last (${stored ? `position ${stored.position}` : 'nothing stored'}): ` +
      'another tool has written to the group',
  )
}
