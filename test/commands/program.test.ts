import { spawn } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { selfSigned } from '../api/certificate.ts'
import { startAdmin, type AdminServer } from '../../core/admin/server.ts'
import { run } from '../../core/commands/program.ts'
import { table } from '../../core/commands/pipelines.ts'
import { ControlError, type PipelineOperator, type PipelineStatus } from '../../core/pipeline/control.ts'
import { createMetrics } from '../../core/telemetry/metrics.ts'
import { rig } from '../api/fakes.ts'
import { stoppedClock } from '../telemetry/support.ts'

const root = new URL('../../', import.meta.url).pathname
const GOOD = 'pipelines:\n  p: {source: {direct_put: {}}, sink: {type: file, path: ./out}}\n'
let dir = ''
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'hydrant-commands-'))
})
afterAll(() => rmSync(dir, { recursive: true, force: true }))

interface Ran {
  code: number
  out: string
  err: string
}
async function cli(...args: string[]): Promise<Ran> {
  let out = ''
  let err = ''
  const code = await run(args, { out: (t) => (out += t), err: (t) => (err += t) })
  return { code, out, err }
}
function file(name: string, text: string): string {
  const path = join(dir, name)
  writeFileSync(path, text)
  return path
}
/** A real process. */
function spawned(args: readonly string[], node: readonly string[] = []): Promise<Ran> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, ['-C', 'hydrant-source', ...node, 'core/main.ts', ...args], { cwd: root })
    let out = ''
    let err = ''
    child.stdout.on('data', (c: Buffer) => (out += c.toString()))
    child.stderr.on('data', (c: Buffer) => (err += c.toString()))
    child.on('error', reject)
    child.on('close', (code) => resolve({ code: code ?? -1, out, err }))
  })
}

describe('usage', () => {
  const commands = [
    [],
    ['serve'],
    ['check'],
    ['config', 'schema'],
    ['demo'],
    ...['list', 'pause', 'resume', 'apply', 'replay', 'release'].map((a) => ['pipelines', a]),
  ]
  test.each(commands)('help with examples: hydrant %s %s', async (...args) => {
    const r = await cli(...args.filter((a) => typeof a === 'string'), '--help')
    expect(r.code).toBe(0)
    expect(r.out).toContain('Usage: hydrant')
    expect(r.out).toMatch(/Examples:\n {2}(\w+=\w+ )?hydrant /)
  })
  test.each<[args: string[], message: string]>([
    [['chek'], "error: unknown command 'chek'\n(Did you mean check?)\n(hydrant --help says more)\n"],
    [['check'], "error: required option '-c, --config <file>' not specified\n(hydrant check --help says more)\n"],
    [['check', '-c', 'x', '--prob'], "error: unknown option '--prob'\n(Did you mean --probe?)\n(hydrant check --help says more)\n"],
    [['pipelines', 'pause'], "error: missing required argument 'name'\n(hydrant pipelines pause --help says more)\n"],
    [['pipelines', 'stop', 'x'], "error: unknown command 'stop'\n(hydrant pipelines --help says more)\n"],
    [
      ['pipelines', 'replay', 'x', '--from', 'yesterday'],
      'hydrant: --from "yesterday": expected earliest, a position, or a time such as 2026-01-31T00:00:00Z\n',
    ],
    [
      ['pipelines', 'list', '--admin', '127.0.0.1:4581'],
      'hydrant: --admin "127.0.0.1:4581": expected a URL, such as http://127.0.0.1:4581\n',
    ],
  ])('%j ends with 2', async (args, message) => {
    expect(await cli(...args)).toEqual({ code: 2, out: '', err: message })
  })
  test('nothing asked: help; --version: the version', async () => {
    for (const args of [[], ['pipelines'], ['config']]) {
      const r = await cli(...args)
      expect([r.code, r.err]).toEqual([0, ''])
      expect(r.out).toMatch(/^Usage: hydrant[^]*Examples:\n {2}hydrant /)
    }
    const { version } = JSON.parse(readFileSync(join(root, 'core/package.json'), 'utf8')) as { version: string }
    expect(await cli('--version')).toEqual({ code: 0, out: `${version}\n`, err: '' })
  })
})

describe('check', () => {
  test('a good file', async () => {
    const path = file('good.yaml', GOOD)
    expect(await cli('check', '-c', path)).toEqual({ code: 0, out: `${path}: good, 1 pipeline\n`, err: '' })
  })
  test('a bad one: FILE:LINE:COL path: message, exit 1', async () => {
    const path = file('bad.yaml', 'limits: {memory: 5}\napi: {auth: x}\n')
    const r = await cli('check', '-c', path)
    expect([r.code, r.out]).toEqual([1, ''])
    expect(r.err.split('\n')).toEqual([
      expect.stringMatching(new RegExp(`^${path}:1:18 limits\\.memory: expected a size`)),
      `${path}:2:13 api.auth: "x" is not allowed; allowed: none, sigv4`,
      '',
    ])
  })
  test('--json has the same in fields', async () => {
    const path = file('bad.yaml', 'api: {auth: x}\n')
    const r = await cli('check', '-c', path, '--json')
    expect([r.code, r.err]).toEqual([1, ''])
    expect(JSON.parse(r.out)).toEqual({
      file: path,
      ok: false,
      errors: [{ line: 1, column: 13, path: 'api.auth', message: '"x" is not allowed; allowed: none, sigv4' }],
      warnings: [],
      probes: [],
    })
  })
  test('warnings are no fault', async () => {
    const path = file('warn.yaml', `limits: {profile: none}\n${GOOD.replace('sink:', 'buffer: {size: 1KiB}, sink:')}`)
    const r = await cli('check', '-c', path)
    expect(r.code).toBe(0)
    expect(r.out).toContain(`${path}:3:48 warning: pipelines.p.buffer.size: objects will be smaller than 1MiB`)
  })
  test('a file that is not there', async () => {
    expect(await cli('check', '-c', '/nope.yaml')).toEqual({ code: 1, out: '', err: '/nope.yaml:1:1 the file /nope.yaml does not exist\n' })
  })
  test('--probe reaches the sinks: one that answers, one that does not', async () => {
    const server = createServer((_req, res) => void res.writeHead(200).end())
    await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', () => resolve()))
    const { port } = server.address() as AddressInfo
    await new Promise<void>((resolve) => void server.close(() => resolve()))
    const credentials = 'credentials: {access_key: a, secret_key: hunter2-hunter2}'
    const sink = `{type: s3, bucket: lake, endpoint: "http://127.0.0.1:${port}", ${credentials}, timeout: 500ms}`
    const r = await cli(
      'check',
      '--json',
      '--probe',
      '-c',
      file('probe.yaml', `pipelines:\n  p: {source: {direct_put: {}}, sink: ${sink}}\n`),
    )
    const { ok, probes } = JSON.parse(r.out) as { ok: boolean; probes: { target: string; level: string }[] }
    expect([r.code, ok]).toEqual([1, false])
    expect(probes.map((p) => `${p.target} ${p.level}`)).toContain('pipelines.p.sink error')
    expect(r.out).not.toContain('hunter2')
    expect((await cli('check', '--probe', '-c', file('good.yaml', GOOD))).code).toBe(0)
  })
})

test('check --probe tries the folder of the log, and leaves nothing behind', async () => {
  const good = file('log-good.yaml', `log: {type: embedded, path: ./not/yet}\nlimits: {free_disk: 0B}\n`)
  const r = await cli('check', '--probe', '-c', good)
  expect(r).toMatchObject({ code: 0, err: '' })
  expect(r.out).toMatch(/^log: ok: .*\/not\/yet: files can be created, \d+ MiB are free\n/)
  expect(existsSync(join(dir, 'not'))).toBe(false)
  const bad = file('log-bad.yaml', 'log: {type: embedded, path: /proc/hydrant}\n')
  expect(await cli('check', '--probe', '-c', bad)).toEqual({
    code: 1,
    out: '',
    err: 'log: error: log.path /proc/hydrant: no folder can be made there (ENOENT): name another one\n',
  })
})

test('check reads the certificate of the API: good, expired, with the key of another', async () => {
  const yaml = file('tls.yaml', 'api: {tls: {cert: ./cert.pem, key: ./key.pem}}\n')
  const put = ({ cert, key }: { cert: Buffer; key: Buffer }): void => {
    file('cert.pem', cert.toString())
    file('key.pem', key.toString())
  }
  put(selfSigned())
  expect(await cli('check', '-c', yaml)).toMatchObject({
    code: 0,
    out: expect.stringMatching(/^api.tls: ok: .*cert.pem ends 2049-/) as string,
  })
  put(selfSigned('late', 25))
  expect(await cli('check', '-c', yaml)).toMatchObject({
    code: 1,
    err: expect.stringMatching(/^api.tls: error: .* it has expired\n$/) as string,
  })
  put({ ...selfSigned('a'), key: selfSigned('b').key })
  expect(await cli('check', '-c', yaml)).toMatchObject({
    code: 1,
    err: expect.stringMatching(/does not belong to the certificate/) as string,
  })
})

test('config schema prints JSON Schema', async () => {
  const r = await cli('config', 'schema')
  expect(r.code).toBe(0)
  expect(JSON.parse(r.out)).toMatchObject({ $schema: 'https://json-schema.org/draft/2020-12/schema', properties: { pipelines: {} } })
})

const ask = async (...args: string[]): Promise<unknown> => {
  const r = await cli('pipelines', ...args, '--json')
  expect(r.err).toBe('')
  return [r.code, JSON.parse(r.out)]
}

describe('pipelines', () => {
  let server: AdminServer | null = null
  let calls: unknown[][] = []
  const lane = {
    shard: 's0',
    state: 'running',
    position: 5,
    head: 9,
    lagRecords: 4,
    freshnessMs: 1_500,
    openCuts: 1,
    reason: null,
  } as const
  const status: PipelineStatus[] = [
    { name: 'events', pipelineId: 'i', origin: 'yaml', status: 'ACTIVE', paused: false, lineage: 1, specHash: 'h', sink: 'file', lanes: [lane, { ...lane, shard: 's1', state: 'stopped', reason: 'the bucket is gone' }] },
    { name: 'new', pipelineId: 'j', origin: 'api', status: 'CREATING', paused: false, lineage: 1, specHash: 'h', sink: 's3', lanes: [] },
  ] // prettier-ignore
  const operator: PipelineOperator = {
    status: async () => status,
    pause: async (...a) => {
      calls.push(['pause', ...a])
      if (a[0] !== 'events') throw new ControlError('not-found', `pipeline ${a[0]} does not exist`)
    },
    resume: async (...a) => void calls.push(['resume', ...a]),
    apply: async (...a) => (calls.push(['apply', ...a]), { specHash: 'h2', changed: !a[1].force }),
    replay: async (...a) => (calls.push(['replay', ...a]), { lineage: 2, shards: [{ shard: 's0', from: 7 }] }),
    release: async (...a) => (calls.push(['release', ...a]), { shards: [{ shard: 's0', released: 3, message: 'nothing was stored' }] }),
  }
  async function admin(): Promise<string> {
    calls = []
    server = await startAdmin({
      listen: { host: '127.0.0.1', port: 0 },
      readiness: () => ({ ready: true, reasons: [] }),
      metrics: createMetrics({ clock: stoppedClock() }),
      operator: () => operator,
      log: { debug() {}, info() {}, warn() {}, error() {} },
    })
    return server.address
  }
  afterEach(async () => {
    await server?.close()
    server = null
  })

  test('list is a table, a row a lane', async () => {
    expect((await cli('pipelines', 'list', '--admin', await admin())).out).toBe(
      [
        'NAME    FROM  SINK  SHARD  STATE     POSITION  LAG  FRESHNESS  REASON',
        'events  yaml  file  s0     running   5         4    1.5s',
        'events  yaml  file  s1     stopped   5         4    1.5s       the bucket is gone',
        'new     api   s3    -      creating  -         -    -',
        '',
      ].join('\n'),
    )
  })
  test('list --json is what the admin API says', async () => {
    expect(JSON.parse((await cli('pipelines', 'list', '--json', '--admin', await admin())).out)).toEqual({ pipelines: status })
  })
  test.each<[args: string[], call: unknown[], out: string]>([
    [['pause', 'events'], ['pause', 'events'], 'events: paused\n'],
    [['resume', 'events'], ['resume', 'events'], 'events: resumed\n'],
    [['apply', 'events'], ['apply', 'events', { force: false }], 'events: in force, spec h2\n'],
    [['apply', 'events', '--force'], ['apply', 'events', { force: true }], 'events: was in force already, spec h2\n'],
    [
      ['replay', 'events', '--from', 'earliest'],
      ['replay', 'events', 'earliest', {}],
      'events/s0: delivering again from position 7, lineage 2\n',
    ],
    [
      ['replay', 'events', '--from', '7', '--shard', 's0'],
      ['replay', 'events', { position: 7 }, { shard: 's0' }],
      'events/s0: delivering again from position 7, lineage 2\n',
    ],
    [
      ['replay', 'events', '--from', '2026-01-31T01:00:00+01:00'],
      ['replay', 'events', { timestampMs: 1_769_817_600_000 }, {}],
      'events/s0: delivering again from position 7, lineage 2\n',
    ],
    [
      ['release', 'events', '--force', '--shard', 's0'],
      ['release', 'events', { force: true, shard: 's0' }],
      'events/s0: 3 released: nothing was stored\n',
    ],
  ])('%j', async (args, call, out) => {
    expect(await cli('pipelines', ...args, '--admin', await admin())).toEqual({ code: 0, out, err: '' })
    expect(calls).toEqual([call])
  })
  test('--json: errors are JSON, too', async () => {
    const message = expect.any(String) as string
    expect(await ask('pause', 'nope', '--admin', await admin())).toEqual([
      1,
      { error: { code: 'not-found', message: 'pipeline nope does not exist' } },
    ])
    expect(await ask('list', '-c', file('bad.yaml', 'api: {auth: x}\n'))).toEqual([1, { error: { code: 'config', message } }])
    expect(await ask('replay', 'x', '--from', 'yesterday')).toEqual([2, { error: { code: 'usage', message } }])
    await server?.close()
    expect(await ask('list', '--admin', server?.address ?? '')).toEqual([1, { error: { code: 'unreachable', message } }])
  })
  test('the port of the API is no admin port', async () => {
    const api = await rig()
    try {
      expect(await cli('pipelines', 'list', '--admin', api.url)).toEqual({
        code: 1,
        out: '',
        err: `hydrant: ${api.url} is the port of the API (api.listen), not the admin port (admin.listen, http://127.0.0.1:4581 by default)\n`,
      })
    } finally {
      await api.close()
    }
  })
  test("the daemon's refusal is told as it says it", async () => {
    expect(await cli('pipelines', 'pause', 'nope', '--admin', await admin())).toEqual({
      code: 1,
      out: '',
      err: 'hydrant: pipeline nope does not exist\n',
    })
  })
  test('the address may come from the configuration file', async () => {
    const { port } = new URL(await admin())
    const r = await cli('pipelines', 'pause', 'events', '-c', file('admin.yaml', `admin: {listen: "0.0.0.0:${port}"}\n`))
    expect(r).toEqual({ code: 0, out: 'events: paused\n', err: '' })
  })
  test('no daemon, and something that is none', async () => {
    const address = await admin()
    await server?.close()
    expect(await cli('pipelines', 'list', '--admin', address)).toMatchObject({
      code: 1,
      err: expect.stringContaining(`no daemon answers at ${address} (connect ECONNREFUSED`) as string,
    })
    const other = createServer((_req, res) => void res.end('<html>'))
    await new Promise<void>((resolve) => void other.listen(0, '127.0.0.1', () => resolve()))
    const url = `http://127.0.0.1:${(other.address() as AddressInfo).port}`
    expect((await cli('pipelines', 'list', '--admin', url)).err).toContain(
      'answered 200, not JSON: is this the admin address of a hydrant?',
    )
    other.closeAllConnections()
    await new Promise<void>((resolve) => void other.close(() => resolve()))
  })
  test('a table of nothing', () => expect(table([])).toBe(''))
})

describe('as a process', () => {
  test('exit code and streams are those of the command', async () => {
    const path = file('bad.yaml', 'api: {auth: x}\n')
    const r = await spawned(['check', '-c', path])
    expect(r).toEqual({ code: 1, out: '', err: `${path}:1:13 api.auth: "x" is not allowed; allowed: none, sigv4\n` })
  })
  test('an old Node gets one plain line', async () => {
    const old = 'data:text/javascript,Object.defineProperty(process.versions,"node",{value:"22.19.0"})'
    const r = await spawned(['--version'], ['--import', old])
    expect(r).toEqual({ code: 1, out: '', err: `hydrant needs Node.js 24.6 or newer; this is ${process.version}\n` })
  })
})
