import type { DeliveryStreamInfo, DeliveryStreams, Ingest } from '../../pipeline/control.ts'
import { ControlError } from '../../pipeline/control.ts'
import { ApiError, internalFailure, invalidArgument } from '../errors.ts'
import type { JsonRecord } from '../json/parse.ts'
import { accessDenied } from '../principal.ts'
import type { Events } from '../../telemetry/events.ts'
import type { Call } from '../service.ts'

/** What the Firehose operations work against. */
export interface FirehoseContext {
  readonly streams: DeliveryStreams
  readonly ingest: Ingest
  readonly account: string
  readonly region: string
  /** Told of puts that an existing stream refused. */
  readonly events?: Events
  /** Streams that may exist at once; limits.deliveryStreams when absent. */
  readonly maxStreams?: number
  /** Whether the store of a bucket can encrypt objects with a KMS key, by what `buckets:` says; absent: every one can. */
  readonly kms?: (bucket: string) => boolean
  /** Whether a bucket is a folder, by what `buckets:` says; absent: none is. Throws ConfigError for a name that no bucket can have. */
  readonly folder?: (bucket: string) => boolean
}

export const arnOf = (c: Pick<FirehoseContext, 'account' | 'region'>, name: string): string =>
  `arn:aws:firehose:${c.region}:${c.account}:deliverystream/${name}`

/** Throws AccessDeniedException when the principal may not do this to this stream. Said before whether the stream exists. */
export function authorize(c: FirehoseContext, call: Call, action: `firehose:${string}`, name: string): void {
  if (!call.principal.may(action, name)) throw accessDenied(call.principal, c.account, action, arnOf(c, name))
}

/** A member that the shape requires, as text. */
export function text(input: JsonRecord, member: string): string {
  const v = input[member]
  if (typeof v !== 'string') throw new TypeError(`${member} passed validation without being a string`)
  return v
}

export const notFound = (c: FirehoseContext, name: string): ApiError =>
  new ApiError('ResourceNotFoundException', `Firehose ${name} under account ${c.account} not found.`)

/** The stream, authorized; ResourceNotFoundException when there is none. */
export function streamOf(c: FirehoseContext, call: Call, operation: string, input: JsonRecord): DeliveryStreamInfo {
  const name = text(input, 'DeliveryStreamName')
  authorize(c, call, `firehose:${operation}`, name)
  const info = c.streams.get(name)
  if (!info) throw notFound(c, name)
  return info
}

/** A YAML pipeline shows up in the API; only its file can change it. */
export function refuseYaml(info: DeliveryStreamInfo): void {
  if (info.origin === 'yaml') {
    throw invalidArgument(`Firehose ${info.name} is defined in the configuration file of this server; change it there.`)
  }
}

/** The registry's no, in AWS's words. */
export function controlError(c: FirehoseContext, e: unknown, name: string): ApiError {
  if (e instanceof ApiError) return e
  if (!(e instanceof ControlError)) return internalFailure(e)
  switch (e.code) {
    case 'exists':
      return new ApiError('ResourceInUseException', `Firehose ${name} under accountId ${c.account} already exists`)
    case 'not-found':
      return notFound(c, name)
    case 'not-active':
      return new ApiError(
        'ResourceInUseException',
        `Firehose ${name} under account ${c.account} is not in a state that allows this: ${e.message}`,
      )
    case 'version':
      return new ApiError('ConcurrentModificationException', `Cannot update firehose: ${name} since ${e.message}`)
    case 'conflict':
      return new ApiError('ConcurrentModificationException', `Firehose ${name} was changed by another request at the same time. Try again.`)
    default:
      return invalidArgument(e.message)
  }
}
