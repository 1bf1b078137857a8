import { limits } from '../../limits.ts'
import { ApiError, invalidArgument } from '../errors.ts'
import type { JsonRecord } from '../json/parse.ts'
import { declare, type Call, type Operation } from '../service.ts'
import { firehose as model } from '../shapes.generated.ts'
import { arnOf, authorize, controlError, refuseYaml, streamOf, text, type FirehoseContext } from './context.ts'
import { specOf } from './document.ts'
import { checkDestination, notSupported } from './rules.ts'
import { tagsOf } from './tags.ts'

/** The destination members of CreateDeliveryStream (and, with `Update`, of UpdateDestination), in the words of a user. */
const DESTINATIONS: readonly (readonly [member: string, said: string])[] = [
  ['S3Destination', 'S3'],
  ['ExtendedS3Destination', 'ExtendedS3'],
  ['RedshiftDestination', 'Redshift'],
  ['ElasticsearchDestination', 'Elasticsearch'],
  ['AmazonopensearchserviceDestination', 'OpenSearch'],
  ['AmazonOpenSearchServerlessDestination', 'OpenSearch Serverless'],
  ['SplunkDestination', 'Splunk'],
  ['HttpEndpointDestination', 'HTTP endpoint'],
  ['SnowflakeDestination', 'Snowflake'],
  ['IcebergDestination', 'Iceberg'],
]

/** The one destination that the input has, which must be S3 in one of its two forms. */
export function s3Member(input: JsonRecord, suffix: 'Configuration' | 'Update'): JsonRecord {
  const given = DESTINATIONS.filter(([member]) => input[member + suffix] !== undefined)
  const [first] = given
  if (!first || given.length > 1) throw invalidArgument('Exactly one destination configuration is supported for a Firehose')
  const [member, said] = first
  if (member !== 'S3Destination' && member !== 'ExtendedS3Destination') throw notSupported(`The ${said} destination`)
  return input[member + suffix] as JsonRecord
}

function checkSource(input: JsonRecord): void {
  const type = (input['DeliveryStreamType'] ?? 'DirectPut') as string
  if (type === 'DirectPut') {
    if (input['KinesisStreamSourceConfiguration'] !== undefined) {
      throw invalidArgument('KinesisSourceStreamConfig is only applicable for KinesisStreamAsSource stream type')
    }
    if (input['MSKSourceConfiguration'] !== undefined) {
      throw invalidArgument('MSKSourceConfiguration is only applicable for MSKAsSource stream type')
    }
    if (input['DatabaseSourceConfiguration'] !== undefined) {
      throw invalidArgument('DatabaseSourceConfiguration is only applicable for DatabaseAsSource stream type')
    }
    return
  }
  throw notSupported(`The delivery stream type ${type}`)
}

/** CreateDeliveryStream, DeleteDeliveryStream. */
export function lifecycleOperations(c: FirehoseContext): Operation[] {
  return [
    declare(model, 'CreateDeliveryStream', (input, call) => create(c, input, call)),
    declare(model, 'DeleteDeliveryStream', (input, call) => remove(c, input, call)),
  ]
}

async function create(c: FirehoseContext, input: JsonRecord, call: Call): Promise<JsonRecord> {
  const name = text(input, 'DeliveryStreamName')
  authorize(c, call, 'firehose:CreateDeliveryStream', name)
  const document = s3Member(input, 'Configuration')
  checkSource(input)
  if (input['DeliveryStreamEncryptionConfigurationInput'] !== undefined) {
    throw notSupported('Server-side encryption (DeliveryStreamEncryptionConfigurationInput)')
  }
  checkDestination(document, c)
  const all = c.streams.list()
  if (all.some((s) => s.name === name)) {
    throw new ApiError('ResourceInUseException', `Firehose ${name} under accountId ${c.account} already exists`)
  }
  const quota = c.maxStreams ?? limits.deliveryStreams
  if (all.length >= quota) {
    throw new ApiError(
      'LimitExceededException',
      `You have already consumed your firehose quota of ${quota} hoses. Firehose names: [${all.map((s) => s.name).join(', ')}]`,
    )
  }
  try {
    await c.streams.create({ name, document, spec: specOf(name, document), tags: tagsOf(input['Tags']) })
  } catch (e) {
    throw controlError(c, e, name)
  }
  return { DeliveryStreamARN: arnOf(c, name) }
}

async function remove(c: FirehoseContext, input: JsonRecord, call: Call): Promise<JsonRecord> {
  const info = streamOf(c, call, 'DeleteDeliveryStream', input)
  refuseYaml(info)
  if (info.status === 'CREATING') {
    throw new ApiError('ResourceInUseException', `Firehose ${info.name} under account ${c.account} is being created and cannot be deleted.`)
  }
  try {
    await c.streams.delete(info.name, { force: input['AllowForceDelete'] === true })
  } catch (e) {
    throw controlError(c, e, info.name)
  }
  return {}
}
