import { limits } from '../../limits.ts'
import { errorCode } from '../../sdk/errors.ts'
import { AppendError } from '../../sdk/log.ts'
import { ApiError, internalFailure, invalidArgument, unavailable } from '../errors.ts'
import { parseBody, type JsonRecord } from '../json/parse.ts'
import { putFromJson, scanPut, type PutInput } from '../json/put-scan.ts'
import type { Call, Operation } from '../service.ts'
import { firehose as model } from '../shapes.generated.ts'
import { validate } from '../validate.ts'
import { authorize, notFound, type FirehoseContext } from './context.ts'

/** AWS's text for a throttled put. */
const SLOW_DOWN = 'Slow down.'
const INTERNAL = 'Internal service failure'

/** A put's body: by hand where it looks as expected, else through JSON.parse and the shapes. Both give the same. Throws ApiError. */
export function readPut(body: Uint8Array<ArrayBuffer>, kind: 'record' | 'batch'): PutInput {
  return scanPut(body, kind) ?? parsePut(body, kind)
}

/** The path for everything unusual, and the judge of every error. */
export function parsePut(body: Uint8Array, kind: 'record' | 'batch'): PutInput {
  const input = validate(model, kind === 'batch' ? 'PutRecordBatchInput' : 'PutRecordInput', parseBody(body))
  const records = kind === 'batch' ? (input['Records'] as readonly JsonRecord[]) : [input['Record'] as JsonRecord]
  const put = putFromJson(
    input['DeliveryStreamName'] as string,
    records.map((r) => r['Data'] as string),
  )
  if (put.batch.bytes.length > limits.putBatchBytes) throw invalidArgument('Records size exceeds 4 MB limit')
  return put
}

const prefixes = new Map<string, string[]>()
/** Opaque and unique: where the record is stored. The topic's id names the stream for ever, so an id never repeats. */
function recordIdPrefix(topicId: string, shard: number): string {
  const known = prefixes.get(topicId)?.[shard]
  if (known !== undefined) return known
  const key = `${topicId}/${shard}/`
  const prefix = Buffer.from(key.padEnd(Math.ceil(key.length / 3) * 3, '/')).toString('base64')
  if (prefixes.size >= limits.authDecisions) prefixes.clear()
  const ofTopic = prefixes.get(topicId) ?? []
  ofTopic[shard] = prefix
  prefixes.set(topicId, ofTopic)
  return prefix
}
/** 11 digits hold every safe integer in base 36. */
const ID_DIGITS = 11
const digitsOf = (position: number): string => position.toString(36).padStart(ID_DIGITS, '0')

// Fluent Bit looks for the literal "FailedPutCount":0
const BATCH_HEAD = '{"FailedPutCount":0,"Encrypted":false,"RequestResponses":['

/** As bytes: 500 ids as strings are 100 KB for the collector. */
function batchAnswer(prefix: string, baseOffset: number, count: number): Uint8Array {
  const entry = `{"RecordId":"${prefix}${'0'.repeat(ID_DIGITS)}"},`
  const end = BATCH_HEAD.length + entry.length * count
  const out = Buffer.allocUnsafe(end + 1)
  out.write(BATCH_HEAD, 'latin1')
  out.fill(entry, BATCH_HEAD.length, end, 'latin1')
  const digits = Buffer.from(digitsOf(baseOffset), 'latin1')
  for (let at = BATCH_HEAD.length + entry.length - 3 - ID_DIGITS; at < end; at += entry.length) {
    out.set(digits, at)
    increment(digits)
  }
  out.write(']}', end - 1, 'latin1')
  return out
}

/** Base 36, in place. */
function increment(digits: Uint8Array): void {
  for (let i = digits.length - 1; i >= 0; i--) {
    const c = digits[i] ?? 0
    if (c === 0x7a) {
      digits[i] = 0x30 // z → 0, and one more in front
      continue
    }
    digits[i] = c === 0x39 ? 0x61 : c + 1
    return
  }
}

export function putOperations(c: FirehoseContext): Operation[] {
  return [
    { name: 'PutRecord', run: (call) => putRecord(c, call) },
    { name: 'PutRecordBatch', run: (call) => putRecordBatch(c, call) },
  ]
}

async function putRecord(c: FirehoseContext, call: Call): Promise<string> {
  const { name, batch } = readPut(call.body, 'record')
  authorize(c, call, 'firehose:PutRecord', name)
  try {
    const at = await c.ingest.put(name, batch, call.signal)
    return `{"RecordId":"${recordIdPrefix(at.topicId, at.shard)}${digitsOf(at.baseOffset)}","Encrypted":false}`
  } catch (e) {
    if (!(e instanceof AppendError)) throw putError(c, name, e)
    c.events?.emit({ type: 'records.refused', stream: name, records: 1, code: e.code })
    // 'unknown' must not look like a clean refusal: the record may be stored
    throw e.stored === 'no' ? unavailable(SLOW_DOWN, e) : internalFailure(e)
  }
}

/** All records of a request are stored together or not at all, so either none failed or every one. */
async function putRecordBatch(c: FirehoseContext, call: Call): Promise<string | Uint8Array> {
  const { name, batch } = readPut(call.body, 'batch')
  authorize(c, call, 'firehose:PutRecordBatch', name)
  try {
    const at = await c.ingest.put(name, batch, call.signal)
    return batchAnswer(recordIdPrefix(at.topicId, at.shard), at.baseOffset, batch.count)
  } catch (e) {
    if (!(e instanceof AppendError)) throw putError(c, name, e)
    c.events?.emit({ type: 'records.refused', stream: name, records: batch.count, code: e.code })
    const entry =
      e.stored === 'no'
        ? `{"ErrorCode":"ServiceUnavailableException","ErrorMessage":"${SLOW_DOWN}"}`
        : `{"ErrorCode":"InternalFailure","ErrorMessage":"${INTERNAL}"}`
    return `{"FailedPutCount":${batch.count},"Encrypted":false,"RequestResponses":[${Array.from({ length: batch.count }, () => entry).join(',')}]}`
  }
}

function putError(c: FirehoseContext, name: string, e: unknown): ApiError {
  const code = errorCode(e)
  if (code === 'not-found' && c.streams.get(name) === null) return notFound(c, name)
  if (code === 'not-found') return new ApiError('ResourceNotFoundException', `Firehose ${name} is not active in ${c.account} account.`)
  return e instanceof ApiError ? e : internalFailure(e)
}
