import { writeFile } from 'node:fs/promises'
import { FirehoseClient, PutRecordCommand, DescribeDeliveryStreamCommand } from '@aws-sdk/client-firehose'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { selfSigned } from '../api/certificate.ts'
import { Daemons } from './support.ts'

const daemons = new Daemons()
beforeEach(() => daemons.begin())
afterEach(() => daemons.end())

const yaml = `
pipelines:
  clicks-a: &p
    source: {direct_put: {shards: 1}}
    format: {type: ndjson}
    buffer: {size: 1MiB, interval: 0s}
    sink: {type: file, path: ./out, prefix: "ev/", error_prefix: "rejected/"}
  other: *p
`

async function client(secret: string): Promise<{ firehose: FirehoseClient; delivered: Promise<unknown> }> {
  const { path } = daemons.folder
  const { cert, key } = selfSigned()
  await writeFile(`${path}/cert.pem`, cert)
  await writeFile(`${path}/key.pem`, key)
  const keys = '[{access_key: AKIDTEST, secret_key: secretsecret, allow: ["firehose:Put*"], streams: ["clicks*"]}]'
  const d = await daemons.start(yaml, { api: `, auth: sigv4, keys: ${keys}, tls: {cert: ./cert.pem, key: ./key.pem}` })
  const firehose = new FirehoseClient({
    endpoint: `https://127.0.0.1:${d.daemon.api.port}`,
    region: 'us-east-1',
    credentials: { accessKeyId: 'AKIDTEST', secretAccessKey: secret },
    requestHandler: { httpsAgent: { ca: cert } },
    maxAttempts: 1,
  })
  return { firehose, delivered: d.event('cut.delivered') }
}
const put = (stream: string): PutRecordCommand =>
  new PutRecordCommand({ DeliveryStreamName: stream, Record: { Data: Buffer.from('hello') } })

describe('TLS and signatures by configuration, the AWS SDK as it is', () => {
  test('a key may do what it is allowed on its streams, and nothing else', async () => {
    const { firehose, delivered } = await client('secretsecret')
    expect((await firehose.send(put('clicks-a'))).RecordId).toMatch(/./)
    await delivered
    expect(await daemons.folder.lines('out')).toEqual(['hello'])
    await expect(firehose.send(put('other'))).rejects.toMatchObject({ name: 'AccessDeniedException' })
    const describe = new DescribeDeliveryStreamCommand({ DeliveryStreamName: 'clicks-a' })
    await expect(firehose.send(describe)).rejects.toMatchObject({ name: 'AccessDeniedException' })
    firehose.destroy()
  })
  test('a wrong secret is refused in AWS words', async () => {
    const { firehose } = await client('anothersecret')
    await expect(firehose.send(put('clicks-a'))).rejects.toMatchObject({ name: 'InvalidSignatureException' })
    firehose.destroy()
  })
})
