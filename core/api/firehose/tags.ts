import { limits } from '../../limits.ts'
import { ApiError } from '../errors.ts'
import type { JsonRecord, JsonValue } from '../json/parse.ts'
import { declare, type Call, type Operation } from '../service.ts'
import { firehose as model } from '../shapes.generated.ts'
import { controlError, streamOf, type FirehoseContext } from './context.ts'

/** `[{Key, Value}]` as a record; a key that comes twice keeps its last value, a tag without a value has an empty one. */
export function tagsOf(list: JsonValue | undefined): Record<string, string> {
  const out: [string, string][] = ((list ?? []) as readonly JsonRecord[]).map((t) => [t['Key'] as string, (t['Value'] ?? '') as string])
  return Object.fromEntries(out)
}

/** ListTagsForDeliveryStream, TagDeliveryStream, UntagDeliveryStream. */
export function tagOperations(c: FirehoseContext): Operation[] {
  return [
    declare(model, 'ListTagsForDeliveryStream', (input, call) => list(c, input, call)),
    declare(model, 'TagDeliveryStream', (input, call) => tag(c, input, call)),
    declare(model, 'UntagDeliveryStream', (input, call) => untag(c, input, call)),
  ]
}

/** In key order, so that ExclusiveStartTagKey pages. */
function list(c: FirehoseContext, input: JsonRecord, call: Call): JsonRecord {
  const info = streamOf(c, call, 'ListTagsForDeliveryStream', input)
  const after = (input['ExclusiveStartTagKey'] ?? '') as string
  const limit = (input['Limit'] ?? limits.tagsPerStream) as number
  const rest = Object.keys(info.tags)
    .toSorted()
    .filter((k) => k > after)
  return {
    Tags: rest.slice(0, limit).map((Key) => ({ Key, Value: info.tags[Key] ?? '' })),
    HasMoreTags: rest.length > limit,
  }
}

async function tag(c: FirehoseContext, input: JsonRecord, call: Call): Promise<JsonRecord> {
  const info = streamOf(c, call, 'TagDeliveryStream', input)
  const tags = { ...info.tags, ...tagsOf(input['Tags']) }
  const count = Object.keys(tags).length
  if (count > limits.tagsPerStream) {
    throw new ApiError(
      'LimitExceededException',
      `Firehose ${info.name} under account ${c.account} would have ${count} tags; the limit is ${limits.tagsPerStream}.`,
    )
  }
  return save(c, info.name, tags)
}

/** Keys that the stream does not have are ignored. */
async function untag(c: FirehoseContext, input: JsonRecord, call: Call): Promise<JsonRecord> {
  const info = streamOf(c, call, 'UntagDeliveryStream', input)
  const gone = new Set(input['TagKeys'] as readonly string[])
  return save(c, info.name, Object.fromEntries(Object.entries(info.tags).filter(([k]) => !gone.has(k))))
}

async function save(c: FirehoseContext, name: string, tags: Readonly<Record<string, string>>): Promise<JsonRecord> {
  try {
    await c.streams.setTags(name, tags)
  } catch (e) {
    throw controlError(c, e, name)
  }
  return {}
}
