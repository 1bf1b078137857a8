import { readdirSync, readFileSync } from 'node:fs'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { ControlError } from '../../core/pipeline/control.ts'
import { specOf } from '../../core/api/firehose/document.ts'
import { mergeDestination } from '../../core/api/firehose/update.ts'
import { firehoseService } from '../../core/api/firehose/index.ts'
import { firehose } from '../../core/api/shapes.generated.ts'
import { principalOf } from '../../core/api/principal.ts'
import { sigv4Gate } from '../../core/api/sigv4.ts'
import { realHost } from '../../core/host/host.ts'
import { AppendError } from '../../core/sdk/log.ts'
import { answerText, ACCOUNT, FakeIngest, FakeStreams, post, REGION, rig, S3, type Answer, type Rig } from './fakes.ts'

let r: Rig
beforeEach(async () => {
  r = await rig({ maxStreams: 3 })
})
afterEach(() => r.close())

const ID = 'destinationId-000000000001'
const call = (operation: string, input: object): Promise<Answer> => r.call(operation, { DeliveryStreamName: 'a', ...input })
const create = (o: object = {}): Promise<Answer> => call('CreateDeliveryStream', { ExtendedS3DestinationConfiguration: S3, ...o })
const update = (o: object, ExtendedS3DestinationUpdate: object = {}): Promise<Answer> =>
  call('UpdateDestination', { CurrentDeliveryStreamVersionId: '1', DestinationId: ID, ExtendedS3DestinationUpdate, ...o })
async function described(): Promise<Record<string, unknown>> {
  return (await call('DescribeDeliveryStream', {})).body['DeliveryStreamDescription'] as Record<string, unknown>
}
const refused = (a: Answer): unknown => [a.status, a.body['__type'], a.body['message']]
const invalid = (message: string): unknown => [400, 'InvalidArgumentException', message]

describe('CreateDeliveryStream', () => {
  test('answers the ARN; Describe shows version 1 and no update', async () => {
    expect((await create()).text).toBe(`{"DeliveryStreamARN":"arn:aws:firehose:${REGION}:${ACCOUNT}:deliverystream/a"}`)
    const d = await described()
    expect(d).toMatchObject({
      DeliveryStreamStatus: 'ACTIVE',
      DeliveryStreamType: 'DirectPut',
      DeliveryStreamEncryptionConfiguration: { Status: 'DISABLED' },
      VersionId: '1',
      CreateTimestamp: 1_700_000_000,
      HasMoreDestinations: false,
    })
    expect(d).not.toHaveProperty('LastUpdateTimestamp')
  })
  test('the deprecated S3DestinationConfiguration makes the same stream', async () => {
    await call('CreateDeliveryStream', { S3DestinationConfiguration: { ...S3, CompressionFormat: 'ZIP' } })
    const [destination] = (await described())['Destinations'] as Record<string, Record<string, unknown>>[]
    expect(destination?.['ExtendedS3DestinationDescription']).toMatchObject({ CompressionFormat: 'ZIP', S3BackupMode: 'Disabled' })
  })
  test('refusals, in the words of AWS', async () => {
    const one = 'Exactly one destination configuration is supported for a Firehose'
    expect(refused(await call('CreateDeliveryStream', {}))).toEqual(invalid(one))
    expect(refused(await create({ S3DestinationConfiguration: S3 }))).toEqual(invalid(one))
    const kinesis = { KinesisStreamARN: `arn:aws:kinesis:${REGION}:123456789012:stream/s`, RoleARN: S3.RoleARN }
    expect(refused(await create({ KinesisStreamSourceConfiguration: kinesis }))).toEqual(
      invalid('KinesisSourceStreamConfig is only applicable for KinesisStreamAsSource stream type'),
    )
    await create()
    expect(refused(await create())).toEqual([400, 'ResourceInUseException', `Firehose a under accountId ${ACCOUNT} already exists`])
    await create({ DeliveryStreamName: 'b' })
    await create({ DeliveryStreamName: 'c' })
    expect(refused(await create({ DeliveryStreamName: 'd' }))).toEqual([
      400,
      'LimitExceededException',
      'You have already consumed your firehose quota of 3 hoses. Firehose names: [a, b, c]',
    ])
  })
  test.each([
    ['The delivery stream type KinesisStreamAsSource', { DeliveryStreamType: 'KinesisStreamAsSource' }],
    ['The delivery stream type MSKAsSource', { DeliveryStreamType: 'MSKAsSource' }],
    [
      'Server-side encryption (DeliveryStreamEncryptionConfigurationInput)',
      { DeliveryStreamEncryptionConfigurationInput: { KeyType: 'AWS_OWNED_CMK' } },
    ],
    [
      'The Splunk destination',
      {
        ExtendedS3DestinationConfiguration: null,
        SplunkDestinationConfiguration: { HECEndpoint: 'https://h', HECEndpointType: 'Raw', S3Configuration: S3 },
      },
    ],
    [
      'The HTTP endpoint destination',
      {
        ExtendedS3DestinationConfiguration: null,
        HttpEndpointDestinationConfiguration: { EndpointConfiguration: { Url: 'https://h' }, S3Configuration: S3 },
      },
    ],
  ])('%s is refused, and nothing is made', async (what, o) => {
    expect(refused(await create(o))).toEqual(invalid(`${what} is not supported by this server yet.`))
    expect(r.streams.all.size).toBe(0)
  })
  test('a destination that breaks a rule is refused, and nothing is made', async () => {
    expect(refused(await create({ ExtendedS3DestinationConfiguration: { ...S3, S3BackupMode: 'Enabled' } }))).toEqual(
      invalid('S3BackupConfiguration is required when S3BackupMode is Enabled.'),
    )
    expect(r.streams.all.size).toBe(0)
  })
  test('a race that the registry decides', async () => {
    r.streams.create = () => Promise.reject(new ControlError('exists', 'a'))
    expect(refused(await create())).toEqual([400, 'ResourceInUseException', `Firehose a under accountId ${ACCOUNT} already exists`])
  })
})

describe('a KMS key', () => {
  const EncryptionConfiguration = { KMSEncryptionConfig: { AWSKMSKeyARN: 'arn:aws:kms:us-east-1:123456789012:key/k' } }
  const bucket = S3.BucketARN.slice(S3.BucketARN.lastIndexOf(':') + 1)
  const no = invalid(
    `EncryptionConfiguration.KMSEncryptionConfig cannot be used: the bucket ${bucket} is not on a store that can encrypt with KMS.`,
  )
  test('is refused for a bucket that cannot encrypt: at create, at update, for the backup', async () => {
    await r.close()
    r = await rig({ kms: () => false })
    expect(refused(await create({ ExtendedS3DestinationConfiguration: { ...S3, EncryptionConfiguration } }))).toEqual(no)
    const backup = { S3BackupMode: 'Enabled', S3BackupConfiguration: { ...S3, EncryptionConfiguration } }
    expect(refused(await create({ ExtendedS3DestinationConfiguration: { ...S3, ...backup } }))).toEqual(no)
    expect((await create()).status).toBe(200)
    expect(refused(await update({}, { EncryptionConfiguration }))).toEqual(no)
  })
  test('is taken for one that can', async () => {
    await r.close()
    const asked: string[] = []
    r = await rig({ kms: (name) => asked.push(name) > 0 })
    expect((await create({ ExtendedS3DestinationConfiguration: { ...S3, EncryptionConfiguration } })).status).toBe(200)
    expect(asked).toEqual([bucket])
  })
})

describe('a bucket that is a folder', () => {
  const bucket = S3.BucketARN.slice(S3.BucketARN.lastIndexOf(':') + 1)
  const no = (member: string, why: string): ReturnType<typeof invalid> =>
    invalid(`${member} cannot be used: the bucket ${bucket} is a folder, and ${why}.`)
  const step = 'it has a . or .. step'
  const BAD: [object, ReturnType<typeof invalid>][] = [
    [{ Prefix: '/../../' }, no('Prefix', 'it is an absolute path')],
    [{ Prefix: 'a/../../' }, no('Prefix', step)],
    [{ Prefix: 'a\\..\\' }, no('Prefix', step)],
    [{ Prefix: '.Hydrant/' }, no('Prefix', '.hydrant belongs to hydrant')],
    [{ Prefix: 'C:/' }, no('Prefix', 'it is an absolute path')],
    [{ Prefix: 'a/', ErrorOutputPrefix: '../!{firehose:error-output-type}/' }, no('ErrorOutputPrefix', step)],
  ]
  test.each(BAD)('%j is refused: at create, at update, for the backup', async (prefixes, answer) => {
    await r.close()
    r = await rig({ folder: () => true })
    expect(refused(await create({ ExtendedS3DestinationConfiguration: { ...S3, ...prefixes } }))).toEqual(answer)
    const backup = { S3BackupMode: 'Enabled', S3BackupConfiguration: { ...S3, ...prefixes } }
    expect(refused(await create({ ExtendedS3DestinationConfiguration: { ...S3, ...backup } }))).toEqual(answer)
    expect(r.streams.all.size).toBe(0)
    expect((await create()).status).toBe(200)
    expect(refused(await update({}, prefixes))).toEqual(answer)
  })
  test('a store takes any key', async () => {
    await r.close()
    r = await rig({ folder: () => false })
    expect((await create({ ExtendedS3DestinationConfiguration: { ...S3, Prefix: '/../../' } })).status).toBe(200)
  })
})

describe('DescribeDeliveryStream', () => {
  test('an unknown stream; a page after the only destination; an unknown destination', async () => {
    expect(refused(await call('DescribeDeliveryStream', {}))).toEqual([
      400,
      'ResourceNotFoundException',
      `Firehose a under account ${ACCOUNT} not found.`,
    ])
    await create()
    const page = (await call('DescribeDeliveryStream', { Limit: 1, ExclusiveStartDestinationId: ID })).body
    expect(page['DeliveryStreamDescription']).toMatchObject({ Destinations: [], HasMoreDestinations: false })
    expect(refused(await call('DescribeDeliveryStream', { ExclusiveStartDestinationId: 'x' }))).toEqual(
      invalid('Destination Id x not found'),
    )
  })
  test('a pipeline of the configuration file', async () => {
    const spec = specOf('a', { ...S3, Prefix: 'p/' })
    r.streams.add('a', { document: null, spec: { ...spec, source: { type: 'stream', stream: 'clicks', start: 'latest' } } })
    const d = await described()
    expect(d).toMatchObject({
      DeliveryStreamType: 'KinesisStreamAsSource',
      Source: { KinesisStreamSourceDescription: { KinesisStreamARN: `arn:aws:kinesis:${REGION}:${ACCOUNT}:stream/clicks` } },
    })
    expect(d).not.toHaveProperty('DeliveryStreamEncryptionConfiguration')
    expect((d['Destinations'] as object[])[0]).toMatchObject({
      ExtendedS3DestinationDescription: { Prefix: 'p/', BucketARN: 'arn:aws:s3:::b' },
    })
    const owned = invalid('Firehose a is defined in the configuration file of this server; change it there.')
    expect(refused(await update({}))).toEqual(owned)
    expect(refused(await call('DeleteDeliveryStream', {}))).toEqual(owned)
  })
})

describe('UpdateDestination', () => {
  test('merges, counts the version, stamps the time', async () => {
    await create({ ExtendedS3DestinationConfiguration: { ...S3, Prefix: 'old/', CompressionFormat: 'GZIP' } })
    expect((await update({}, { Prefix: 'new/' })).text).toBe('{}')
    expect(await described()).toMatchObject({
      VersionId: '2',
      LastUpdateTimestamp: 1_700_000_000.5,
      Destinations: [{ ExtendedS3DestinationDescription: { Prefix: 'new/', CompressionFormat: 'GZIP' } }],
    })
    expect(r.streams.get('a')?.spec.sink.prefix).toBe('new/')
  })
  test('refusals, in the words of AWS', async () => {
    await create()
    expect(refused(await update({ CurrentDeliveryStreamVersionId: '7' }))).toEqual([
      400,
      'ConcurrentModificationException',
      'Cannot update firehose: a since the current version id: 1 and specified version id: 7 do not match',
    ])
    // the version is judged first: whoever holds an old one must describe again anyway
    expect((await update({ CurrentDeliveryStreamVersionId: '7', DestinationId: 'x' })).body['__type']).toBe(
      'ConcurrentModificationException',
    )
    expect(refused(await update({ DestinationId: 'destinationId-2' }))).toEqual(invalid('Destination Id destinationId-2 not found'))
    expect(refused(await update({ ExtendedS3DestinationUpdate: null }))).toEqual(
      invalid('Exactly one destination configuration is supported for a Firehose'),
    )
    expect(refused(await update({ ExtendedS3DestinationUpdate: null, SplunkDestinationUpdate: {} }))).toEqual(
      invalid('The Splunk destination is not supported by this server yet.'),
    )
    expect(refused(await update({}, { Prefix: '!{timestamp:yyyy}' }))).toEqual(
      invalid('ErrorOutputPrefix cannot be null or empty when Prefix contains expressions'),
    )
    expect(r.streams.get('a')?.versionId).toBe('1')
    r.streams.all.get('a')!.status = 'DELETING'
    expect(refused(await update({}))).toEqual([
      400,
      'ResourceInUseException',
      `Firehose a under account ${ACCOUNT} is DELETING, not ACTIVE.`,
    ])
  })
  test('another update in between is a conflict of versions', async () => {
    await create()
    r.streams.update = () => {
      r.streams.all.get('a')!.versionId = '2'
      return Promise.reject(new ControlError('version', ''))
    }
    expect((await update({})).body['message']).toBe(
      'Cannot update firehose: a since the current version id: 2 and specified version id: 1 do not match',
    )
  })
  test('what is replaced whole, what is merged, what goes one way only', () => {
    const current = {
      ...S3,
      ProcessingConfiguration: { Enabled: true, Processors: [{ Type: 'AppendDelimiterToRecord' }] },
      DataFormatConversionConfiguration: { Enabled: false, SchemaConfiguration: { TableName: 't' } },
      S3BackupMode: 'Enabled',
      S3BackupConfiguration: { ...S3, Prefix: 'raw/' },
    }
    expect(
      mergeDestination(current, {
        ProcessingConfiguration: { Enabled: false },
        DataFormatConversionConfiguration: { Enabled: false },
        S3BackupUpdate: { Prefix: 'raw2/' },
      }),
    ).toEqual({
      ...current,
      ProcessingConfiguration: { Enabled: false },
      S3BackupConfiguration: { ...S3, Prefix: 'raw2/' },
    })
    expect(() => mergeDestination(current, { S3BackupMode: 'Disabled' })).toThrow(/from Enabled to Disabled/)
    expect(() => mergeDestination(S3, { DynamicPartitioningConfiguration: { Enabled: true } })).toThrow(/Dynamic partitioning/)
    expect(() => mergeDestination(S3, { S3BackupUpdate: { Prefix: 'x' } })).toThrow(/RoleARN and BucketARN/)
  })
})

describe('DeleteDeliveryStream', () => {
  test('gone, force passed on; not while CREATING; the registry may say no', async () => {
    expect((await call('DeleteDeliveryStream', {})).body['__type']).toBe('ResourceNotFoundException')
    await create()
    r.streams.all.get('a')!.status = 'CREATING'
    expect((await call('DeleteDeliveryStream', {})).body['__type']).toBe('ResourceInUseException')
    r.streams.all.get('a')!.status = 'ACTIVE'
    expect((await call('DeleteDeliveryStream', {})).text).toBe('{}')
    expect(r.streams.deleted).toEqual([{ name: 'a', force: false }])
    await create()
    r.streams.delete = () => Promise.reject(new ControlError('not-active', 'it is being created'))
    expect((await call('DeleteDeliveryStream', {})).body['__type']).toBe('ResourceInUseException')
  })
})

describe('ListDeliveryStreams', () => {
  test('ten by default, by name, in pages, by type', async () => {
    const names = Array.from({ length: 23 }, (_, i) => `s-${String(i).padStart(2, '0')}`)
    for (const n of names.toReversed()) r.streams.add(n, { document: S3, spec: specOf(n, S3) })
    const first = await r.call('ListDeliveryStreams', {})
    expect(first.body).toEqual({ DeliveryStreamNames: names.slice(0, 10), HasMoreDeliveryStreams: true })
    const last = await r.call('ListDeliveryStreams', { ExclusiveStartDeliveryStreamName: 's-19', Limit: 5 })
    expect(last.body).toEqual({ DeliveryStreamNames: names.slice(20), HasMoreDeliveryStreams: false })
    const other = await r.call('ListDeliveryStreams', { DeliveryStreamType: 'KinesisStreamAsSource' })
    expect(other.body).toEqual({ DeliveryStreamNames: [], HasMoreDeliveryStreams: false })
  })
})

const tags = (n: number, from = 0): object[] => Array.from({ length: n }, (_, i) => ({ Key: `k${i + from}` }))
describe('tags', () => {
  test('overwritten by key, listed by key, in pages', async () => {
    await create({ Tags: [{ Key: 'b', Value: '1' }, { Key: 'a' }] })
    await call('TagDeliveryStream', {
      Tags: [
        { Key: 'b', Value: '2' },
        { Key: 'c', Value: '3' },
      ],
    })
    const page = (await call('ListTagsForDeliveryStream', { Limit: 2 })).body
    expect(page).toEqual({
      Tags: [
        { Key: 'a', Value: '' },
        { Key: 'b', Value: '2' },
      ],
      HasMoreTags: true,
    })
    const rest = (await call('ListTagsForDeliveryStream', { ExclusiveStartTagKey: 'b' })).body
    expect(rest).toEqual({ Tags: [{ Key: 'c', Value: '3' }], HasMoreTags: false })
    await call('UntagDeliveryStream', { TagKeys: ['a', 'zzz'] })
    expect(r.streams.get('a')?.tags).toEqual({ b: '2', c: '3' })
  })
  test('fifty at most', async () => {
    await create({ Tags: tags(50) })
    expect((await call('TagDeliveryStream', { Tags: tags(1) })).status).toBe(200)
    expect((await call('TagDeliveryStream', { Tags: tags(1, 50) })).body['__type']).toBe('LimitExceededException')
  })
})

describe('puts', () => {
  const record = { Record: { Data: 'aGVsbG8K' } }
  const batch = { Records: [{ Data: 'aGVsbG8K' }, { Data: '' }] }
  test('compact JSON, FailedPutCount first, ids that never repeat', async () => {
    await create()
    const a = await call('PutRecordBatch', batch)
    expect(a.text).toMatch(
      /^\{"FailedPutCount":0,"Encrypted":false,"RequestResponses":\[\{"RecordId":"[\w+/]+"\},\{"RecordId":"[\w+/]+"\}\]\}$/,
    )
    const b = await call('PutRecord', record)
    expect(b.text).toMatch(/^\{"RecordId":"[\w+/]+","Encrypted":false\}$/)
    const ids = [...(a.body['RequestResponses'] as { RecordId: string }[]), b.body as { RecordId: string }].map((x) => x.RecordId)
    expect(new Set(ids).size).toBe(3)
    expect(r.ingest.values.get('a')?.map((v) => Buffer.from(v).toString())).toEqual(['hello\n', '', 'hello\n'])
  })
  test('the ids of a batch are those that its records would have alone, over every carry', async () => {
    await create()
    let baseOffset = 0
    r.ingest.put = (name) => Promise.resolve({ topicId: `topic-${name}`, shard: 0, baseOffset, appendTimeMs: 0 })
    const COUNT = 40
    const many = { Records: Array.from({ length: COUNT }, () => ({ Data: '' })) }
    const last = Number.MAX_SAFE_INTEGER - COUNT
    for (const at of [0, 9, 35, 1_295, 36 ** 3 - 1, 36 ** 5 - 1, 36 ** 9 - 1, last]) {
      const from = Math.max(0, at - COUNT / 2)
      baseOffset = from
      const ids = ((await call('PutRecordBatch', many)).body['RequestResponses'] as { RecordId: string }[]).map((x) => x.RecordId)
      expect(new Set(ids).size).toBe(COUNT)
      for (const i of [0, COUNT / 2 - 1, COUNT / 2, COUNT / 2 + 1, COUNT - 1]) {
        baseOffset = from + i
        expect(ids[i]).toBe((await call('PutRecord', record)).body['RecordId'])
      }
    }
  })
  test('no stream, a stream that is not active', async () => {
    const none = [400, 'ResourceNotFoundException', `Firehose a under account ${ACCOUNT} not found.`]
    expect(refused(await call('PutRecord', record))).toEqual(none)
    expect(refused(await call('PutRecordBatch', batch))).toEqual(none)
    await create()
    r.streams.all.get('a')!.status = 'CREATING'
    expect(refused(await call('PutRecord', record))).toEqual([
      400,
      'ResourceNotFoundException',
      `Firehose a is not active in ${ACCOUNT} account.`,
    ])
  })
  test('the log refuses: nothing stored, so the client may send again', async () => {
    await create()
    r.ingest.fail = new AppendError('DiskFull', 'no room', { stored: 'no', retriable: true })
    const one = await call('PutRecord', record)
    expect(refused(one)).toEqual([503, 'ServiceUnavailableException', 'Slow down.'])
    expect(one.headers['retry-after']).toBe('1')
    const many = await call('PutRecordBatch', batch)
    const entry = { ErrorCode: 'ServiceUnavailableException', ErrorMessage: 'Slow down.' }
    expect([many.status, many.body]).toEqual([200, { FailedPutCount: 2, Encrypted: false, RequestResponses: [entry, entry] }])
    const told = r.events.flatMap((e) => (e.type === 'records.refused' ? [[e.stream, e.records, e.code]] : []))
    expect(told).toEqual([
      ['a', 1, 'DiskFull'],
      ['a', 2, 'DiskFull'],
    ])
  })
  test('the outcome is unknown: said so, never as a clean refusal', async () => {
    await create()
    r.ingest.fail = new AppendError('Timeout', 'no answer', { stored: 'unknown', retriable: true })
    expect(await call('PutRecord', record)).toMatchObject({ status: 500, body: { __type: 'InternalFailure' } })
    const many = await call('PutRecordBatch', batch)
    expect(many.body).toMatchObject({
      FailedPutCount: 2,
      RequestResponses: [{ ErrorCode: 'InternalFailure' }, { ErrorCode: 'InternalFailure' }],
    })
    expect(many.text).not.toContain('no answer')
  })
  test('a bug inside is InternalFailure, without words of the inside', async () => {
    await create()
    r.ingest.fail = new TypeError('secret detail')
    const a = await call('PutRecord', record)
    expect(a.status).toBe(500)
    expect(a.text).not.toContain('secret')
  })
})

const inputs: Record<string, object> = {
  CreateDeliveryStream: { ExtendedS3DestinationConfiguration: S3 },
  PutRecord: { Record: { Data: '' } },
  PutRecordBatch: { Records: [{ Data: '' }] },
  TagDeliveryStream: { Tags: [{ Key: 'a' }] },
  UntagDeliveryStream: { TagKeys: ['a'] },
  UpdateDestination: { CurrentDeliveryStreamVersionId: '1', DestinationId: ID, ExtendedS3DestinationUpdate: {} },
}

test('every operation refuses a principal that may not', async () => {
  const streams = new FakeStreams()
  const service = firehoseService({ streams, ingest: new FakeIngest(streams), account: ACCOUNT, region: REGION })
  expect([...service.operations.keys()].toSorted()).toEqual(Object.keys(firehose.operations).toSorted())
  streams.add('a', { document: S3, spec: specOf('a', S3) })
  const outsider = principalOf({ accessKey: 'AKID', allow: ['firehose:*'], streams: ['other'] })
  for (const [name, operation] of service.operations) {
    const body = new Uint8Array(Buffer.from(JSON.stringify({ DeliveryStreamName: 'a', ...inputs[name] })))
    const run = operation.run({ principal: outsider, body, signal: new AbortController().signal })
    if (name === 'ListDeliveryStreams') expect(JSON.parse(answerText(await run))).toMatchObject({ DeliveryStreamNames: [] })
    else
      await expect(run, name).rejects.toMatchObject({
        code: 'AccessDeniedException',
        message: expect.stringContaining(`firehose:${name} on resource: arn:aws:firehose`) as string,
      })
  }
})

test('no operation is reached without a signature, or with a wrong one', async () => {
  const gate = sigv4Gate({ keys: [{ accessKey: 'AKID', secretKey: 'secret' }], region: REGION, account: ACCOUNT, clock: realHost().clock })
  const closed = await rig({ gate })
  try {
    const stamp = new Date().toISOString().replace(/[-:]|\.\d{3}/g, '')
    const names = 'content-type;host;x-amz-date;x-amz-target'
    const scope = `AKID/${stamp.slice(0, 8)}/${REGION}/firehose/aws4_request`
    const wrong = {
      'x-amz-date': stamp,
      authorization: `AWS4-HMAC-SHA256 Credential=${scope}, SignedHeaders=${names}, Signature=${'0'.repeat(64)}`,
    }
    for (const name of Object.keys(firehose.operations)) {
      const target = { 'x-amz-target': `Firehose_20150804.${name}` }
      const body = JSON.stringify({ DeliveryStreamName: 'a', ...inputs[name] })
      const codes = [
        await post(closed.door.address.port, target, body),
        await post(closed.door.address.port, { ...target, ...wrong }, body),
      ]
      expect(
        codes.map((a) => a.body['__type']),
        name,
      ).toEqual(['MissingAuthenticationTokenException', 'InvalidSignatureException'])
    }
    expect([closed.streams.all.size, closed.ingest.puts]).toEqual([0, 0])
  } finally {
    await closed.close()
  }
})

test('only the gate makes principals', () => {
  const folder = new URL('../../core/', import.meta.url)
  const makers = readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((f) => f.endsWith('.ts') && !/^(dist|node_modules)\//.test(f))
    .filter((f) => readFileSync(new URL(f, folder), 'utf8').includes('principalOf('))
  expect(makers.toSorted()).toEqual(['api/principal.ts', 'api/sigv4.ts'])
})
