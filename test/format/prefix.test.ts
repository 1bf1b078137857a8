import { describe, expect, test } from 'vitest'
import { checkPrefixes, evaluatePrefix, objectName, parsePrefix, PrefixError } from '../../core/format/prefix.ts'

const token = '7f0c2f7e-6a30-4d8a-9f0e-2b6a0d9d3a61'
const at = (iso: string, timeZone = 'UTC') => ({ arrivalMs: Date.parse(iso), timeZone, token, errorOutputType: 'processing-failed' })
const aug = at('2018-08-27T10:30:00Z')
const prefixed = (text: string, c = aug): string => evaluatePrefix(parsePrefix(text, 'prefix'), c)
const failed = (prefix: string, errorPrefix: string, c = aug): string => evaluatePrefix(checkPrefixes(prefix, errorPrefix).errorPrefix, c)

function refusal(run: () => unknown): string {
  try {
    run()
  } catch (e) {
    if (e instanceof PrefixError) return e.awsMessage
    throw e
  }
  return 'accepted'
}

describe('where records go', () => {
  test('no prefix: the date', () => expect(prefixed('')).toBe('2018/08/27/10/'))
  test('static: the date is appended and no slash', () => expect(prefixed('legacy')).toBe('legacy2018/08/27/10/'))
  test('an expression: nothing is appended', () => {
    expect(prefixed('myFirehose/DeliveredYear=!{timestamp:yyyy}/anyMonth/')).toBe('myFirehose/DeliveredYear=2018/anyMonth/')
    expect(prefixed("!{timestamp:'year='yyyy'/month='MM}/x")).toBe('year=2018/month=08/x')
  })
  test('the time zone moves all timestamps', () => {
    expect(prefixed('!{timestamp:yyyy/MM/dd/HH}/', at('2018-12-31T23:30:00Z', 'Asia/Tokyo'))).toBe('2019/01/01/08/')
    expect(prefixed('', at('2018-12-31T23:30:00Z', 'Asia/Tokyo'))).toBe('2019/01/01/08/')
  })
  test('a record without a time counts as of the epoch', () => expect(prefixed('', { ...aug, arrivalMs: -1 })).toBe('1970/01/01/00/'))
  test('a dollar, a brace or an exclamation mark alone is text', () => expect(prefixed('a!b{c}$1 !}')).toBe('a!b{c}$1 !}2018/08/27/10/'))
})

describe('where failed records go', () => {
  test('no prefixes', () => expect(failed('', '')).toBe('processing-failed/2018/08/27/10/'))
  test('a static prefix and no error prefix', () => expect(failed('p/', '')).toBe('p/processing-failed/2018/08/27/10/'))
  test('a static error prefix', () => expect(failed('p/', 'e/')).toBe('e/processing-failed/2018/08/27/10/'))
  test('expressions', () => {
    expect(failed('!{timestamp:yyyy}/', 'myFirehoseFailures/!{firehose:error-output-type}/')).toBe('myFirehoseFailures/processing-failed/')
    expect(failed('', '!{timestamp:yyyy/MM}/!{firehose:error-output-type}/x')).toBe('2018/08/processing-failed/x')
  })
  test('the type must be given', () => {
    const p = parsePrefix('', 'error_prefix')
    expect(() => evaluatePrefix(p, { arrivalMs: 0, timeZone: 'UTC', token })).toThrow('no error output type')
  })
})

describe('random-string', () => {
  const text = 'a/!{firehose:random-string}/!{firehose:random-string}/'
  test('11 letters and digits, the same for the same object, different within a prefix', () => {
    const m = /^a\/([A-Za-z0-9]{11})\/([A-Za-z0-9]{11})\/$/.exec(prefixed(text))
    expect(m).not.toBeNull()
    expect(m?.[1]).not.toBe(m?.[2])
    expect(prefixed(text)).toBe(prefixed(text))
  })
  test('other objects, other strings; every character occurs', () => {
    const seen = new Set<string>()
    let all = ''
    for (let i = 0; i < 300; i++) {
      const s = prefixed('!{firehose:random-string}', { ...aug, token: `token-${i}` })
      seen.add(s)
      all += s
    }
    expect(seen.size).toBe(300)
    expect(new Set(all).size).toBe(62)
  })
  test('names do not change between versions: this string is pinned', () => {
    expect(prefixed('!{firehose:random-string}')).toBe('2EX4siJMKwx')
  })
})

test.each([
  ['!{timestamp:yyyy', 'Invalid expression usage'],
  ['!{}', 'Invalid expression usage'],
  ['!{yyyy}', 'Invalid expression usage'],
  ['!{timestamp:}', 'Invalid expression usage'],
  ['!{timestamp:!{timestamp:yyyy}}', 'Invalid expression usage'],
  ["!{timestamp:'open}", 'Invalid expression usage'],
  ['!{timestamp:ddd}', 'Invalid expression usage'],
  ['!{firehose:nothing}', 'Invalid expression usage'],
  ['!{x:y}', 'Namespace to the left of colon (x) is an invalid keyword!'],
  ['!{:y}', 'Namespace to the left of colon () is an invalid keyword!'],
  ['!{Timestamp:yyyy}', 'Namespace to the left of colon (Timestamp) is an invalid keyword!'],
  ['!{timestamp:T}', 'Invalid conversion character used in the value of the expression in Prefix'],
  ['!{firehose:error-output-type}', 'Prefix must not contain any occurrence of !{firehose:error-output-type}'],
  ['!{partitionKeyFromQuery:id}', 'Dynamic partitioning is not available yet in hydrant'],
  ['!{partitionKeyFromLambda:id}', 'Dynamic partitioning is not available yet in hydrant'],
  ['!{timestamp:NNNNNNNNNNNNNNNNNNN}'.padEnd(506, 'x'), 'accepted'],
  ['!{timestamp:NNNNNNNNNNNNNNNNNNN}'.padEnd(526, 'x'), 'Length of evaluated prefix cannot be greater than 512'],
  ['x'.repeat(498), 'accepted'],
  ['x'.repeat(499), 'Length of evaluated prefix cannot be greater than 512'],
  ['x'.repeat(1025), 'Length of Prefix cannot be greater than 1024'],
])('prefix %.40s: %s', (text, message) => expect(refusal(() => parsePrefix(text, 'prefix'))).toBe(message))

test.each([
  ['a', '!{timestamp:yyyy}/', 'ErrorOutputPrefix must contain !{firehose:error-output-type} when it contains expressions'],
  ['!{timestamp:yyyy}/', '', 'ErrorOutputPrefix cannot be null or empty when Prefix contains expressions'],
  ['', '!{partitionKeyFromQuery:id}', 'ErrorOutputPrefix cannot contain partition key namespaces'],
  [
    '',
    '!{timestamp:T}!{firehose:error-output-type}',
    'Invalid conversion character used in the value of the expression in ErrorOutputPrefix',
  ],
  ['', 'x'.repeat(480), 'Length of evaluated ErrorOutputPrefix cannot be greater than 512'],
  ['!{timestamp:yyyy}/', 'errors/', 'accepted'],
  ['!{firehose:random-string}/', 'e/!{firehose:error-output-type}/', 'accepted'],
])('prefix %s with error prefix %.40s: %s', (p, e, message) => expect(refusal(() => checkPrefixes(p, e))).toBe(message))

test('YYYY and DD are legal and warned of, in quotes they are text', () => {
  expect(parsePrefix('!{timestamp:YYYY/MM/DD}', 'prefix').warnings).toHaveLength(2)
  expect(parsePrefix("!{timestamp:'YD'yyyy/MM/dd}/!{timestamp:yyyy-DDD}", 'prefix').warnings).toEqual([])
})

test("an object's name", () => {
  const o = { streamName: 'orders', versionId: '3', arrivalMs: Date.parse('2026-07-13T14:02:55.999Z'), timeZone: 'UTC', token }
  expect(objectName({ ...o, extension: '.gz' })).toBe(`orders-3-2026-07-13-14-02-55-${token}.gz`)
  expect(objectName({ ...o, extension: '', timeZone: 'Europe/Berlin' })).toBe(`orders-3-2026-07-13-16-02-55-${token}`)
})
