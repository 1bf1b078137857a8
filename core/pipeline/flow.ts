import { compressionInfo } from '../format/compression.ts'
import { checkPrefixes, evaluatePrefix, objectName, type ParsedPrefix } from '../format/prefix.ts'
import { errorCode, errorMessage } from '../sdk/errors.ts'
import type { SinkHandle } from '../delivery/attempts.ts'
import type { SinkSpec } from '../delivery/types.ts'
import type { Stage } from '../transform/types.ts'
import { decodeIdentity, type SinkIdentity, type SpecIdentity } from './identity.ts'
import type { PipelineSpec } from './spec.ts'

/** A recorded spec joined with today's transport: everything that turns records into effects. */
export interface Flow {
  readonly hash: string
  readonly identity: SpecIdentity
  readonly stages: readonly Stage[]
  readonly sink: SinkHandle
  readonly rejects: SinkHandle
  objectKey(o: { token: string; arrivalMs: number }): string
  rejectsKey(o: { token: string; arrivalMs: number; type: string }): string
}

export interface FlowParts {
  /** Opens (or finds) a sink with core's wrapping. */
  sink(spec: SinkSpec, pipelineId: string): Promise<SinkHandle>
  stages(spec: SpecIdentity['stages']): readonly Stage[]
}

/** A cut is bound to a spec whose sink can no longer be built from today's configuration. */
export class NoTransportError extends Error {
  constructor(was: SinkIdentity, now: string, options?: ErrorOptions) {
    super(
      `a recorded cut goes to a sink of type ${was.type} (${JSON.stringify(was.target)}), ${now}: ` +
        'put the former one back until the cut is delivered, or run `hydrant pipelines release`',
      options,
    )
    this.name = 'NoTransportError'
  }
}

/** Transport of `now` (endpoint, credentials, time-outs, retry) under the names and the target of `was`. */
function joined(was: SinkIdentity, now: SinkSpec): SinkSpec {
  if (was.type !== now.type) throw new NoTransportError(was, `the pipeline's sink is now ${now.type}`)
  return { ...now, options: { ...now.options, ...was.target } }
}

export async function buildFlow(o: {
  hash: string
  bytes: Uint8Array
  spec: PipelineSpec
  pipelineId: string
  parts: FlowParts
}): Promise<Flow> {
  const identity = decodeIdentity(o.bytes)
  const open = (was: SinkIdentity, now: SinkSpec): Promise<SinkHandle> =>
    o.parts.sink(joined(was, now), o.pipelineId).catch((e: unknown) => {
      // another version of the plugin may name its options otherwise
      throw errorCode(e) === 'SinkOptions' ? new NoTransportError(was, errorMessage(e), { cause: e }) : e
    })
  const sink = await open(identity.sink, o.spec.sink)
  const rejects = await open(identity.rejects, o.spec.rejects ?? o.spec.sink)
  const { prefix } = checkPrefixes(identity.sink.prefix, identity.sink.errorPrefix)
  const { errorPrefix } = checkPrefixes(identity.rejects.prefix, identity.rejects.errorPrefix)
  const { stream, versionId } = identity
  const key = (p: ParsedPrefix, timeZone: string, token: string, arrivalMs: number, extension: string, errorOutputType?: string): string =>
    evaluatePrefix(p, { arrivalMs, timeZone, token, ...(errorOutputType === undefined ? {} : { errorOutputType }) }) +
    objectName({ streamName: stream, versionId, arrivalMs, timeZone, token, extension })
  const extension = identity.sink.fileExtension || compressionInfo(identity.format.compression).extension
  return {
    hash: o.hash,
    identity,
    stages: o.parts.stages(identity.stages),
    sink,
    rejects,
    objectKey: ({ token, arrivalMs }) => key(prefix, identity.sink.timeZone, token, arrivalMs, extension),
    rejectsKey: ({ token, arrivalMs, type }) => key(errorPrefix, identity.rejects.timeZone, token, arrivalMs, '', type),
  }
}
