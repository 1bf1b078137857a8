import { serialization, validation } from './errors.ts'
import { base64Bytes, base64Problem } from './json/base64.ts'
import { isRecord, type JsonRecord, type JsonValue } from './json/parse.ts'
import { shapeOf, type ServiceModel, type Shape } from './shapes.ts'

/** More are not printed. */
const MAX_ERRORS = 10

/**
 * A request body against its shape. The result has known members only, no nulls, whole numbers where the model says integer; blobs stay
 * base64 text, checked. Throws SerializationException for a wrong type (the first one) and ValidationException for broken constraints
 * (all of them, ten at most), in AWS's words.
 */
export function validate(model: ServiceModel, shapeName: string, body: JsonRecord): JsonRecord {
  const input = coerce(model, shapeOf(model, shapeName), body) as JsonRecord
  const errors: string[] = []
  constrain(model, shapeOf(model, shapeName), input, '', errors)
  if (errors.length > 0) {
    throw validation(`${errors.length} validation error${errors.length === 1 ? '' : 's'} detected: ${errors.join('; ')}`)
  }
  return input
}

const STRUCTURE = 'Start of structure or map found where not expected.'
const LIST = 'Start of list found where not expected'

function coerce(model: ServiceModel, shape: Shape, value: JsonValue): JsonValue {
  switch (shape.type) {
    case 'structure':
      return coerceStructure(model, shape, value)
    case 'list':
      if (!Array.isArray(value)) throw serialization(isRecord(value) ? STRUCTURE : 'Expected list or null')
      return (value as readonly JsonValue[]).map((v) => (v === null ? null : coerce(model, shapeOf(model, shape.member), v)))
    case 'map':
      return coerceMap(model, shape, value)
    case 'string':
    case 'blob':
      return shape.type === 'string' ? coerceString(value) : coerceBlob(value)
    case 'boolean':
      if (typeof value === 'boolean') return value
      if (typeof value === 'string') throw serialization(`'${clip(value.toUpperCase())}' can not be converted to an Boolean`)
      throw serialization(wrongType(value, 'an Boolean'))
    default:
      return coerceNumber(shape, value)
  }
}

function coerceNumber(shape: Shape & { type: 'integer' | 'long' | 'double' | 'timestamp' }, value: JsonValue): number {
  const name = shape.type === 'timestamp' ? 'an Date' : `an ${shape.type.charAt(0).toUpperCase()}${shape.type.slice(1)}`
  if (typeof value !== 'number') throw serialization(wrongType(value, name))
  return shape.type === 'integer' || shape.type === 'long' ? Math.trunc(value) : value
}

function coerceStructure(model: ServiceModel, shape: Shape & { type: 'structure' }, value: JsonValue): JsonRecord {
  if (!isRecord(value)) throw serialization(Array.isArray(value) ? LIST : 'Expected null')
  const out: Record<string, JsonValue> = {}
  for (const [name, member] of Object.entries(shape.members)) {
    const v = Object.hasOwn(value, name) ? value[name] : undefined
    if (v !== undefined && v !== null) out[name] = coerce(model, shapeOf(model, member), v)
  }
  return out
}

function coerceMap(model: ServiceModel, shape: Shape & { type: 'map' }, value: JsonValue): JsonRecord {
  if (!isRecord(value)) throw serialization(Array.isArray(value) ? LIST : 'Expected map or null')
  const out = Object.create(null) as Record<string, JsonValue>
  for (const [k, v] of Object.entries(value)) {
    if (v !== undefined && v !== null) out[k] = coerce(model, shapeOf(model, shape.value), v)
  }
  return out
}

function coerceString(value: JsonValue): string {
  if (typeof value !== 'string') throw serialization(wrongType(value, 'an String'))
  return value
}

function coerceBlob(value: JsonValue): string {
  if (typeof value !== 'string') throw serialization(wrongType(value, 'a Blob'))
  const problem = base64Problem(value)
  if (problem !== null) throw serialization(`'${clip(value)}' can not be converted to a Blob: ${problem}`)
  return value
}

function wrongType(value: JsonValue, wanted: string): string {
  if (Array.isArray(value)) return LIST
  if (typeof value === 'object') return STRUCTURE
  const java = { boolean: 'java.lang.Boolean', number: 'java.math.BigDecimal', string: 'java.lang.String' }
  return `class ${java[typeof value as 'boolean' | 'number' | 'string']} can not be converted to ${wanted}`
}

/** AWS repeats the whole value; a megabyte of base64 helps nobody. */
const clip = (s: string): string => (s.length <= 256 ? s : `${s.slice(0, 256)}…`)

function constrain(model: ServiceModel, shape: Shape, value: JsonValue, path: string, errors: string[]): void {
  const fail = (message: string): void => {
    if (errors.length < MAX_ERRORS) errors.push(`Value at '${path}' failed to satisfy constraint: ${message}`)
  }
  if (shape.type === 'structure') {
    constrainStructure(model, shape, value as JsonRecord, path, errors)
  } else if (shape.type === 'list') {
    constrainList(model, shape, value as readonly JsonValue[], path, errors, fail)
  } else if (shape.type === 'map') {
    const map = value as JsonRecord
    range(shape, Object.keys(map).length, 'length', fail)
    for (const [k, v] of Object.entries(map)) {
      if (v !== undefined) constrain(model, shapeOf(model, shape.value), v, `${path}.${k}.member`, errors)
    }
  } else for (const m of scalarProblems(shape, value)) fail(m)
}

function constrainStructure(
  model: ServiceModel,
  shape: Shape & { type: 'structure' },
  value: JsonRecord,
  path: string,
  errors: string[],
): void {
  for (const [name, member] of Object.entries(shape.members)) {
    const at = `${path === '' ? '' : `${path}.`}${lowerCamel(name)}`
    const v = value[name]
    if (v !== undefined) constrain(model, shapeOf(model, member), v, at, errors)
    else if (shape.required?.includes(name) === true && errors.length < MAX_ERRORS) {
      errors.push(`Value at '${at}' failed to satisfy constraint: Member must not be null`)
    }
  }
}

function constrainList(
  model: ServiceModel,
  shape: Shape & { type: 'list' },
  value: readonly JsonValue[],
  path: string,
  errors: string[],
  fail: (message: string) => void,
): void {
  range(shape, value.length, 'length', fail)
  const member = shapeOf(model, shape.member)
  if (member.type === 'structure' || member.type === 'list' || member.type === 'map') {
    for (const [i, v] of value.entries()) {
      if (errors.length >= MAX_ERRORS) return
      const at = `${path}.${i + 1}.member`
      if (v !== null) constrain(model, member, v, at, errors)
      else errors.push(`Value at '${at}' failed to satisfy constraint: Member must not be null`)
    }
  } else if (value.some((v) => v === null || scalarProblems(member, v).length > 0)) {
    fail(`Member must satisfy constraint: [${everyRule(member).join(', ')}]`)
  }
}

/** What a list of plain values prints: all the rules of its member, broken or not. */
function everyRule(shape: Shape): string[] {
  const out: string[] = []
  if (shape.type === 'string' || shape.type === 'blob') {
    if (shape.max !== undefined) out.push(`Member must have length less than or equal to ${shape.max}`)
    if (shape.min !== undefined) out.push(`Member must have length greater than or equal to ${shape.min}`)
  }
  if (shape.type === 'string') {
    if (shape.pattern !== undefined) out.push(`Member must satisfy regular expression pattern: ${shape.pattern}`)
    if (shape.enum) out.push(`Member must satisfy enum value set: [${shape.enum.join(', ')}]`)
  }
  return out.length === 0 ? ['Member must not be null'] : out
}

function scalarProblems(shape: Shape, value: JsonValue): string[] {
  const out: string[] = []
  const fail = (m: string): void => void out.push(m)
  if (shape.type === 'string') {
    const text = value as string
    if (shape.enum && !shape.enum.includes(text)) fail(`Member must satisfy enum value set: [${shape.enum.join(', ')}]`)
    // a text beyond its length is refused for that; a regular expression never sees it
    if (shape.pattern !== undefined && text.length <= (shape.max ?? Infinity) && !patternOf(shape.pattern).test(text)) {
      fail(`Member must satisfy regular expression pattern: ${shape.pattern}`)
    }
    range(shape, text.length, 'length', fail)
  } else if (shape.type === 'blob') range(shape, base64Bytes(value as string), 'length', fail)
  else if (shape.type === 'integer' || shape.type === 'long' || shape.type === 'double') range(shape, value as number, 'value', fail)
  return out
}

function range(shape: { min?: number; max?: number }, n: number, what: 'length' | 'value', fail: (m: string) => void): void {
  if (shape.min !== undefined && n < shape.min) fail(`Member must have ${what} greater than or equal to ${shape.min}`)
  if (shape.max !== undefined && n > shape.max) fail(`Member must have ${what} less than or equal to ${shape.max}`)
}

const patterns = new Map<string, RegExp>()
/** The whole value must match; `\p{…}` needs the u flag, under which some older patterns do not compile. The set is the model's, so bounded. */
export function patternOf(pattern: string): RegExp {
  let p = patterns.get(pattern)
  if (!p) {
    p = new RegExp(`^(?:${pattern})$`, pattern.includes('\\p{') ? 'u' : '')
    patterns.set(pattern, p)
  }
  return p
}

/** `DeliveryStreamName` → `deliveryStreamName`, `BucketARN` → `bucketARN`, `AWSKMSKeyARN` → `aWSKMSKeyARN`, as AWS does. */
const lowerCamel = (name: string): string => name.charAt(0).toLowerCase() + name.slice(1)
