import { once } from 'node:events'
import { Agent, request } from 'node:http'
import { afterEach, describe, expect, test } from 'vitest'
import { limits } from '../../core/limits.ts'
import { post, type Answer } from './fakes.ts'
import { closeAll, dial, h2, h2Put, open, port, put, putBody, r, raw, rawPut, stored, TARGET } from './wire.ts'

afterEach(closeAll)

describe('what is no operation', () => {
  test.each([
    ['no target', { 'x-amz-target': '' }, {}, 400, 'UnknownOperationException'],
    ['an unknown operation', { 'x-amz-target': 'Firehose_20150804.Nothing' }, {}, 400, 'UnknownOperationException'],
    ['a name of the prototype', { 'x-amz-target': 'Firehose_20150804.constructor' }, {}, 400, 'UnknownOperationException'],
    ['an unknown service', { 'x-amz-target': 'Kinesis_20131202.PutRecord' }, {}, 400, 'UnknownOperationException'],
    ['another path', TARGET, { path: '/x' }, 404, 'UnknownOperationException'],
    ['another method', TARGET, { method: 'PUT' }, 404, 'UnknownOperationException'],
    ['another content type', { ...TARGET, 'content-type': 'text/plain' }, {}, 404, 'UnknownOperationException'],
    ['a form of a browser', { ...TARGET, 'content-type': 'application/x-www-form-urlencoded' }, {}, 404, 'UnknownOperationException'],
  ])('%s', async (_, headers, o, status, code) => {
    await open()
    const a = await post(port(), headers, putBody(), o)
    expect([a.status, a.body['__type'], a.headers['x-amzn-errortype']]).toEqual([status, code, code])
    expect(stored()).toBe(0)
  })
  test('a content type with parameters is the same type', async () => {
    await open()
    expect((await put({ 'content-type': 'application/x-amz-json-1.1; charset=utf-8' })).status).toBe(200)
  })
})

test('every answer has an id of its own, a date and the type; every request is one event', async () => {
  await open()
  const answers = [await put(), await put(), await post(port(), { 'x-amz-target': 'x' }, '{}')]
  for (const a of answers) {
    expect(a.headers['x-amzn-requestid']).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-a[0-9a-f]{3}-[0-9a-f]{12}$/)
    expect(a.headers['content-type']).toBe('application/x-amz-json-1.1')
    expect(Date.parse(a.headers['date'] as string)).not.toBeNaN()
  }
  expect(new Set(answers.map((a) => a.headers['x-amzn-requestid'])).size).toBe(3)
  expect(r.events.map((e) => e.type === 'request.handled' && [e.operation, e.status, e.code])).toEqual([
    ['PutRecord', 200, undefined],
    ['PutRecord', 200, undefined],
    ['Unknown', 400, 'UnknownOperationException'],
  ])
})

describe('bodies', () => {
  test('chunked, in many pieces, and kept alive', async () => {
    await open()
    const agent = new Agent({ keepAlive: true, maxSockets: 1 })
    for (let i = 0; i < 3; i++) {
      const req = request({
        port: port(),
        host: '127.0.0.1',
        method: 'POST',
        agent,
        headers: { ...TARGET, 'content-type': 'application/x-amz-json-1.1' },
      })
      for (const c of putBody(9)) req.write(c)
      req.end()
      const [res] = (await once(req, 'response')) as [NodeJS.ReadableStream & { statusCode: number }]
      expect(res.statusCode).toBe(200)
      res.resume()
      await once(res, 'end')
    }
    agent.destroy()
    expect(r.ingest.values.get('a')?.map((v) => v.length)).toEqual([9, 9, 9])
  })
  test('empty, or no JSON', async () => {
    await open()
    for (const body of ['', '{', 'null']) {
      const a = await post(port(), TARGET, body)
      expect([a.status, a.body['__type']]).toEqual([400, 'SerializationException'])
    }
  })
  test('the largest put there is, over both protocols', async () => {
    await open()
    const records = Array.from({ length: 500 }, () => ({ Data: Buffer.alloc(8_388, 7).toString('base64') }))
    const body = JSON.stringify({ DeliveryStreamName: 'a', Records: records })
    const target = { 'x-amz-target': 'Firehose_20150804.PutRecordBatch' }
    expect((await post(port(), target, body)).body['FailedPutCount']).toBe(0)
    expect((await h2Put(h2(), body, target)).body['FailedPutCount']).toBe(0)
    expect(stored()).toBe(1_000)
  })
  test.each(['content-length', 'chunked'])('too large, by %s: 413, and the connection lives on', async (how) => {
    await open({ limits: { httpBodyBytes: 10_000 } })
    const agent = new Agent({ keepAlive: true, maxSockets: 1 })
    const body = Buffer.alloc(200_000, ' ')
    const headers = how === 'chunked' ? { 'transfer-encoding': 'chunked', 'content-length': [] as string[] } : {}
    const { 'content-length': _, ...chunked } = headers as Record<string, string>
    const a = how === 'chunked' ? await chunkedPost(chunked, body, agent) : await post(port(), TARGET, body, { agent })
    expect([a.status, a.body['__type']]).toEqual([413, 'RequestEntityTooLargeException'])
    expect((await post(port(), TARGET, putBody(), { agent })).status).toBe(200)
    agent.destroy()
  })
  test('a body over HTTP/2 that is not as long as it says ends the connection', async () => {
    await open()
    for (const length of ['3', '500']) await expect(h2Put(h2(), putBody(), { 'content-length': length })).rejects.toThrow()
    expect(stored()).toBe(0)
    expect((await h2Put(h2(), putBody())).status).toBe(200)
  })
})

async function chunkedPost(headers: Record<string, string>, body: Uint8Array, agent: Agent): Promise<Answer> {
  const req = request({
    port: port(),
    host: '127.0.0.1',
    method: 'POST',
    agent,
    headers: { ...TARGET, 'content-type': 'application/x-amz-json-1.1', ...headers },
  })
  req.end(body)
  const [res] = (await once(req, 'response')) as [NodeJS.ReadableStream & { statusCode: number; headers: Record<string, string> }]
  let text = ''
  for await (const c of res) text += String(c)
  return { status: res.statusCode, headers: res.headers, body: JSON.parse(text) as Record<string, unknown>, text }
}

describe('what is no request', () => {
  test.each([
    ['not HTTP', 'hello\r\n\r\n', '400 Bad Request', 'MalformedHttpRequestException'],
    ['a body and a length that is no number', rawPut('content-length: x\r\n'), '400 Bad Request', 'MalformedHttpRequestException'],
    [
      'a length and chunks',
      rawPut('content-length: 3\r\ntransfer-encoding: chunked\r\n'),
      '400 Bad Request',
      'MalformedHttpRequestException',
    ],
    ['a header without end', `POST / HTTP/1.1\r\nx: ${'a'.repeat(40_000)}`, '431', 'RequestHeaderFieldsTooLargeException'],
    ['two lengths', rawPut('content-length: 3\r\ncontent-length: 4\r\n'), '400', 'MalformedHttpRequestException'],
  ])('%s', async (_, text, status, code) => {
    await open()
    const got = await raw(text)
    expect(got).toMatch(new RegExp(`^HTTP/1.1 ${status}`))
    expect(got).toContain(`{"__type":"${code}"`)
    expect(stored()).toBe(0)
  })
  test.each(['host: y', 'authorization: b', 'x-amz-target: Firehose_20150804.DeleteDeliveryStream', 'x-amz-date: 2', 'x-amz-x: 2'])(
    'a second %s',
    async (second) => {
      await open()
      const body = putBody()
      const got = await raw(
        rawPut(
          `authorization: a\r\nx-amz-date: 1\r\nx-amz-x: 1\r\n${second}\r\ncontent-length: ${body.length}\r\nconnection: close\r\n`,
          body,
        ),
      )
      expect(got).toMatch(/^HTTP\/1.1 400/)
      expect(got).toContain('was sent more than once')
      expect(stored()).toBe(0)
    },
  )
  test('half a request, then the client is gone: nothing stays behind', async () => {
    await open({ limits: { httpInFlightBytes: limits.httpBodyBytes } })
    for (let i = 0; i < 3; i++) {
      const s = dial()
      await once(s, 'connect')
      s.write(rawPut(`content-length: ${limits.httpBodyBytes}\r\n`, '{"DeliveryStreamName"'))
      await expect.poll(() => r.door.inFlight()).toBe(1)
      s.destroy()
      await expect.poll(() => r.door.inFlight()).toBe(0)
    }
    expect((await put()).status).toBe(200) // the budget is free again
  })
  test('one byte, two bytes, PR: still HTTP/1.1', async () => {
    await open()
    const s = dial()
    await once(s, 'connect')
    const text = 'PROPFIND / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n'
    for (const part of ['P', 'R', text.slice(2)]) {
      s.write(part)
      await new Promise((resolve) => setImmediate(resolve))
    }
    let got = ''
    for await (const c of s) got += String(c)
    expect(got).toMatch(/^HTTP\/1.1 404 /)
  })
})

describe('HTTP/2 without TLS', () => {
  test('requests at once on one connection', async () => {
    await open()
    const client = h2()
    const answers = await Promise.all(Array.from({ length: 20 }, () => h2Put(client, putBody())))
    expect(answers.map((a) => a.status)).toEqual(Array.from({ length: 20 }, () => 200))
    expect(new Set(answers.map((a) => a.body['RecordId'])).size).toBe(20)
    expect(answers[0]?.headers['x-amzn-requestid']).toMatch(/^[0-9a-f-]{36}$/)
  })
  test('refusals, too', async () => {
    await open({ limits: { httpBodyBytes: 1_000 } })
    const client = h2()
    expect((await h2Put(client, Buffer.alloc(5_000))).status).toBe(413)
    expect((await h2Put(client, '{}', { 'x-amz-target': 'x' })).body['__type']).toBe('UnknownOperationException')
  })
})

describe('Expect: 100-continue', () => {
  test('is told to go on', async () => {
    await open()
    const req = request({
      port: port(),
      host: '127.0.0.1',
      method: 'POST',
      headers: { ...TARGET, 'content-type': 'application/x-amz-json-1.1', expect: '100-continue', 'content-length': putBody().length },
    })
    req.flushHeaders()
    await once(req, 'continue')
    req.end(putBody())
    const [res] = (await once(req, 'response')) as [NodeJS.ReadableStream & { statusCode: number }]
    expect(res.statusCode).toBe(200)
    res.resume()
  })
  test('is refused before the body is sent', async () => {
    await open()
    const got = await raw(rawPut(`expect: 100-continue\r\ncontent-length: ${limits.httpBodyBytes + 1}\r\n`, ''), { until: '}' })
    expect(got).toMatch(/^HTTP\/1.1 413/)
  })
})
