import { isUtf8 } from 'node:buffer'
import { serialization } from '../errors.ts'

export type JsonValue = null | boolean | number | string | readonly JsonValue[] | JsonRecord
export type JsonRecord = { readonly [member: string]: JsonValue | undefined }

/** A request body as a JSON object. Throws SerializationException for anything else. */
export function parseBody(body: Uint8Array): JsonRecord {
  if (!isUtf8(body)) throw serialization('The request body is not valid UTF-8.')
  let value: JsonValue
  try {
    value = JSON.parse(Buffer.from(body.buffer, body.byteOffset, body.byteLength).toString('utf8')) as JsonValue
  } catch {
    throw serialization('The request body is not valid JSON.')
  }
  if (!isRecord(value)) throw serialization('The request body is not a JSON object.')
  return value
}

export function isRecord(v: JsonValue | undefined): v is JsonRecord {
  return typeof v === 'object' && v !== null && !Array.isArray(v)
}
