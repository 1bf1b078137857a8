import { describe, expect, test } from 'vitest'
import { ApiError } from '../../core/api/errors.ts'
import { parseBody, type JsonRecord } from '../../core/api/json/parse.ts'
import { firehose, kinesis } from '../../core/api/shapes.generated.ts'
import { shapeOf, type ServiceModel } from '../../core/api/shapes.ts'
import { patternOf, validate } from '../../core/api/validate.ts'
import { printedOrder } from '../../scripts/generate-shapes.ts'
import { S3 } from './fakes.ts'

function said(shape: string, input: unknown, model: ServiceModel = firehose): { code: string; message: string } {
  try {
    validate(model, shape, input as JsonRecord)
  } catch (e) {
    if (e instanceof ApiError) return { code: e.code, message: e.message }
    throw e
  }
  throw new Error('it was accepted')
}
const create = (s3: object): object => ({ DeliveryStreamName: 'a', ExtendedS3DestinationConfiguration: { ...S3, ...s3 } })

describe('constraints, in the words recorded from AWS', () => {
  test.each([
    [
      'a bad enum',
      create({ CompressionFormat: 'gzip' }),
      "1 validation error detected: Value at 'extendedS3DestinationConfiguration.compressionFormat' failed to satisfy constraint: " +
        'Member must satisfy enum value set: [ZIP, HADOOP_SNAPPY, Snappy, GZIP, UNCOMPRESSED]',
    ],
    [
      'a missing member',
      { DeliveryStreamName: 'a', ExtendedS3DestinationConfiguration: { RoleARN: S3.RoleARN } },
      "1 validation error detected: Value at 'extendedS3DestinationConfiguration.bucketARN' failed to satisfy constraint: Member must not be null",
    ],
    [
      'a value too large',
      create({ BufferingHints: { SizeInMBs: 129, IntervalInSeconds: 60 } }),
      "1 validation error detected: Value at 'extendedS3DestinationConfiguration.bufferingHints.sizeInMBs' failed to satisfy constraint: " +
        'Member must have value less than or equal to 128',
    ],
    [
      'several at once',
      { DeliveryStreamName: 'a b', Tags: [{ Key: '' }, { Value: 'x' }] },
      "3 validation errors detected: Value at 'deliveryStreamName' failed to satisfy constraint: Member must satisfy regular expression " +
        "pattern: [a-zA-Z0-9_.-]+; Value at 'tags.1.member.key' failed to satisfy constraint: Member must have length greater than or equal " +
        "to 1; Value at 'tags.2.member.key' failed to satisfy constraint: Member must not be null",
    ],
    [
      'a text that is too long is refused for that alone',
      { DeliveryStreamName: ' '.repeat(65) },
      "1 validation error detected: Value at 'deliveryStreamName' failed to satisfy constraint: Member must have length less than or equal to 64",
    ],
    [
      'reserved tag keys',
      { DeliveryStreamName: 'a', Tags: [{ Key: 'aws:x' }] },
      String.raw`1 validation error detected: Value at 'tags.1.member.key' failed to satisfy constraint: Member must satisfy regular expression pattern: ^(?!aws:)[\p{L}\p{Z}\p{N}_.:\/=+\-@%]*$`,
    ],
  ])('%s', (_, input, message) => {
    expect(said('CreateDeliveryStreamInput', input)).toEqual({ code: 'ValidationException', message })
  })
  test('a list of plain values says all its rules', () => {
    expect(said('UntagDeliveryStreamInput', { DeliveryStreamName: 'a', TagKeys: ['ok', ''] }).message).toBe(
      "1 validation error detected: Value at 'tagKeys' failed to satisfy constraint: Member must satisfy constraint: [Member must have " +
        'length less than or equal to 128, Member must have length greater than or equal to 1, Member must satisfy regular expression ' +
        String.raw`pattern: ^(?!aws:)[\p{L}\p{Z}\p{N}_.:\/=+\-@%]*$]`,
    )
  })
  test('ten errors at most', () => {
    const Tags = Array.from({ length: 20 }, () => ({ Key: '' }))
    expect(said('TagDeliveryStreamInput', { DeliveryStreamName: 'a', Tags }).message).toMatch(/^10 validation errors detected: /)
  })
})

describe('types', () => {
  test.each([
    [{ DeliveryStreamName: 1 }, 'class java.math.BigDecimal can not be converted to an String'],
    [{ DeliveryStreamName: true }, 'class java.lang.Boolean can not be converted to an String'],
    [{ DeliveryStreamName: {} }, 'Start of structure or map found where not expected.'],
    [{ DeliveryStreamName: [] }, 'Start of list found where not expected'],
    [{ Tags: 'x' }, 'Expected list or null'],
    [{ Tags: {} }, 'Start of structure or map found where not expected.'],
    [{ Tags: ['x'] }, 'Expected null'],
    [create({ BufferingHints: { SizeInMBs: '5' } }), 'class java.lang.String can not be converted to an Integer'],
    [create({ CloudWatchLoggingOptions: { Enabled: 'maybe' } }), "'MAYBE' can not be converted to an Boolean"],
    [create({ CloudWatchLoggingOptions: { Enabled: 1 } }), 'class java.math.BigDecimal can not be converted to an Boolean'],
  ])('%j', (input, message) => {
    expect(said('CreateDeliveryStreamInput', input)).toEqual({ code: 'SerializationException', message })
  })
  test('a blob that is no text', () => {
    expect(said('PutRecordInput', { DeliveryStreamName: 'a', Record: { Data: 1 } }).message).toBe(
      'class java.math.BigDecimal can not be converted to a Blob',
    )
  })
  test('unknown members are ignored, null is absent, fractions are cut', () => {
    const out = validate(firehose, 'ListDeliveryStreamsInput', { Limit: 3.9, Nothing: { a: 1 }, DeliveryStreamType: null })
    expect(out).toEqual({ Limit: 3 })
  })
  test('a member of the prototype is no member', () => {
    const out = validate(firehose, 'ListDeliveryStreamsInput', JSON.parse('{"__proto__":{"Limit":0},"constructor":1}') as JsonRecord)
    expect(out).toEqual({})
  })
})

describe('bodies', () => {
  test.each(['', '{', '[]', 'null', '"x"', '1', '{"a":1}}', '{"a":"\u0001"}'])('%j is refused', (text) => {
    expect(() => parseBody(Buffer.from(text))).toThrow(ApiError)
  })
  test('broken UTF-8 is refused', () => expect(() => parseBody(Buffer.from([0x7b, 0xff, 0x7d]))).toThrow(/UTF-8/))
})

describe.each([
  ['firehose', firehose, 12],
  ['kinesis', kinesis, 30],
] as const)('the generated shapes of %s', (_, model, operations) => {
  const shapes = Object.entries(model.shapes)
  test('name only what is there', () => {
    for (const [name, s] of shapes) {
      const refs =
        s.type === 'structure' ? Object.values(s.members) : s.type === 'list' ? [s.member] : s.type === 'map' ? [s.key, s.value] : []
      for (const ref of refs) expect(shapeOf(model, ref), `${name} → ${ref}`).toBeDefined()
      if (s.type === 'structure') for (const r of s.required ?? []) expect(Object.keys(s.members)).toContain(r)
    }
    expect(Object.keys(model.operations).length).toBeGreaterThanOrEqual(operations)
    for (const o of Object.values(model.operations))
      for (const n of [o.input, o.output, ...o.errors]) if (n) expect(model.shapes[n]).toBeDefined()
  })
  test('have sane bounds, and patterns that compile', () => {
    for (const [name, s] of shapes) {
      if ('min' in s && s.min !== undefined && s.max !== undefined) expect(s.min, name).toBeLessThanOrEqual(s.max)
      if (s.type === 'string' && s.pattern !== undefined) expect(patternOf(s.pattern)).toBeInstanceOf(RegExp)
      if (s.type === 'string' && s.enum) expect(s.enum, name).toEqual(printedOrder(s.enum.toReversed()))
    }
  })
})

test('enums are printed in the order in which AWS prints them', () => {
  for (const recorded of [
    ['ZIP', 'HADOOP_SNAPPY', 'Snappy', 'GZIP', 'UNCOMPRESSED'],
    ['AFTER_SEQUENCE_NUMBER', 'LATEST', 'AT_TIMESTAMP', 'AT_SEQUENCE_NUMBER', 'TRIM_HORIZON'],
    ['ALL_NEW', 'UPDATED_OLD', 'ALL_OLD', 'NONE', 'UPDATED_NEW'],
    ['INDEXES', 'TOTAL', 'NONE'],
  ]) {
    // GZIP and UNCOMPRESSED share a bucket: the later one of the model comes first
    const model = recorded.toSorted((a, b) => (a === 'UNCOMPRESSED' ? -1 : b === 'UNCOMPRESSED' ? 1 : 0))
    expect(printedOrder(model)).toEqual(recorded)
  }
})
