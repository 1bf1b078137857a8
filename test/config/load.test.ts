import { describe, expect, test } from 'vitest'
import { bucketTarget } from '../../core/config/buckets.ts'
import { loadConfig, parseListen } from '../../core/config/load.ts'
import { parseDuration, parseSize, showDuration, showSize } from '../../core/config/units.ts'
import { realHost } from '../../core/host/host.ts'
import { pluginKit } from '../../core/plugin/kit.ts'
import { pluginRegistry } from '../../core/plugin/registry.ts'
import { configOf, FILE, hostOf, load, pipeline, plugins } from './support.ts'

const RETRY = { durationMs: null, baseMs: 100, maxMs: 30_000 }
const SINK = { prefix: '', errorPrefix: '', fileExtension: '', timeZone: 'UTC', retry: RETRY, timeoutMs: 60_000, concurrency: 8 }

const from = (files: Record<string, string | Uint8Array>) => loadConfig({ file: FILE, env: {}, host: hostOf(files), plugins })

const shards = (n: number): string =>
  `limits: {memory: 64MiB}\n${pipeline('    backup: {records: all, sink: {type: file, path: y}}').replace('put: {}', `put: {shards: ${n}}`)}`

describe('a file becomes a configuration', () => {
  test('nothing written: every default', async () => {
    expect(await configOf('')).toEqual({
      file: FILE,
      baseDir: '/etc/hydrant',
      log: { type: 'embedded', path: '/etc/hydrant/data', lingerMs: 2 },
      api: {
        listen: { host: '127.0.0.1', port: 4580, loopback: true },
        auth: 'none',
        keys: [],
        region: 'us-east-1',
        account: '000000000000',
        allowUnauthenticated: false,
        tls: null,
        replayCache: false,
      },
      limits: { profile: 'aws-2026', memoryBytes: 2 ** 28, freeDiskBytes: 2 ** 30, deliveryStreams: 5_000, connections: 10_000 },
      drainMs: 30_000,
      buckets: { default: { type: 'file', options: { path: './data/buckets' } } },
      admin: { listen: { host: '127.0.0.1', port: 4581, loopback: true } },
      pipelines: [],
      plugins: [],
      warnings: [],
    })
  })

  test('the smallest pipeline has the defaults of Firehose', async () => {
    expect((await configOf(pipeline(''))).pipelines).toEqual([
      {
        name: 'p',
        source: { type: 'direct_put', shards: 1 },
        stages: { deaggregate: null, decompress: false, extractMessages: false },
        format: { type: 'raw', compression: 'none' },
        buffer: { sizeBytes: 5 * 2 ** 20, intervalMs: 300_000 },
        sink: { type: 'file', options: { path: './out' }, ...SINK },
        rejects: null,
        backup: null,
      },
    ])
  })

  test('every key of a pipeline', async () => {
    const c = await configOf(`
pipelines:
  logs:
    source: {direct_put: {shards: 3}}
    deaggregate: {delimiter: "####"}
    decompress: true
    extract_messages: true
    format: {type: raw, compression: zstd, level: 19, delimiter: "\\r\\n"}
    buffer: {size: 1.5MiB, interval: 90s}
    sink:
      type: s3
      bucket: lake
      prefix: "a/!{timestamp:yyyy}/"
      error_prefix: "e/!{firehose:error-output-type}/"
      file_extension: .json
      time_zone: Europe/Berlin
      retry: {duration: 1d, base: 5ms, max: 1m}
      timeout: 5s
      concurrency: 2
    backup: {records: all, format: {compression: gzip}, buffer: {size: 2MB}, sink: {type: file, path: ./raw}}
`)
    const backup = { type: 'file', options: { path: './raw' }, ...SINK }
    expect(c.pipelines).toEqual([
      {
        name: 'logs',
        source: { type: 'direct_put', shards: 3 },
        stages: { deaggregate: { type: 'delimited', delimiter: 'IyMjIw==' }, decompress: true, extractMessages: true },
        format: { type: 'raw', compression: 'zstd', level: 19, delimiter: 'DQo=' },
        buffer: { sizeBytes: 1_572_864, intervalMs: 90_000 },
        sink: {
          type: 's3',
          options: { bucket: 'lake', part_size: 8 * 2 ** 20 },
          prefix: 'a/!{timestamp:yyyy}/',
          errorPrefix: 'e/!{firehose:error-output-type}/',
          fileExtension: '.json',
          timeZone: 'Europe/Berlin',
          retry: { durationMs: 86_400_000, baseMs: 5, maxMs: 60_000 },
          timeoutMs: 5_000,
          concurrency: 2,
        },
        rejects: backup,
        backup: { format: { type: 'raw', compression: 'gzip' }, buffer: { sizeBytes: 2_000_000, intervalMs: 300_000 }, sink: backup },
      },
    ])
  })

  test('a backup of rejected records only is no second pipeline', async () => {
    const { pipelines } = await configOf(pipeline('    backup: {sink: {type: file, path: ./bad}}'))
    expect(pipelines[0]?.backup).toBeNull()
    expect(pipelines[0]?.rejects?.options).toEqual({ path: './bad' })
  })

  test('profile none lifts the ranges', async () => {
    const c = await configOf(`limits: {profile: none}\n${pipeline('    buffer: {size: 1KiB, interval: 1h}')}`)
    expect(c.pipelines[0]?.buffer).toEqual({ sizeBytes: 1024, intervalMs: 3_600_000 })
    expect(c.warnings.map((w) => `${w.line}:${w.column} ${w.path}`)).toEqual(['6:20 pipelines.p.buffer.size'])
  })

  test('many small objects and week years are warned of', async () => {
    const sink = '{type: file, path: x, prefix: "!{timestamp:YYYY}/", error_prefix: "!{firehose:error-output-type}/"}'
    const yaml = pipeline('    buffer: {interval: 60s}', sink).replace('direct_put: {}', 'direct_put: {shards: 64}')
    expect((await configOf(yaml)).warnings.map((w) => `${w.line}:${w.column} ${w.message}`)).toEqual([
      '4:41 "YYYY": Y is the year of the week, wrong around New Year; yyyy is the calendar year',
      '5:24 64 shards every 1m make up to 92,160 objects a day, small ones if little arrives',
    ])
  })

  test('more shards than the memory can serve are warned of', async () => {
    expect((await configOf(shards(16))).warnings).toEqual([])
    expect((await configOf(shards(17))).warnings.map((w) => `${w.line}:${w.column} ${w.message}`)).toEqual([
      '1:18 34 shards of all pipelines want 2MiB each, 68MiB in all; memory is 64MiB',
    ])
  })

  test('an open port with auth, TLS and keys', async () => {
    const yaml = `api:
  listen: "[::]:443"
  auth: sigv4
  keys: [{access_key: AKIA, secret_key: "\${env:S}", allow: ["firehose:Put*"], streams: ["a*"]}]
  tls: {cert: c.pem, key: /k.pem}
  replay_cache: true
`
    const { api } = await configOf(yaml, { env: { S: 'abcdefgh' }, files: { '/etc/hydrant/c.pem': 'x', '/k.pem': 'x' } })
    expect(api).toMatchObject({
      listen: { host: '::', port: 443, loopback: false },
      keys: [{ accessKey: 'AKIA', secretKey: 'abcdefgh', allow: ['firehose:Put*'], streams: ['a*'] }],
      tls: { cert: '/etc/hydrant/c.pem', key: '/k.pem' },
      replayCache: true,
    })
  })

  test('a file that cannot be read is told as an issue', async () => {
    expect(await from({})).toMatchObject({ errors: [{ line: 1, column: 1, message: `the file ${FILE} does not exist` }] })
    expect(await from({ [FILE]: new Uint8Array([0xff]) })).toMatchObject({ errors: [{ message: `reading ${FILE}: it is not UTF-8 text` }] })
    expect(await from({ [FILE]: 'api: {region: eu-west-1}' })).toMatchObject({ config: { api: { region: 'eu-west-1' } } })
  })

  test('keys named like members of Object are names, nothing else', async () => {
    expect(await load('toString: {}\nconstructor: 1')).toMatchObject({ errors: [{ path: 'toString' }, { path: 'constructor' }] })
    const c = await configOf('pipelines: {constructor: {source: {direct_put: {}}, sink: {type: file, path: x}}}')
    expect(c.pipelines.map((p) => p.name)).toEqual(['constructor'])
  })
})

describe('buckets of API calls', () => {
  test('live below the default folder, at an endpoint, or on AWS', async () => {
    const { buckets } = await configOf('buckets: {lake: {endpoint: "http://127.0.0.1:1"}, cold: {type: s3}, near: {path: /near}}')
    expect(bucketTarget(buckets, 'any')).toEqual({ type: 'file', options: { path: 'data/buckets/any' } })
    expect(bucketTarget(buckets, 'lake')).toMatchObject({ type: 's3', options: { bucket: 'lake', endpoint: 'http://127.0.0.1:1' } })
    expect(bucketTarget(buckets, 'cold')).toMatchObject({ type: 's3', options: { bucket: 'cold' } })
    expect(bucketTarget(buckets, 'near')).toEqual({ type: 'file', options: { path: '/near' } })
    expect(bucketTarget(buckets, 'default')).toEqual({ type: 'file', options: { path: 'data/buckets/default' } })
    expect(bucketTarget(buckets, 'toString')).toEqual({ type: 'file', options: { path: 'data/buckets/toString' } })
  })
  test('the default may be an endpoint: every bucket keeps its name there', async () => {
    const { buckets } = await configOf('buckets: {default: {endpoint: "http://127.0.0.1:1"}}')
    expect(bucketTarget(buckets, 'any')).toMatchObject({ type: 's3', options: { bucket: 'any', endpoint: 'http://127.0.0.1:1' } })
  })
  test.each(['.', '..', 'a/b', '', 'a\\b', 'ä'])('no bucket leaves its folder: %j', (name) => {
    expect(() => bucketTarget({}, name)).toThrow('expected 1 to 255 letters')
  })
})

describe('units', () => {
  test.each([
    ['64MiB', 67_108_864],
    ['1KiB', 1024],
    ['5MB', 5_000_000],
    ['1.5GiB', 1_610_612_736],
    ['0B', 0],
    ['10 MiB', 10_485_760],
  ])('size %s', (text, bytes) => {
    expect(parseSize(text)).toBe(bytes)
  })
  test.each(['5', '5m', '-1MiB', '1.3B', 'MiB', '1e3B', '', '9999999999TiB'])('no size: %j', (text) => expect(parseSize(text)).toBeNull())
  test.each([
    ['60s', 60_000],
    ['5m', 300_000],
    ['1h', 3_600_000],
    ['500ms', 500],
    ['7d', 604_800_000],
    ['0s', 0],
    ['1.5s', 1_500],
  ])('duration %s', (text, ms) => {
    expect(parseDuration(text)).toBe(ms)
  })
  test.each(['5', '5MB', '1.5ms', 's'])('no duration: %j', (text) => expect(parseDuration(text)).toBeNull())
  test('shown as they are written', () => {
    for (const s of ['64MiB', '1GiB', '1000B', '3KiB']) expect(showSize(parseSize(s) ?? -1)).toBe(s)
    for (const d of ['90s', '15m', '500ms', '7d', '0s']) expect(showDuration(parseDuration(d) ?? -1)).toBe(d)
  })
  test.each([
    ['127.0.0.1:1', true],
    ['127.1.2.3:1', true],
    ['[::1]:1', true],
    ['localhost:1', true],
    ['0.0.0.0:1', false],
    ['[::]:1', false],
    ['127.0.0.1.example:1', false],
  ])('%s is loopback: %s', (text, loopback) => {
    expect(parseListen(text)?.loopback).toBe(loopback)
  })
})

test('config.example.yaml is good with the real plugins', async () => {
  const file = new URL('../../config.example.yaml', import.meta.url).pathname
  const host = realHost()
  const registry = pluginRegistry({ baseDir: '/', host, kit: pluginKit })
  const r = await loadConfig({ file, env: {}, host, plugins: registry })
  expect(r).toMatchObject({ config: { pipelines: [{ name: 'events', format: { type: 'ndjson', compression: 'gzip' } }], warnings: [] } })
})
test.each(['sink-file', 'sink-s3'])('the example of %s is good', async (plugin) => {
  const file = new URL(`../../plugins/${plugin}/config.example.yaml`, import.meta.url).pathname
  const host = realHost()
  const registry = pluginRegistry({ baseDir: '/', host, kit: pluginKit })
  expect(await loadConfig({ file, env: { S3_SECRET: 'x'.repeat(8) }, host, plugins: registry })).toMatchObject({ config: { warnings: [] } })
})
