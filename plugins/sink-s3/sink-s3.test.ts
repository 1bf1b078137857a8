import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import {
  attemptContext,
  bodyOf,
  isSecret,
  optionsTable,
  outObject,
  pieces,
  pluginKit,
  realHost,
  recordedLog,
  registerSinkCases,
  type RecordedLog,
} from 'hydrant/sdk/testing'
import { S3Failure, type Found, type Headers, type LifecycleRule, type Operation, type Part, type S3Api, type Upload } from './client.ts'
import { conditionMemory } from './conditions.ts'
import plugin from './index.ts'
import { gather, partSizeFor } from './multipart.ts'
import { withEnvironment, type S3Options } from './options.ts'
import { S3Sink } from './s3-sink.ts'

const MiB = 1024 * 1024
const s3 = plugin(pluginKit)
const refused = (operation: Operation, status: number, code: string): S3Failure =>
  new S3Failure(operation, { status, code, message: code, outcome: status < 300 ? 'unknown' : 'refused' })

/** A bucket in memory; `hook` sees every call first and may throw or wait. */
class FakeApi implements S3Api {
  readonly objects = new Map<string, { body: Uint8Array; headers: Headers }>()
  readonly uploads = new Map<string, { key: string; headers: Headers; parts: Map<number, Uint8Array> }>()
  readonly calls: string[] = []
  rules: readonly LifecycleRule[] = []
  honours = true
  refreshed = 0
  closed = false
  hook: (operation: Operation, key: string) => Promise<void> | void = () => {}

  async #seen(operation: Operation, key: string, signal: AbortSignal): Promise<void> {
    this.calls.push(operation)
    await this.hook(operation, key)
    signal.throwIfAborted()
  }
  #write(operation: Operation, key: string, body: Uint8Array, headers: Headers, conditional: boolean): void {
    if (conditional && this.honours && this.objects.has(key)) throw refused(operation, 412, 'PreconditionFailed')
    this.objects.set(key, { body: body.slice(), headers })
  }
  async put(key: string, body: Uint8Array, o: Headers & { conditional: boolean }, signal: AbortSignal): Promise<object> {
    await this.#seen('put', key, signal)
    this.#write('put', key, body, o, o.conditional)
    return {}
  }
  async head(key: string, signal: AbortSignal): Promise<Found> {
    await this.#seen('head', key, signal)
    const found = this.objects.get(key)
    if (!found) throw refused('head', 404, 'NotFound')
    return { size: found.body.length, metadata: found.headers.metadata }
  }
  async get(key: string, _: object, signal: AbortSignal): Promise<AsyncIterable<Uint8Array>> {
    await this.#seen('get', key, signal)
    const found = this.objects.get(key)
    if (!found) throw refused('get', 404, 'NoSuchKey')
    return pieces(found.body)
  }
  async create(key: string, headers: Headers, signal: AbortSignal): Promise<{ uploadId: string; fullObject: boolean }> {
    await this.#seen('create', key, signal)
    const uploadId = `u${this.calls.length}`
    this.uploads.set(uploadId, { key, headers, parts: new Map() })
    return { uploadId, fullObject: true }
  }
  async part(u: Upload, number: number, body: Uint8Array, _: string | undefined, signal: AbortSignal): Promise<Part> {
    await this.#seen('part', u.key, signal)
    this.uploads.get(u.uploadId)?.parts.set(number, body.slice())
    return { number, etag: `e${number}` }
  }
  async complete(u: Upload, parts: readonly Part[], o: { conditional: boolean }, signal: AbortSignal): Promise<void> {
    await this.#seen('complete', u.key, signal)
    const upload = this.uploads.get(u.uploadId)
    if (!upload) throw refused('complete', 404, 'NoSuchUpload')
    const body = Buffer.concat(parts.map((p) => upload.parts.get(p.number) ?? new Uint8Array()))
    this.#write('complete', u.key, body, upload.headers, o.conditional)
    this.uploads.delete(u.uploadId)
  }
  async abort(u: Upload, signal: AbortSignal): Promise<void> {
    await this.#seen('abort', u.key, signal)
    if (!this.uploads.delete(u.uploadId)) throw refused('abort', 404, 'NoSuchUpload')
  }
  /** Pages of two. */
  async listUploads(prefix: string, after: Upload | null, signal: AbortSignal): Promise<{ uploads: Upload[]; next: Upload | null }> {
    await this.#seen('list', prefix, signal)
    const all = [...this.uploads].map(([uploadId, { key }]) => ({ key, uploadId })).filter((u) => u.key.startsWith(prefix))
    const sorted = all.toSorted((a, b) => (a.key + a.uploadId < b.key + b.uploadId ? -1 : 1))
    const rest = sorted.filter((u) => after === null || u.key + u.uploadId > after.key + after.uploadId)
    return { uploads: rest.slice(0, 2), next: rest.length > 2 ? (rest[1] ?? null) : null }
  }
  async remove(key: string, signal: AbortSignal): Promise<void> {
    await this.#seen('delete', key, signal)
    this.objects.delete(key)
  }
  reach(signal: AbortSignal): Promise<void> {
    return this.#seen('reach', '', signal)
  }
  async lifecycle(signal: AbortSignal): Promise<readonly LifecycleRule[]> {
    await this.#seen('lifecycle', '', signal)
    return this.rules
  }
  refresh(): void {
    this.refreshed++
  }
  close(): void {
    this.closed = true
  }
}

interface Bench {
  readonly api: FakeApi
  readonly log: RecordedLog
  readonly sink: S3Sink
}
function bench(more: object = {}, memory = 32 * MiB): Bench {
  const api = new FakeApi()
  const log = recordedLog()
  const options = s3.options.parse({ bucket: 'lake', part_size: '5MiB', ...more })
  const context = { host: realHost(), log, pipelineId: 'p', memory, baseDir: '.' }
  return { api, log, sink: new S3Sink(options, context, pluginKit, api, conditionMemory()) }
}
const parse = (o: object): S3Options => s3.options.parse({ bucket: 'lake', ...o })
const puts = (sink: S3Sink, ...keys: string[]): Promise<unknown> =>
  Promise.all(keys.map((k) => sink.put(outObject(k, bodyOf(10)), attemptContext())))
const both = (...names: string[]): string[] => names.flatMap((n) => [`${n}.before`, `${n}.after`])
const own = { endpoint: 'http://127.0.0.1:1' }

registerSinkCases(test, {
  name: 's3 on a fake bucket',
  sizes: [0, 1, 5 * MiB - 1, 5 * MiB, 5 * MiB + 1, 16 * MiB],
  large: 11 * MiB,
  make: () => {
    const { api, sink } = bench(own)
    return Promise.resolve({
      sink,
      readBack: (key) => Promise.resolve(api.objects.get(key)?.body ?? null),
      list: () => Promise.resolve([...api.objects.keys()].toSorted()),
      describe: (key) => {
        const { contentType, contentEncoding } = api.objects.get(key)?.headers ?? {}
        return Promise.resolve({ contentType, contentEncoding })
      },
      refuseWrites: () => {
        api.hook = (operation) => {
          if (operation === 'put') throw refused('put', 403, 'AccessDenied')
        }
        return Promise.resolve()
      },
      strand: async (key) => void (await api.create(key, { contentType: '', metadata: {} }, new AbortController().signal)),
      stranded: (key) => Promise.resolve([...api.uploads.values()].filter((u) => u.key === key).length),
      stop: () => Promise.resolve(),
    })
  },
})

describe('options', () => {
  test('defaults', () => {
    expect(parse({})).toEqual({ bucket: 'lake', conditional_writes: 'auto', checksum: true, part_size: 8 * MiB, request_timeout: 30_000 })
  })
  test.each([
    [{ bucket: 'No' }, /a bucket name has 3 to 63/],
    [{ part_size: '1MiB' }, /part_size lies between 5MiB and 5GiB/],
    [{ part_size: '8MB' }, /a size is a number and a unit/],
    [{ endpoint: 'ftp://x' }, /endpoint/],
    [{ credentials: { access_key: 'a' } }, /secret_key/],
    [{ bukket: 'x' }, /bukket/],
  ])('%j is refused', (o, message) => {
    expect(() => parse(o)).toThrow(message)
  })
  test('the secrets are marked', () => {
    const credentials = s3.options as unknown as { shape: { credentials: { def: { innerType: { shape: Record<string, never> } } } } }
    const { shape } = credentials.shape.credentials.def.innerType
    const marked = Object.entries(shape).map(([name, schema]) => [name, isSecret(schema)])
    expect(Object.fromEntries(marked)).toEqual({ access_key: false, secret_key: true, session_token: true })
  })
  test('target, the part that is the identity of a spec, is the bucket: endpoint and credentials stay live', () => {
    expect(s3.target(parse({ endpoint: 'http://127.0.0.1:7070', region: 'x' }))).toEqual({ bucket: 'lake' })
  })
  test.each(['nonsense', 'ftp://x', 'http://', 'http:'])('the endpoint %s is none, and an example says what one is', (endpoint) => {
    expect(() => parse({ endpoint })).toThrow('expected http:// or https:// and a host, such as http://127.0.0.1:7070')
  })
  test('an endpoint of the environment counts like one of the configuration: the store is asked for conditions', () => {
    const env = { AWS_ENDPOINT_URL: 'http://127.0.0.1:1', AWS_ENDPOINT_URL_S3: 'http://127.0.0.1:2', AWS_REGION: 'eu-west-1' }
    expect(withEnvironment(parse({}), env)).toMatchObject({ endpoint: 'http://127.0.0.1:2', region: 'eu-west-1' })
    expect(withEnvironment(parse({}), { AWS_ENDPOINT_URL: 'http://127.0.0.1:1' })).toMatchObject({ endpoint: 'http://127.0.0.1:1' })
    expect(withEnvironment(parse(own), env)).toEqual(parse(own))
    for (const none of [{}, { ...env, AWS_IGNORE_CONFIGURED_ENDPOINT_URLS: 'true' }])
      expect(withEnvironment(parse({}), none)).toEqual(parse({}))
  })
  test('the table of options in the README is the schema', async () => {
    const readme = await readFile(join(import.meta.dirname, 'README.md'), 'utf8')
    expect(readme).toContain(`<!-- options -->\n${optionsTable(s3.options)}\n<!-- /options -->`)
  })
})

describe('what is made of answers', () => {
  test('expired credentials are asked for again', async () => {
    const { api, sink } = bench()
    api.hook = (operation) => {
      if (operation === 'put' && api.refreshed === 0) throw refused('put', 400, 'ExpiredToken')
    }
    await expect(sink.put(outObject('a', bodyOf(1)), attemptContext())).rejects.toMatchObject({ code: 'S3.ExpiredToken' })
    expect(api.refreshed).toBe(1)
    expect((await sink.put(outObject('a', bodyOf(1)), attemptContext({ attempt: 2 }))).existed).toBe(null)
  })

  test('taken, and HEAD gets no answer: that may be what an earlier attempt has stored', async () => {
    const { api, sink } = bench()
    await puts(sink, 'a')
    api.hook = (operation) => {
      if (operation === 'head') throw new S3Failure('head', { code: 'ECONNREFUSED', message: 'refused', outcome: 'refused' })
    }
    await expect(sink.put(outObject('a', bodyOf(1)), attemptContext())).rejects.toMatchObject({ applied: 'unknown' })
  })

  test('a bucket that is not there holds no uploads', async () => {
    const { api, sink } = bench()
    api.hook = (operation) => {
      if (operation === 'list') throw refused('list', 404, 'NoSuchBucket')
    }
    expect(await sink.abortUploads('a', attemptContext())).toBe(0)
  })

  test('the store says another checksum than was sent: the lane stops', async () => {
    const { api, sink } = bench()
    const put = api.put.bind(api)
    api.put = async (...args) => ({ ...(await put(...args)), crc32: 'AAAAAA==' })
    await expect(sink.put(outObject('a', bodyOf(1)), attemptContext())).rejects.toMatchObject({ code: 'S3.OtherChecksum' })
  })

  test('taken (412), then nothing there: again, never called done', async () => {
    const { api, sink } = bench()
    api.hook = (operation) => {
      if (operation === 'put') throw refused('put', 412, 'PreconditionFailed')
    }
    await expect(sink.put(outObject('a', bodyOf(1)), attemptContext())).rejects.toThrow(pluginKit.RetryableError)
    expect(api.calls).toEqual(['put', 'head'])
  })

  test('lost, and HEAD fails too: the lost answer is the error, and the next attempt finds the object', async () => {
    const { api, sink } = bench()
    api.hook = (operation) => {
      if (operation === 'head') throw refused('head', 403, '403')
      if (operation === 'get') throw refused('get', 403, 'AccessDenied')
    }
    const put = api.put.bind(api)
    api.put = async (...args) => {
      await put(...args)
      throw new S3Failure('put', { code: 'ECONNRESET', message: 'reset', outcome: 'unknown' })
    }
    await expect(sink.put(outObject('a', bodyOf(1)), attemptContext())).rejects.toMatchObject({ code: 'S3.ECONNRESET' })
    api.put = put
    api.hook = () => {}
    expect((await sink.put(outObject('a', bodyOf(1)), attemptContext({ attempt: 2 }))).existed?.metadata['end']).toBe('100')
  })
})

describe('is If-None-Match honoured?', () => {
  test('AWS is not asked; require and off neither', async () => {
    for (const o of [{}, { ...own, conditional_writes: 'require' }, { conditional_writes: 'off' }]) {
      const { api, sink } = bench(o)
      await puts(sink, 'a')
      expect(api.calls).toEqual('conditional_writes' in o && o.conditional_writes === 'off' ? ['head', 'put'] : ['put'])
    }
  })

  test('another store is asked once, however many puts begin at once', async () => {
    const { api, log, sink } = bench(own)
    await puts(sink, 'x/a', 'x/b', 'x/c')
    await puts(sink, 'x/d')
    expect(api.calls).toEqual(['put', 'put', 'delete', 'put', 'put', 'put', 'put'])
    expect([...api.objects.keys()]).toEqual(['x/a', 'x/b', 'x/c', 'x/d'])
    expect(log.lines).toEqual([])
  })

  test('a store that answers 501 has none', async () => {
    const { api, log, sink } = bench(own)
    const put = api.put.bind(api)
    api.put = (key, body, o, signal) => (o.conditional ? Promise.reject(refused('put', 501, 'NotImplemented')) : put(key, body, o, signal))
    await puts(sink, 'a')
    expect(log.lines.map((l) => l.level)).toEqual(['warn'])
    expect([...api.objects.keys()]).toEqual(['a'])
  })

  test('a question that failed is asked again by the next attempt', async () => {
    const { api, sink } = bench(own)
    let down = true
    api.hook = () => {
      if (down) throw refused('put', 503, 'SlowDown')
    }
    await expect(puts(sink, 'a')).rejects.toMatchObject({ code: 'S3.SlowDown' })
    down = false
    await puts(sink, 'a')
    expect([...api.objects.keys()]).toEqual(['a'])
  })

  test('a probe object that cannot be removed is said, and delivery goes on', async () => {
    const { api, log, sink } = bench(own)
    api.hook = (operation) => {
      if (operation === 'delete') throw refused('delete', 403, 'AccessDenied')
    }
    await puts(sink, 'a')
    expect(log.lines.map((l) => l.message)).toEqual([expect.stringMatching(/probe object could not be removed/)])
  })

  test('an attempt that ends stops waiting for the answer', async () => {
    const { api, sink } = bench(own)
    api.hook = () => new Promise(() => {})
    const ended = new AbortController()
    const put = sink.put(outObject('a', bodyOf(1)), attemptContext({ signal: ended.signal }))
    ended.abort(new Error('deadline'))
    await expect(put).rejects.toThrow('deadline')
  })

  test('off: looks first, never over', async () => {
    const { api, sink } = bench({ conditional_writes: 'off' })
    await puts(sink, 'a')
    const { existed } = await sink.put(outObject('a', bodyOf(20, 2), { end: 9 }), attemptContext())
    expect(existed?.metadata['end']).toBe('100')
    expect(api.calls).toEqual(['head', 'put', 'head'])
  })
})

describe('parts', () => {
  test.each([
    [5 * MiB, 1],
    [10 * MiB, 2],
    [100 * MiB, 4],
    [0, 1],
  ])('with %i bytes at most %i parts are in memory', async (memory, most) => {
    const { api, sink } = bench({}, memory)
    let inFlight = 0
    let peak = 0
    api.hook = async (operation) => {
      if (operation !== 'part') return
      peak = Math.max(peak, ++inFlight)
      await new Promise((r) => void setImmediate(r))
      inFlight--
    }
    const body = bodyOf(31 * MiB)
    await sink.put(outObject('big', body), attemptContext())
    expect(peak).toBe(most)
    expect(Buffer.compare(api.objects.get('big')?.body ?? new Uint8Array(), body)).toBe(0)
  })

  test('never more than 10,000', () => {
    expect(partSizeFor(80_000 * MiB, 8 * MiB)).toBe(8 * MiB)
    expect(partSizeFor(80_000 * MiB + 1, 8 * MiB)).toBe(8 * MiB + 1)
  })

  test('one failing part: the others stop, the upload is aborted, the first error is told', async () => {
    const { api, sink } = bench()
    api.hook = (operation) => {
      if (operation === 'part' && api.calls.filter((c) => c === 'part').length === 2) throw refused('part', 503, 'SlowDown')
    }
    await expect(sink.put(outObject('big', bodyOf(31 * MiB)), attemptContext())).rejects.toMatchObject({ code: 'S3.SlowDown' })
    expect(api.calls.filter((c) => c === 'part').length).toBeLessThan(7)
    expect([api.uploads.size, api.objects.size]).toEqual([0, 0])
  })

  test('effect() is asked before Complete only, so that parts of several cuts upload at the same time', async () => {
    const { api, sink } = bench()
    const effect = (): Promise<void> => {
      api.calls.push('head') // a mark among the calls
      return Promise.resolve()
    }
    await sink.put(outObject('big', bodyOf(6 * MiB)), attemptContext({ effect }))
    expect(api.calls).toEqual(['create', 'part', 'part', 'head', 'complete'])
  })

  test('every fail point is reached, in order', async () => {
    const { sink } = bench()
    const points: string[] = []
    const failpoint = (p: string): Promise<void> => Promise.resolve(void points.push(p))
    await sink.put(outObject('small', bodyOf(1)), attemptContext({ failpoint }))
    await sink.put(outObject('small', bodyOf(1)), attemptContext({ failpoint }))
    await sink.put(outObject('big', bodyOf(6 * MiB)), attemptContext({ failpoint }))
    expect(points.toSorted()).toEqual(
      ['object.put.before', ...both('object.put', 'verify', 'object.create', 'object.part', 'object.part', 'object.complete')].toSorted(),
    )
  })

  test('a body of another length than announced', async () => {
    const { api, sink } = bench()
    for (const size of [9, 11]) {
      const put = sink.put(outObject('a', bodyOf(10), { size, open: () => pieces(bodyOf(10)) }), attemptContext())
      await expect(put).rejects.toThrow(`${size} were announced`)
    }
    expect(api.calls).toEqual([])
  })

  test('a body in one piece is not copied', async () => {
    const body = bodyOf(1000)
    const got = await gather(pieces(body), 1000, () => new Error('short'))
    expect(got.buffer).toBe(body.buffer)
  })
})

describe('unfinished uploads', () => {
  test('all pages are read, other keys stay', async () => {
    const { api, sink } = bench()
    for (const key of ['a', 'a', 'a', 'a', 'a', 'ab', 'b'])
      await api.create(key, { contentType: '', metadata: {} }, new AbortController().signal)
    expect(await sink.abortUploads('a', attemptContext())).toBe(5)
    expect([...api.uploads.values()].map((u) => u.key)).toEqual(['ab', 'b'])
  })

  test.each([403, 501])('a store that does not list them (%i) is told of once and delivered to', async (status) => {
    const { api, sink } = bench()
    api.hook = (operation) => {
      if (operation === 'list') throw refused('list', status, status === 403 ? 'AccessDenied' : 'NotImplemented')
    }
    const log = recordedLog()
    for (const key of ['a', 'b']) await sink.put(outObject(key, bodyOf(1)), attemptContext({ recovered: true, log }))
    expect([...api.objects.keys()]).toEqual(['a', 'b'])
    expect(log.lines.length).toBe(1)
    expect(await sink.abortUploads('a', attemptContext())).toBe(0)
  })
})

describe('probe', () => {
  test('lifecycle rules that remove objects early, or leave uploads', async () => {
    const { api, sink } = bench()
    api.rules = [
      { id: 'quick', prefix: 'logs/', expireDays: 1 },
      { id: 'fixed', prefix: '', expireDate: '2030-01-01T00:00:00.000Z' },
      { id: 'fine', prefix: '', expireDays: 30 },
    ]
    const found = await sink.probe(new AbortController().signal)
    expect(found.map((f) => `${f.level}: ${f.message}`)).toEqual([
      'ok: s3://lake answers',
      'ok: s3://lake: PutObject with If-None-Match refuses a taken key',
      'ok: s3://lake: CompleteMultipartUpload with If-None-Match refuses a taken key',
      'warning: s3://lake: lifecycle rule "quick" for "logs/" removes objects after 1 day: keep them longer than a day',
      'warning: s3://lake: lifecycle rule "fixed" for "" removes objects on 2030-01-01T00:00:00.000Z, whatever their age',
      'warning: s3://lake: no lifecycle rule aborts unfinished uploads; one of 7 days keeps the bucket tidy',
    ])
    expect([api.objects.size, api.uploads.size]).toEqual([0, 0])
  })
  test('a bucket that does not answer', async () => {
    const { api, sink } = bench()
    api.hook = () => {
      throw refused('reach', 404, 'NoSuchBucket')
    }
    const found = await sink.probe(new AbortController().signal)
    expect(found.map((f) => f.level)).toEqual(['error'])
    expect(found[0]?.message).toMatch(/create the bucket/)
  })
})

test('close waits for what runs, then refuses', async () => {
  const { api, sink } = bench()
  const go = Promise.withResolvers<void>()
  api.hook = () => go.promise
  const put = sink.put(outObject('a', bodyOf(1)), attemptContext())
  const closed = sink.close()
  expect(api.closed).toBe(false)
  go.resolve()
  await Promise.all([put, closed])
  expect(api.closed).toBe(true)
  await expect(sink.put(outObject('b', bodyOf(1)), attemptContext())).rejects.toMatchObject({ code: 'S3.Closed' })
})
