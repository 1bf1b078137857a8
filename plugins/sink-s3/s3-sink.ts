import type { AttemptContext, ObjectSink, OutObject, PluginKit, SinkContext, Stored } from 'hydrant/sdk'
import { verdict, type Verdict } from './answers.ts'
import { S3Failure, type Headers, type S3Api, type Upload } from './client.ts'
import { conditions, type ConditionMemory, type Conditions } from './conditions.ts'
import { gather, partSizeFor, uploadInParts } from './multipart.ts'
import type { S3Options } from './options.ts'
import { probeBucket } from './probe.ts'

type Answer = { location: string; existed: Stored | null }

/**
 * Objects in S3, exactly once by conditional writes: a key is created or found taken, never overwritten. One attempt a call, no
 * retry and no wait: core does both. Used by core/delivery; calls for different keys run at the same time.
 */
export class S3Sink implements ObjectSink {
  readonly #o: S3Options
  readonly #context: SinkContext
  readonly #kit: PluginKit
  readonly #api: S3Api
  readonly #conditions: Conditions
  readonly #running = new Set<Promise<unknown>>()
  /** Keys beside which nothing of an earlier process is left. */
  readonly #tidied = new Set<string>()
  #closed = false
  #saidNoList = false

  constructor(o: S3Options, context: SinkContext, kit: PluginKit, api: S3Api, memory: ConditionMemory) {
    this.#o = o
    this.#context = context
    this.#kit = kit
    this.#api = api
    this.#conditions = conditions(o, api, context.log, memory)
  }

  put(o: OutObject, c: AttemptContext): Promise<Answer> {
    return this.#guard(o.key, c, () => this.#put(o, c))
  }

  head(key: string, c: AttemptContext): Promise<Stored | null> {
    return this.#guard(key, c, () => this.#look(key, c))
  }

  async *read(key: string, c: AttemptContext): AsyncGenerator<Uint8Array> {
    try {
      for await (const chunk of await this.#api.get(key, {}, c.signal)) yield chunk
    } catch (e) {
      throw this.#explain(e, key, c)
    }
  }

  abortUploads(key: string, c: AttemptContext): Promise<number> {
    return this.#guard(key, c, () => this.#sweep(key, c))
  }

  probe(signal: AbortSignal): Promise<readonly { level: 'ok' | 'warning' | 'error'; message: string }[]> {
    return probeBucket(this.#o, this.#api, this.#context, this.#kit, signal)
  }

  /** Waits for the calls that run; core has aborted them or lets them finish. */
  async close(): Promise<void> {
    this.#closed = true
    await Promise.allSettled(this.#running)
    this.#api.close()
  }

  async #put(o: OutObject, c: AttemptContext): Promise<Answer> {
    const partSize = partSizeFor(o.size, this.#o.part_size)
    const inParts = o.size > partSize
    // an earlier life's unfinished upload could still be completed by it; an earlier attempt's Create may have lost its answer
    if (c.recovered || (inParts && c.attempt > 1)) await this.#sweep(o.key, c)
    if (c.recovered) await this.#tidy(o.key, c)
    const conditional = await this.#conditions.use(inParts ? 'complete' : 'put', o.key, c.signal)
    // without conditions looking is all there is; with them it saves a second upload of a large body
    if (!conditional || (inParts && (c.recovered || c.attempt > 1))) {
      const standing = await this.#verify(o.key, c)
      if (standing) return this.#existed(o.key, standing)
    }
    try {
      if (inParts) await this.#putInParts(o, c, partSize, conditional)
      else await this.#putWhole(o, c, conditional)
      return { location: this.#location(o.key), existed: null }
    } catch (e) {
      return await this.#settle(e, o.key, c)
    }
  }

  async #putWhole(o: OutObject, c: AttemptContext, conditional: boolean): Promise<void> {
    const body = await gather(this.#kit.untilAborted(o.open(), c.signal), o.size, (got) => this.#wrongSize(o, got))
    await c.effect()
    await c.failpoint('object.put.before')
    c.signal.throwIfAborted()
    const sum = this.#o.checksum ? { crc32: o.crc32 } : {}
    const { crc32 } = await this.#api.put(o.key, body, { ...headersOf(o), ...sum, conditional }, c.signal)
    await c.failpoint('object.put.after')
    if (crc32 !== undefined && this.#o.checksum && crc32 !== o.crc32) {
      throw new this.#kit.PermanentError(
        'S3.OtherChecksum',
        `put ${this.#location(o.key)}: sent CRC-32 ${o.crc32}, the store says ${crc32}`,
      )
    }
  }

  #putInParts(o: OutObject, c: AttemptContext, partSize: number, conditional: boolean): Promise<void> {
    return uploadInParts(o, c, this.#api, {
      partSize,
      memory: this.#context.memory,
      checksum: this.#o.checksum,
      conditional,
      headers: headersOf(o),
      open: (start, end, signal) => this.#kit.untilAborted(o.open(start, end), signal),
      short: (got) => this.#wrongSize(o, got),
    })
  }

  /** What a failed write means: taken or perhaps stored → HEAD; else the error. */
  async #settle(e: unknown, key: string, c: AttemptContext): Promise<Answer> {
    if (c.signal.aborted || !(e instanceof S3Failure)) throw this.#explain(e, key, c)
    const v = this.#judge(e, key)
    if (v.means !== 'existed' && v.means !== 'look') throw v.error
    let standing: Stored | null
    try {
      standing = await this.#verify(key, c)
    } catch (why) {
      // taken: without HEAD nothing can be said. Perhaps stored: the next attempt asks again, by its own condition
      throw v.means === 'existed' ? why : v.error
    }
    if (!standing) throw v.error
    return this.#existed(key, standing)
  }

  async #verify(key: string, c: AttemptContext): Promise<Stored | null> {
    await c.failpoint('verify.before')
    const standing = await this.#look(key, c)
    await c.failpoint('verify.after')
    return standing
  }

  async #look(key: string, c: AttemptContext): Promise<Stored | null> {
    try {
      const { size, metadata } = await this.#api.head(key, c.signal)
      return { location: this.#location(key), size, metadata }
    } catch (e) {
      const { means, error } = await this.#verdictOfHead(e, key, c)
      if (means === 'gone') return null
      throw error
    }
  }

  /** An answer to HEAD has no body, so a refusal does not say why: GET of the same key, which needs the same permission, does. */
  async #verdictOfHead(e: unknown, key: string, c: AttemptContext): Promise<{ means: string; error: unknown }> {
    if (c.signal.aborted || !(e instanceof S3Failure)) return { means: 'throw', error: this.#explain(e, key, c) }
    if (e.status !== 400 && e.status !== 403 && e.status !== 301) return this.#judge(e, key)
    try {
      for await (const chunk of await this.#api.get(key, { first: true }, c.signal)) void chunk
    } catch (why) {
      if (c.signal.aborted || !(why instanceof S3Failure)) return { means: 'throw', error: this.#explain(why, key, c) }
      if (why.status !== undefined && why.status >= 400 && why.code !== 'InvalidRange') return this.#judge(why, key)
    }
    return this.#judge(e, key)
  }

  async #abortUploads(key: string, c: AttemptContext): Promise<number> {
    let count = 0
    for (let after: Upload | null = null; ;) {
      const page: { uploads: readonly Upload[]; next: Upload | null } = await this.#api.listUploads(key, after, c.signal)
      for (const upload of page.uploads.filter((u) => u.key === key)) {
        try {
          await this.#api.abort(upload, c.signal)
          count++
        } catch (e) {
          if (!(e instanceof S3Failure) || this.#judge(e, key).means !== 'gone') throw e
        }
      }
      after = page.next
      // keys are listed in order: past the key itself only longer ones follow
      if (after === null || after.key > key) return count
    }
  }

  /**
   * Uploads that cannot be listed do not stop delivery: names and conditions give the safety, this only narrows. Said once. A bucket that
   * is not there holds none.
   */
  async #sweep(key: string, c: AttemptContext): Promise<number> {
    try {
      return await this.#abortUploads(key, c)
    } catch (e) {
      if (e instanceof S3Failure && e.status === 404) return 0
      const refused = e instanceof S3Failure && (e.status === 403 || e.status === 405 || e.status === 501)
      if (!refused) throw e
      if (!this.#saidNoList)
        c.log.warn({ bucket: this.#o.bucket }, `unfinished uploads cannot be aborted: ${this.#judge(e, key).error.message}`)
      this.#saidNoList = true
      return 0
    }
  }

  /** Removes the probe objects that a killed process left beside a key. A store that does not let us is not asked again. */
  async #tidy(key: string, c: AttemptContext): Promise<void> {
    if (this.#tidied.has(key)) return
    for (const { name, uploads } of this.#conditions.leftovers(key)) {
      if (uploads) await this.#sweep(name, c)
      try {
        await this.#api.remove(name, c.signal)
      } catch (e) {
        const refused = e instanceof S3Failure && e.status !== undefined && e.status >= 400 && e.status < 500 && e.status !== 429
        if (!refused) throw e
      }
    }
    this.#tidied.add(key)
  }

  #judge(e: S3Failure, key: string): Verdict {
    const v = verdict(e, this.#o.bucket, key, this.#kit)
    if (v.means === 'throw' && v.refresh) this.#api.refresh()
    return v
  }

  #explain(e: unknown, key: string, c: AttemptContext): unknown {
    if (c.signal.aborted) return c.signal.reason
    return e instanceof S3Failure ? this.#judge(e, key).error : e
  }

  #existed(key: string, existed: Stored): Answer {
    return { location: this.#location(key), existed }
  }

  #location(key: string): string {
    return `s3://${this.#o.bucket}/${key}`
  }

  #wrongSize(o: OutObject, got: string): Error {
    return new this.#kit.PermanentError('S3.BodySize', `put ${this.#location(o.key)}: the body has ${got} bytes, ${o.size} were announced`)
  }

  async #guard<T>(key: string, c: AttemptContext, work: () => Promise<T>): Promise<T> {
    if (this.#closed) throw new this.#kit.RetryableError('S3.Closed', `${this.#location(key)}: the sink is closed`)
    c.signal.throwIfAborted()
    const running = work()
    this.#running.add(running)
    try {
      return await running
    } catch (e) {
      throw this.#explain(e, key, c)
    } finally {
      this.#running.delete(running)
    }
  }
}

function headersOf(o: OutObject): Headers {
  return {
    contentType: o.contentType,
    metadata: o.metadata,
    ...(o.contentEncoding === undefined ? {} : { contentEncoding: o.contentEncoding }),
  }
}
