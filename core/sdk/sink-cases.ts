import assert from 'node:assert/strict'
import type { AttemptContext, ObjectSink, OutObject, Stored } from './sink.ts'
import { errorApplied, errorKind } from './errors.ts'
import { attemptContext, bodyOf, collect, lostLease, outObject, pieces } from './test-builders.ts'

/** One target (a bucket, a folder) that is empty at the start, and a sink on it. */
export interface SinkHarness {
  readonly sink: ObjectSink
  /** The object's bytes by another way than the sink, or null. */
  readBack(key: string): Promise<Uint8Array | null>
  /** Keys of all visible objects, sorted. */
  list(): Promise<string[]>
  stop(): Promise<void>
  /** A second sink on the same target: another daemon. Closed by the suite. */
  another?(): ObjectSink
  /** What a reader of the target sees beside the bytes. */
  describe?(key: string): Promise<{ contentType: string | undefined; contentEncoding: string | undefined }>
  /** The next write is applied, its answer is lost. */
  loseNextReply?(): Promise<void>
  /** From now on the target refuses every write, in its own words. */
  refuseWrites?(): Promise<void>
  /** Leaves an unfinished upload of this key behind, as a killed process does. */
  strand?(key: string): Promise<void>
  /** How many unfinished uploads of this key there are. */
  stranded?(key: string): Promise<number>
}
export interface SinkSuite {
  readonly name: string
  make(): Promise<SinkHarness>
  /** Body sizes to try, bytes. Default: 0, 1, 100,000. Give part size −1, =, +1 and the largest you support. */
  readonly sizes?: readonly number[]
  /** Keys to try beside the usual odd ones. */
  readonly keys?: readonly string[]
  /** A size that needs several steps (parts) to write; default 300,000. */
  readonly large?: number
}
export interface SinkCase {
  readonly name: string
  readonly run: () => Promise<void>
}

const ODD_KEYS = ['with space/a b', 'dt=2026-01-02/x+y', 'ünï/日本語', "q'()!*~", 'a/b/c/d/e/f/g', 'per%20cent & more', 'name.with.dots.gz']

/** The suite every object sink must pass: one fresh harness a case. */
export function testSink(o: SinkSuite): SinkCase[] {
  const cases: [string, (h: SinkHarness) => Promise<void>][] = [
    ['the same token twice: existed with equal metadata, bytes unchanged', sameTwice],
    ['another end under the same key: existed with the true metadata', otherEnd],
    ...(o.sizes ?? [0, 1, 100_000]).map((size): [string, (h: SinkHarness) => Promise<void>] => [
      `a body of ${size} bytes`,
      (h) => whole(h, size),
    ]),
    ...[...ODD_KEYS, ...(o.keys ?? [])].map((key): [string, (h: SinkHarness) => Promise<void>] => [
      `the key ${key}`,
      (h) => oddKey(h, key),
    ]),
    ['no piece is looked at when the put has created the object', (h) => usedAgain(h, o.large ?? 300_000)],
    ['an attempt aborted in mid-write leaves nothing, a later one works', (h) => aborted(h, o.large ?? 300_000)],
    ['a body that fails in mid-write leaves nothing, a later one works', (h) => brokenBody(h, o.large ?? 300_000)],
    ['an aborted attempt ends although its body hangs', hangingBody],
    ['two racing puts: exactly one creates', racing],
    ['head of a missing key is null', headMissing],
    ['content type and encoding', contentHeaders],
    ['read of a missing key rejects; a reader may stop early', (h) => reading(h, o.large ?? 300_000)],
    ['a lost lease makes nothing visible', (h) => lease(h, 1000)],
    ['a lost lease makes nothing visible, large body', (h) => lease(h, o.large ?? 300_000)],
    ['effect() is awaited before anything is visible', effectFirst],
    ['close in mid-write: the whole object or nothing', (h) => closing(h, o.large ?? 300_000)],
    ['a lost reply: stored once, and never called "not applied"', lostReply],
    ['a refused write says that it was not applied', refusedWrite],
    ['abortUploads: those of this key only', abortUploads],
    ['a recovered cut aborts old uploads of its key', recovered],
  ]
  return cases.map(([name, fn]) => ({
    name: `${o.name}: ${name}`,
    run: async () => {
      const h = await o.make()
      try {
        await fn(h)
      } finally {
        await h.sink.close()
        await h.stop()
      }
    },
  }))
}

/** Registers every case with a runner's `test(name, fn)`. */
export function registerSinkCases(test: (name: string, fn: () => Promise<void>) => void, o: SinkSuite): void {
  for (const c of testSink(o)) test(c.name, c.run)
}

/** As core does it: again while the error is retryable, at most five times. */
async function settle(sink: ObjectSink, out: OutObject, c: Partial<AttemptContext> = {}): Promise<{ existed: Stored | null }> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await sink.put(out, attemptContext({ ...c, attempt }))
    } catch (e) {
      if (attempt === 5 || (errorKind(e) ?? 'retryable') !== 'retryable') throw e
    }
  }
}
/** An error that says "not applied" must be right: core gives cuts up on its word. */
async function honest(h: SinkHarness, key: string, put: Promise<unknown>): Promise<unknown> {
  try {
    await put
    return null
  } catch (e) {
    if (errorApplied(e) === 'no') assert.equal(await h.readBack(key), null, `${key} stands there, and its put failed with applied: 'no'`)
    return e
  }
}
async function holds(h: SinkHarness, key: string, body: Uint8Array): Promise<void> {
  const there = await h.readBack(key)
  assert.ok(there, `${key} is not there`)
  assert.equal(Buffer.compare(there, body), 0, `${key} holds other bytes than were put (${there.length}, put ${body.length})`)
  assert.equal(Buffer.compare(await collect(h.sink.read(key, attemptContext())), body), 0, `read(${key}) yields other bytes`)
}
async function nothing(h: SinkHarness, key: string): Promise<void> {
  assert.equal(await h.readBack(key), null)
  assert.deepEqual(await h.list(), [])
  assert.equal(await h.sink.head(key, attemptContext()), null)
}

async function sameTwice(h: SinkHarness): Promise<void> {
  const body = bodyOf(5000)
  const out = outObject('twice/object', body)
  const first = await h.sink.put(out, attemptContext())
  assert.equal(first.existed, null)
  assert.ok(first.location.includes('twice/object'), `location ${first.location} does not name the key`)
  // another compressor may give other bytes for the same records: what stands there must win
  const second = await h.sink.put(outObject(out.key, bodyOf(5100, 2)), attemptContext())
  assert.deepEqual({ ...second.existed?.metadata }, { ...out.metadata })
  assert.equal(second.existed?.size, 5000)
  assert.equal(second.existed?.intent, undefined)
  await holds(h, out.key, body)
  assert.deepEqual({ ...(await h.sink.head(out.key, attemptContext()))?.metadata }, { ...out.metadata })
  assert.deepEqual(await h.list(), [out.key])
}

async function otherEnd(h: SinkHarness): Promise<void> {
  const body = bodyOf(5000)
  const out = outObject('anchor/object', body, { end: 50 })
  await h.sink.put(out, attemptContext())
  const { existed } = await h.sink.put(outObject(out.key, bodyOf(9000, 2), { end: 90 }), attemptContext())
  assert.equal(existed?.metadata['end'], '50')
  await holds(h, out.key, body)
}

async function whole(h: SinkHarness, size: number): Promise<void> {
  const body = bodyOf(size)
  const { existed } = await h.sink.put(outObject('sizes/object', body), attemptContext())
  assert.equal(existed, null)
  assert.equal((await h.sink.head('sizes/object', attemptContext()))?.size, size)
  await holds(h, 'sizes/object', body)
}

async function oddKey(h: SinkHarness, key: string): Promise<void> {
  const out = outObject(key, bodyOf(10))
  await h.sink.put(out, attemptContext())
  assert.deepEqual(await h.list(), [key])
  await holds(h, key, bodyOf(10))
  assert.equal((await h.sink.put(out, attemptContext())).existed?.metadata['token'], out.token)
}

async function aborted(h: SinkHarness, size: number): Promise<void> {
  const body = bodyOf(size)
  const deadline = new AbortController()
  const half = outObject('abort/object', body, {
    open: (start = 0, end = size) =>
      (async function* () {
        for await (const piece of pieces(body.subarray(start, end), 50_000)) {
          yield piece
          deadline.abort(new Error('deadline of the attempt'))
        }
      })(),
  })
  await assert.rejects(h.sink.put(half, attemptContext({ signal: deadline.signal })))
  await nothing(h, 'abort/object')
  assert.equal((await settle(h.sink, outObject('abort/object', body))).existed, null)
  await holds(h, 'abort/object', body)
}

async function usedAgain(h: SinkHarness, size: number): Promise<void> {
  for (const n of [1000, size]) {
    const body = bodyOf(n)
    const lent = Uint8Array.from(body)
    const answer = await h.sink.put(outObject(`again/object-${n}`, lent), attemptContext())
    // as core does it: the next object is made of this memory
    lent.fill(0)
    assert.equal(answer.existed, null)
    await holds(h, `again/object-${n}`, body)
  }
}

async function brokenBody(h: SinkHarness, size: number): Promise<void> {
  const body = bodyOf(size)
  const broken = outObject('broken/object', body, {
    open: (start = 0, end = size) =>
      (async function* () {
        yield await Promise.resolve(body.subarray(start, start + (end - start) / 2))
        throw new Error('the spill file cannot be read')
      })(),
  })
  await assert.rejects(h.sink.put(broken, attemptContext()), /spill file/)
  await nothing(h, 'broken/object')
  assert.equal((await settle(h.sink, outObject('broken/object', body))).existed, null)
  await holds(h, 'broken/object', body)
}

async function hangingBody(h: SinkHarness): Promise<void> {
  const asked = Promise.withResolvers<void>()
  const hangs = outObject('hang/object', bodyOf(1000), {
    open: () =>
      (async function* () {
        yield await Promise.resolve(bodyOf(10))
        asked.resolve()
        await new Promise(() => {})
      })(),
  })
  const deadline = new AbortController()
  const put = h.sink.put(hangs, attemptContext({ signal: deadline.signal }))
  await asked.promise
  deadline.abort(new Error('deadline of the attempt'))
  await assert.rejects(put)
  await nothing(h, 'hang/object')
}

async function racing(h: SinkHarness): Promise<void> {
  const other = h.another?.()
  try {
    for (let round = 0; round < 5; round++) {
      const key = `race/object-${round}`
      const bodies = [bodyOf(4000, 1), bodyOf(4000, 2)] as const
      const answers = await Promise.all(
        [h.sink, other ?? h.sink].map((sink, i) => settle(sink, outObject(key, bodies[i] ?? bodies[0], { end: i }))),
      )
      const creators = answers.flatMap((a, i) => (a.existed === null ? [i] : []))
      assert.equal(creators.length, 1, `${creators.length} of 2 racing puts created ${key}`)
      const winner = creators[0] ?? 0
      assert.equal(answers[1 - winner]?.existed?.metadata['end'], String(winner))
      await holds(h, key, bodies[winner] ?? bodies[0])
    }
  } finally {
    await other?.close()
  }
}

async function headMissing(h: SinkHarness): Promise<void> {
  assert.equal(await h.sink.head('no/such/object', attemptContext()), null)
  await h.sink.put(outObject('no/such', bodyOf(1)), attemptContext())
  assert.equal(await h.sink.head('no', attemptContext()), null)
}

async function contentHeaders(h: SinkHarness): Promise<void> {
  await h.sink.put(outObject('headers/a.gz', bodyOf(10), { contentEncoding: 'gzip', contentType: 'application/json' }), attemptContext())
  await h.sink.put(outObject('headers/b', bodyOf(10)), attemptContext())
  if (!h.describe) return
  assert.deepEqual(await h.describe('headers/a.gz'), { contentType: 'application/json', contentEncoding: 'gzip' })
  assert.deepEqual(await h.describe('headers/b'), { contentType: 'application/octet-stream', contentEncoding: undefined })
}

async function reading(h: SinkHarness, size: number): Promise<void> {
  await assert.rejects(collect(h.sink.read('missing', attemptContext())))
  const body = bodyOf(size)
  await h.sink.put(outObject('read/object', body), attemptContext())
  for await (const piece of h.sink.read('read/object', attemptContext())) {
    assert.ok(piece.length > 0)
    break
  }
  await holds(h, 'read/object', body)
}

async function lease(h: SinkHarness, size: number): Promise<void> {
  const out = outObject('lease/object', bodyOf(size))
  await assert.rejects(h.sink.put(out, lostLease()), (e) => errorKind(e) === 'lease-lost')
  await nothing(h, out.key)
  assert.equal((await settle(h.sink, out)).existed, null)
}

async function effectFirst(h: SinkHarness): Promise<void> {
  const out = outObject('turn/object', bodyOf(1000))
  const asked = Promise.withResolvers<void>()
  const turn = Promise.withResolvers<void>()
  const effect = (): Promise<void> => {
    asked.resolve()
    return turn.promise
  }
  const put = h.sink.put(out, attemptContext({ effect }))
  await Promise.race([asked.promise, put])
  await nothing(h, out.key)
  turn.resolve()
  assert.equal((await put).existed, null)
  await holds(h, out.key, bodyOf(1000))
}

async function closing(h: SinkHarness, size: number): Promise<void> {
  const body = bodyOf(size)
  const started = Promise.withResolvers<void>()
  const go = Promise.withResolvers<void>()
  const slow = outObject('close/object', body, {
    open: (start = 0, end = size) =>
      (async function* () {
        for await (const piece of pieces(body.subarray(start, end), 50_000)) {
          yield piece
          started.resolve()
          await go.promise
        }
      })(),
  })
  const put = h.sink.put(slow, attemptContext()).then(
    () => true,
    () => false,
  )
  await started.promise
  const closed = h.sink.close()
  go.resolve()
  const stored = await put
  await closed
  const there = await h.readBack('close/object')
  if (stored) assert.ok(there, 'put resolved, nothing is there')
  if (there) assert.equal(Buffer.compare(there, body), 0, 'half an object is visible')
}

async function lostReply(h: SinkHarness): Promise<void> {
  const body = bodyOf(5000)
  await h.sink.put(outObject('lost/warm-up', body), attemptContext())
  await h.loseNextReply?.()
  const out = outObject('lost/object', body)
  await honest(h, out.key, h.sink.put(out, attemptContext()))
  const { existed } = await settle(h.sink, out)
  if (existed) assert.deepEqual({ ...existed.metadata }, { ...out.metadata })
  await holds(h, out.key, body)
  assert.deepEqual(await h.list(), ['lost/object', 'lost/warm-up'])
}

async function refusedWrite(h: SinkHarness): Promise<void> {
  if (!h.refuseWrites) return
  await h.refuseWrites()
  const out = outObject('refused/object', bodyOf(5000))
  const e = await honest(h, out.key, h.sink.put(out, attemptContext()))
  assert.ok(e, 'a refused write resolved')
  assert.equal(errorApplied(e), 'no', `a refused write failed with applied: '${errorApplied(e)}'`)
  assert.deepEqual(await h.list(), [])
}

async function abortUploads(h: SinkHarness): Promise<void> {
  assert.equal(await h.sink.abortUploads('uploads/a', attemptContext()), 0)
  if (!h.strand || !h.stranded) return
  await h.strand('uploads/a')
  await h.strand('uploads/a')
  await h.strand('uploads/ab')
  assert.equal(await h.sink.abortUploads('uploads/a', attemptContext()), 2)
  assert.equal(await h.stranded('uploads/a'), 0)
  assert.equal(await h.stranded('uploads/ab'), 1)
  assert.equal(await h.sink.abortUploads('uploads/a', attemptContext()), 0)
}

async function recovered(h: SinkHarness): Promise<void> {
  await h.strand?.('uploads/r')
  assert.equal((await settle(h.sink, outObject('uploads/r', bodyOf(100)), { recovered: true })).existed, null)
  await holds(h, 'uploads/r', bodyOf(100))
  assert.equal((await h.stranded?.('uploads/r')) ?? 0, 0)
}
