/** The load: a process of its own that signs puts and sends them over raw keep-alive connections, each request once. */
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { sign, type Credentials } from '../harness/sigv4.ts'
import { NUMBER_DIGITS, paddedRecord, Rows, type Shape } from './data.ts'

export interface LoadJob {
  /** single, batch: numbered records of `recordBytes`; rows: rows of a shape, newline cut off. */
  readonly kind: 'single' | 'batch' | 'rows'
  readonly port: number
  readonly credentials: Credentials
  readonly stream: string
  readonly connections: number
  /** Number of the first record. */
  readonly from: number
  readonly records: number
  readonly recordBytes: number
  readonly shape: Shape
  /** Records of one request. */
  readonly batch: number
}
export interface LoadResult {
  readonly requests: number
  readonly records: number
  /** Bytes of the records. */
  readonly payload: number
  readonly seconds: number
}
type Ask = { readonly prepare: LoadJob } | 'go'

interface Request {
  readonly raw: Buffer
  readonly records: number
  readonly payload: number
}
/** Makes the requests of a job in their order; null = all are made. */
type Maker = () => Request | null

function httpRequest(job: LoadJob, operation: string, body: Buffer): Buffer {
  // the headers of the AWS SDK for JavaScript
  const plain = {
    host: `127.0.0.1:${job.port}`,
    'content-type': 'application/x-amz-json-1.1',
    'x-amz-target': `Firehose_20150804.${operation}`,
    'x-amz-user-agent': 'aws-sdk-js/3.1169.0',
    'amz-sdk-invocation-id': '0d1e4b5a-1d1e-4b5a-8d1e-4b5a0d1e4b5a',
    'amz-sdk-request': 'attempt=1; max=3',
    'content-length': String(body.length),
  }
  const headers = sign(
    { method: 'POST', path: '/', headers: plain, body, service: 'firehose', region: 'us-east-1', now: new Date() },
    job.credentials,
  )
  const lines = Object.entries({ ...headers, 'user-agent': 'aws-sdk-js/3.1169.0 ua/2.1 os/linux lang/js md/nodejs' })
  const head = `POST / HTTP/1.1\r\n${lines.map(([k, v]) => `${k}: ${v}\r\n`).join('')}\r\n`
  return Buffer.concat([Buffer.from(head, 'latin1'), body])
}

const number64 = (n: number): string => Buffer.from(String(n).padStart(NUMBER_DIGITS, '0'), 'latin1').toString('base64')

/** All requests are one prepared body, renumbered in place. */
function padded(job: LoadJob): Maker {
  const single = job.kind === 'single'
  const count = single ? 1 : job.batch
  const data = Array.from({ length: count }, (_, i) => ({ Data: paddedRecord(i, job.recordBytes).toString('base64') }))
  const named = { DeliveryStreamName: job.stream }
  const body = Buffer.from(JSON.stringify(single ? { ...named, Record: data[0] } : { ...named, Records: data }), 'latin1')
  const places: number[] = []
  for (let at = body.indexOf('"Data":"'); at !== -1; at = body.indexOf('"Data":"', at + 8)) places.push(at + 8)
  let next = job.from
  return () => {
    if (next >= job.from + job.records) return null
    for (const at of places) body.write(number64(next++), at, 'latin1')
    return { raw: httpRequest(job, single ? 'PutRecord' : 'PutRecordBatch', body), records: count, payload: count * job.recordBytes }
  }
}

function rows(job: LoadJob): Maker {
  const source = new Rows(job.shape)
  let at = job.from
  return () => {
    const end = job.from + job.records
    if (at >= end) return null
    const { bytes, ends, next } = source.take(at, Math.min(at + job.batch, end))
    at = next
    let text = `{"DeliveryStreamName":"${job.stream}","Records":[`
    let from = 0
    let payload = 0
    for (const [i, to] of ends.entries()) {
      text += `${i === 0 ? '' : ','}{"Data":"${bytes.toString('base64', from, to - 1)}"}`
      payload += to - 1 - from
      from = to
    }
    return { raw: httpRequest(job, 'PutRecordBatch', Buffer.from(text + ']}', 'latin1')), records: ends.length, payload }
  }
}

/** Sends one request at a time; rejects unless every record was accepted. Opened again when the server closes after its answer. */
class Connection {
  readonly #port: number
  #socket: Socket | null = null
  /** The head and what came with it. */
  #answer: Buffer = Buffer.alloc(0)
  #received = 0
  #length = -1
  #closing = false
  #done: PromiseWithResolvers<void> | null = null

  constructor(port: number) {
    this.#port = port
  }
  async open(): Promise<Socket> {
    const socket = connect(this.#port, '127.0.0.1')
    await once(socket, 'connect')
    socket.setNoDelay(true)
    socket.on('data', (d: Buffer) => this.#data(d))
    socket.on('error', (e) => this.#done?.reject(e))
    socket.on('close', () => this.#done?.reject(new Error('the server closed the connection')))
    this.#socket = socket
    return socket
  }
  async send(raw: Buffer): Promise<void> {
    const socket = this.#socket ?? (await this.open())
    this.#done = Promise.withResolvers<void>()
    this.#length = -1
    this.#received = 0
    this.#answer = Buffer.alloc(0)
    socket.write(raw)
    await this.#done.promise
    if (this.#closing) this.close()
  }
  /** What follows the head is only counted. */
  #data(d: Buffer): void {
    this.#received += d.length
    if (this.#length === -1) {
      this.#answer = this.#answer.length === 0 ? d : Buffer.concat([this.#answer, d])
      const head = this.#answer.indexOf('\r\n\r\n')
      if (head === -1) return
      const text = this.#answer.toString('latin1', 0, head)
      const length = Number(/content-length: (\d+)/i.exec(text)?.[1] ?? NaN)
      const failed = /"FailedPutCount":\s*[1-9]/.test(this.#answer.toString('latin1', head))
      this.#length = head + 4 + length
      this.#closing = /connection: close/i.test(text)
      if (!text.startsWith('HTTP/1.1 200') || failed || Number.isNaN(length)) {
        this.#done?.reject(new Error(`a put was refused: ${this.#answer.toString('latin1', 0, 2_000)}`))
        return
      }
    }
    if (this.#received >= this.#length) this.#done?.resolve()
  }
  close(): void {
    this.#done = null
    this.#socket?.destroy()
    this.#socket = null
  }
}

/** Singles are made before the clock starts, so that the sender is not slower than the server; batches while they are sent. */
function prepare(job: LoadJob): Maker {
  if (job.kind === 'rows') return rows(job)
  const maker = padded(job)
  if (job.kind === 'batch') return maker
  const all: Request[] = []
  for (let r = maker(); r !== null; r = maker()) all.push(r)
  let at = 0
  return () => all[at++] ?? null
}

async function send(job: LoadJob, next: Maker): Promise<LoadResult> {
  const connections = Array.from({ length: job.connections }, () => new Connection(job.port))
  await Promise.all(connections.map((c) => c.open()))
  const sum = { requests: 0, records: 0, payload: 0 }
  const began = performance.now()
  await Promise.all(
    connections.map(async (c) => {
      for (let r = next(); r !== null; r = next()) {
        await c.send(r.raw)
        sum.requests++
        sum.records += r.records
        sum.payload += r.payload
      }
    }),
  )
  const seconds = (performance.now() - began) / 1000
  for (const c of connections) c.close()
  return { ...sum, seconds }
}

let ready: { job: LoadJob; next: Maker } | null = null
process.on('message', (ask: Ask) => {
  if (ask !== 'go') {
    ready = { job: ask.prepare, next: prepare(ask.prepare) }
    process.send?.('prepared')
    return
  }
  if (ready === null) throw new Error('asked to send before anything was prepared')
  const { job, next } = ready
  ready = null
  send(job, next).then(
    (r) => process.send?.(r),
    (e: unknown) => process.send?.({ error: e instanceof Error ? e.message : String(e) }),
  )
})
