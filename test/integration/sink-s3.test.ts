import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import {
  CreateMultipartUploadCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListMultipartUploadsCommand,
  ListObjectsV2Command,
  S3Client,
} from '@aws-sdk/client-s3'
import {
  attemptContext,
  bodyOf,
  outObject,
  pluginKit,
  realHost,
  recordedLog,
  registerSinkCases,
  testSink,
  type SinkHarness,
} from 'hydrant/sdk/testing'
import { errorKind, type AttemptContext, type ObjectSink, type OutObject, type Stored } from 'hydrant/sdk'
import plugin from 'hydrant-sink-s3'
import { requireService } from '../services/require.ts'
import { startScriptedS3, type S3Fault, type S3Operation, type ScriptedS3 } from '../services/scripted-s3.ts'
import type { Toxiproxy } from '../services/toxiproxy.ts'
import type { Versitygw } from '../services/versitygw.ts'

const MiB = 1024 * 1024
const PART = 5 * MiB
const KEYS = { access_key: 'test', secret_key: 'testtest' }
const s3 = plugin(pluginKit)

function sinkOn(endpoint: string, bucket: string, more: object = {}): ObjectSink {
  const options = s3.options.parse({ bucket, endpoint, credentials: KEYS, part_size: PART, ...more })
  return s3.create(options, { host: realHost(), log: recordedLog(), pipelineId: 'p', memory: 2 * PART, baseDir: '.' })
}
function clientOf(endpoint: string): S3Client {
  const credentials = { accessKeyId: KEYS.access_key, secretAccessKey: KEYS.secret_key }
  return new S3Client({ endpoint, region: 'us-east-1', forcePathStyle: true, maxAttempts: 1, credentials })
}

/** The store seen by another client than the sink. */
function harnessOn(endpoint: string, bucket: string): SinkHarness {
  const client = clientOf(endpoint)
  const at = { Bucket: bucket }
  const uploadsOf = async (key: string): Promise<number> => {
    const { Uploads } = await client.send(new ListMultipartUploadsCommand({ ...at, Prefix: key }))
    return (Uploads ?? []).filter((u) => u.Key === key).length
  }
  return {
    sink: sinkOn(endpoint, bucket),
    another: () => sinkOn(endpoint, bucket),
    readBack: async (Key) => {
      try {
        const { Body } = await client.send(new GetObjectCommand({ ...at, Key }))
        return (await Body?.transformToByteArray()) ?? null
      } catch (e) {
        if ((e as Error).name === 'NoSuchKey') return null
        throw e
      }
    },
    list: async () => {
      const { Contents } = await client.send(new ListObjectsV2Command(at))
      return (Contents ?? []).map((o) => o.Key ?? '').toSorted()
    },
    describe: async (Key) => {
      const { ContentType: contentType, ContentEncoding: contentEncoding } = await client.send(new HeadObjectCommand({ ...at, Key }))
      return { contentType, contentEncoding }
    },
    strand: async (Key) => void (await client.send(new CreateMultipartUploadCommand({ ...at, Key }))),
    stranded: uploadsOf,
    stop: () => Promise.resolve(client.destroy()),
  }
}

const putOne = (sink: ObjectSink): Promise<unknown> => sink.put(outObject('a', bodyOf(1)), attemptContext())
const levels = async (s: ObjectSink): Promise<unknown> => (await s.probe?.(AbortSignal.timeout(5000)))?.map((f) => f.level)
const SIZES = [0, 1, PART - 1, PART, PART + 1, 3 * PART + 17]
const startGateway = await requireService('versitygw', 'the S3 sink against a real S3 server')
const startToxics = await requireService('toxiproxy', 'lost answers between the S3 sink and a real S3 server')

describe.skipIf(!startGateway)('versitygw', () => {
  let gateway: Versitygw
  let count = 0
  const bucket = async (): Promise<string> => {
    const name = `bucket-${++count}`
    await gateway.makeBucket(name)
    return name
  }
  beforeAll(async () => {
    if (startGateway) gateway = await startGateway()
  })
  afterAll(() => gateway.stop())

  registerSinkCases(test, {
    name: 'versitygw',
    sizes: SIZES,
    large: 2 * PART + 5,
    make: async () => harnessOn(gateway.url, await bucket()),
  })

  test('hydrant check --probe: both conditional writes are proven, nothing is left', async () => {
    const name = await bucket()
    const found = await sinkOn(gateway.url, name).probe?.(AbortSignal.timeout(10_000))
    expect(found).toEqual([
      { level: 'ok', message: `s3://${name} answers` },
      { level: 'ok', message: `s3://${name}: PutObject with If-None-Match refuses a taken key` },
      { level: 'ok', message: `s3://${name}: CompleteMultipartUpload with If-None-Match refuses a taken key` },
    ])
    expect(await harnessOn(gateway.url, name).list()).toEqual([])
  })

  test('what is wrong is said: no bucket, wrong secret', async () => {
    const missing = putOne(sinkOn(gateway.url, 'nonesuch'))
    await expect(missing).rejects.toMatchObject({ code: 'S3.NoSuchBucket' })
    await expect(missing).rejects.toThrow(/s3:\/\/nonesuch\/.*create the bucket/)
    const wrong = sinkOn(gateway.url, await bucket(), { credentials: { ...KEYS, secret_key: 'another-secret' } })
    await expect(putOne(wrong)).rejects.toMatchObject({ code: 'S3.SignatureDoesNotMatch' })
    await expect(putOne(wrong)).rejects.toThrow(/^(?!.*another-secret)/)
  })

  describe.skipIf(!startToxics)('behind toxiproxy', () => {
    let toxics: Toxiproxy
    beforeAll(async () => {
      if (startToxics) toxics = await startToxics()
    })
    afterAll(() => toxics.stop())

    test.each([
      ['single put', 1 * MiB],
      ['in parts', PART + 1000],
    ] as const)('the answer is lost after the write was applied (%s): stored once, known by the next attempt', async (_, size) => {
      const name = await bucket()
      const proxy = await toxics.proxy(gateway.url)
      const sink = sinkOn(proxy.url, name, { conditional_writes: 'require' })
      const out = outObject('lost/object', bodyOf(size))
      let lose: (() => Promise<unknown>) | null = () => proxy.toxic('limit_data', 'downstream', { bytes: 1 })
      // the answers are cut from the visible write on
      const failpoint = async (point: string): Promise<void> => {
        if (point !== 'object.put.before' && point !== 'object.complete.before') return
        await lose?.()
        lose = null
      }
      await expect(sink.put(out, attemptContext({ failpoint }))).rejects.toSatisfy((e) => errorKind(e) === 'retryable')
      const direct = harnessOn(gateway.url, name)
      expect(await direct.list()).toEqual(['lost/object'])
      await proxy.remove()
      const healed = sinkOn(gateway.url, name, { conditional_writes: 'require' })
      const { existed } = await healed.put(out, attemptContext({ attempt: 2 }))
      expect(existed?.metadata).toEqual(out.metadata)
      expect(Buffer.compare((await direct.readBack('lost/object')) ?? new Uint8Array(), bodyOf(size))).toBe(0)
      await Promise.all([sink.close(), healed.close(), direct.stop()])
    })

    test('the request is cut: nothing is stored, the next attempt stores it', async () => {
      const name = await bucket()
      const proxy = await toxics.proxy(gateway.url)
      const sink = sinkOn(proxy.url, name, { conditional_writes: 'require' })
      const toxic = await proxy.toxic('limit_data', 'upstream', { bytes: 100_000 })
      const out = outObject('cut/object', bodyOf(MiB))
      await expect(sink.put(out, attemptContext())).rejects.toSatisfy((e) => errorKind(e) === 'retryable')
      const direct = harnessOn(gateway.url, name)
      expect(await direct.list()).toEqual([])
      await toxic.remove()
      expect((await sink.put(out, attemptContext({ attempt: 2 }))).existed).toBe(null)
      await Promise.all([sink.close(), direct.stop(), proxy.remove()])
    })

    test('nobody listens: refused, retryable, no HEAD asked', async () => {
      const proxy = await toxics.proxy(gateway.url)
      await proxy.enable(false)
      const sink = sinkOn(proxy.url, await bucket(), { conditional_writes: 'require' })
      await expect(sink.put(outObject('a', bodyOf(10)), attemptContext())).rejects.toMatchObject({ code: 'S3.ECONNREFUSED' })
      await sink.close()
      await proxy.remove()
    })
  })
})

describe('scripted S3', () => {
  let store: ScriptedS3
  beforeAll(async () => {
    store = await startScriptedS3({ lateMs: 600 })
  })
  afterAll(() => store.stop())
  const small = bodyOf(1000)
  const large = bodyOf(PART + 1000)
  let count = 0

  const fast = (more: object = {}): ObjectSink =>
    sinkOn(store.url, 'lake', { conditional_writes: 'require', request_timeout: 300, ...more })
  interface Outcome {
    readonly attempts: number
    readonly existed: Stored | null
    readonly operations: string
    readonly errors: readonly unknown[]
  }
  /** As core does it: attempts until one succeeds; a lane that would stop throws. */
  const deliver = async (sink: ObjectSink, out: OutObject, c: Partial<AttemptContext> = {}): Promise<Outcome> => {
    const errors: unknown[] = []
    for (let attempt = 1; attempt <= 20; attempt++) {
      try {
        const { existed } = await sink.put(out, attemptContext({ ...c, attempt }))
        const operations = store.requests.filter((r) => r.key === out.key || r.operation === 'list').map((r) => r.operation)
        return { attempts: attempt, existed, errors, operations: operations.join(' ') }
      } catch (e) {
        if (errorKind(e) !== 'retryable') throw e
        errors.push(e)
      }
    }
    throw new AggregateError(errors, 'twenty attempts')
  }
  const run = async (
    body: Uint8Array,
    operation: S3Operation,
    fault: S3Fault,
    o: { nth?: number; times?: number } = {},
  ): Promise<Outcome> => {
    store.reset()
    store.fail(operation, fault, o)
    const sink = fast()
    const out = outObject(`row-27/${++count}`, body)
    try {
      const outcome = await deliver(sink, out)
      const stored = store.objects.get(`lake/${out.key}`)
      expect(Buffer.compare(stored?.body ?? new Uint8Array(), body), 'the stored bytes').toBe(0)
      expect(stored?.metadata).toEqual(out.metadata)
      if (outcome.existed) expect(outcome.existed.metadata).toEqual(out.metadata)
      expect(
        [...store.uploads.values()].filter((u) => u.key === out.key),
        'unfinished uploads',
      ).toEqual([])
      return outcome
    } finally {
      await sink.close()
    }
  }

  registerSinkCases(test, {
    name: 'scripted S3',
    large: 2 * PART + 5,
    make: async () => {
      const own = await startScriptedS3()
      const harness = harnessOn(own.url, 'lake')
      const loseNextReply = (): Promise<void> => {
        own.fail('put', 'applied-no-answer')
        // nor can it be asked at once
        return Promise.resolve(own.fail('head', 'reset'))
      }
      const refuseWrites = (): Promise<void> => Promise.resolve(own.fail('put', 'slow-down', { times: 1e9 }))
      const stop = (): Promise<void> => harness.stop().then(() => own.stop())
      return { ...harness, loseNextReply, refuseWrites, stop }
    },
  })

  // exactly-once row 27; ✓ = created by this attempt, = existed: known by HEAD
  const PUT: readonly [S3Fault, number, '✓' | '=', string][] = [
    ['reset', 2, '✓', 'put head put'],
    ['hang', 2, '✓', 'put head put'],
    ['late', 1, '=', 'put head'],
    ['applied-no-answer', 1, '=', 'put head'],
    ['error-in-200', 2, '✓', 'put head put'],
    ['applied-error-in-200', 1, '=', 'put head'],
    ['applied-truncated', 1, '=', 'put head'],
    ['applied-500', 2, '=', 'put put head'],
    ['500', 2, '✓', 'put put'],
    ['slow-down', 2, '✓', 'put put'],
    ['429', 2, '✓', 'put put'],
    ['409', 2, '✓', 'put put'],
    ['412', 2, '✓', 'put head put'],
    ['404', 2, '✓', 'put put'],
    ['403', 2, '✓', 'put put'],
    ['expired-token', 2, '✓', 'put put'],
  ]
  test.each(PUT)('put answers %s: %i attempts, %s, %s', async (fault, attempts, how, operations) => {
    const o = await run(small, 'put', fault)
    expect({ attempts: o.attempts, how: o.existed ? '=' : '✓', operations: o.operations }).toEqual({ attempts, how, operations })
  })

  const WHOLE = 'create part part complete'
  const AGAIN = `list head ${WHOLE}`
  const COMPLETE: readonly [S3Fault, number, '✓' | '=', string][] = [
    ['reset', 2, '✓', `${WHOLE} abort head ${AGAIN}`],
    ['hang', 2, '✓', `${WHOLE} abort head ${AGAIN}`],
    ['late', 1, '=', `${WHOLE} abort head`],
    ['applied-no-answer', 1, '=', `${WHOLE} abort head`],
    ['error-in-200', 2, '✓', `${WHOLE} abort head ${AGAIN}`],
    ['applied-error-in-200', 1, '=', `${WHOLE} abort head`],
    ['applied-truncated', 1, '=', `${WHOLE} abort head`],
    ['applied-500', 2, '=', `${WHOLE} abort list head`],
    ['500', 2, '✓', `${WHOLE} abort ${AGAIN}`],
    ['slow-down', 2, '✓', `${WHOLE} abort ${AGAIN}`],
    ['429', 2, '✓', `${WHOLE} abort ${AGAIN}`],
    ['409', 2, '✓', `${WHOLE} abort ${AGAIN}`],
    ['412', 2, '✓', `${WHOLE} abort head ${AGAIN}`],
    ['404', 2, '✓', `${WHOLE} abort ${AGAIN}`],
    ['403', 2, '✓', `${WHOLE} abort ${AGAIN}`],
    ['no-such-upload', 2, '✓', `${WHOLE} abort head ${AGAIN}`],
    ['expired-token', 2, '✓', `${WHOLE} abort ${AGAIN}`],
  ]
  test.each(COMPLETE)('complete answers %s: %i attempts, %s, %s', async (fault, attempts, how, operations) => {
    const o = await run(large, 'complete', fault)
    expect({ attempts: o.attempts, how: o.existed ? '=' : '✓', operations: o.operations }).toEqual({ attempts, how, operations })
  })

  const EACH: readonly S3Fault[] = ['reset', 'hang', 'late', 'applied-no-answer', 'error-in-200', '500', 'slow-down', '429', '409', '403']
  test.each(EACH.flatMap((fault) => (['create', 'part'] as const).map((operation) => [operation, fault] as const)))(
    '%s answers %s: the next attempt is a whole new upload, no upload is left',
    async (operation, fault) => {
      const o = await run(large, operation, fault)
      expect([o.attempts, o.existed]).toEqual([2, null])
      expect(o.operations).toMatch(/ list (?:abort )?head create part part complete$/)
    },
  )

  test.each(['put', 'create', 'part', 'complete'] as const)('%s fails ten times: the eleventh attempt stores it', async (operation) => {
    for (const fault of ['reset', '500', 'slow-down'] as const) {
      const o = await run(operation === 'put' ? small : large, operation, fault, { times: 10 })
      expect([o.attempts, o.existed, o.errors.length]).toEqual([operation === 'part' ? o.attempts : 11, null, o.attempts - 1])
    }
  })

  test.each(['reset', 'hang', '500', 'slow-down', '429', '404'] as const)(
    'taken (412), and HEAD answers %s: asked again',
    async (fault) => {
      const sink = fast()
      const out = outObject(`head/${++count}`, small)
      await sink.put(out, attemptContext())
      store.reset()
      store.fail('head', fault)
      const o = await deliver(sink, out)
      expect([o.attempts, o.existed?.metadata['end'], o.operations]).toEqual([2, '100', 'put head put head'])
      await sink.close()
    },
  )

  test('taken (412), and HEAD is refused: the lane stops and the permission is named', async () => {
    const sink = fast()
    const out = outObject(`head/${++count}`, small)
    await sink.put(out, attemptContext())
    store.reset()
    store.fail('head', '403', { times: 9 })
    store.fail('get', '403', { times: 9 })
    const put = sink.put(out, attemptContext())
    await expect(put).rejects.toThrow(pluginKit.PermanentError)
    await expect(put).rejects.toThrow(/head|get.*s3:GetObject and s3:ListBucket/)
    expect(store.requests.map((r) => r.operation)).toEqual(['put', 'head', 'get'])
    await sink.close()
  })

  test('taken (412), and HEAD says 403 because the token expired: retryable', async () => {
    const sink = fast()
    const out = outObject(`head/${++count}`, small)
    await sink.put(out, attemptContext())
    store.reset()
    store.fail('head', '403')
    store.fail('get', 'expired-token')
    const o = await deliver(sink, out)
    expect([o.attempts, o.existed?.metadata['end']]).toEqual([2, '100'])
    expect(o.errors[0]).toMatchObject({ code: 'S3.ExpiredToken' })
    await sink.close()
  })

  test('NoSuchUpload at complete although the object stands: known by HEAD', async () => {
    const sink = fast()
    const out = outObject(`nsu/${++count}`, large)
    await sink.put(out, attemptContext())
    store.reset()
    store.fail('complete', 'no-such-upload')
    const o = await deliver(sink, out)
    expect([o.attempts, o.existed?.metadata['end']]).toEqual([1, '100'])
    await sink.close()
  })

  test('Retry-After is handed to core', async () => {
    const o = await run(small, 'put', '429')
    expect(o.errors[0]).toMatchObject({ code: 'S3.TooManyRequests', retryAfterMs: 2000 })
  })

  test('a setting the store does not know stops the lane', async () => {
    store.reset()
    store.fail('put', 'not-implemented')
    const sink = fast()
    await expect(sink.put(outObject(`x/${++count}`, small), attemptContext())).rejects.toThrow(pluginKit.ConfigError)
    await sink.close()
  })

  test('an attempt that is aborted in mid-request ends with the reason of its signal', async () => {
    store.reset()
    store.fail('put', 'hang')
    const sink = fast({ request_timeout: '30s' })
    const ended = new AbortController()
    const put = sink.put(outObject(`abort/${++count}`, small), attemptContext({ signal: ended.signal }))
    await store.arrived('put')
    ended.abort(new Error('the lease ended'))
    await expect(put).rejects.toThrow('the lease ended')
    await sink.close()
  })

  test('headers: conditions, checksums, SSE-KMS, storage class, ACL, content type and encoding', async () => {
    store.reset()
    const sink = fast({ kms_key: 'key-1', storage_class: 'STANDARD_IA', acl: 'bucket-owner-full-control' })
    const want = {
      'x-amz-server-side-encryption': 'aws:kms',
      'x-amz-server-side-encryption-aws-kms-key-id': 'key-1',
      'x-amz-storage-class': 'STANDARD_IA',
      'x-amz-acl': 'bucket-owner-full-control',
      'content-type': 'application/octet-stream',
      'content-encoding': 'gzip',
    }
    for (const body of [small, large]) {
      const out = outObject(`headers/${++count}`, body, { contentEncoding: 'gzip' })
      await sink.put(out, attemptContext())
      const stored = store.objects.get(`lake/${out.key}`)
      expect(stored?.headers).toMatchObject(want)
      expect(stored?.crc32).toBe(out.crc32)
    }
    expect(store.requests.filter((r) => r.operation === 'put' || r.operation === 'complete').map((r) => r.conditional)).toEqual([
      true,
      true,
    ])
    const plain = fast({ checksum: false })
    const out = outObject(`headers/${++count}`, small)
    await plain.put(out, attemptContext())
    expect(store.objects.get(`lake/${out.key}`)?.crc32).toBe(undefined)
    await Promise.all([sink.close(), plain.close()])
  })

  test('a body that was damaged on the way is refused by its checksum and sent again', async () => {
    store.reset()
    const sink = fast()
    const good = outObject(`crc/${++count}`, small)
    const bad = outObject(good.key, bodyOf(1000, 9), { crc32: good.crc32 })
    await expect(sink.put(bad, attemptContext())).rejects.toMatchObject({ code: 'S3.BadDigest' })
    expect(store.objects.has(`lake/${good.key}`)).toBe(false)
    expect((await sink.put(good, attemptContext({ attempt: 2 }))).existed).toBe(null)
    await sink.close()
  })

  describe('a store that ignores If-None-Match (row 15)', () => {
    test('is found out once, said once, and then looked at first: nothing is ever written over', async () => {
      const own = await startScriptedS3()
      own.ignoreConditions = true
      const fresh = plugin(pluginKit)
      const log = recordedLog()
      const options = fresh.options.parse({ bucket: 'lake', endpoint: own.url, credentials: KEYS, part_size: PART })
      const sink = fresh.create(options, { host: realHost(), log, pipelineId: 'p', memory: PART, baseDir: '.' })
      const ends = await Promise.all(['a', 'b', 'c'].map((k) => sink.put(outObject(`dt=1/${k}`, small), attemptContext())))
      expect(ends.map((e) => e.existed)).toEqual([null, null, null])
      for (const body of [bodyOf(1000, 2), large]) {
        const { existed } = await sink.put(outObject('dt=1/a', body, { end: 7 }), attemptContext())
        expect(existed?.metadata['end']).toBe('100')
      }
      expect(Buffer.compare(own.objects.get('lake/dt=1/a')?.body ?? new Uint8Array(), small)).toBe(0)
      expect([...own.objects.keys()].toSorted()).toEqual(['lake/dt=1/a', 'lake/dt=1/b', 'lake/dt=1/c'])
      const probes = own.requests.filter((r) => r.key.includes('.hydrant-probe-'))
      expect(probes.map((r) => r.operation)).toEqual(['put', 'put', 'delete', 'put', 'create', 'part', 'complete', 'delete'])
      expect(probes.every((r) => r.key.startsWith('dt=1/'))).toBe(true)
      expect(log.lines.filter((l) => l.level === 'warn').map((l) => /on (\w+):/.exec(l.message)?.[1])).toEqual([
        'PutObject',
        'CompleteMultipartUpload',
      ])
      expect(own.requests.filter((r) => r.conditional && !r.key.includes('.hydrant-probe-'))).toEqual([])
      expect([...own.uploads.keys()]).toEqual([])
      await sink.close()
      await own.stop()
    })

    test('hydrant check --probe says so', async () => {
      const own = await startScriptedS3()
      own.ignoreConditions = true
      const sink = sinkOn(own.url, 'lake')
      expect(await levels(sink)).toEqual(['ok', 'warning', 'warning', 'warning'])
      expect(await levels(sinkOn(own.url, 'lake', { conditional_writes: 'require' }))).toEqual(['ok', 'error', 'error', 'warning'])
      expect([...own.objects.keys(), ...own.uploads.keys()]).toEqual([])
      await sink.close()
      await own.stop()
    })
  })

  test('the suite goes red on a sink that writes over', async () => {
    const own = await startScriptedS3()
    own.ignoreConditions = true
    const make = (): Promise<SinkHarness> =>
      Promise.resolve({ ...harnessOn(own.url, 'lake'), sink: sinkOn(own.url, 'lake', { conditional_writes: 'require' }) })
    const twice = testSink({ name: 'careless', make }).find((c) => c.name.includes('the same token twice'))
    await expect(twice?.run()).rejects.toThrow()
    await own.stop()
  })
})
