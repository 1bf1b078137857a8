/**
 * An S3 stand-in inside the test's process: objects in memory, conditions and checksums honoured, and a script of faults. It checks no
 * signature and knows path style only. What passes here is proven against a real server in the same suite (versitygw).
 */
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { crc32 } from 'node:zlib'

export type S3Operation =
  | 'put' | 'head' | 'get' | 'delete' | 'create' | 'part' | 'complete' | 'abort'
  | 'list' | 'list-objects' | 'reach' | 'lifecycle' | 'unknown' // prettier-ignore

export type S3Fault =
  /** The connection is reset before anything is read. */
  | 'reset'
  /** Nothing is done, nothing is answered, the connection stays. */
  | 'hang'
  /** Done, answered after `lateMs`. */
  | 'late'
  /** Done, the connection is reset instead of an answer. */
  | 'applied-no-answer'
  /** Not done; 200 with an error document. */
  | 'error-in-200'
  /** Done; 200 with an error document. */
  | 'applied-error-in-200'
  /** Done; 200 whose document ends in the middle, without ETag. */
  | 'applied-truncated'
  /** Done; then a 500. */
  | 'applied-500'
  | '500' | 'slow-down' | '429' | '409' | '412' | '404' | '403' | 'expired-token' | 'no-such-upload' | 'not-implemented' // prettier-ignore

const REFUSALS: Readonly<Record<string, { status: number; code: string; headers?: Record<string, string> }>> = {
  '500': { status: 500, code: 'InternalError' },
  'applied-500': { status: 500, code: 'InternalError' },
  'slow-down': { status: 503, code: 'SlowDown' },
  '429': { status: 429, code: 'TooManyRequests', headers: { 'retry-after': '2' } },
  '409': { status: 409, code: 'ConditionalRequestConflict' },
  '412': { status: 412, code: 'PreconditionFailed' },
  '404': { status: 404, code: 'NoSuchKey' },
  '403': { status: 403, code: 'AccessDenied' },
  'expired-token': { status: 400, code: 'ExpiredToken' },
  'no-such-upload': { status: 404, code: 'NoSuchUpload' },
  'not-implemented': { status: 501, code: 'NotImplemented' },
}

export interface ScriptedObject {
  readonly body: Uint8Array
  readonly metadata: Readonly<Record<string, string>>
  readonly contentType: string | undefined
  readonly contentEncoding: string | undefined
  readonly etag: string
  readonly crc32: string | undefined
  /** The creating request's other headers, lower case. */
  readonly headers: Readonly<Record<string, string>>
}
export interface S3Request {
  readonly operation: S3Operation
  readonly key: string
  /** Monotonic ms. */
  readonly atMs: number
  readonly conditional: boolean
  readonly fault: S3Fault | null
  /** Status sent; null = none. */
  status: number | null
}
interface Rule {
  readonly operation: S3Operation | 'any'
  readonly fault: S3Fault
  skip: number
  left: number
}
interface OpenUpload {
  readonly key: string
  readonly headers: Readonly<Record<string, string>>
  readonly fullObject: boolean
  readonly parts: Map<number, Uint8Array>
}

export interface ScriptedS3 {
  readonly url: string
  readonly logs: string
  /** Answered and unanswered, in order of arrival. */
  readonly requests: readonly S3Request[]
  /** By bucket/key. */
  readonly objects: ReadonlyMap<string, ScriptedObject>
  readonly uploads: ReadonlyMap<string, { readonly key: string }>
  /** The nth (default 1st) to the (nth+times−1)th of the coming requests of this operation fail so. Rules are asked in the order they were given. */
  fail(operation: S3Operation | 'any', fault: S3Fault, o?: { nth?: number; times?: number }): void
  /** Forgets rules and requests, keeps objects. */
  reset(): void
  /** true: If-None-Match is not looked at. */
  ignoreConditions: boolean
  /** Resolves when a request of this operation has arrived (also one that arrived before). */
  arrived(operation: S3Operation): Promise<void>
  stop(): Promise<void>
}

const MIN_PART = 5 * 1024 ** 2
const MAX_BODY = 128 * 1024 ** 2

function nextFault(rules: readonly Rule[], operation: S3Operation): S3Fault | null {
  for (const r of rules) {
    if ((r.operation !== 'any' && r.operation !== operation) || r.left === 0) continue
    if (r.skip-- > 0) continue
    r.left--
    return r.fault
  }
  return null
}

export async function startScriptedS3(
  o: { buckets?: readonly string[]; lateMs?: number; tls?: { cert: string; key: string } } = {},
): Promise<ScriptedS3> {
  const store = new Store(new Set(o.buckets ?? ['lake']))
  const rules: Rule[] = []
  const requests: S3Request[] = []
  const waiting: { operation: S3Operation; resolve: () => void }[] = []
  const timers = new Set<NodeJS.Timeout>()
  const trouble: string[] = []

  const serve = async (req: IncomingMessage, res: ServerResponse): Promise<void> => {
    const call = parse(req)
    const fault = nextFault(rules, call.operation)
    const conditional = req.headers['if-none-match'] !== undefined
    const seen: S3Request = { operation: call.operation, key: call.key, atMs: performance.now(), conditional, fault, status: null }
    requests.push(seen)
    for (const w of waiting.filter((x) => x.operation === call.operation)) w.resolve()
    if (fault === 'reset') return void req.socket.resetAndDestroy()
    const body = await bodyOf(req)
    if (fault === 'hang') return
    const answer = answerTo(store, call, req, body, fault)
    if (fault === 'applied-no-answer') return void req.socket.resetAndDestroy()
    const send = (): void => reply(req, res, seen, answer)
    if (fault === 'late') timers.add(setTimeout(send, o.lateMs ?? 1000))
    else send()
  }
  const handle = (req: IncomingMessage, res: ServerResponse): void => {
    serve(req, res).catch((e: unknown) => {
      // the client went away in mid-request, or the stand-in is wrong: either way it is in the logs
      trouble.push(`${req.method} ${req.url}: ${String(e)}`)
      req.socket.destroy()
    })
  }
  const server = o.tls ? createTlsServer(o.tls, handle) : createServer(handle)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    url: `${o.tls ? 'https' : 'http'}://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests,
    objects: store.objects,
    uploads: store.uploads,
    get logs() {
      return logOf(requests, trouble)
    },
    get ignoreConditions() {
      return store.ignoreConditions
    },
    set ignoreConditions(v) {
      store.ignoreConditions = v
    },
    fail: (operation, fault, { nth = 1, times = 1 } = {}) => void rules.push({ operation, fault, skip: nth - 1, left: times }),
    reset: () => {
      rules.length = 0
      requests.length = 0
    },
    arrived: async (operation) => {
      if (requests.some((r) => r.operation === operation)) return
      await new Promise<void>((resolve) => void waiting.push({ operation, resolve }))
    },
    stop: async () => {
      for (const t of timers) clearTimeout(t)
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
}

function reply(req: IncomingMessage, res: ServerResponse, seen: S3Request, answer: Reply): void {
  seen.status = answer.status
  res.writeHead(answer.status, { 'x-amz-request-id': 'scripted', ...answer.headers })
  res.end(req.method === 'HEAD' ? undefined : answer.body)
}

function logOf(requests: readonly S3Request[], trouble: readonly string[]): string {
  const lines = requests.map((r) => `${r.operation} ${r.key} ${r.fault ?? ''} ${r.status ?? 'no answer'}`)
  return [...lines, ...trouble].join('\n')
}

interface Call {
  readonly operation: S3Operation
  readonly bucket: string
  readonly key: string
  readonly query: URLSearchParams
}
interface Reply {
  readonly status: number
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: Uint8Array | string
}

function parse(req: IncomingMessage): Call {
  const url = new URL(req.url ?? '/', 'http://localhost')
  const [, bucket = '', ...rest] = url.pathname.split('/')
  const key = rest.map(decodeURIComponent).join('/')
  return { operation: operationOf(req.method ?? '', key, url.searchParams), bucket, key, query: url.searchParams }
}

function operationOf(method: string, key: string, q: URLSearchParams): S3Operation {
  if (key === '') {
    if (method === 'HEAD') return 'reach'
    if (q.has('uploads')) return 'list'
    if (q.has('lifecycle')) return 'lifecycle'
    return method === 'GET' ? 'list-objects' : 'unknown'
  }
  const upload = q.has('uploadId')
  if (method === 'PUT') return upload ? 'part' : 'put'
  if (method === 'POST') return upload ? 'complete' : q.has('uploads') ? 'create' : 'unknown'
  if (method === 'DELETE') return upload ? 'abort' : 'delete'
  return method === 'HEAD' ? 'head' : method === 'GET' ? 'get' : 'unknown'
}

async function bodyOf(req: IncomingMessage): Promise<Uint8Array> {
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of req as AsyncIterable<Buffer>) {
    size += chunk.length
    if (size > MAX_BODY) throw new Error(`a body of more than ${MAX_BODY} bytes`)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
}

/** Does what is asked, unless the fault says otherwise, and makes the answer, unless the fault has one. */
function answerTo(store: Store, call: Call, req: IncomingMessage, body: Uint8Array, fault: S3Fault | null): Reply {
  const applied = fault === null || fault === 'late' || fault.startsWith('applied')
  const real = applied ? store.handle(call, req, body) : null
  if (fault === 'error-in-200' || fault === 'applied-error-in-200') return { status: 200, body: errorXml('InternalError') }
  if (fault === 'applied-truncated') return { status: 200, body: '<?xml version="1.0"?><CompleteMultipartUploadResult><Loc' }
  const refusal = fault === null ? undefined : REFUSALS[fault]
  if (refusal) return { ...refusal, body: errorXml(refusal.code) }
  return real ?? { status: 200 }
}

function errorXml(code: string): string {
  return `<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>${code}</Code><Message>scripted ${code}</Message></Error>`
}
function refuse(status: number, code: string): Reply {
  return { status, body: errorXml(code) }
}
function base64Crc(body: Uint8Array): string {
  const b = Buffer.alloc(4)
  b.writeUInt32BE(crc32(body))
  return b.toString('base64')
}
function escapeXml(s: string): string {
  return s.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')
}
const md5 = (b: Uint8Array): string => createHash('md5').update(b).digest('hex')

class Store {
  readonly objects = new Map<string, ScriptedObject>()
  readonly uploads = new Map<string, OpenUpload>()
  readonly #buckets: ReadonlySet<string>
  ignoreConditions = false
  #uploadCount = 0

  constructor(buckets: ReadonlySet<string>) {
    this.#buckets = buckets
  }

  handle(call: Call, req: IncomingMessage, body: Uint8Array): Reply {
    if (!this.#buckets.has(call.bucket)) return refuse(404, 'NoSuchBucket')
    if (String(req.headers['x-amz-content-sha256']).startsWith('STREAMING')) return refuse(501, 'NotImplemented')
    const sum = req.headers['x-amz-checksum-crc32']
    if ((call.operation === 'put' || call.operation === 'part') && sum !== undefined && sum !== base64Crc(body))
      return refuse(400, 'BadDigest')
    const path = `${call.bucket}/${call.key}`
    switch (call.operation) {
      case 'put':
        return this.#write(path, req, headersOf(req), body, `"${md5(body)}"`, typeof sum === 'string' ? sum : undefined)
      case 'create':
        return this.#create(call, headersOf(req))
      case 'part':
        return this.#part(call, body)
      case 'complete':
        return this.#complete(path, call, req, body)
      case 'abort':
        return this.uploads.delete(call.query.get('uploadId') ?? '') ? { status: 204 } : refuse(404, 'NoSuchUpload')
      case 'delete':
        this.objects.delete(path)
        return { status: 204 }
      case 'head':
      case 'get':
        return this.#read(path, req)
      case 'list':
        return this.#listUploads(call)
      case 'list-objects':
        return this.#listObjects(call)
      case 'reach':
        return { status: 200 }
      case 'lifecycle':
        return refuse(404, 'NoSuchLifecycleConfiguration')
      default:
        return refuse(501, 'NotImplemented')
    }
  }

  #write(
    path: string,
    req: IncomingMessage,
    headers: Record<string, string>,
    body: Uint8Array,
    etag: string,
    sum: string | undefined,
  ): Reply {
    if (req.headers['if-none-match'] === '*' && this.objects.has(path) && !this.ignoreConditions) return refuse(412, 'PreconditionFailed')
    const metadata = Object.fromEntries(
      Object.entries(headers).flatMap(([k, v]) => (k.startsWith('x-amz-meta-') ? [[k.slice('x-amz-meta-'.length), v]] : [])),
    )
    this.objects.set(path, {
      body,
      metadata,
      etag,
      contentType: headers['content-type'],
      contentEncoding: headers['content-encoding'],
      crc32: sum,
      headers,
    })
    return { status: 200, headers: { etag, ...(sum === undefined ? {} : { 'x-amz-checksum-crc32': sum }) } }
  }

  #create(call: Call, headers: Record<string, string>): Reply {
    const id = `upload-${++this.#uploadCount}`
    const fullObject = headers['x-amz-checksum-type'] === 'FULL_OBJECT'
    this.uploads.set(id, { key: call.key, headers, fullObject, parts: new Map() })
    const xml = `<InitiateMultipartUploadResult><Bucket>${call.bucket}</Bucket><Key>${escapeXml(call.key)}</Key><UploadId>${id}</UploadId></InitiateMultipartUploadResult>`
    return { status: 200, headers: fullObject ? { 'x-amz-checksum-type': 'FULL_OBJECT' } : {}, body: xml }
  }

  #part(call: Call, body: Uint8Array): Reply {
    const upload = this.uploads.get(call.query.get('uploadId') ?? '')
    if (!upload) return refuse(404, 'NoSuchUpload')
    upload.parts.set(Number(call.query.get('partNumber')), body)
    return { status: 200, headers: { etag: `"${md5(body)}"` } }
  }

  #complete(path: string, call: Call, req: IncomingMessage, body: Uint8Array): Reply {
    const id = call.query.get('uploadId') ?? ''
    const upload = this.uploads.get(id)
    if (!upload) return refuse(404, 'NoSuchUpload')
    const named = [
      ...Buffer.from(body)
        .toString()
        .matchAll(/<PartNumber>(\d+)<\/PartNumber>/g),
    ].map((m) => Number(m[1]))
    const parts = named.map((n) => upload.parts.get(n))
    if (parts.length === 0 || parts.some((p) => p === undefined)) return refuse(400, 'InvalidPart')
    const bodies = parts.filter((p) => p !== undefined)
    if (bodies.slice(0, -1).some((p) => p.length < MIN_PART)) return refuse(400, 'EntityTooSmall')
    const whole = Buffer.concat(bodies)
    const sum = req.headers['x-amz-checksum-crc32']
    if (sum !== undefined && sum !== base64Crc(whole)) return refuse(400, 'BadDigest')
    const etag = `"${md5(Buffer.concat(bodies.map((p) => Buffer.from(md5(p), 'hex'))))}-${bodies.length}"`
    const written = this.#write(path, req, upload.headers, whole, etag, upload.fullObject ? base64Crc(whole) : undefined)
    if (written.status !== 200) return written
    this.uploads.delete(id)
    const xml = `<CompleteMultipartUploadResult><Key>${escapeXml(call.key)}</Key><ETag>${etag}</ETag></CompleteMultipartUploadResult>`
    return { status: 200, body: xml }
  }

  #read(path: string, req: IncomingMessage): Reply {
    const found = this.objects.get(path)
    if (!found) return refuse(404, 'NoSuchKey')
    const headers: Record<string, string> = { etag: found.etag, 'content-length': String(found.body.length) }
    for (const [k, v] of Object.entries(found.metadata)) headers[`x-amz-meta-${k}`] = v
    if (found.contentType !== undefined) headers['content-type'] = found.contentType
    if (found.contentEncoding !== undefined) headers['content-encoding'] = found.contentEncoding
    const range = /^bytes=(\d+)-(\d+)$/.exec(req.headers.range ?? '')
    if (!range) return { status: 200, headers, body: found.body }
    const part = found.body.subarray(Number(range[1]), Number(range[2]) + 1)
    if (part.length === 0) return refuse(416, 'InvalidRange')
    return { status: 206, headers: { ...headers, 'content-length': String(part.length) }, body: part }
  }

  #listUploads(call: Call): Reply {
    const prefix = call.query.get('prefix') ?? ''
    const all = [...this.uploads].filter(([, u]) => u.key.startsWith(prefix))
    const rows = all.map(([id, u]) => `<Upload><Key>${escapeXml(u.key)}</Key><UploadId>${id}</UploadId></Upload>`)
    const xml = `<ListMultipartUploadsResult><IsTruncated>false</IsTruncated>${rows.join('')}</ListMultipartUploadsResult>`
    return { status: 200, body: xml }
  }

  #listObjects(call: Call): Reply {
    const prefix = `${call.bucket}/${call.query.get('prefix') ?? ''}`
    const keys = [...this.objects.keys()].filter((k) => k.startsWith(prefix)).toSorted()
    const rows = keys.map(
      (k) =>
        `<Contents><Key>${escapeXml(k.slice(call.bucket.length + 1))}</Key><Size>${this.objects.get(k)?.body.length}</Size></Contents>`,
    )
    const xml = `<ListBucketResult><IsTruncated>false</IsTruncated><KeyCount>${keys.length}</KeyCount>${rows.join('')}</ListBucketResult>`
    return { status: 200, body: xml }
  }
}

function headersOf(req: IncomingMessage): Record<string, string> {
  return Object.fromEntries(Object.entries(req.headers).flatMap(([k, v]) => (typeof v === 'string' ? [[k, v]] : [])))
}
