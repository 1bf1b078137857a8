import type { DeliveryStreamInfo } from '../../pipeline/control.ts'
import { accessDenied } from '../principal.ts'
import { invalidArgument } from '../errors.ts'
import type { JsonRecord } from '../json/parse.ts'
import { declare, type Call, type Operation } from '../service.ts'
import { firehose as model } from '../shapes.generated.ts'
import { arnOf, streamOf, type FirehoseContext } from './context.ts'
import { DESTINATION_ID, destinationOf, documentOf } from './document.ts'

const LIST_DEFAULT = 10

/** DescribeDeliveryStream, ListDeliveryStreams. */
export function describeOperations(c: FirehoseContext): Operation[] {
  return [
    declare(model, 'DescribeDeliveryStream', (input, call) => describe(c, input, call)),
    declare(model, 'ListDeliveryStreams', (input, call) => list(c, input, call)),
  ]
}

/** The configuration of a stream in Firehose's words: as given to the API, or made from the pipeline of a file. */
export function currentDocument(c: FirehoseContext, info: DeliveryStreamInfo): JsonRecord {
  return info.document ?? documentOf(info.spec, c.account)
}

const streamType = (info: DeliveryStreamInfo): string => (info.spec.source.type === 'direct_put' ? 'DirectPut' : 'KinesisStreamAsSource')

function describe(c: FirehoseContext, input: JsonRecord, call: Call): JsonRecord {
  const info = streamOf(c, call, 'DescribeDeliveryStream', input)
  const after = input['ExclusiveStartDestinationId'] as string | undefined
  // a stream has one destination, so whoever asks for what comes after it gets an empty page
  if (after !== undefined && after !== DESTINATION_ID) throw invalidArgument(`Destination Id ${after} not found`)
  const { source } = info.spec
  const direct = source.type === 'direct_put'
  return {
    DeliveryStreamDescription: {
      DeliveryStreamName: info.name,
      DeliveryStreamARN: arnOf(c, info.name),
      DeliveryStreamStatus: info.status,
      ...(info.status === 'CREATING_FAILED'
        ? { FailureDescription: { Type: 'UNKNOWN_ERROR', Details: 'The log could not be created.' } }
        : {}),
      ...(direct ? { DeliveryStreamEncryptionConfiguration: { Status: 'DISABLED' } } : {}),
      DeliveryStreamType: streamType(info),
      VersionId: info.versionId,
      CreateTimestamp: info.createdMs / 1_000,
      ...(info.updatedMs === null ? {} : { LastUpdateTimestamp: info.updatedMs / 1_000 }),
      ...(direct
        ? {}
        : {
            Source: {
              KinesisStreamSourceDescription: {
                KinesisStreamARN: `arn:aws:kinesis:${c.region}:${c.account}:stream/${source.stream}`,
                RoleARN: `arn:aws:iam::${c.account}:role/hydrant`,
                DeliveryStartTimestamp: info.createdMs / 1_000,
              },
            },
          }),
      Destinations: after === undefined ? [destinationOf(currentDocument(c, info))] : [],
      HasMoreDestinations: false,
    },
  }
}

/** By name; a key sees only the streams that it may use. */
function list(c: FirehoseContext, input: JsonRecord, call: Call): JsonRecord {
  const action = 'firehose:ListDeliveryStreams'
  if (!call.principal.mayAct(action)) throw accessDenied(call.principal, c.account, action, arnOf(c, '*'))
  const after = (input['ExclusiveStartDeliveryStreamName'] ?? '') as string
  const limit = (input['Limit'] ?? LIST_DEFAULT) as number
  const type = input['DeliveryStreamType']
  const rest = c.streams
    .list()
    .filter((s) => (type === undefined || streamType(s) === type) && call.principal.may(action, s.name))
    .map((s) => s.name)
    .toSorted()
    .filter((n) => n > after)
  return { DeliveryStreamNames: rest.slice(0, limit), HasMoreDeliveryStreams: rest.length > limit }
}
