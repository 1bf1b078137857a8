import { execFile } from 'node:child_process'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import {
  CreateDeliveryStreamCommand,
  DeleteDeliveryStreamCommand,
  DescribeDeliveryStreamCommand,
  FirehoseClient as SdkClient,
  ListDeliveryStreamsCommand,
  ListTagsForDeliveryStreamCommand,
  PutRecordBatchCommand,
  PutRecordCommand,
  StartDeliveryStreamEncryptionCommand,
  StopDeliveryStreamEncryptionCommand,
  TagDeliveryStreamCommand,
  UntagDeliveryStreamCommand,
  UpdateDestinationCommand,
} from '@aws-sdk/client-firehose'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { assertClean, audit } from '../harness/audit.ts'
import { FirehoseClient } from '../harness/client.ts'
import { Home, type Daemon } from '../harness/daemon.ts'
import { Outcomes } from '../harness/outcomes.ts'
import { rng } from '../harness/random.ts'
import { makeRecord, type RecordId } from '../harness/records.ts'
import { requirePython } from '../services/python.ts'

const run = promisify(execFile)
const keys = { accessKey: 'AKIATESTTESTTEST', secretKey: 'a-secret-of-the-tests' }
const env = { ...process.env, AWS_ACCESS_KEY_ID: keys.accessKey, AWS_SECRET_ACCESS_KEY: keys.secretKey, AWS_DEFAULT_REGION: 'us-east-1' }
const python = await requirePython('boto3 and the AWS CLI')

let home: Home
let daemon: Daemon
let control: FirehoseClient
beforeAll(async () => {
  home = await Home.make()
  await home.configure({ pipelines: [], keys, buckets: { type: 'file', target: join(home.folder, 'buckets') } })
  daemon = await home.start().ready()
  control = new FirehoseClient({ url: daemon.url, credentials: keys })
})
afterAll(async () => {
  control.close()
  await home.remove()
})

/** Ids and their records: sizes 0 to 1 KiB by a seed. */
function make(log: Outcomes, producer: number, n: number): { ids: RecordId[]; records: Uint8Array[] } {
  const random = rng(producer + 1)
  const ids = log.issue(producer, n)
  return { ids, records: ids.map((id) => makeRecord(id, random.below(4) === 0 ? 0 : random.below(1025))) }
}

const bucketOf = (stream: string): string => `bucket-${stream}`
const arnOf = (stream: string): string => `arn:aws:s3:::${bucketOf(stream)}`
const s3 = (stream: string) => ({
  RoleARN: 'arn:aws:iam::000000000000:role/r',
  BucketARN: arnOf(stream),
  Prefix: 'objects/',
  BufferingHints: { SizeInMBs: 5, IntervalInSeconds: 1 },
  CompressionFormat: 'GZIP' as const,
})

/** DeleteDeliveryStream drains: when the name is gone, everything is delivered. */
async function auditDeleted(stream: string, log: Outcomes): Promise<void> {
  for (const end = performance.now() + 60_000; ;) {
    const a = await control.call('DescribeDeliveryStream', { DeliveryStreamName: stream })
    if (a.status === 400 && a.body['__type'] === 'ResourceNotFoundException') break
    expect(performance.now(), `${stream} is still there: ${JSON.stringify(a.body)}`).toBeLessThan(end)
    await new Promise((r) => void setTimeout(r, 50))
  }
  const place = { kind: 'folder', root: join(home.folder, 'buckets', bucketOf(stream)) } as const
  assertClean(await audit({ outcomes: log, delivered: [place], compression: 'gzip' }), stream)
}

test('AWS SDK for JavaScript v3: every operation, 100,000 records byte for byte', async () => {
  const stream = 'by-js'
  const name = { DeliveryStreamName: stream }
  const log = new Outcomes(1)
  const sdk = new SdkClient({
    endpoint: daemon.url,
    region: 'us-east-1',
    credentials: { accessKeyId: keys.accessKey, secretAccessKey: keys.secretKey },
  })
  const created = await sdk.send(
    new CreateDeliveryStreamCommand({ ...name, ExtendedS3DestinationConfiguration: s3(stream), Tags: [{ Key: 'team', Value: 'a' }] }),
  )
  expect(created.DeliveryStreamARN).toBe(`arn:aws:firehose:us-east-1:000000000000:deliverystream/${stream}`)
  const active = await activeStream(sdk, stream)
  expect(active.VersionId).toBe('1')
  expect((await sdk.send(new ListDeliveryStreamsCommand({ Limit: 100 }))).DeliveryStreamNames).toContain(stream)
  await sdk.send(new TagDeliveryStreamCommand({ ...name, Tags: [{ Key: 'env', Value: 'test' }] }))
  await sdk.send(new UntagDeliveryStreamCommand({ ...name, TagKeys: ['team'] }))
  expect((await sdk.send(new ListTagsForDeliveryStreamCommand(name))).Tags).toEqual([{ Key: 'env', Value: 'test' }])
  await expect(sdk.send(new StartDeliveryStreamEncryptionCommand(name))).rejects.toThrow(/encryption/i)
  await sdk.send(new StopDeliveryStreamEncryptionCommand(name)) // it is off: nothing to do
  await sdk.send(
    new UpdateDestinationCommand({
      ...name,
      CurrentDeliveryStreamVersionId: active.VersionId,
      DestinationId: active.Destinations?.[0]?.DestinationId,
      ExtendedS3DestinationUpdate: { BufferingHints: { SizeInMBs: 2, IntervalInSeconds: 1 } },
    }),
  )
  expect((await activeStream(sdk, stream)).VersionId).toBe('2')

  await Promise.all([0, 1, 2, 3].map((producer) => sendBySdk(sdk, stream, log, producer, 25_000)))
  expect(log.count('ok')).toBe(100_000)
  await sdk.send(new DeleteDeliveryStreamCommand(name))
  sdk.destroy()
  await auditDeleted(stream, log)
})

async function activeStream(sdk: SdkClient, stream: string) {
  for (;;) {
    const d = (await sdk.send(new DescribeDeliveryStreamCommand({ DeliveryStreamName: stream }))).DeliveryStreamDescription
    if (d?.DeliveryStreamStatus === 'ACTIVE') return d
    await new Promise((r) => void setTimeout(r, 20))
  }
}

/** The first hundred one by one, the rest in batches of 500. */
async function sendBySdk(sdk: SdkClient, stream: string, log: Outcomes, producer: number, n: number): Promise<void> {
  const { ids, records } = make(log, producer, n)
  for (const [i, Data] of records.slice(0, 100).entries()) {
    await sdk.send(new PutRecordCommand({ DeliveryStreamName: stream, Record: { Data } }))
    log.mark(ids.slice(i, i + 1), 'ok')
  }
  for (let i = 100; i < n; i += 500) {
    const Records = records.slice(i, i + 500).map((Data) => ({ Data }))
    const r = await sdk.send(new PutRecordBatchCommand({ DeliveryStreamName: stream, Records }))
    expect(r.FailedPutCount).toBe(0)
    expect(new Set(r.RequestResponses?.map((x) => x.RecordId)).size).toBe(Records.length)
    log.mark(ids.slice(i, i + 500), 'ok')
  }
}

async function aws(operation: string, ...args: string[]): Promise<Record<string, unknown>> {
  const common = ['-m', 'awscli', 'firehose', operation, '--endpoint-url', daemon.url, '--output', 'json']
  const { stdout } = await run(python ?? '', [...common, ...args], { env, maxBuffer: 64 << 20 })
  return stdout.trim() === '' ? {} : (JSON.parse(stdout) as Record<string, unknown>)
}

describe.skipIf(!python)('unmodified Python clients', () => {
  test('boto3: every operation, 100,000 records byte for byte', async () => {
    const stream = 'by-boto3'
    const log = new Outcomes(2)
    const { ids, records } = make(log, 0, 100_000)
    const file = join(home.folder, 'records.bin')
    await writeFile(file, Buffer.concat(records.flatMap((r) => [lengthOf(r), r])))
    const script = join(import.meta.dirname, 'clients/firehose.py')
    const { stdout } = await run(python ?? '', [script, daemon.url, stream, arnOf(stream), file], { env, maxBuffer: 64 << 20 })
    log.mark(ids, 'ok')
    expect(JSON.parse(stdout)).toMatchObject({
      create_delivery_stream: [{ DeliveryStreamARN: `arn:aws:firehose:us-east-1:000000000000:deliverystream/${stream}` }],
      status: 'ACTIVE',
      list_delivery_streams: [{ DeliveryStreamNames: expect.arrayContaining([stream]) as unknown, HasMoreDeliveryStreams: false }],
      tag_delivery_stream: [{}],
      untag_delivery_stream: [{}],
      list_tags_for_delivery_stream: [{ Tags: [{ Key: 'env', Value: 'test' }], HasMoreTags: false }],
      start_delivery_stream_encryption: [{ error: 'InvalidArgumentException' }],
      stop_delivery_stream_encryption: [{}],
      update_destination: [{}],
      versions: ['1', '2'],
      sent: 100_000,
      failed: 0,
      delete_delivery_stream: [{}],
    })
    await auditDeleted(stream, log)
  })

  test('AWS CLI: every operation, 5,000 records', async () => {
    const stream = 'by-cli'
    const log = new Outcomes(3)
    const named = ['--delivery-stream-name', stream]
    const created = ['--extended-s3-destination-configuration', JSON.stringify(s3(stream)), '--tags', 'Key=team,Value=a']
    await aws('create-delivery-stream', ...named, ...created)
    const before = (await aws('describe-delivery-stream', ...named))['DeliveryStreamDescription'] as {
      Destinations: { DestinationId: string }[]
    }
    expect((await aws('list-delivery-streams'))['DeliveryStreamNames']).toContain(stream)
    await aws('tag-delivery-stream', ...named, '--tags', 'Key=env,Value=test')
    await aws('untag-delivery-stream', ...named, '--tag-keys', 'team')
    expect((await aws('list-tags-for-delivery-stream', ...named))['Tags']).toEqual([{ Key: 'env', Value: 'test' }])
    await expect(aws('start-delivery-stream-encryption', ...named)).rejects.toThrow('InvalidArgumentException')
    await aws('stop-delivery-stream-encryption', ...named)
    const update = ['--current-delivery-stream-version-id', '1', '--destination-id', before.Destinations[0]?.DestinationId ?? '']
    await aws('update-destination', ...named, ...update, '--extended-s3-destination-update', '{"CompressionFormat":"GZIP"}')

    for (let i = 0; i < 10; i++) {
      const { ids, records } = make(log, 0, 500)
      const file = join(home.folder, `batch-${i}.json`)
      await writeFile(file, JSON.stringify(records.map((r) => ({ Data: Buffer.from(r).toString('latin1') }))))
      expect((await aws('put-record-batch', ...named, '--records', `file://${file}`))['FailedPutCount']).toBe(0)
      log.mark(ids, 'ok')
    }
    const one = make(log, 0, 1)
    await aws('put-record', ...named, '--record', JSON.stringify({ Data: Buffer.from(one.records[0] ?? []).toString('latin1') }))
    log.mark(one.ids, 'ok')
    await aws('delete-delivery-stream', ...named)
    await auditDeleted(stream, log)
  })
})

function lengthOf(r: Uint8Array): Uint8Array {
  const b = Buffer.alloc(4)
  b.writeUInt32BE(r.length)
  return b
}
