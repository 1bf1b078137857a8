import type { ObjectSinkPlugin, PluginKit } from 'hydrant/sdk'
import { AwsApi } from './aws.ts'
import { conditionMemory } from './conditions.ts'
import { MAX_PARTS, MAX_PART_BYTES, s3Options, withEnvironment, type S3Options } from './options.ts'
import { S3Sink } from './s3-sink.ts'

export type { S3Options }

/** `type: s3`: Amazon S3 and every store that speaks its API. */
const plugin = (kit: PluginKit): ObjectSinkPlugin<S3Options> => {
  const memory = conditionMemory()
  return {
    name: 's3',
    kind: 'object',
    guarantee: 'exactly-once',
    ordered: false,
    summary: 'Amazon S3 and every store that speaks its API',
    options: s3Options(kit),
    target: (o) => ({ bucket: o.bucket }),
    limits: () => ({ maxBytes: MAX_PARTS * MAX_PART_BYTES, maxRecords: Number.MAX_SAFE_INTEGER, concurrency: 8, unit: 'batch' }),
    create: (options, context) => {
      const o = withEnvironment(options, process.env)
      return new S3Sink(o, context, kit, new AwsApi(o, context), memory)
    },
  }
}
export default plugin
