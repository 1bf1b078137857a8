import { describe, expect, test } from 'vitest'
import { isSecret, optionsJsonSchema, optionsTable, pluginKit } from '../../core/plugin/kit.ts'

const { z, secret, bytes, duration, untilAborted } = pluginKit

const endless = (stopped: () => void): AsyncIterable<number> =>
  (async function* () {
    try {
      for (let i = 0; ; i++) yield await Promise.resolve(i)
    } finally {
      stopped()
    }
  })()

describe('units', () => {
  test.each([
    ['8MiB', 8 * 1024 ** 2],
    ['64 KiB', 65_536],
    ['1.5GiB', 1.5 * 1024 ** 3],
    ['0B', 0],
    [12_345, 12_345],
  ])('size %s = %i bytes', (text, n) => expect(bytes().parse(text)).toBe(n))
  test.each([
    ['250ms', 250],
    ['1.5s', 1500],
    ['15m', 900_000],
    ['24h', 86_400_000],
    ['7d', 604_800_000],
    [42, 42],
  ])('duration %s = %i ms', (text, n) => expect(duration().parse(text)).toBe(n))
  test.each(['8MB', '8', '-1MiB', '8 mib', '', '1e3B', -1, 1.5, null])('size %j is refused', (v) => {
    expect(bytes().safeParse(v).success).toBe(false)
  })
  test.each(['30', '30 seconds', '-5s', '5M'])('duration %j is refused, and what is allowed is said', (v) => {
    expect(duration().safeParse(v).error?.issues[0]?.message).toMatch(/a number and a unit \(ms, s, m, h, d\), such as 30s|Invalid input/)
  })
})

test('secrets are known through optional, default, nullable and transform', () => {
  const s = secret()
  for (const schema of [s, s.optional(), s.nullable(), s.meta({ description: 'x' }), s.transform((v) => v.trim()), s.default('x')]) {
    expect(isSecret(schema)).toBe(true)
  }
  expect(isSecret(z.string())).toBe(false)
})

test('the table of options and the JSON Schema come from the schema', () => {
  const options = z.strictObject({
    name: z.string().meta({ description: 'A | B.' }),
    size: bytes().prefault('8MiB'),
    mode: z.enum(['a', 'b']).default('a'),
    on: z.boolean().optional(),
    level: z.int().min(1).max(19).optional(),
    tries: z.int().min(1).optional(),
    mark: z.string().min(1).max(128).optional(),
    word: z.string().min(8).meta({ secret: true }).optional(),
    wait: z.string().meta({ format: 'duration', range: '0s to 1h' }).optional(),
    inner: z.strictObject({ key: secret(), wait: duration().optional() }).optional(),
  })
  expect(optionsTable(options).split('\n').slice(2)).toEqual([
    '| `name` | string | **required** | A \\| B. |',
    '| `size` | size | `8MiB` |  |',
    '| `mode` | `a`, `b` | `a` |  |',
    '| `on` | boolean | – |  |',
    '| `level` | integer, 1 to 19 | – |  |',
    '| `tries` | integer, at least 1 | – |  |',
    '| `mark` | string, 1 to 128 characters | – |  |',
    '| `word` | secret, at least 8 characters | – |  |',
    '| `wait` | duration, 0s to 1h | – |  |',
    '| `inner` | object | – |  |',
    '| `inner.key` | secret | required in `inner` |  |',
    '| `inner.wait` | duration | – |  |',
  ])
  expect(optionsJsonSchema(options)).toMatchObject({ type: 'object', required: ['name'], additionalProperties: false })
})

describe('untilAborted', () => {
  test('passes on, and stops the source when the reader stops', async () => {
    let stopped = 0
    const seen: number[] = []
    for await (const n of untilAborted(
      endless(() => stopped++),
      new AbortController().signal,
    )) {
      seen.push(n)
      if (n === 2) break
    }
    expect([seen, stopped]).toEqual([[0, 1, 2], 1])
  })
  test('rejects with the reason while the source hangs', async () => {
    const hangs: AsyncIterable<number> = { [Symbol.asyncIterator]: () => ({ next: () => new Promise(() => {}) }) }
    const ended = new AbortController()
    const read = (async () => {
      for await (const n of untilAborted(hangs, ended.signal)) return n
      return null
    })()
    ended.abort(new Error('the reason'))
    await expect(read).rejects.toThrow('the reason')
  })
  test('an error of the source passes unchanged', async () => {
    const broken = (async function* () {
      yield await Promise.resolve(1)
      throw new Error('of the source')
    })()
    const read = Array.fromAsync(untilAborted(broken, new AbortController().signal))
    await expect(read).rejects.toThrow('of the source')
  })
})
