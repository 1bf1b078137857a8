import { CONTENT_TYPE, compressionInfo } from '../format/compression.ts'
import { attempts, RetryExhaustedError, type EffectScope, type SinkHandle } from '../delivery/attempts.ts'
import { nap } from '../delivery/breaker.ts'
import type { OutObject, Stored } from '../sdk/sink.ts'
import type { Body } from '../format/types.ts'
import { errorCode, errorKind, errorMessage } from '../sdk/errors.ts'
import type { LaneBook, OpenCut } from './book.ts'
import type { Commits } from './commits.ts'
import { LaneStoppedError, type LaneContext } from './context.ts'
import { Doubt, lifeMs } from './doubt.ts'
import type { Filled } from './fill.ts'
import type { Flow } from './flow.ts'
import { invariant } from './invariants.ts'
import { tokenOf } from './names.ts'
import { formatRuns } from './note.ts'

const GIVEN_UP = 'delivery-failed'
const BACKUP = 'backup'
const REJECT_TYPES = ['decompression-failed', 'processing-failed']
const WAITS = 'waits to learn whether the object exists before giving up'

/** What a store says stands under a name of ours, and is not what we would write. */
export interface Conflict {
  readonly key: string
  readonly stored: Stored
  /** It stands in the backup: the cut was given up. */
  readonly givenUp?: true
}
export type Delivery =
  | { readonly kind: 'done'; readonly created: boolean; readonly objects: number; readonly storedBytes: number }
  | { readonly kind: 'conflict'; readonly conflict: Conflict }

export interface DeliverJob {
  readonly x: LaneContext
  readonly book: LaneBook
  readonly commits: Commits
  readonly cut: OpenCut
  readonly filled: Filled
  /** The cut was recorded by an earlier life of the lane. */
  readonly recovered: boolean
  /** This lease has not created an anchor yet: look before anything (step 6). */
  readonly probation: boolean
  /** An earlier life may have shown effects of this cut until then, monotonic ms; null = none can have. */
  readonly actedBefore: number | null
  /** Resolves when the first effects of all cuts before are visible. */
  readonly turn: Promise<void>
}

type Kind = 'rejects' | 'anchor' | 'backup'
interface Planned {
  readonly kind: Kind
  readonly handle: SinkHandle
  readonly object: OutObject
  readonly body: Body
}

/** Step 6: rejects objects, then the anchor, under names made from the start; "already there" counts only for the same cut. */
export async function deliver(j: DeliverJob): Promise<Delivery> {
  const { cut } = j
  invariant('I1', cut.acked, () => `delivering [${cut.start}, ${cut.end}) before its entry was acknowledged`)
  if (cut.givenUp) return deliverGivenUp(j)
  const plan = planOf(j)
  const anchor = plan.find((p) => p.kind === 'anchor')
  const doubt = new Doubt(anchor ? lifeMs(anchor.handle, anchor.object.size) : 0, j.actedBefore)
  let created = false
  let storedBytes = 0
  try {
    const conflict = j.probation ? await lookFirst(j, plan, doubt) : null
    if (conflict) return { kind: 'conflict', conflict }
    for (const p of plan) {
      const put = await putOne(j, p, p === anchor && mayGiveUp(j) ? doubt : null)
      if (put.conflict) return { kind: 'conflict', conflict: put.conflict }
      // the anchor, or the rejects object of a cut that delivers nothing, goes last
      created = put.created
      storedBytes += p.object.size
    }
  } catch (e) {
    if (!(e instanceof RetryExhaustedError)) throw e
    return giveUp(j, plan, doubt)
  }
  return { kind: 'done', created, objects: plan.length, storedBytes }
}

function planOf(j: DeliverJob): Planned[] {
  const { encoded, flow } = j.filled
  const { start, arrivalMs, digest } = j.cut
  // names come from what was recorded of the start, whatever this attempt has read
  invariant(
    'I16',
    encoded.start === start && (encoded.digest !== digest || encoded.arrivalMs === arrivalMs),
    () => `naming the cut at ${start} by ${encoded.start}, ${encoded.arrivalMs}`,
  )
  const plan: Planned[] = []
  for (const [type, r] of encoded.rejects) {
    const token = tokenFor(j, `rejects:${type}`)
    const key = flow.rejectsKey({ token, arrivalMs: j.cut.arrivalMs, type })
    plan.push({
      kind: 'rejects',
      handle: flow.rejects,
      body: r.body,
      object: outObject(j, { token, key, body: r.body, records: r.records }),
    })
  }
  if (encoded.main) {
    const token = tokenFor(j, '0')
    const key = flow.objectKey({ token, arrivalMs: j.cut.arrivalMs })
    const encoding = compressionInfo(flow.identity.format.compression).contentEncoding
    plan.push({
      kind: 'anchor',
      handle: flow.sink,
      body: encoded.main,
      object: outObject(j, { token, key, body: encoded.main, records: encoded.counts.delivered, encoding }),
    })
  }
  return plan
}

function tokenFor(j: Pick<DeliverJob, 'book' | 'cut'> & { x: NamesContext }, index: string): string {
  const { pipelineId, lane } = j.x
  return tokenOf({ pipelineId, lineage: j.book.lineage, topicId: lane.topicId, shard: lane.shard, start: j.cut.start }, '', index)
}

function outObject(
  j: DeliverJob,
  o: { token: string; key: string; body: Body; records: number; encoding?: string | undefined },
): OutObject {
  const { encoded, flow } = j.filled
  const x = formatRuns(encoded.byLimit)
  return {
    key: o.key,
    token: o.token,
    size: o.body.size,
    records: o.records,
    contentType: CONTENT_TYPE,
    ...(o.encoding === undefined ? {} : { contentEncoding: o.encoding }),
    crc32: o.body.crc32,
    metadata: {
      token: o.token,
      start: String(encoded.start),
      end: String(encoded.end),
      records: String(encoded.records),
      d: encoded.digest,
      o: encoded.outcome,
      spec: flow.hash,
      ...(x === '' ? {} : { x }),
    },
    open: (start, end) => o.body.open(start, end),
  }
}

function backupKey(j: Pick<DeliverJob, 'book' | 'cut'> & { x: NamesContext; filled: { flow: Flow } }): string {
  return j.filled.flow.rejectsKey({ token: tokenFor(j, BACKUP), arrivalMs: j.cut.arrivalMs, type: GIVEN_UP })
}

/** Every name that an effect of a recorded cut may have: the anchor's, the backup's, those of rejects. */
export function namesOf(x: NamesContext, book: LaneBook, cut: OpenCut, flow: Flow): { handle: SinkHandle; key: string; kind: Kind }[] {
  const j = { x, book, cut, filled: { flow } }
  const names: { handle: SinkHandle; key: string; kind: Kind }[] = [
    { handle: flow.sink, key: flow.objectKey({ token: tokenFor(j, '0'), arrivalMs: cut.arrivalMs }), kind: 'anchor' },
  ]
  if (flow.rejects !== flow.sink) names.push({ handle: flow.rejects, key: backupKey(j), kind: 'backup' })
  if (flow.stages.length === 0) return names
  for (const type of REJECT_TYPES) {
    names.push({
      handle: flow.rejects,
      key: flow.rejectsKey({ token: tokenFor(j, `rejects:${type}`), arrivalMs: cut.arrivalMs, type }),
      kind: 'rejects',
    })
  }
  return names
}
/** What names need of a lane. */
export interface NamesContext {
  readonly pipelineId: string
  readonly lane: { readonly topicId: string; readonly shard: string }
}

/** retry.duration counts only where there is another place to put the cut. */
function mayGiveUp(j: DeliverJob): boolean {
  return j.filled.flow.rejects !== j.filled.flow.sink
}

/** On probation the store is asked before anything is shown to it: an earlier life may have written under these names. */
async function lookFirst(j: DeliverJob, plan: readonly Planned[], doubt: Doubt): Promise<Conflict | null> {
  const { flow, encoded } = j.filled
  const looks = plan.map((p) => ({ p, handle: p.handle, key: p.object.key }))
  // a rejects object of another outcome may stand there although this attempt rejects nothing
  if (encoded.rejects.size === 0 && flow.stages.length > 0) {
    for (const { handle, key } of namesOf(j.x, j.book, j.cut, flow).filter((n) => n.kind === 'rejects')) {
      const stored = await head(j, handle, key)
      if (stored) return { key, stored }
    }
  }
  // given up by an earlier life whose note was lost: the backup has it, the sink must not get it too
  if (mayGiveUp(j) && encoded.main) {
    const key = backupKey(j)
    const stored = await head(j, flow.rejects, key)
    if (stored) return { key, stored, givenUp: true }
  }
  for (const { p, handle, key } of looks) {
    const askedAt = j.x.host.clock.monotonic()
    const stored = await head(j, handle, key)
    if (stored && !judge(j, p, stored)) return { key, stored }
    if (!stored && p.kind === 'anchor') doubt.absent(askedAt)
  }
  return null
}

async function head(j: DeliverJob, handle: SinkHandle, key: string): Promise<Stored | null> {
  const { host } = j.x
  const forever = handle !== j.filled.flow.sink || !mayGiveUp(j)
  await host.failpoint('verify.before')
  const stored = await attempts(handle, scopeOf(j), { operation: 'head', timeoutMs: handle.timeoutMs, forever }, (c) =>
    handle.sink.head(key, c),
  )
  await host.failpoint('verify.after')
  return stored
}

/** `doubt`: of an object whose cut may be given up; null = it is tried for ever. */
async function putOne(j: DeliverJob, p: Planned, doubt: Doubt | null): Promise<{ created: boolean; conflict: Conflict | null }> {
  const { x } = j
  const { handle, object } = p
  const point = p.kind === 'rejects' ? 'reject.put' : p.kind === 'backup' ? 'backup.put' : null
  if (point) await x.host.failpoint(`${point}.before`)
  const o = { operation: 'put', timeoutMs: lifeMs(handle, object.size), forever: doubt === null, inDoubt: (at: number) => doubt?.raise(at) }
  const put = await attempts(handle, scopeOf(j), o, async (c) => {
    const over = p.body.borrow()
    const answer = await handle.sink.put(object, c)
    // an attempt that failed, was overtaken or found the key taken may have left a request that still reads: then never
    if (!answer.existed) over()
    return answer
  })
  if (point) await x.host.failpoint(`${point}.after`)
  if (!put.existed) {
    const { size, records } = object
    x.events.emit({ type: 'object.stored', pipeline: x.pipeline, shard: x.lane.shard, key: object.key, size, records, kind: p.kind })
    return { created: true, conflict: null }
  }
  const equal = judge(j, p, put.existed)
  x.events.emit({ type: 'object.existed', pipeline: x.pipeline, shard: x.lane.shard, key: object.key, equal })
  return { created: false, conflict: equal ? null : { key: object.key, stored: put.existed } }
}

/** I8: "already there" is done only with equal token, end, digest and outcome. */
function judge(j: DeliverJob, p: Planned, stored: Stored): boolean {
  const { object } = p
  const m = stored.metadata
  if (m['token'] === undefined && m['end'] === undefined) {
    // a copy tool lost the metadata: the key is ours, so only a body of quite another size is not
    const same = stored.size === object.size || (stored.size > object.size / 2 && stored.size < object.size * 2)
    if (same)
      j.x.log.warn(
        { key: object.key, size: stored.size },
        'an object of ours has lost its metadata; taken as delivered by its name and size',
      )
    return same
  }
  return (
    m['token'] === object.token && m['end'] === object.metadata['end'] && m['d'] === object.metadata['d'] && m['o'] === object.metadata['o']
  )
}

/** Step 8: giving up is written down before it acts, never reverts, and is decided only where nothing of the cut can stand at the sink (I17). */
async function giveUp(j: DeliverJob, plan: readonly Planned[], doubt: Doubt): Promise<Delivery> {
  const { x, cut, commits } = j
  const anchor = plan.find((p) => p.kind === 'anchor')
  await x.host.failpoint('decide.before')
  const stored = anchor && doubt.any ? await learn(j, anchor, doubt) : null
  x.progress({ reason: null })
  if (anchor && stored) {
    if (!judge(j, anchor, stored)) return { kind: 'conflict', conflict: { key: anchor.object.key, stored } }
    return { kind: 'done', created: false, objects: plan.length, storedBytes: anchor.object.size }
  }
  invariant('I17', !doubt.any, () => `giving up [${cut.start}, ${cut.end}), of which an object may stand at the sink`)
  cut.givenUp = true
  await commits.save()
  await x.host.failpoint('decide.after')
  return deliverGivenUp(j)
}

/**
 * Asks for the object until it is there (resolves with it), or until the sink says that it is not there when nothing can be on its way
 * any more (null). Uploads are aborted first: a Complete that comes late then finds nothing to complete. Says why the lane waits.
 */
async function learn(j: DeliverJob, { handle, object: { key } }: Planned, doubt: Doubt): Promise<Stored | null> {
  const { x, cut } = j
  const { clock } = x.host
  const say = (waiting: boolean): void =>
    x.events.emit({ type: 'cut.undecided', pipeline: x.pipeline, shard: x.lane.shard, start: cut.start, end: cut.end, key, waiting })
  const why = (what: string | null): void => x.progress({ doubt: what === null ? WAITS : `${WAITS}: ${what}` })
  const scope = { ...scopeOf(j, false), trouble: why }
  const o = { operation: 'head', timeoutMs: handle.timeoutMs, forever: true }
  say(true)
  why(null)
  try {
    for (;;) {
      let askedAt = 0
      const stored = await attempts(handle, scope, o, async (c) => {
        const count = await handle.sink.abortUploads(key, c)
        if (count > 0) x.events.emit({ type: 'uploads.aborted', pipeline: x.pipeline, shard: x.lane.shard, key, count })
        askedAt = clock.monotonic()
        return handle.sink.head(key, c)
      })
      if (stored) return stored
      doubt.absent(askedAt)
      if (!doubt.any) return null
      const restMs = Math.max(1, doubt.settledAt - clock.monotonic())
      why(`it is not there, but a request without an answer may be on its way for another ${Math.ceil(restMs / 1000)} s`)
      const ending = await nap(clock, restMs, x.signal, [x.drain])
      if (ending || x.drain.aborted) throw new Error(`${WAITS}: the lane ends before that is known`)
    }
  } finally {
    x.progress({ doubt: null })
    say(false)
  }
}

async function deliverGivenUp(j: DeliverJob): Promise<Delivery> {
  const { x, cut } = j
  const { flow, encoded } = j.filled
  const rejects = planOf(j).filter((p) => p.kind === 'rejects')
  let storedBytes = 0
  const backups: Planned[] = [...rejects]
  if (encoded.main) {
    const token = tokenFor(j, BACKUP)
    const key = backupKey(j)
    const encoding = compressionInfo(flow.identity.format.compression).contentEncoding
    backups.push({
      kind: 'backup',
      handle: flow.rejects,
      body: encoded.main,
      object: outObject(j, { token, key, body: encoded.main, records: encoded.counts.delivered, encoding }),
    })
  }
  for (const p of backups) {
    const put = await putOne(j, p, null)
    if (put.conflict) return { kind: 'conflict', conflict: put.conflict }
    storedBytes += p.object.size
  }
  x.events.emit({
    type: 'cut.given-up',
    pipeline: x.pipeline,
    shard: x.lane.shard,
    start: cut.start,
    end: cut.end,
    records: encoded.counts.delivered,
  })
  return { kind: 'done', created: false, objects: backups.length, storedBytes }
}

/**
 * After the position has passed the cut: uploads that an earlier life left open under its name are ended. One try: what stays is
 * untidy, not wrong, and the lane must not wait for it (a store that is down, no right to list uploads).
 */
export async function retire(j: DeliverJob): Promise<void> {
  if (!j.recovered) return
  const { x } = j
  for (const { kind, handle, object } of planOf(j)) {
    if (kind === 'anchor' && j.cut.givenUp) continue
    const once: SinkHandle = { ...handle, retry: { ...handle.retry, durationMs: 0 } }
    try {
      const work = { operation: 'abort', timeoutMs: handle.timeoutMs }
      const count = await attempts(once, scopeOf(j, false), work, (c) => handle.sink.abortUploads(object.key, c))
      if (count > 0) x.events.emit({ type: 'uploads.aborted', pipeline: x.pipeline, shard: x.lane.shard, key: object.key, count })
    } catch (e) {
      if (x.signal.aborted || errorKind(e) === 'lease-lost') throw e
      x.log.warn(
        { pipeline: x.pipeline, key: object.key, err: errorMessage(e) },
        'unfinished uploads of an earlier life may stay at the store',
      )
    }
  }
}

/** `acting`: effects are meant; else nothing visible is made and the cut may be past. */
export function scopeOf(j: Pick<DeliverJob, 'x' | 'book' | 'cut' | 'recovered' | 'turn'>, acting = true): EffectScope {
  const { x, book, cut, turn } = j
  const { lane } = x
  return {
    host: x.host,
    events: x.events,
    log: x.log,
    pipeline: x.pipeline,
    lease: lane.lease,
    signal: x.signal,
    drain: x.drain,
    hurry: x.hurry,
    recovered: j.recovered,
    cut: {
      pipelineId: x.pipelineId,
      lineage: book.lineage,
      topicId: lane.topicId,
      stream: lane.stream,
      shard: lane.shard,
      start: cut.start,
      end: cut.end,
    },
    turn: () => turn,
    trouble: (reason) => x.progress({ reason }),
    mayAct: () => {
      if (!acting) return
      invariant(
        'I1',
        cut.acked && book.cuts.includes(cut),
        () => `effect of [${cut.start}, ${cut.end}), which the acknowledged note does not hold`,
      )
      invariant('I12', lane.topicId === book.topicId, () => `lane of ${lane.topicId}, note of ${book.topicId}`)
    },
  }
}

export function stopFor(x: LaneContext, e: unknown): LaneStoppedError | null {
  if (e instanceof LaneStoppedError) return e
  const kind = errorKind(e)
  if (kind === 'permanent' || kind === 'config')
    return new LaneStoppedError(errorCode(e), `${x.pipeline} ${x.lane.shard}: ${errorMessage(e)}`)
  if (e instanceof Error && e.name === 'InvariantError')
    return new LaneStoppedError('Invariant', `${x.pipeline} ${x.lane.shard}: ${e.message}`)
  if (e instanceof Error && e.name === 'NoTransportError') return new LaneStoppedError('NoTransport', e.message)
  return null
}
