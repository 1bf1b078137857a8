import { Agent, request, type IncomingHttpHeaders, type IncomingMessage } from 'node:http'
import type { Outcomes } from './outcomes.ts'
import { idText, makeRecord, type RecordId } from './records.ts'
import { rng } from './random.ts'
import { sign, type Credentials } from './sigv4.ts'

export interface Answer {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly body: Record<string, unknown>
}
export interface FirehoseClientOptions {
  /** http://127.0.0.1:PORT */
  readonly url: string
  readonly credentials?: Credentials
  readonly connections?: number
  readonly timeoutMs?: number
}

/** No answer: `sent` false = the request cannot have reached the server. */
export class NoAnswer extends Error {
  readonly sent: boolean
  constructor(cause: unknown, sent: boolean) {
    super(`no answer: ${cause instanceof Error ? cause.message : String(cause)}`, { cause })
    this.name = 'NoAnswer'
    this.sent = sent
  }
}

/** A Firehose client of the tests' own: keep-alive, signed when it has credentials, no retry of its own. */
export class FirehoseClient {
  readonly url: string
  readonly #agent: Agent
  readonly #o: FirehoseClientOptions

  constructor(o: FirehoseClientOptions) {
    this.url = o.url
    this.#o = o
    this.#agent = new Agent({ keepAlive: true, maxSockets: o.connections ?? 8 })
  }

  /** Any operation. Rejects with NoAnswer only; every HTTP status is an answer. */
  call(operation: string, input: object | string): Promise<Answer> {
    const body = typeof input === 'string' ? input : JSON.stringify(input)
    const { host, hostname, port } = new URL(this.url)
    const plain = { host, 'content-type': 'application/x-amz-json-1.1', 'x-amz-target': `Firehose_20150804.${operation}` }
    const headers = this.#o.credentials
      ? sign(
          { method: 'POST', path: '/', headers: plain, body, service: 'firehose', region: 'us-east-1', now: new Date() },
          this.#o.credentials,
        )
      : plain
    return new Promise((resolve, reject) => {
      let connected = false
      const req = request({
        agent: this.#agent,
        host: hostname,
        port,
        method: 'POST',
        path: '/',
        headers: { ...headers, 'content-length': Buffer.byteLength(body) },
        timeout: this.#o.timeoutMs ?? 30_000,
      })
      req.on('socket', (s) => {
        if (!s.connecting) connected = true
        else s.once('connect', () => (connected = true))
      })
      req.on('timeout', () => req.destroy(new Error('time-out')))
      req.on('error', (e) => reject(new NoAnswer(e, connected)))
      req.on('response', (res) => {
        const chunks: Buffer[] = []
        res.on('data', (c: Buffer) => chunks.push(c))
        res.on('error', (e) => reject(new NoAnswer(e, true)))
        res.on('end', () => {
          const answer = answerOf(res, Buffer.concat(chunks).toString())
          if (answer instanceof NoAnswer) reject(answer)
          else resolve(answer)
        })
      })
      req.end(body)
    })
  }

  /** call(), but an answer other than 200 is an error with the server's words. */
  async must(operation: string, input: object): Promise<Record<string, unknown>> {
    const a = await this.call(operation, input)
    if (a.status !== 200) throw new Error(`${operation}: ${a.status} ${JSON.stringify(a.body)}`)
    return a.body
  }

  close(): void {
    this.#agent.destroy()
  }
}

function answerOf(res: IncomingMessage, text: string): Answer | NoAnswer {
  try {
    const body = text === '' ? {} : (JSON.parse(text) as Record<string, unknown>)
    return { status: res.statusCode ?? 0, headers: res.headers, body }
  } catch (e) {
    return new NoAnswer(e, true)
  }
}

interface Put {
  readonly ids: readonly RecordId[]
  readonly records: readonly Uint8Array[]
}

/**
 * One PutRecordBatch (a single record: PutRecord) whose outcome goes into `log`, id by id. Never sends an id twice: a caller that
 * wants to go on takes new ids. 4xx and 503 say that nothing was stored, 500 and a missing answer say nothing.
 */
export async function put(c: FirehoseClient, stream: string, p: Put, log: Outcomes): Promise<{ ok: number; refused: string | null }> {
  const data = p.records.map((r) => ({ Data: Buffer.from(r.buffer, r.byteOffset, r.length).toString('base64') }))
  const [single] = data
  const alone = data.length === 1 && single !== undefined
  let a: Answer
  try {
    a = await c.call(
      alone ? 'PutRecord' : 'PutRecordBatch',
      alone ? { DeliveryStreamName: stream, Record: single } : { DeliveryStreamName: stream, Records: data },
    )
  } catch (e) {
    if (!(e instanceof NoAnswer)) throw e
    log.mark(p.ids, e.sent ? 'unknown' : 'fail')
    return { ok: 0, refused: e.message }
  }
  if (a.status !== 200) {
    log.mark(p.ids, a.status === 503 || (a.status >= 400 && a.status < 500) ? 'fail' : 'unknown')
    return { ok: 0, refused: `${a.status} ${JSON.stringify(a.body)}` }
  }
  if (alone) {
    log.mark(p.ids, 'ok')
    return { ok: 1, refused: null }
  }
  return markEach(a.body['RequestResponses'], p.ids, log)
}

function markEach(responses: unknown, ids: readonly RecordId[], log: Outcomes): { ok: number; refused: string | null } {
  if (!Array.isArray(responses) || responses.length !== ids.length)
    throw new Error(`PutRecordBatch of ${ids.length} records answered ${JSON.stringify(responses)?.slice(0, 200)}`)
  let refused: string | null = null
  const ok: RecordId[] = []
  for (const [i, id] of ids.entries()) {
    const r = responses[i] as { ErrorCode?: string; RecordId?: string }
    if (r.ErrorCode === undefined && r.RecordId !== undefined) ok.push(id)
    else {
      refused = `${r.ErrorCode} for ${idText(id)}`
      log.mark([id], r.ErrorCode === 'ServiceUnavailableException' ? 'fail' : 'unknown')
    }
  }
  log.mark(ok, 'ok')
  return { ok: ok.length, refused }
}

export interface LoadOptions {
  readonly stream: string
  readonly log: Outcomes
  readonly seed: number
  /** Producers at once; each sends in order and takes the next numbers from `firstProducer`. */
  readonly producers?: number
  readonly firstProducer?: number
  /** Records in all, or as many as go until `until` aborts. */
  readonly records?: number
  readonly until?: AbortSignal
  readonly batch?: number
  /** Body bytes, picked by the seed. */
  readonly sizes?: readonly number[]
  /** Records a second, all producers; absent = as fast as answers come. */
  readonly rate?: number
}
export interface LoadResult {
  sent: number
  ok: number
  refusals: number
  lastRefusal: string | null
}

const BATCH_BYTES = 4 * 1024 * 1024
const pause = (ms: number): Promise<void> => new Promise((r) => void setTimeout(r, Math.max(0, ms)))

/** Sends until enough was sent or `until` aborts; a server that is away is waited for, 20 ms at a time. */
export async function load(c: FirehoseClient, o: LoadOptions): Promise<LoadResult> {
  const result: LoadResult = { sent: 0, ok: 0, refusals: 0, lastRefusal: null }
  const producers = o.producers ?? 2
  let left = o.records ?? (o.until ? Number.POSITIVE_INFINITY : 1000)
  const started = performance.now()
  const one = async (producer: number): Promise<void> => {
    const random = rng(o.seed ^ Math.imul(producer + 1, 0x9e3779b1))
    const sizes = o.sizes ?? [0, 1, 100, 1024]
    while (left > 0 && !o.until?.aborted) {
      const p = nextBatch(o, producer, Math.min(o.batch ?? 50, left), () => random.pick(sizes))
      left -= p.ids.length
      result.sent += p.ids.length
      const r = await put(c, o.stream, p, o.log)
      result.ok += r.ok
      if (r.refused !== null) {
        result.refusals++
        result.lastRefusal = r.refused
        await pause(20)
      }
      if (o.rate !== undefined) await pause((result.sent / o.rate) * 1000 - (performance.now() - started))
    }
  }
  await Promise.all(Array.from({ length: producers }, (_, i) => one((o.firstProducer ?? 0) + i)))
  return result
}

function nextBatch(o: LoadOptions, producer: number, count: number, size: () => number): Put {
  const ids: RecordId[] = []
  const records: Uint8Array[] = []
  let bytes = 0
  while (ids.length < count) {
    const body = size()
    if (ids.length > 0 && bytes + body + 64 > BATCH_BYTES) break
    const [id] = o.log.issue(producer, 1)
    if (!id) break
    const record = makeRecord(id, body)
    bytes += record.length
    ids.push(id)
    records.push(record)
  }
  return { ids, records }
}
