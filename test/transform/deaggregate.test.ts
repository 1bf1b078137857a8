import { describe, expect, test } from 'vitest'
import { runStages } from '../../core/transform/chain.ts'
import { deaggregateStage } from '../../core/transform/deaggregate.ts'
import { seeded } from '../format/helpers.ts'
import { context, inBatchesOf, lines, source, texts } from './helpers.ts'

const json = [deaggregateStage({ type: 'json' })]
const by = (delimiter: string) => [deaggregateStage({ type: 'delimited', delimiter: Buffer.from(delimiter).toString('base64') })]
const many = (n: number): string => '{"n":1}'.repeat(n)
const run = (stages: typeof json, values: readonly (string | null)[]) => runStages(stages, source(values), context)

describe('JSON', () => {
  test.each([
    ['one a line', '{"a":1}\n{"a":2}\r\n{"a":3}\n', ['{"a":1}', '{"a":2}', '{"a":3}']],
    ['glued', '{"a":1}{"a":2}', ['{"a":1}', '{"a":2}']],
    ['pretty-printed', '{\n  "a": [1, {"b": 2}]\n}\n{\n  "a": 3\n}', ['{\n  "a": [1, {"b": 2}]\n}', '{\n  "a": 3\n}']],
    ['brackets and quotes in strings', String.raw`{"a":"}{\"]\\"} {"b":"{"}`, [String.raw`{"a":"}{\"]\\"}`, '{"b":"{"}']],
    ['space around', ' \t{"a":1} ', ['{"a":1}']],
    ['an array is not split', ' [{"a":1},{"a":2}] ', [' [{"a":1},{"a":2}] ']],
    ['nothing but space', ' \n', [' \n']],
    ['empty', '', ['']],
    ['not ASCII', '{"ü":"日本"}{"é":1}', ['{"ü":"日本"}', '{"é":1}']],
  ])('%s', async (_name, record, parts) => {
    const r = await run(json, [record])
    expect(texts(r.batch)).toEqual(parts)
    expect([...r.batch.sub]).toEqual(parts.map((_, i) => i))
    expect(r.rejected).toEqual([])
    expect(r.entered).toBe(parts.length)
  })

  test.each([
    ['{"a":1}x', 'byte 7 of 8 does not start a JSON object'],
    ['{"a":1},{"b":2}', 'byte 7 of 15 does not start a JSON object'],
    ['text', 'byte 0 of 4 does not start a JSON object'],
    ['42', 'byte 0 of 2 does not start a JSON object'],
    ['{"a":1}[2]', 'byte 7 of 10 does not start a JSON object'],
    ['{"a":1}{"b":', 'the JSON object at byte 7 of 12 does not end'],
    ['{"a":"}', 'the JSON object at byte 0 of 7 does not end'],
    [String.raw`{"a":"\"}`, 'the JSON object at byte 0 of 9 does not end'],
    ['{"a":[1}]', 'the JSON object at byte 0 of 9 does not end'],
    ['[1,2', 'the JSON array at byte 0 of 4 does not end'],
    ['[1][2]', 'byte 3 of 6: data after a JSON array'],
  ])('%s is rejected whole', async (record, message) => {
    const r = await run(json, ['{"ok":1}', record, '{"ok":2}'])
    expect(texts(r.batch)).toEqual(['{"ok":1}', '{"ok":2}'])
    expect(r.rejected).toEqual([{ origin: 1, sub: 0, stage: 'deaggregate', code: 'DeAggregation.MalformedJson', message, attempts: 1 }])
    expect(Buffer.from(r.rawOf({ origin: 1, sub: 0 })).toString()).toBe(record)
    expect(r.entered).toBe(3)
  })

  test('a record never reads into the next one', async () => {
    const r = await run(json, ['{"a":"', '"}'])
    expect(r.rejected.map((j) => j.origin)).toEqual([0, 1])
  })

  test('deep nesting', async () => {
    const deep = `{"a":${'['.repeat(5000)}${']'.repeat(5000)}}`
    expect(texts((await run(json, [deep + deep])).batch)).toEqual([deep, deep])
    expect((await run(json, [`{"a":${'['.repeat(5000)}${']'.repeat(4999)}}`])).rejected).toHaveLength(1)
  })

  test('500 sub-records are split, 501 pass unsplit', async () => {
    const r = await run(json, [many(500), many(501), `${many(501)}garbage`])
    expect(r.batch.count).toBe(502)
    expect(texts(r.batch).slice(500)).toEqual([many(501), `${many(501)}garbage`])
    expect([...r.batch.sub].slice(499)).toEqual([499, 0, 0])
  })

  test('property: any objects, any white space, any batches', async () => {
    const random = seeded(11)
    const pick = <T>(of: readonly T[]): T => of[Math.floor(random() * of.length)] as T
    const value = (depth: number): unknown => {
      if (depth > 3 || random() < 0.4) return pick([1, -2.5e3, null, true, '', '}"{\\', '日本\n', '[', '\\"'])
      const many = Array.from({ length: Math.floor(random() * 4) })
      return random() < 0.5 ? many.map(() => value(depth + 1)) : Object.fromEntries(many.map((_, i) => [`k"${i}\\`, value(depth + 1)]))
    }
    const records: string[] = []
    const wanted: string[] = []
    for (let i = 0; i < 200; i++) {
      const parts = Array.from({ length: 1 + Math.floor(random() * 5) }, () => JSON.stringify({ v: value(0) }, null, pick([0, 2, '\t'])))
      wanted.push(...parts)
      records.push(parts.map((p) => p + pick(['', '\n', ' \r\n', '\t'])).join(''))
    }
    const whole = source(records)
    const r = await runStages(json, whole, context)
    expect(texts(r.batch)).toEqual(wanted)
    for (const per of [1, 7]) expect(await inBatchesOf(per, json, whole)).toEqual(lines(r).toSorted())
  })
})

describe('delimited', () => {
  test.each([
    ['a####b####c', ['a', 'b', 'c']],
    ['a####b####', ['a', 'b']],
    ['####a', ['', 'a']],
    ['a########b', ['a', '', 'b']],
    ['####', ['']],
    ['a###b', ['a###b']],
    ['a#####b', ['a', '#b']],
    ['', ['']],
    [null, [null]],
  ])('%s', async (record, parts) => {
    // the last two lie side by side: a delimiter across records is none
    const r = await run(by('####'), ['a', record, 'x##', '##y'])
    expect(texts(r.batch)).toEqual(['a', ...parts, 'x##', '##y'])
    expect([...r.batch.origin]).toEqual([0, ...parts.map(() => 1), 2, 3])
  })

  test('500 sub-records are split, 501 pass unsplit', async () => {
    const r = await run(by('\n'), ['a\n'.repeat(500), 'a\n'.repeat(501)])
    expect(r.batch.count).toBe(501)
  })

  test('property: split agrees with String.split, in any batches, also when values do not lie in order', async () => {
    const random = seeded(3)
    const records = Array.from({ length: 300 }, () =>
      Array.from({ length: Math.floor(random() * 12) }, () => (random() < 0.4 ? 'ab' : 'c')).join(''),
    )
    const wanted = records.flatMap((r) => (r === '' ? [''] : r.replace(/ab$/, '').split('ab')))
    const whole = source(records)
    const r = await runStages(by('ab'), whole, context)
    expect(texts(r.batch)).toEqual(wanted)
    expect(await inBatchesOf(7, by('ab'), whole)).toEqual(lines(r).toSorted())
    const backwards = { ...whole, valueStart: whole.valueStart.toReversed(), valueEnd: whole.valueEnd.toReversed() }
    const reversed = await runStages(by('ab'), backwards, context)
    expect(texts(reversed.batch)).toEqual(records.toReversed().flatMap((s) => (s === '' ? [''] : s.replace(/ab$/, '').split('ab'))))
  })

  test('a delimiter is base64 of something', () => {
    for (const delimiter of ['', 'no base64!', '####']) expect(() => deaggregateStage({ type: 'delimited', delimiter })).toThrow('base64')
  })
})

test('bytes are shared with the source; key, position and arrival are the origin’s; release goes to the source', async () => {
  const from = source(['{"a":1}', '{"b":1}{"b":2}'])
  const { batch } = await runStages(json, from, context)
  expect(batch.bytes).toBe(from.bytes)
  expect(batch.source.count).toBe(2)
  expect([...batch.position]).toEqual([100, 102, 102])
  expect([...batch.arrivalMs]).toEqual([1000, 1001, 1001])
  expect(batch.keyEnd[0]).toBe(0xffff_ffff)
  expect(Buffer.from(batch.bytes.subarray(batch.keyStart[2], batch.keyEnd[2])).toString()).toBe('key-1')
  expect(from.released).toBe(0)
  batch.release()
  expect(from.released).toBe(1)
})
