import { AsyncLocalStorage } from 'node:async_hooks'
import { resolve } from 'node:path'
import { doubt, httpAgent, httpsAgent } from './agents.ts'
import type { HeadObjectOutput, ObjectCannedACL, S3Client, ServerSideEncryption, StorageClass } from '@aws-sdk/client-s3'
import type { NodeHttpHandler } from '@smithy/node-http-handler'
import type { SinkContext } from 'hydrant/sdk'
import { S3Failure, type Found, type Headers, type LifecycleRule, type Operation, type Part, type S3Api, type Upload } from './client.ts'
import type { S3Options } from './options.ts'

type Sdk = typeof import('@aws-sdk/client-s3')

const CONNECT_MS = 5_000
const SOCKETS = 64

/** S3Api by the AWS SDK, which is loaded with the first call. */
export class AwsApi implements S3Api {
  readonly #o: S3Options
  readonly #context: SinkContext
  #client: Promise<{ sdk: Sdk; client: S3Client }> | undefined
  #handler: Promise<NodeHttpHandler> | undefined
  /** Status of an answer as it came: the SDK writes 503 over the 200 of a hidden error. */
  readonly #received = new WeakMap<object, number>()
  /** Of the running call: has its request been handed to the socket? Before that nothing can have been done. */
  readonly #sending = new AsyncLocalStorage<{ sent: boolean }>()

  constructor(options: S3Options, context: SinkContext) {
    this.#o = options
    this.#context = context
  }

  put(
    key: string,
    body: Uint8Array,
    o: Headers & { crc32?: string; conditional: boolean },
    signal: AbortSignal,
  ): Promise<{ crc32?: string }> {
    return this.#call('put', async ({ sdk, client }) => {
      const command = new sdk.PutObjectCommand({
        ...this.#at(key),
        ...this.#created(o),
        Body: body,
        ContentLength: body.length,
        ...(o.crc32 === undefined ? {} : { ChecksumCRC32: o.crc32 }),
        ...(o.conditional ? { IfNoneMatch: '*' } : {}),
      })
      const answer = await client.send(command, { abortSignal: signal })
      if (answer.ETag === undefined) throw unreadable('put', 'the answer has no ETag')
      return answer.ChecksumCRC32 === undefined ? {} : { crc32: answer.ChecksumCRC32 }
    })
  }

  head(key: string, signal: AbortSignal): Promise<Found> {
    return this.#call('head', async ({ sdk, client }) => {
      const answer: HeadObjectOutput = await client.send(new sdk.HeadObjectCommand(this.#at(key)), { abortSignal: signal })
      return { size: answer.ContentLength ?? 0, metadata: answer.Metadata ?? {} }
    })
  }

  get(key: string, o: { first?: true }, signal: AbortSignal): Promise<AsyncIterable<Uint8Array>> {
    return this.#call('get', async ({ sdk, client }) => {
      const range = o.first ? { Range: 'bytes=0-0' } : this.#o.checksum ? { ChecksumMode: 'ENABLED' as const } : {}
      const answer = await client.send(new sdk.GetObjectCommand({ ...this.#at(key), ...range }), { abortSignal: signal })
      if (!answer.Body) throw unreadable('get', 'the answer has no body')
      return this.#body(answer.Body as unknown as AsyncIterable<Uint8Array>, answer.ContentLength)
    })
  }

  create(key: string, o: Headers & { checksum: boolean }, signal: AbortSignal): Promise<{ uploadId: string; fullObject: boolean }> {
    return this.#call('create', async ({ sdk, client }) => {
      const sum = o.checksum ? { ChecksumAlgorithm: 'CRC32' as const, ChecksumType: 'FULL_OBJECT' as const } : {}
      const command = new sdk.CreateMultipartUploadCommand({ ...this.#at(key), ...this.#created(o), ...sum })
      const answer = await client.send(command, { abortSignal: signal })
      if (!answer.UploadId) throw unreadable('create', 'the answer has no UploadId')
      return { uploadId: answer.UploadId, fullObject: answer.ChecksumType === 'FULL_OBJECT' }
    })
  }

  part(u: Upload, number: number, body: Uint8Array, crc32: string | undefined, signal: AbortSignal): Promise<Part> {
    return this.#call('part', async ({ sdk, client }) => {
      const command = new sdk.UploadPartCommand({
        ...this.#at(u.key),
        UploadId: u.uploadId,
        PartNumber: number,
        Body: body,
        ContentLength: body.length,
        ...(crc32 === undefined ? {} : { ChecksumCRC32: crc32 }),
      })
      const { ETag: etag } = await client.send(command, { abortSignal: signal })
      if (!etag) throw unreadable('part', 'the answer has no ETag')
      return crc32 === undefined ? { number, etag } : { number, etag, crc32 }
    })
  }

  complete(u: Upload, parts: readonly Part[], o: { crc32?: string; conditional: boolean }, signal: AbortSignal): Promise<void> {
    return this.#call('complete', async ({ sdk, client }) => {
      const command = new sdk.CompleteMultipartUploadCommand({
        ...this.#at(u.key),
        UploadId: u.uploadId,
        MultipartUpload: {
          Parts: parts.map((p) => ({ PartNumber: p.number, ETag: p.etag, ...(p.crc32 === undefined ? {} : { ChecksumCRC32: p.crc32 }) })),
        },
        ...(o.crc32 === undefined ? {} : { ChecksumCRC32: o.crc32, ChecksumType: 'FULL_OBJECT' as const }),
        ...(o.conditional ? { IfNoneMatch: '*' } : {}),
      })
      const { ETag: etag } = await client.send(command, { abortSignal: signal })
      if (!etag) throw unreadable('complete', 'the answer has no ETag')
    })
  }

  abort(u: Upload, signal: AbortSignal): Promise<void> {
    return this.#call('abort', async ({ sdk, client }) => {
      await client.send(new sdk.AbortMultipartUploadCommand({ ...this.#at(u.key), UploadId: u.uploadId }), { abortSignal: signal })
    })
  }

  listUploads(prefix: string, after: Upload | null, signal: AbortSignal): Promise<{ uploads: readonly Upload[]; next: Upload | null }> {
    return this.#call('list', async ({ sdk, client }) => {
      const command = new sdk.ListMultipartUploadsCommand({
        Bucket: this.#o.bucket,
        Prefix: prefix,
        ...(after ? { KeyMarker: after.key, UploadIdMarker: after.uploadId } : {}),
      })
      const answer = await client.send(command, { abortSignal: signal })
      const uploads = (answer.Uploads ?? []).flatMap((u) => (u.Key && u.UploadId ? [{ key: u.Key, uploadId: u.UploadId }] : []))
      const next = { key: answer.NextKeyMarker ?? '', uploadId: answer.NextUploadIdMarker ?? '' }
      return { uploads, next: answer.IsTruncated === true && next.key !== '' ? next : null }
    })
  }

  remove(key: string, signal: AbortSignal): Promise<void> {
    return this.#call('delete', async ({ sdk, client }) => {
      await client.send(new sdk.DeleteObjectCommand(this.#at(key)), { abortSignal: signal })
    })
  }

  reach(signal: AbortSignal): Promise<void> {
    return this.#call('reach', async ({ sdk, client }) => {
      await client.send(new sdk.HeadBucketCommand({ Bucket: this.#o.bucket }), { abortSignal: signal })
    })
  }

  lifecycle(signal: AbortSignal): Promise<readonly LifecycleRule[]> {
    return this.#call('lifecycle', async ({ sdk, client }) => {
      const command = new sdk.GetBucketLifecycleConfigurationCommand({ Bucket: this.#o.bucket })
      const { Rules: rules } = await client.send(command, { abortSignal: signal })
      return (rules ?? [])
        .filter((r) => r.Status === 'Enabled')
        .map((r) => ({
          id: r.ID ?? '',
          prefix: r.Filter?.Prefix ?? r.Filter?.And?.Prefix ?? '',
          ...(r.Expiration?.Days === undefined ? {} : { expireDays: r.Expiration.Days }),
          ...(r.Expiration?.Date === undefined ? {} : { expireDate: r.Expiration.Date.toISOString() }),
          ...(r.AbortIncompleteMultipartUpload?.DaysAfterInitiation === undefined
            ? {}
            : { abortUploadsDays: r.AbortIncompleteMultipartUpload.DaysAfterInitiation }),
        }))
    })
  }

  refresh(): void {
    this.#client = undefined
  }

  close(): void {
    this.#client = undefined
    void this.#handler?.then(
      (h) => h.destroy(),
      () => {},
    )
    this.#handler = undefined
  }

  #at(key: string): { Bucket: string; Key: string } {
    return { Bucket: this.#o.bucket, Key: key }
  }

  /** What a new object carries, by PutObject and CreateMultipartUpload alike. */
  #created(h: Headers) {
    const { kms_key: kms, storage_class: storage, acl } = this.#o
    return {
      ContentType: h.contentType,
      ...(h.contentEncoding === undefined ? {} : { ContentEncoding: h.contentEncoding }),
      Metadata: { ...h.metadata },
      ...(kms === undefined ? {} : { ServerSideEncryption: 'aws:kms' as ServerSideEncryption, SSEKMSKeyId: kms }),
      ...(storage === undefined ? {} : { StorageClass: storage as StorageClass }),
      ...(acl === undefined ? {} : { ACL: acl as ObjectCannedACL }),
    }
  }

  async *#body(chunks: AsyncIterable<Uint8Array>, size: number | undefined): AsyncGenerator<Uint8Array> {
    let at = 0
    try {
      for await (const chunk of chunks) {
        at += chunk.length
        yield chunk
      }
    } catch (e) {
      throw failureOf('get', e, this.#received, true)
    }
    if (size !== undefined && at !== size) throw unreadable('get', `the body ended after ${at} of ${size} bytes`)
  }

  async #call<T>(operation: Operation, work: (c: { sdk: Sdk; client: S3Client }) => Promise<T>): Promise<T> {
    const state = { sent: false }
    try {
      this.#client ??= this.#connect()
      const client = await this.#client
      return await this.#sending.run(state, () => work(client))
    } catch (e) {
      throw e instanceof S3Failure ? e : failureOf(operation, e, this.#received, state.sent)
    }
  }

  async #connect(): Promise<{ sdk: Sdk; client: S3Client }> {
    try {
      const sdk = await import('@aws-sdk/client-s3')
      this.#handler ??= this.#makeHandler()
      const { region, endpoint, path_style: pathStyle, credentials: k } = this.#o
      const client = new sdk.S3Client({
        ...(region === undefined && endpoint === undefined ? {} : { region: region ?? 'us-east-1' }),
        ...(endpoint === undefined ? {} : { endpoint }),
        forcePathStyle: pathStyle ?? endpoint !== undefined,
        ...(k === undefined
          ? {}
          : {
              credentials: {
                accessKeyId: k.access_key,
                secretAccessKey: k.secret_key,
                ...(k.session_token === undefined ? {} : { sessionToken: k.session_token }),
              },
            }),
        maxAttempts: 1,
        // a body goes out at once: waiting for 100 Continue opens a new connection for every part and hides time-outs
        expectContinueHeader: false,
        requestChecksumCalculation: 'WHEN_REQUIRED',
        responseChecksumValidation: 'WHEN_REQUIRED',
        requestHandler: await this.#handler,
      })
      client.middlewareStack.add(
        (next) => async (args) => {
          const state = this.#sending.getStore()
          if (state) state.sent = true
          const result = await next(args)
          const { response } = result
          if (typeof response === 'object' && response !== null && 'statusCode' in response) {
            const status = Number(response.statusCode)
            this.#received.set(response, status)
            if (status >= 300) doubt(response)
          }
          return result
        },
        { step: 'deserialize', priority: 'low', name: 'hydrantReceivedStatus' },
      )
      return { sdk, client }
    } catch (e) {
      this.#client = undefined
      this.#handler = undefined
      throw e
    }
  }

  async #makeHandler(): Promise<NodeHttpHandler> {
    const { NodeHttpHandler: Handler } = await import('@smithy/node-http-handler')
    const { tls, request_timeout: requestTimeout } = this.#o
    const { host, log, baseDir } = this.#context
    const warn = (...words: unknown[]): void => log.warn({}, words.map(String).join(' '))
    return new Handler({
      connectionTimeout: CONNECT_MS,
      requestTimeout,
      throwOnRequestTimeout: true,
      httpAgent: httpAgent(SOCKETS),
      httpsAgent: httpsAgent(SOCKETS, {
        ...(tls?.ca === undefined ? {} : { ca: Buffer.from(await host.fs.readFile(resolve(baseDir, tls.ca))) }),
        rejectUnauthorized: tls?.insecure_skip_verify !== true,
      }),
      logger: { debug: () => {}, info: () => {}, warn, error: warn },
    })
  }
}

function unreadable(operation: Operation, message: string): S3Failure {
  return new S3Failure(operation, { status: 200, code: 'UnreadableAnswer', message, outcome: 'unknown' })
}

/**
 * No connection came about, so nothing was done. EHOSTUNREACH, ENETUNREACH and EPROTO also end open connections: they count only where
 * the system call was `connect`.
 */
const NOT_SENT = /^(?:ECONNREFUSED|ENOTFOUND|EAI_AGAIN|UNABLE_TO_.*|.*CERT.*)$/

/** The SDK's error in our words. */
function failureOf(operation: Operation, e: unknown, received: WeakMap<object, number>, sent: boolean): S3Failure {
  const x = (typeof e === 'object' && e !== null ? e : {}) as {
    name?: string
    message?: string
    code?: string
    Code?: string
    syscall?: string
    $metadata?: { httpStatusCode?: number }
    $response?: { headers?: Record<string, string | undefined> }
  }
  const status = (x.$response && received.get(x.$response)) ?? x.$metadata?.httpStatusCode
  const code =
    x.Code ?? (x.name === undefined || x.name === 'Error' || x.name === 'TimeoutError' ? (x.code ?? x.name) : x.name) ?? 'Unknown'
  const notSent =
    !sent ||
    x.syscall === 'connect' ||
    NOT_SENT.test(code) ||
    NOT_SENT.test(x.code ?? '') ||
    /did not establish a connection/.test(x.message ?? '')
  const seconds = Number(x.$response?.headers?.['retry-after'] ?? NaN)
  return new S3Failure(operation, {
    code,
    message: x.message === undefined || x.message === '' || x.message === 'UnknownError' ? code : x.message,
    outcome: status === undefined ? (notSent ? 'refused' : 'unknown') : status < 300 ? 'unknown' : 'refused',
    ...(status === undefined ? {} : { status }),
    ...(Number.isFinite(seconds) && seconds >= 0 ? { retryAfterMs: seconds * 1000 } : {}),
    cause: e,
  })
}
