import { gzipSync } from 'node:zlib'
import { describe, expect, test } from 'vitest'
import { limits } from '../../core/limits.ts'
import { boundedSlices, createStages, runStages } from '../../core/transform/chain.ts'
import type { Stage } from '../../core/transform/types.ts'
import { seeded } from '../format/helpers.ts'
import { context, inBatchesOf, lines, source, texts } from './helpers.ts'

const cloudwatch = createStages({ deaggregate: null, decompress: true, extractMessages: true })
const decompress = createStages({ deaggregate: null, decompress: true, extractMessages: false })
const randomBytesOf = (seed: number, n: number): Uint8Array => {
  const random = seeded(seed)
  return Uint8Array.from({ length: n }, () => random() * 256)
}
const envelope = (messages: readonly string[], messageType = 'DATA_MESSAGE'): Buffer =>
  gzipSync(
    JSON.stringify({
      messageType,
      owner: '123456789012',
      logGroup: 'g',
      logStream: 's',
      subscriptionFilters: ['f'],
      logEvents: messages.map((message, i) => ({ id: String(i), timestamp: 1_700_000_000_000 + i, message })),
    }),
    { level: 6 },
  )

describe('decompress', () => {
  test('every record is gunzipped; keys, positions and null keys stay', async () => {
    const from = source(['a', 'b', 'c', 'd', 'e'].map((v) => gzipSync(v.repeat(1000))))
    const { batch, rejected, entered } = await runStages(decompress, from, context)
    expect(texts(batch)).toEqual(['a', 'b', 'c', 'd', 'e'].map((v) => v.repeat(1000)))
    expect([...batch.position]).toEqual([100, 102, 104, 106, 108])
    expect([...batch.keyEnd].map((e) => e === 0xffff_ffff)).toEqual([true, false, false, true, false])
    expect(Buffer.from(batch.bytes.subarray(batch.keyStart[4], batch.keyEnd[4])).toString()).toBe('key-4')
    expect([rejected, entered]).toEqual([[], 5])
  })

  test('headers are carried along', async () => {
    const from = source([gzipSync('a'), gzipSync('b')])
    const at = from.bytes.length
    const bytes = Buffer.concat([from.bytes, Buffer.from('h0h1')])
    const r = await runStages(
      decompress,
      { ...from, bytes, headerStart: Uint32Array.of(at, at + 2), headerEnd: Uint32Array.of(at + 2, at + 4) },
      context,
    )
    const { headerStart, headerEnd } = r.batch
    expect(Buffer.from(r.batch.bytes.subarray(headerStart?.[1], headerEnd?.[1])).toString()).toBe('h1')
    expect(texts(r.batch)).toEqual(['a', 'b'])
  })

  test('what is not gzip is rejected with its original bytes, the rest goes on', async () => {
    const whole = gzipSync('hello world')
    const bad = [Buffer.from('plain'), whole.subarray(0, -4), new Uint8Array(0), null]
    const r = await runStages(decompress, source([whole, ...bad, whole]), context)
    expect(texts(r.batch)).toEqual(['hello world', 'hello world'])
    expect(r.rejected.map((j) => [j.origin, j.stage, j.code])).toEqual(
      [1, 2, 3, 4].map((i) => [i, 'decompress', 'Decompression.MalformedGzip']),
    )
    expect(r.rejected.map((j) => j.message)).toEqual([
      'the record of 5 bytes is not gzip: Z_DATA_ERROR',
      `the record of ${whole.length - 4} bytes is not gzip: Z_BUF_ERROR`,
      'the record is empty',
      'the record is empty',
    ])
    expect(Buffer.from(r.rawOf({ origin: 2, sub: 0 })).equals(whole.subarray(0, -4))).toBe(true)
    expect(r.rawOf({ origin: 4, sub: 0 }).length).toBe(0)
    expect(r.entered).toBe(6)
  })

  test('a bomb is rejected at the limit', async () => {
    const bomb = gzipSync(Buffer.alloc(limits.decompressedRecordBytes + 1))
    const r = await runStages(decompress, source([bomb, gzipSync('x')]), context)
    expect(texts(r.batch)).toEqual(['x'])
    expect(r.rejected[0]).toMatchObject({
      code: 'Decompression.TooLarge',
      origin: 0,
      message: expect.stringContaining('67108864') as string,
    })
  })

  test('an abort ends it and releases nothing', async () => {
    const from = source([gzipSync('x')])
    await expect(runStages(decompress, from, { signal: AbortSignal.abort(new Error('stop')), replay: false })).rejects.toThrow('stop')
    expect(from.released).toBe(0)
  })
})

const records = (n: number, bytes: number): Uint8Array[] => Array.from({ length: n }, (_, i) => new Uint8Array(bytes).fill(i))

describe('bounded slices', () => {
  test('a batch is cut so that bombs cannot make more than about one record may have', () => {
    const from = source([...records(30, 10_000), ...records(2, 400_000), null, ...records(10, 100)])
    const slices = boundedSlices(decompress, from)
    expect(slices.map((s) => s.count)).toEqual([6, 6, 6, 6, 6, 1, 1, 11])
    expect(slices.flatMap((s) => [...s.position])).toEqual([...from.position])
    for (const s of slices.slice(1)) s.release()
    expect(from.released).toBe(0)
    slices[0]?.release()
    expect(from.released).toBe(1)
  })

  test('the outcome is that of the whole', async () => {
    const whole = source(Array.from({ length: 50 }, (_, i) => (i % 9 === 0 ? Buffer.from('no gzip') : gzipSync(randomBytesOf(i, 5000)))))
    const slices = boundedSlices(decompress, whole)
    expect(slices.length).toBeGreaterThan(2)
    const out: string[] = []
    let base = 0
    for (const s of slices) {
      out.push(...lines(await runStages(decompress, s, context), base))
      base += s.count
    }
    expect(out.toSorted()).toEqual(lines(await runStages(decompress, whole, context)).toSorted())
  })

  test('one slice where nothing grows', () => {
    const from = source(['a', 'b'])
    expect(boundedSlices([], from)).toEqual([from])
    expect(boundedSlices(decompress, { ...from, count: 0 })).toHaveLength(1)
  })
})

describe('CloudWatch Logs messages', () => {
  test('messages of an envelope become one record, each with a newline; a control message is an empty record', async () => {
    const r = await runStages(
      cloudwatch,
      source([envelope(['one', 'two']), envelope(['x'], 'CONTROL_MESSAGE'), envelope([]), envelope(['ü\n'])]),
      context,
    )
    expect(texts(r.batch)).toEqual(['one\ntwo\n', '', '', 'ü\n\n'])
    expect(r.entered).toBe(4)
  })

  test.each([
    ['not json', 'CloudWatchLogProcessing.MalformedJson', 'the record of 8 bytes is not JSON'],
    [Buffer.from('{"a":"\xff"}', 'latin1'), 'CloudWatchLogProcessing.MalformedJson', 'the record of 9 bytes is not JSON'],
    ['{}', 'CloudWatchLogProcessing.MalformedEnvelope', 'messageType is neither'],
    ['null', 'CloudWatchLogProcessing.MalformedEnvelope', 'messageType is neither'],
    ['{"messageType":"DATA_MESSAGE"}', 'CloudWatchLogProcessing.MalformedEnvelope', 'logEvents is not a list'],
    ['{"messageType":"DATA_MESSAGE","logEvents":[{"message":"a"},null]}', 'CloudWatchLogProcessing.MalformedEnvelope', 'logEvents[1]'],
  ])('%s is rejected with the gzip bytes that came in', async (text, code, message) => {
    const record = gzipSync(text)
    const r = await runStages(cloudwatch, source([envelope(['ok']), record]), context)
    expect(r.rejected).toHaveLength(1)
    expect(r.rejected[0]).toMatchObject({ origin: 1, stage: 'transform', code, message: expect.stringContaining(message) as string })
    expect(Buffer.from(r.rawOf({ origin: 1, sub: 0 })).equals(record)).toBe(true)
    expect(texts(r.batch)).toEqual(['ok\n'])
  })

  test('rejections of several stages come in order, whatever the batches', async () => {
    const records = Array.from({ length: 40 }, (_, i) =>
      i % 7 === 3 ? gzipSync('no json') : i % 5 === 1 ? Buffer.from('no gzip') : envelope([`m${i}`]),
    )
    const whole = source(records)
    const r = await runStages(cloudwatch, whole, context)
    const origins = r.rejected.map((j) => j.origin)
    expect(origins).toEqual(origins.toSorted((a, b) => a - b))
    expect(r.entered).toBe(40)
    for (const per of [1, 9]) expect(await inBatchesOf(per, cloudwatch, whole)).toEqual(lines(r).toSorted())
  })
})

describe('the chain', () => {
  test('no stages: the source itself', async () => {
    const from = source(['a', null])
    const r = await runStages([], from, context)
    expect(r.batch.bytes).toBe(from.bytes)
    expect(r.batch.valueStart).toBe(from.valueStart)
    expect([r.batch.count, r.entered]).toEqual([2, 2])
  })

  test('order is that of Firehose; sub-records of a split are told apart', async () => {
    const stages = createStages({
      deaggregate: { type: 'delimited', delimiter: Buffer.from('####').toString('base64') },
      decompress: true,
      extractMessages: true,
    })
    expect(stages.map((s) => s.name)).toEqual(['deaggregate', 'decompress', 'extract-messages'])
    const from = source([Buffer.concat([envelope(['a']), Buffer.from('####bad####'), envelope(['b'])]), envelope(['c'])])
    const r = await runStages(stages, from, context)
    expect(texts(r.batch)).toEqual(['a\n', 'b\n', 'c\n'])
    expect([...r.batch.origin]).toEqual([0, 0, 1])
    expect([...r.batch.sub]).toEqual([0, 2, 0])
    expect(r.rejected.map((j) => [j.origin, j.sub])).toEqual([[0, 1]])
    expect(Buffer.from(r.rawOf({ origin: 0, sub: 1 })).toString()).toBe('bad')
    expect(r.entered).toBe(4)
    r.batch.release()
    expect(from.released).toBe(1)
  })

  test('messages without decompression are refused', () => {
    expect(() => createStages({ deaggregate: null, decompress: false, extractMessages: true })).toThrow(
      'only be enabled with DecompressionProcessor',
    )
  })

  test('a stage that loses a record is caught', async () => {
    const loser: Stage = {
      name: 'loser',
      splits: false,
      apply: async (b) => ({ batch: { ...b, count: b.count - 1 }, rejected: [], dropped: [] }),
      close: async () => {},
    }
    await expect(runStages([loser], source(['a', 'b']), context)).rejects.toThrow('2 entered, 1 out + 0 rejected + 0 dropped')
  })

  test('a splitting stage anywhere but first is refused', async () => {
    const [split] = createStages({ deaggregate: { type: 'json' }, decompress: false, extractMessages: false })
    if (!split) throw new Error('no stage')
    await expect(runStages([...decompress, split], source([gzipSync('{}')]), context)).rejects.toThrow('must be the first')
  })

  test('100,000 rejections in one batch', async () => {
    const stages = createStages({ deaggregate: { type: 'json' }, decompress: false, extractMessages: false })
    const r = await runStages(stages, source(Array.from({ length: 200_000 }, () => 'x')), context)
    expect([r.rejected.length, r.batch.count, r.entered]).toEqual([200_000, 0, 200_000])
  })
})
