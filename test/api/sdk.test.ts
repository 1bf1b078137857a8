import {
  CreateDeliveryStreamCommand,
  DeleteDeliveryStreamCommand,
  DescribeDeliveryStreamCommand,
  FirehoseClient,
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
import { SignatureV4 } from '@smithy/signature-v4'
import { connect } from 'node:http2'
import { expect, test } from 'vitest'
import { realHost } from '../../core/host/host.ts'
import { sigv4Gate } from '../../core/api/sigv4.ts'
import { ACCOUNT, REGION, rig, S3 } from './fakes.ts'
import { Sha } from './sha.ts'

const key = { accessKey: 'AKIAIOSFODNN7EXAMPLE', secretKey: 'wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY' }
const gate = (): ReturnType<typeof sigv4Gate> => sigv4Gate({ keys: [key], region: REGION, account: ACCOUNT, clock: realHost().clock })

test('the unmodified AWS SDK does every operation, signed', async () => {
  const r = await rig({ gate: gate() })
  const client = new FirehoseClient({
    endpoint: r.url,
    region: REGION,
    credentials: { accessKeyId: key.accessKey, secretAccessKey: key.secretKey },
    maxAttempts: 1,
  })
  try {
    const DeliveryStreamName = 'orders'
    const made = await client.send(
      new CreateDeliveryStreamCommand({ DeliveryStreamName, ExtendedS3DestinationConfiguration: S3, Tags: [{ Key: 'team', Value: 'a' }] }),
    )
    expect(made.DeliveryStreamARN).toBe(`arn:aws:firehose:${REGION}:${ACCOUNT}:deliverystream/orders`)
    const one = await client.send(new PutRecordCommand({ DeliveryStreamName, Record: { Data: Buffer.from('hello\n') } }))
    const batch = await client.send(
      new PutRecordBatchCommand({ DeliveryStreamName, Records: [{ Data: Buffer.from('a') }, { Data: new Uint8Array() }] }),
    )
    expect(batch.FailedPutCount).toBe(0)
    expect(batch.Encrypted).toBe(false)
    const ids = [one.RecordId, ...(batch.RequestResponses ?? []).map((x) => x.RecordId)]
    expect(new Set(ids).size).toBe(3)
    expect(r.ingest.values.get('orders')?.map((v) => Buffer.from(v).toString())).toEqual(['hello\n', 'a', ''])

    await client.send(
      new UpdateDestinationCommand({
        DeliveryStreamName,
        CurrentDeliveryStreamVersionId: '1',
        DestinationId: 'destinationId-000000000001',
        ExtendedS3DestinationUpdate: { CompressionFormat: 'GZIP' },
      }),
    )
    const seen = await client.send(new DescribeDeliveryStreamCommand({ DeliveryStreamName }))
    const d = seen.DeliveryStreamDescription
    expect(d?.VersionId).toBe('2')
    expect(d?.CreateTimestamp).toEqual(new Date(1_700_000_000_000))
    expect(d?.Destinations?.[0]?.ExtendedS3DestinationDescription?.CompressionFormat).toBe('GZIP')
    expect(d?.Destinations?.[0]?.S3DestinationDescription?.BucketARN).toBe('arn:aws:s3:::b')
    expect((await client.send(new ListDeliveryStreamsCommand({}))).DeliveryStreamNames).toEqual(['orders'])

    await client.send(new TagDeliveryStreamCommand({ DeliveryStreamName, Tags: [{ Key: 'x', Value: 'y' }] }))
    await client.send(new UntagDeliveryStreamCommand({ DeliveryStreamName, TagKeys: ['team', 'nobody'] }))
    expect((await client.send(new ListTagsForDeliveryStreamCommand({ DeliveryStreamName }))).Tags).toEqual([{ Key: 'x', Value: 'y' }])

    await expect(client.send(new StartDeliveryStreamEncryptionCommand({ DeliveryStreamName }))).rejects.toMatchObject({
      name: 'InvalidArgumentException',
      message: expect.stringContaining('not supported') as string,
    })
    await client.send(new StopDeliveryStreamEncryptionCommand({ DeliveryStreamName }))
    await client.send(new DeleteDeliveryStreamCommand({ DeliveryStreamName, AllowForceDelete: true }))
    expect(r.streams.deleted).toEqual([{ name: 'orders', force: true }])
    await expect(client.send(new DescribeDeliveryStreamCommand({ DeliveryStreamName }))).rejects.toMatchObject({
      name: 'ResourceNotFoundException',
      message: `Firehose orders under account ${ACCOUNT} not found.`,
      $metadata: { httpStatusCode: 400, requestId: expect.stringMatching(/^[0-9a-f-]{36}$/) as string },
    })
  } finally {
    client.destroy()
    await r.close()
  }
})

test('the same signature over HTTP/2 without TLS, where the host is :authority', async () => {
  const r = await rig({ gate: gate() })
  const client = connect(r.url)
  try {
    const { host } = new URL(r.url)
    const signer = new SignatureV4({
      service: 'firehose',
      region: REGION,
      credentials: { accessKeyId: key.accessKey, secretAccessKey: key.secretKey },
      sha256: Sha as never,
      applyChecksum: false,
    })
    const signed = await signer.sign({
      method: 'POST',
      protocol: 'http:',
      hostname: host,
      path: '/',
      query: {},
      headers: { host, 'content-type': 'application/x-amz-json-1.1', 'x-amz-target': 'Firehose_20150804.ListDeliveryStreams' },
      body: '{}',
    })
    const ask = async (body: string): Promise<unknown> => {
      const { host: _, ...headers } = signed.headers
      const req = client.request({ ':method': 'POST', ':path': '/', ...headers })
      req.end(body)
      let text = ''
      for await (const chunk of req) text += String(chunk)
      return JSON.parse(text)
    }
    expect(await ask('{}')).toEqual({ DeliveryStreamNames: [], HasMoreDeliveryStreams: false })
    expect(await ask('{ }')).toMatchObject({ __type: 'InvalidSignatureException' })
  } finally {
    client.destroy()
    await r.close()
  }
})

test('a clock that is wrong by hours: the SDK reads Date from the refusal and corrects itself', async () => {
  const r = await rig({ gate: gate() })
  const client = new FirehoseClient({
    endpoint: r.url,
    region: REGION,
    credentials: { accessKeyId: key.accessKey, secretAccessKey: key.secretKey },
    systemClockOffset: -3 * 3_600_000,
  })
  try {
    expect((await client.send(new ListDeliveryStreamsCommand({}))).DeliveryStreamNames).toEqual([])
    const codes = r.events.flatMap((e) => (e.type === 'request.handled' ? [e.code] : []))
    expect(codes).toEqual(['InvalidSignatureException', undefined])
  } finally {
    client.destroy()
    await r.close()
  }
})
