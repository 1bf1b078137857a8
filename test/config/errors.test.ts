import { describe, expect, test } from 'vitest'
import { errorsOf, pipeline } from './support.ts'

const SINK_KEYS = 'type, prefix, error_prefix, file_extension, time_zone, retry, timeout, concurrency'
const SIZE = 'expected a size with its unit (B, KiB, MiB, GiB, TiB, KB, MB, GB, TB), such as 64MiB'
const DURATION = 'expected a duration with its unit (ms, s, m, h, d), such as 60s'

describe('each fault is told at its line and column, with the value and what is allowed', () => {
  test.each<[what: string, yaml: string, ...errors: string[]]>([
    [
      'unknown section',
      'pipelins: {}',
      '1:1 pipelins: unknown key "pipelins" (did you mean "pipelines"?); allowed: log, api, limits, drain_timeout, buckets, admin, pipelines, plugins',
    ],
    [
      'unknown key',
      'api:\n  lissten: 127.0.0.1:1',
      '2:3 api.lissten: unknown key "lissten" (did you mean "listen"?); allowed: listen, auth, keys, region, account, allow_unauthenticated, tls, replay_cache',
    ],
    [
      'swapped letters',
      'limits: {memroy: 1GiB}',
      '1:10 limits.memroy: unknown key "memroy" (did you mean "memory"?); allowed: profile, memory, free_disk, delivery_streams, connections',
    ],
    [
      'no guess',
      'limits: {colour: 1}',
      '1:10 limits.colour: unknown key "colour"; allowed: profile, memory, free_disk, delivery_streams, connections',
    ],
    ['size without unit', 'limits:\n  memory: 5', `2:11 limits.memory: ${SIZE}, got 5`],
    ['size with a wrong unit', 'limits: {memory: 5mb}', `1:18 limits.memory: ${SIZE}, got "5mb"`],
    ['size out of range', 'limits: {memory: 1KiB}', '1:18 limits.memory: expected 16MiB to 1TiB, got "1KiB"'],
    ['duration', 'drain_timeout: 30', `1:16 drain_timeout: ${DURATION}, got 30`],
    ['duration out of range', 'drain_timeout: 2h', '1:16 drain_timeout: expected 0s to 1h, got "2h"'],
    ['enum', 'api: {auth: sigv5}', '1:13 api.auth: "sigv5" is not allowed (did you mean "sigv4"?); allowed: none, sigv4'],
    ['log type', 'log: {type: sqlite}', '1:13 log.type: "sqlite" is not allowed; allowed: embedded'],
    ['log type left out', 'log: {path: x}', '1:6 log.type: missing; allowed: embedded'],
    ['boolean', 'api: {allow_unauthenticated: maybe}', '1:30 api.allow_unauthenticated: expected true or false, got "maybe"'],
    ['mapping', 'api: 5', '1:6 api: expected a mapping of keys to values, got 5'],
    ['empty mapping', 'api:', '1:1 api: expected a mapping of keys to values, got nothing'],
    ['list', 'plugins: {}', '1:10 plugins: expected a list, got a mapping'],
    ['a list at the top', '- a', '1:1 : expected a mapping of keys to values, got a list'],
    ['account as a number', 'api: {account: 000000000000}', '1:16 api.account: expected 12 digits in quotes, got 0'],
    ['listen', 'api: {listen: 4580}', '1:15 api.listen: expected a text, got 4580'],
    [
      'listen without port',
      'api: {listen: localhost}',
      '1:15 api.listen: expected host:port, such as 127.0.0.1:4580 or [::1]:4580, got "localhost"',
    ],
    ['port', 'admin: {listen: "127.0.0.1:70000"}', '1:17 admin.listen: expected a port of 0 to 65535, got "127.0.0.1:70000"'],
    [
      'the same address twice',
      'admin: {listen: "127.0.0.1:4580"}',
      '1:17 admin.listen: "127.0.0.1:4580" is the address of the API already',
    ],
    [
      'open port',
      'api: {listen: "0.0.0.0:4580"}',
      '1:15 api.listen: "0.0.0.0:4580" is not loopback, and auth is none: write auth: sigv4 and keys, or allow_unauthenticated: true if an open port is meant',
    ],
    ['auth without keys', 'api: {auth: sigv4}', '1:13 api.auth: auth: sigv4 needs keys: nobody could call'],
    [
      'keys without auth',
      'api: {keys: [{access_key: AKIA, secret_key: 12345678x}]}',
      '1:13 api.keys: keys are given, but auth is none: write auth: sigv4',
    ],
    [
      'key twice',
      'api: {auth: sigv4, keys: [{access_key: AKIA, secret_key: aaaaaaaa}, {access_key: AKIA, secret_key: bbbbbbbb}]}',
      '1:82 api.keys.1.access_key: this access key stands twice',
    ],
    [
      'tls file',
      'api: {tls: {cert: a.pem, key: b.pem}}',
      '1:19 api.tls.cert: the file /etc/hydrant/a.pem does not exist',
      '1:31 api.tls.key: the file /etc/hydrant/b.pem does not exist',
    ],
    [
      'plugin version',
      'plugins: [{package: a, version: ^1.2.3}]',
      '1:33 plugins.0.version: expected an exact version, such as 1.4.2, got "^1.2.3"',
    ],
    [
      'plugin version as a number',
      'plugins: [{package: a, version: 1.4}]',
      '1:33 plugins.0.version: expected an exact version in quotes, such as "1.4.2", got 1.4',
    ],
    [
      'pipeline name',
      'pipelines:\n  "a b": {source: {direct_put: {}}, sink: {type: file, path: x}}',
      '2:3 pipelines.a b: the name "a b": expected a name of 1 to 64 letters, digits, _ . -',
    ],
    [
      'sink left out',
      'pipelines:\n  p:\n    source: {direct_put: {}}',
      '3:5 pipelines.p.sink: missing: Where objects go. `type` picks the plugin.',
    ],
    ['unknown sink', pipeline('', '{type: fill, path: x}'), '4:18 pipelines.p.sink.type: unknown sink type "fill"'],
    [
      'a sink of a later kind',
      pipeline('', '{type: records}'),
      '4:18 pipelines.p.sink.type: sinks of kind record are not available in this version; allowed: kind object',
    ],
    [
      'unknown key of a sink',
      pipeline('', '{type: file, path: x, pth: y}'),
      `4:33 pipelines.p.sink.pth: unknown key "pth" (did you mean "path"?); allowed: ${SINK_KEYS}, path`,
    ],
    [
      'key in the wrong place',
      pipeline('', '{type: file, path: x, compression: gzip}'),
      '4:33 pipelines.p.sink.compression: unknown key "compression" here: it is format.compression, beside the sink',
    ],
    ["plugin's own message", pipeline('', '{type: s3, bucket: A_B}'), '4:30 pipelines.p.sink.bucket: expected a bucket name, got "A_B"'],
    [
      "plugin's size",
      pipeline('', '{type: s3, bucket: a, part_size: 8XB}'),
      '4:44 pipelines.p.sink.part_size: a size is a number and a unit (B, KiB, MiB, GiB, TiB), such as 8MiB, got "8XB"',
    ],
    [
      'buffer size by profile',
      pipeline('    buffer: {size: 500MiB}'),
      '5:20 pipelines.p.buffer.size: expected 1MiB to 128MiB (limits.profile aws-2026), got "500MiB"',
    ],
    [
      'buffer interval by profile',
      `limits: {profile: aws-2020}\n${pipeline('    buffer: {interval: 10s}')}`,
      '6:24 pipelines.p.buffer.interval: expected 1m to 15m (limits.profile aws-2020), got "10s"',
    ],
    [
      'level',
      pipeline('    format: {compression: gzip, level: 10}'),
      '5:40 pipelines.p.format.level: expected 1 to 9 with compression gzip, got 10',
    ],
    [
      'level without meaning',
      pipeline('    format: {level: 3}'),
      '5:21 pipelines.p.format.level: level 3 has no meaning with compression none; allowed with gzip, zip, zstd',
    ],
    [
      'delimiter',
      pipeline('    format: {type: ndjson, delimiter: ","}'),
      '5:39 pipelines.p.format.delimiter: a delimiter is for type raw; ndjson has its own',
    ],
    [
      'deaggregate',
      pipeline('    deaggregate: jsonn'),
      '5:18 pipelines.p.deaggregate: "jsonn" is not allowed (did you mean "json"?); allowed: json',
    ],
    ['deaggregate object', pipeline('    deaggregate: {delimiter: 5}'), '5:30 pipelines.p.deaggregate.delimiter: expected a text, got 5'],
    ['extract', pipeline('    extract_messages: true'), '5:23 pipelines.p.extract_messages: extract_messages: true needs decompress: true'],
    [
      'shards',
      'pipelines: {p: {source: {direct_put: {shards: 0}}, sink: {type: file, path: x}}}',
      '1:47 pipelines.p.source.direct_put.shards: expected at least 1, got 0',
    ],
    [
      'half a shard',
      'pipelines: {p: {source: {direct_put: {shards: 1.5}}, sink: {type: file, path: x}}}',
      '1:47 pipelines.p.source.direct_put.shards: expected a whole number, got 1.5',
    ],
    [
      'time zone',
      pipeline('', '{type: file, path: x, time_zone: EST}'),
      '4:44 pipelines.p.sink.time_zone: unknown time zone "EST"; expected an IANA name, such as Europe/Berlin',
    ],
    [
      'prefix letter',
      pipeline('', '{type: file, path: x, prefix: "!{timestamp:bb}/"}'),
      '4:41 pipelines.p.sink.prefix: Invalid conversion character used in the value of the expression in Prefix: "b" is not a letter of a timestamp pattern, got "!{timestamp:bb}/"',
    ],
    [
      'prefix without error prefix',
      pipeline('', '{type: file, path: x, prefix: "!{timestamp:yyyy}/"}'),
      '4:41 pipelines.p.sink.prefix: ErrorOutputPrefix cannot be null or empty when Prefix contains expressions; write one, such as error_prefix: "errors/!{firehose:error-output-type}/"',
    ],
    [
      'give-up without backup',
      pipeline('', '{type: file, path: x, retry: {duration: 5m}}'),
      '4:51 pipelines.p.sink.retry.duration: a batch that is given up goes to the backup, and this pipeline has none: add backup.sink, or leave retry.duration out to wait',
    ],
    [
      'retry base',
      pipeline('', '{type: file, path: x, retry: {base: 2s, max: 1s}}'),
      '4:47 pipelines.p.sink.retry.base: the first wait (2s) is longer than the longest (1s)',
    ],
    [
      'backup format',
      pipeline('    backup: {format: {type: raw}, sink: {type: file, path: y}}'),
      '5:14 pipelines.p.backup.format: format is for records: all; rejected records are JSON lines, written with the batch they came in',
    ],
    ['bucket', 'buckets: {lake: {endpoint: nonsense}}', '1:28 buckets.lake.endpoint: Invalid URL, got "nonsense"'],
    [
      'a bucket that says nothing',
      'buckets: {default: {}}',
      '1:20 buckets.default: says nothing: expected {path: folder}, {endpoint: url}, or {type: s3} for AWS',
    ],
    [
      'a sink in the folder of the log',
      pipeline('', '{type: file, path: ./data/}'),
      '4:30 pipelines.p.sink.path: "./data/": it is the folder of the log (log.path ./data): name another one, or one below it',
    ],
    [
      "a bucket in what is the log's own",
      'log: {type: embedded, path: /l}\nbuckets: {b: {path: /l/streams/x}}',
      '2:21 buckets.b.path: "/l/streams/x": it lies in what the log keeps in log.path /l (control, streams, spill, hydrant.lock, hydrant.pid): name another folder',
    ],
    [
      'prefixes that leave the folder',
      pipeline('', '{type: file, path: x, prefix: /../../etc/, error_prefix: "a/../!{firehose:error-output-type}/"}'),
      '4:41 pipelines.p.sink.prefix: objects must stay inside the folder of the sink, and it is an absolute path, got "/../../etc/"',
      '4:68 pipelines.p.sink.error_prefix: objects must stay inside the folder of the sink, and it has a . or .. step, got "a/../!{firehose:error-output-type}/"',
    ],
    [
      "a prefix in hydrant's own folder",
      pipeline('', '{type: file, path: x, prefix: .hydrant/}'),
      '4:41 pipelines.p.sink.prefix: objects must stay inside the folder of the sink, and .hydrant belongs to hydrant, got ".hydrant/"',
    ],
    [
      'an unknown namespace',
      pipeline('', '{type: file, path: x, prefix: "!{time:x}"}'),
      '4:41 pipelines.p.sink.prefix: Namespace to the left of colon (time) is an invalid keyword!: the namespaces are timestamp and firehose, got "!{time:x}"',
    ],
    [
      'a plugin that is declared and not there, used by nobody',
      'plugins:\n  - {package: acme, version: 1.2.3}',
      '2:15 plugins.0.package: unknown sink type "acme"',
    ],
    [
      'a reference without a name',
      'log: {type: embedded, path: "${env:}"}',
      '1:29 log.path: ${env:}: the name of an environment variable is missing: write ${env:NAME}',
    ],
    [
      'a reference without a path',
      'log: {type: embedded, path: "${file: }"}',
      '1:29 log.path: ${file: }: the path of a file is missing: write ${file:/path}',
    ],
    [
      'unknown key of a bucket',
      'buckets: {lake: {path: ./x, endpint: y}}',
      '1:29 buckets.lake.endpint: unknown key "endpint"; allowed: type, path',
    ],
  ])('%s', async (_what, yaml, ...errors) => {
    expect(await errorsOf(yaml)).toEqual(errors)
  })

  test('all faults of a file come at once, in the order of its lines', async () => {
    const yaml = 'api: {auth: x}\nlimits: {memory: 1}\npipelines:\n  p: {source: {direct_put: {}}, sink: {type: fill}}\nzzz: 1'
    expect((await errorsOf(yaml)).map((e) => e.split(' ')[0])).toEqual(['1:13', '2:18', '4:46', '5:1'])
  })
})

describe('what comes later is refused, not ignored', () => {
  test.each<[what: string, yaml: string, error: string]>([
    ['kafka', 'log: {type: kafka}', '1:13 log.type: "kafka" is not available in this version'],
    ['streams', 'streams: {a: {shards: 1}}', '1:1 streams: not available in this version: Kinesis data streams'],
    ['functions', 'functions: {}', '1:1 functions: not available in this version: Lambda functions'],
    ['video', 'video: {}', '1:1 video: not available in this version: Kinesis video streams'],
    ['sql', 'sql: {}', '1:1 sql: not available in this version: SQL queries'],
    [
      'source stream',
      'pipelines: {p: {source: {stream: a}, sink: {type: file, path: x}}}',
      '1:26 pipelines.p.source.stream: not available in this version: a data stream as source',
    ],
    [
      'source topic',
      'pipelines: {p: {source: {topic: a}, sink: {type: file, path: x}}}',
      '1:26 pipelines.p.source.topic: not available in this version: a Kafka topic as source',
    ],
    [
      'transform',
      pipeline('    transform: {script: x}'),
      '5:5 pipelines.p.transform: not available in this version: transforming records by a script',
    ],
    [
      'partitioning',
      pipeline('    partition_by: {a: $.a}'),
      '5:5 pipelines.p.partition_by: not available in this version: dynamic partitioning',
    ],
    ['parquet', pipeline('    format: {type: parquet}'), '5:20 pipelines.p.format.type: "parquet" is not available in this version'],
    [
      'csv backup',
      pipeline('    backup: {records: all, format: {type: csv}, sink: {type: file, path: y}}'),
      '5:43 pipelines.p.backup.format.type: "csv" is not available in this version',
    ],
  ])('%s', async (_what, yaml, error) => {
    expect(await errorsOf(yaml)).toEqual([error])
  })
})

describe('YAML itself', () => {
  test.each<[what: string, yaml: string, error: string]>([
    ['key twice', 'api: {}\napi: {}', '2:1 : not valid YAML: this key stands twice in the same mapping'],
    ['tab', 'api:\n\tlisten: x', '2:1 : not valid YAML: tabs cannot indent YAML: use spaces'],
    ['brace', 'api: {listen: "x"\nlog: 5', '2:1 : not valid YAML: the { at 1:6 has no closing } before this'],
    ['bracket', 'api:\n  keys: [a, b\nlimits: {x: 1}', '3:1 : not valid YAML: the [ at 2:9 has no closing ] before this'],
    ['the inner one', 'a: {b: [1, 2}\nc: {}', '1:13 : not valid YAML: the [ at 1:8 has no closing ] before this'],
    ['the outer one', 'a: {b: {c: 1}\nd: 2', '2:1 : not valid YAML: the { at 1:4 has no closing } before this'],
    ['a quote', 'a: "b"\nc: "it\nd: 1\n', '4:1 : not valid YAML: the " at 2:4 has no closing quote before this'],
    ['a single quote', "a: 'it''s'\nc: 'x\n", "3:1 : not valid YAML: the ' at 2:4 has no closing quote before this"],
    [
      'alias',
      'api: {listen: *hunter2}',
      '1:15 : not valid YAML: a value that starts with * is a YAML alias, and no anchor of that name comes before it: put the text in quotes',
    ],
    ['tag', 'api: {listen: !hunter2 x}', '1:15 : not valid YAML: unknown YAML tag: a value that starts with ! must be in quotes'],
    ['a name that would be skipped', 'pipelines: {__proto__: {}}', '1:13 : the name __proto__ cannot be used'],
    ['two documents', 'api: {}\n---\napi: {}', '2:1 : not valid YAML: the file holds more than one YAML document (---): one is allowed'],
  ])('%s', async (_what, yaml, error) => {
    expect((await errorsOf(yaml))[0]).toBe(error)
  })
  test('aliases cannot blow up', async () => {
    const lines = ['a: &a0 [x, x]', ...Array.from({ length: 30 }, (_, i) => `b${i}: &a${i + 1} [*a${i}, *a${i}, *a${i}, *a${i}]`)]
    expect((await errorsOf(lines.join('\n')))[0]).toMatch(/too many aliases|too deep/)
  })
  test('a value behind an alias is told at the key of its last step that stands in the file', async () => {
    expect(await errorsOf('api: &a {auth: none}\nadmin: *a')).toEqual(['1:10 admin.auth: unknown key "auth"; allowed: listen'])
  })
  test('an empty file is all defaults', async () => {
    expect(await errorsOf('')).toEqual([])
    expect(await errorsOf('# nothing\n')).toEqual([])
  })
})
