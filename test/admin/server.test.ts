import { request, type IncomingHttpHeaders } from 'node:http'
import { connect } from 'node:net'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { startAdmin, type AdminServer } from '../../core/admin/server.ts'
import { ControlError, type PipelineOperator, type PipelineStatus } from '../../core/pipeline/control.ts'
import { limits } from '../../core/limits.ts'
import { createMetrics } from '../../core/telemetry/metrics.ts'
import { stoppedClock } from '../telemetry/support.ts'

const STATUS: PipelineStatus = {
  name: 'events',
  pipelineId: 'id',
  origin: 'yaml',
  status: 'ACTIVE',
  paused: false,
  lineage: 1,
  specHash: 'h',
  sink: 'file',
  lanes: [],
}
interface Reply {
  status: number
  headers: IncomingHttpHeaders
  body: string
}
let server: AdminServer
let calls: unknown[][] = []
let logged: string[] = []
let ready = { ready: true, reasons: [] as string[] }
let operator: PipelineOperator | null = null

const known = async (name: string): Promise<void> => {
  if (name !== 'events') throw new ControlError('not-found', `pipeline ${name} does not exist`)
}
const fake: PipelineOperator = {
  status: async () => [STATUS],
  pause: async (...a) => (calls.push(['pause', ...a]), known(a[0])),
  resume: async (...a) => (calls.push(['resume', ...a]), known(a[0])),
  apply: async (...a) => (calls.push(['apply', ...a]), await known(a[0]), { specHash: 'h2', changed: true }),
  replay: async (...a) => (calls.push(['replay', ...a]), await known(a[0]), { lineage: 2, shards: [{ shard: 's0', from: 7 }] }),
  release: async (...a) => {
    calls.push(['release', ...a])
    if (a[1].force) throw new Error('the disk is gone')
    return { shards: [{ shard: 's0', released: 1, message: 'm' }] }
  },
}

function ask(method: string, path: string, o: { body?: string; headers?: Record<string, string> } = {}): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const json = o.body === undefined ? {} : { 'content-type': 'application/json' }
    const req = request({ host: '127.0.0.1', port: server.port, method, path, headers: { ...json, ...o.headers }, agent: false }, (res) => {
      let body = ''
      res.setEncoding('utf8')
      res.on('data', (c: string) => (body += c))
      res.on('end', () => resolve({ status: res.statusCode ?? 0, headers: res.headers, body }))
      res.on('error', reject)
    })
    req.on('error', reject)
    req.end(o.body)
  })
}
const post = (path: string, body: unknown, headers: Record<string, string> = {}): Promise<Reply> =>
  ask('POST', path, { body: JSON.stringify(body), headers })

const raw = (text: string): Promise<string> =>
  new Promise((resolve, reject) => {
    const socket = connect(server.port, '127.0.0.1', () => socket.end(text))
    let got = ''
    socket.setEncoding('latin1')
    socket.on('data', (c: string) => (got += c))
    socket.on('close', () => resolve(got))
    socket.on('error', reject)
  })

beforeEach(async () => {
  calls = []
  logged = []
  ready = { ready: true, reasons: [] }
  operator = fake
  const metrics = createMetrics({ clock: stoppedClock() })
  metrics.on({ type: 'records.accepted', stream: 'events', records: 3, bytes: 9 })
  const log = { debug() {}, info() {}, warn() {}, error: (_f: object, m: string) => void logged.push(m) }
  server = await startAdmin({ listen: { host: '127.0.0.1', port: 0 }, readiness: () => ready, metrics, operator: () => operator, log })
})
afterEach(() => server.close())

describe('health and metrics', () => {
  test('live is live', async () => {
    const r = await ask('GET', '/health/live')
    expect([r.status, r.body, r.headers['cache-control']]).toEqual([200, '{"status":"live"}\n', 'no-store'])
  })
  test('/ names the paths', async () => {
    const r = await ask('GET', '/')
    expect([r.status, r.headers['content-type']]).toEqual([200, 'text/plain; charset=utf-8'])
    for (const path of ['/health/live', '/health/ready', '/metrics', '/metrics/cloudwatch', '/pipelines']) {
      expect(r.body).toContain(`GET  ${path} `)
      expect((await ask('GET', path)).status).toBe(200)
    }
  })
  test('ready says why not', async () => {
    expect(await ask('GET', '/health/ready')).toMatchObject({ status: 200, body: '{"status":"ready","reasons":[]}\n' })
    ready = { ready: false, reasons: ['the log refuses puts: disk'] }
    expect(await ask('GET', '/health/ready')).toMatchObject({
      status: 503,
      body: '{"status":"not ready","reasons":["the log refuses puts: disk"]}\n',
    })
  })
  test('metrics in both forms', async () => {
    expect((await ask('GET', '/metrics')).body).toContain('hydrant_accepted_records_total{stream="events"} 3')
    expect((await ask('GET', '/metrics?x=1')).headers['content-type']).toMatch(/^text\/plain/)
    expect((await ask('GET', '/metrics/cloudwatch')).body).toContain('"MetricName":"IncomingRecords"')
  })
  test('a probe may use any Host, HEAD has no body', async () => {
    expect((await ask('GET', '/health/live', { headers: { host: 'pod-1.example' } })).status).toBe(200)
    expect(await ask('HEAD', '/health/live')).toMatchObject({ status: 200, body: '' })
  })
  test('the address that is taken is named', async () => {
    const again = startAdmin({
      listen: { host: '127.0.0.1', port: server.port },
      readiness: () => ready,
      metrics: createMetrics({ clock: stoppedClock() }),
      operator: () => null,
      log: { debug() {}, info() {}, warn() {}, error() {} },
    })
    await expect(again).rejects.toThrow(`listening on 127.0.0.1:${server.port} (admin.listen): listen EADDRINUSE`)
  })
})

describe('the admin API', () => {
  test('lists', async () => {
    expect(JSON.parse((await ask('GET', '/pipelines')).body)).toEqual({ pipelines: [STATUS] })
  })
  test.each<[action: string, body: unknown, call: unknown[], answer: object]>([
    ['pause', {}, ['pause', 'events'], { name: 'events', paused: true }],
    ['resume', {}, ['resume', 'events'], { name: 'events', paused: false }],
    ['apply', {}, ['apply', 'events', { force: false }], { name: 'events', specHash: 'h2', changed: true }],
    ['apply', { force: true }, ['apply', 'events', { force: true }], { changed: true }],
    ['replay', { from: 'earliest' }, ['replay', 'events', 'earliest', {}], { lineage: 2, shards: [{ shard: 's0', from: 7 }] }],
    ['replay', { from: { position: 7 }, shard: 's0' }, ['replay', 'events', { position: 7 }, { shard: 's0' }], { lineage: 2 }],
    ['replay', { from: { timestamp: '2026-01-31T00:00:00Z' } }, ['replay', 'events', { timestampMs: 1_769_817_600_000 }, {}], {}],
    ['release', {}, ['release', 'events', { force: false }], { shards: [{ shard: 's0', released: 1, message: 'm' }] }],
    ['release', { shard: 's0' }, ['release', 'events', { force: false, shard: 's0' }], {}],
  ])('%s %j', async (action, body, call, answer) => {
    const r = await post(`/pipelines/events/${action}`, body)
    expect(r.status).toBe(200)
    expect(calls).toEqual([call])
    expect(JSON.parse(r.body)).toMatchObject(answer)
  })
  test('an empty body is {}', async () => {
    expect((await ask('POST', '/pipelines/events/pause', { body: '' })).status).toBe(200)
  })
  test.each<[what: string, path: string, body: string, status: number, message: string]>([
    ['unknown pipeline', '/pipelines/nope/pause', '{}', 404, 'pipeline nope does not exist'],
    ['unknown action', '/pipelines/events/delete', '{}', 404, 'actions: pause, resume, apply, replay, release'],
    ['unknown path', '/x', '{}', 404, 'no such path: /x'],
    ['too deep', '/pipelines/events/pause/now', '{}', 404, 'no such path'],
    ['name', '/pipelines/a%2Fb/pause', '{}', 400, 'expected 1 to 64 letters, digits, _ . -'],
    ['broken escape', '/pipelines/%zz/pause', '{}', 400, 'expected 1 to 64 letters'],
    ['no JSON', '/pipelines/events/pause', '{', 400, 'the body is not JSON'],
    ['no object', '/pipelines/events/pause', '[]', 400, 'body: '],
    ['unknown member', '/pipelines/events/pause', '{"force":true}', 400, 'body: '],
    ['wrong type', '/pipelines/events/apply', '{"force":"yes"}', 400, 'force: '],
    ['replay from nowhere', '/pipelines/events/replay', '{}', 400, 'from: expected "earliest"'],
    ['negative', '/pipelines/events/replay', '{"from":{"position":-1}}', 400, 'from: expected'],
    ['time', '/pipelines/events/replay', '{"from":{"timestamp":"yesterday"}}', 400, 'from: expected'],
    ['a fault inside', '/pipelines/events/release', '{"force":true}', 500, 'the disk is gone'],
    ['a large body', '/pipelines/events/pause', 'x'.repeat(limits.adminBodyBytes + 1), 413, 'the body may have 65536 bytes'],
  ])('refuses: %s', async (_what, path, body, status, message) => {
    const r = await ask('POST', path, { body })
    expect(r.status).toBe(status)
    expect((JSON.parse(r.body) as { error: { message: string } }).error.message).toContain(message)
    expect(logged.length).toBe(status === 500 ? 1 : 0)
  })
  test('methods', async () => {
    expect(await ask('GET', '/pipelines/events/pause')).toMatchObject({ status: 405, headers: { allow: 'POST' } })
    expect(await post('/pipelines', {})).toMatchObject({ status: 405, headers: { allow: 'GET, HEAD' } })
    expect((await post('/health/live', {})).status).toBe(404)
  })
  test('while the daemon starts there is nobody to ask', async () => {
    operator = null
    expect((await ask('GET', '/pipelines')).status).toBe(503)
    expect((await ask('GET', '/health/live')).status).toBe(200)
  })
})

describe('who may not call', () => {
  test.each<[what: string, headers: Record<string, string>, status: number]>([
    ['a rebound DNS name', { host: 'evil.example:4581' }, 403],
    ['a name that only starts like loopback', { host: '127.0.0.1.evil.example' }, 403],
    ['a web page', { origin: 'http://localhost:3000' }, 403],
    ['a sandboxed web page', { origin: 'null' }, 403],
    ['a cross-site fetch', { 'sec-fetch-site': 'cross-site' }, 403],
    ['a form', { 'content-type': 'text/plain' }, 415],
    ['a form with JSON in its parameters', { 'content-type': 'text/plain; application/json' }, 415],
    ['a proxy', { 'x-forwarded-for': '203.0.113.9' }, 403],
    ['another proxy', { forwarded: 'for=203.0.113.9' }, 403],
  ])('%s', async (_what, headers, status) => {
    expect((await post('/pipelines/events/pause', {}, headers)).status).toBe(status)
    expect(calls).toEqual([])
  })
  test.each(['localhost', 'localhost:4581', '127.0.0.1', '127.0.0.1:1', '[::1]:4581', 'LOCALHOST'])(
    'but this machine may: %s',
    async (host) => {
      expect((await post('/pipelines/events/pause', {}, { host })).status).toBe(200)
    },
  )
  test('two Host headers', async () => {
    expect(await raw('GET /pipelines HTTP/1.1\r\nhost: localhost\r\nhost: evil.example\r\n\r\n')).toMatch(/^HTTP\/1\.1 40[03]/)
  })
  test('reading is refused to them, too', async () => {
    expect((await ask('GET', '/pipelines', { headers: { host: 'evil.example' } })).status).toBe(403)
    expect((await ask('GET', '/pipelines', { headers: { origin: 'http://evil.example' } })).status).toBe(403)
  })
})

describe('a client that misbehaves', () => {
  test('gets a 400 for what is no HTTP, and the server goes on', async () => {
    expect(await raw('hello\r\n\r\n')).toMatch(/^HTTP\/1\.1 400/)
    expect(await raw('GET /pipelines HTTP/1.1\r\n\r\n')).toMatch(/^HTTP\/1\.1 400/)
    expect((await ask('GET', '/health/live')).status).toBe(200)
  })
  test('that leaves in the middle of a body is no error of ours', async () => {
    const head = 'POST /pipelines/events/pause HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n'
    await raw(`${head}content-length: 10\r\n\r\n{`)
    expect((await ask('GET', '/health/live')).status).toBe(200)
    expect(logged).toEqual([])
    expect(calls).toEqual([])
  })
  test('a body without a length is bounded as well', async () => {
    const head =
      'POST /pipelines/events/pause HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n'
    const size = limits.adminBodyBytes + 1
    expect(await raw(`${head}${size.toString(16)}\r\n${'x'.repeat(size)}\r\n0\r\n\r\n`)).toMatch(/^HTTP\/1\.1 413/)
  })
  test('cannot keep the server from closing', async () => {
    const idle = connect(server.port, '127.0.0.1')
    await new Promise<void>((resolve) => void idle.once('connect', () => resolve()))
    const closed = new Promise<void>((resolve) => void idle.once('close', () => resolve()))
    await server.close()
    await closed
  })
})
