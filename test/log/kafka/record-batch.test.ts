import { gzipSync, zstdCompressSync } from 'node:zlib'
import { compressSync } from 'snappy'
import { describe, expect, test } from 'vitest'
import { limits } from '../../../core/limits.ts'
import { AT, RecordBatchError } from '../../../core/log/kafka/record-batch.ts'
import { RecordSetDecoder } from '../../../core/log/kafka/record-batch-decoder.ts'
import { encodeRecordBatch, NO_PRODUCER, restamp, stampOf } from '../../../core/log/kafka/record-batch-encoder.ts'
import { Varints } from '../../../core/log/kafka/record-columns.ts'
import { batchOf, Counted, patched, plain, readSet, rec, stored, tools, varint, type Rec } from './support.ts'

const text = (s: string): Uint8Array => Buffer.from(s)
const joined = (...parts: Uint8Array[]): Uint8Array => Uint8Array.from(Buffer.concat(parts))
const plainly = { stamp: NO_PRODUCER, compression: 'none', ...tools } as const

const three = async (): Promise<Uint8Array[]> => [
  await stored([rec(10, 'a'), rec(11, 'b')]),
  await stored([rec(12, 'c')]),
  await stored([rec(13, 'd'), rec(14, 'e')]),
]
const values = (r: { records: unknown[] }): unknown[] => r.records.map((x) => (x as unknown[])[3])
const transactional = (records: Rec[], producerId: number): Promise<Uint8Array> =>
  stored(records, { transactional: true, stamp: { producerId, producerEpoch: 1, baseSequence: 0 } })
const control = (records: Rec[]): Promise<Uint8Array> => stored(records).then((b) => patched(b, (v) => v.setInt16(AT.attributes, 32)))
const good = (): Promise<Uint8Array> => stored([rec(7, 'a', { key: text('k') }), rec(8, 'b')])
const bomb = async (codec: number, body: Uint8Array): Promise<Uint8Array> => {
  const head = (await good()).slice(0, AT.records)
  return patched(joined(head, body), (v) => {
    v.setInt16(AT.attributes, codec)
    v.setInt32(AT.length, v.byteLength - 12)
  })
}
const lz4Bomb = (): Uint8Array => {
  const block = [0x1f, 0, 1, 0, ...Array.from({ length: 256 }, () => 255), 0, 0]
  const one = [block.length & 255, block.length >>> 8, 0, 0, ...block]
  return Uint8Array.from([0x04, 0x22, 0x4d, 0x18, 0x60, 0x70, 0x73, ...Array.from({ length: 1100 }, () => one).flat(), 0, 0, 0, 0])
}

const marker = async (offset: number, producerId: number, type: number): Promise<Uint8Array> =>
  patched(await transactional([rec(offset, 'xx', { key: Uint8Array.of(0, 0, 0, type) })], producerId), (v) => v.setInt16(AT.attributes, 48))
const change = async (f: (v: DataView, b: Uint8Array) => void): Promise<Uint8Array> => patched(await good(), f)
const readVarint = (bytes: readonly number[], how: 'int' | 'long'): number | null => {
  const v = new Varints(Uint8Array.from(bytes))
  const n = v[how]()
  return v.bad || v.at !== bytes.length ? null : n
}

/** By hand, from the message format's page: offset 258, two records. */
const golden = [
  '0000000000000102', // base offset
  '0000004f', // length
  '00000009', // leader epoch
  '02',
  '--------', // CRC-32C
  '0000', // attributes
  '00000003', // last offset delta
  '0000019ff7fd6000', // base timestamp
  '0000019ff7fd6001', // max timestamp
  'ffffffffffffffff', // producer id
  'ffff', // producer epoch
  'ffffffff', // base sequence
  '00000002', // count
  '1a 00 00 00 06 6b6579 02 76 02 02 68 01'.replaceAll(' ', ''), // key "key", value "v", header "h" without a value
  '10 00 02 06 01 04 7776 00'.replaceAll(' ', ''), // a millisecond and three offsets later: null key, value "wv"
].join('')

describe('golden bytes', () => {
  const bytes = patched(Buffer.from(golden.replace('--------', '00000000'), 'hex'), (v) => v.setInt32(AT.length, golden.length / 2 - 12))
  const records: Rec[] = [
    { offset: 258, ms: 0x19ff7fd6000, key: text('key'), value: text('v'), headers: [['h', null]] },
    { offset: 261, ms: 0x19ff7fd6001, key: null, value: text('wv'), headers: [] },
  ]
  test('are read', async () => {
    const read = await readSet(bytes)
    expect(read.records).toEqual(records.map(plain))
    expect(read.parts).toEqual([{ count: 2, next: 262, leaderEpoch: 9 }])
  })
  test('and written', async () => {
    const { bytes: written } = await encodeRecordBatch(batchOf(records), 0, 2, plainly)
    const expected = patched(bytes, (v, b) => {
      v.setBigInt64(AT.baseOffset, 0n)
      v.setInt32(AT.leaderEpoch, -1)
      v.setInt32(AT.lastOffsetDelta, 1)
      b[b.length - 6] = 2 // the second record's offset: the next one
    })
    expect(Buffer.from(written).toString('hex')).toBe(Buffer.from(expected).toString('hex'))
  })
})

describe('a set', () => {
  test('cut off anywhere gives its whole batches and says how long the cut one is', async () => {
    const batches = await three()
    const all = joined(...batches)
    const [first = 0, second = 0, third = 0] = batches.map((b) => b.length)
    for (let cut = 0; cut <= all.length; cut++) {
      const read = await readSet(all.slice(0, cut), { from: 10 })
      const whole = cut < first ? 0 : cut < first + second ? 1 : cut < all.length ? 2 : 3
      expect(values(read)).toEqual(['a', 'b', 'c', 'd', 'e'].slice(0, [0, 2, 3, 5][whole]))
      expect(read.next).toBe([10, 12, 13, 15][whole])
      const left = cut - [0, first, first + second, all.length][whole]!
      expect(read.cutBytes).toBe(left <= AT.magic ? 0 : [first, second, third][whole])
    }
  })

  test('is handed out in parts of about maxBytes, never less than a batch', async () => {
    const batches = await three()
    const all = joined(...batches)
    const parts = async (maxBytes: number): Promise<number[]> => (await readSet(all, { from: 10, maxBytes })).parts.map((p) => p.count)
    expect(await parts(1)).toEqual([2, 1, 2])
    expect(await parts(batches[0]!.length - AT.records)).toEqual([2, 3])
    expect(await parts(batches[0]!.length - AT.records + 1)).toEqual([3, 2])
    expect(await parts(1 << 20)).toEqual([5])
  })

  test('of compressed and other batches changes memory between parts, not the records', async () => {
    const set = joined(
      await stored([rec(1, 'a')], { compression: 'zstd' }),
      await stored([rec(2, 'b')], { compression: 'gzip' }),
      await stored([rec(3, 'c')]),
      await stored([rec(4, 'd')], { compression: 'snappy' }),
    )
    const read = await readSet(set)
    expect(values(read)).toEqual(['a', 'b', 'c', 'd'])
    expect(read.parts.map((p) => p.count)).toEqual([2, 1, 1])
  })

  test('of several leader epochs: a part is of one, also what is filtered behind it', async () => {
    const empty = patched((await stored([rec(4, 'x')], { leaderEpoch: 8 })).slice(0, AT.records), (v) => {
      v.setInt32(AT.count, 0)
      v.setInt32(AT.length, AT.records - 12)
    })
    const set = joined(await stored([rec(1, 'a')], { leaderEpoch: 7 }), empty, await stored([rec(9, 'b')], { leaderEpoch: 9 }))
    expect((await readSet(set)).parts).toEqual([
      { count: 1, next: 2, leaderEpoch: 7 },
      { count: 1, next: 10, leaderEpoch: 9 },
    ])
    expect((await readSet(joined(empty))).parts).toEqual([{ count: 0, next: 5, leaderEpoch: 8 }])
  })

  test('is asked from the middle of a batch, behind its last record, and behind all', async () => {
    const all = joined(...(await three()))
    expect(values(await readSet(all, { from: 11 }))).toEqual(['b', 'c', 'd', 'e'])
    expect(values(await readSet(all, { from: 14 }))).toEqual(['e'])
    expect(await readSet(all, { from: 20 })).toMatchObject({ records: [], next: 20 })
    // compacted: the batch reaches to 19, its last record is 11
    const hole = patched(await stored([rec(10, 'a'), rec(11, 'b')]), (v) => v.setInt32(AT.lastOffsetDelta, 9))
    expect(await readSet(hole, { from: 15 })).toMatchObject({ records: [], next: 20 })
    expect(await readSet(hole, { from: 11 })).toMatchObject({ next: 20, parts: [{ count: 1 }] })
  })

  test('a batch keeps the set until it is released, a compressed one does not', async () => {
    for (const [compression, kept] of [
      ['none', true],
      ['zstd', false],
    ] as const) {
      let released = 0
      const bytes = await stored([rec(0, 'a')], { compression })
      const d = new RecordSetDecoder({ topic: 't', partition: 0, bytes, from: 0, aborted: [], release: () => released++ }, tools)
      const { batch } = await d.read(1)
      d.close()
      expect(released).toBe(kept ? 0 : 1)
      expect(batch?.bytes.buffer === bytes.buffer).toBe(kept)
      batch?.release()
      expect(released).toBe(1)
      await expect(d.read(1)).rejects.toThrow('the record set is closed')
    }
  })
})

describe('transactions', () => {
  const ABORT = 0
  const COMMIT = 1

  test('of one producer: aborted, committed, aborted, and left open behind the set', async () => {
    const set = joined(
      await transactional([rec(0, 'a')], 5),
      await marker(1, 5, ABORT),
      await transactional([rec(2, 'b')], 5),
      await marker(3, 5, COMMIT),
      await transactional([rec(4, 'c')], 5),
      await stored([rec(5, 'plain')]),
      await stored([rec(6, 'idempotent')], { stamp: { producerId: 5, producerEpoch: 1, baseSequence: 9 } }),
    )
    const aborted = [
      { producerId: 5, firstOffset: 4 },
      { producerId: 5, firstOffset: 0 },
    ] // in no order
    for (const maxBytes of [1, 1 << 20]) {
      const read = await readSet(set, { aborted, maxBytes })
      expect(read.records.map((r) => (r as unknown[])[3])).toEqual(['b', 'plain', 'idempotent'])
      expect(read.next).toBe(7)
    }
    // the part before the last one is read first, and what it learnt is kept
    const end = await readSet(joined(set, await marker(7, 5, ABORT)), { aborted })
    expect(end.next).toBe(8)
  })

  test('a control batch without a type, compressed, or of several records is refused; an empty one is passed', async () => {
    const typed = { key: Uint8Array.of(0, 0, 0, 1) }
    await expect(readSet(await control([rec(3, 'x', { key: text('k') })]))).rejects.toThrow('a control record without a type')
    await expect(readSet(await control([rec(3, 'x')]))).rejects.toThrow('a control record without a type')
    await expect(readSet(await control([rec(3, 'x', typed), rec(4, 'y', typed)]))).rejects.toThrow('a control batch of 2 records')
    const pressed = await stored([rec(3, 'x', typed)], { compression: 'gzip' })
    await expect(readSet(patched(pressed, (v) => v.setInt16(AT.attributes, 33)))).rejects.toThrow('compression gzip: one is read')
    const empty = patched((await control([rec(3, 'x')])).slice(0, AT.records), (v) => {
      v.setInt32(AT.count, 0)
      v.setInt32(AT.length, AT.records - 12)
    })
    expect(await readSet(empty)).toMatchObject({ records: [], next: 4 })
  })

  test('a marker of another kind ends nothing', async () => {
    const set = joined(await transactional([rec(0, 'a')], 5), await marker(1, 5, 2), await transactional([rec(2, 'b')], 5))
    expect((await readSet(set, { aborted: [{ producerId: 5, firstOffset: 0 }] })).records).toEqual([])
  })
})

describe('refused', () => {
  const where = 'reading topic events partition 3: the record batch at offset 7: '

  test.each<[string, (v: DataView, b: Uint8Array) => void, string, string]>([
    ['a length below the head', (v) => v.setInt32(AT.length, 48), 'malformed', 'a length of 48 is less than its head'],
    ['a negative length', (v) => v.setInt32(AT.length, -1), 'malformed', 'a length of -1'],
    ['a length that nobody stores', (v) => v.setInt32(AT.length, 0x7fff_ffff), 'too-large', `the limit is ${limits.kafkaBatchBytes}`],
    ['a later format', (v) => v.setInt8(AT.magic, 3), 'unsupported', 'its message format is v3, read is v2;'],
    ['an unknown compression', (v) => v.setInt16(AT.attributes, 5), 'unsupported', 'compression 5 is not known'],
    ['more records than offsets', (v) => v.setInt32(AT.lastOffsetDelta, 0), 'malformed', '2 records up to +0'],
    ['offsets that end before they begin', (v) => v.setInt32(AT.lastOffsetDelta, -1), 'malformed', 'from 7 to +-1'],
    ['a negative count', (v) => v.setInt32(AT.count, -1), 'malformed', '-1 records'],
    [
      'more records than bytes',
      (v) => {
        v.setInt32(AT.lastOffsetDelta, 2 ** 30)
        v.setInt32(AT.count, 2 ** 30)
      },
      'malformed',
      '1073741824 records up to',
    ],
    [
      'a record too many',
      (v) => {
        v.setInt32(AT.lastOffsetDelta, 2)
        v.setInt32(AT.count, 3)
      },
      'malformed',
      '3 records up to +2 in',
    ],
    ['a record too few', (v) => v.setInt32(AT.count, 1), 'malformed', '8 bytes stand behind the last of its 1 records'],
    ['a record beyond the batch', (_, b) => (b[AT.records] = 100), 'malformed', 'record 0 of 2 is said to have 50 bytes, 16 are there'],
    ['a negative record', (_, b) => (b[AT.records] = 1), 'malformed', 'said to have -1 bytes'],
    ['a key beyond the record', (_, b) => (b[AT.records + 4] = 40), 'malformed', 'record 0 of 2 does not fit its 8 bytes'],
    ['a key of length -2', (_, b) => (b[AT.records + 4] = 3), 'malformed', 'record 0 of 2 does not fit'],
    ['a value of length -2', (_, b) => (b[AT.records + 6] = 3), 'malformed', 'record 0 of 2 does not fit'],
    ['headers that are not there', (_, b) => (b[AT.records + 8] = 2), 'malformed', 'the headers of record 0 of 2 do not fit'],
    ['offsets that do not rise', (_, b) => (b[AT.records + 12] = 0), 'malformed', 'record 1 of 2 stands at offset +0 behind +0'],
    ['an offset beyond the last', (_, b) => (b[AT.records + 12] = 4), 'malformed', 'offset +2 behind +0, the last one is +1'],
    ['a varint that does not end', (_, b) => b.fill(0xff, AT.records), 'malformed', 'record 0 of 2'],
    ['bytes that are not gzip', (v) => v.setInt16(AT.attributes, 1), 'malformed', 'inflating gzip: incorrect header check'],
    ['bytes that are not snappy', (v) => v.setInt16(AT.attributes, 2), 'malformed', 'inflating snappy: '],
    ['bytes that are not lz4', (v) => v.setInt16(AT.attributes, 3), 'malformed', 'inflating lz4: '],
    ['bytes that are not zstd', (v) => v.setInt16(AT.attributes, 4), 'malformed', 'inflating zstd: '],
  ])('%s', async (_, f, problem, message) => {
    const failed = readSet(await change(f))
    await expect(failed).rejects.toThrow(RecordBatchError)
    await expect(failed).rejects.toThrow(where)
    await expect(failed).rejects.toThrow(message)
    await expect(failed).rejects.toMatchObject({ problem, topic: 'events', partition: 3, offset: 7 })
  })

  test('any changed bit under the sum', async () => {
    const bytes = await good()
    for (let bit = AT.crc * 8; bit < bytes.length * 8; bit++) {
      const bad = Uint8Array.from(bytes)
      bad[bit >> 3]! ^= 1 << (bit & 7)
      await expect(readSet(bad), `bit ${bit}`).rejects.toMatchObject({ problem: 'checksum', offset: 7 })
    }
  })

  test('a batch that begins before the one in front of it ends', async () => {
    const set = joined(await stored([rec(7, 'a')]), await stored([rec(7, 'b')]))
    await expect(readSet(set)).rejects.toThrow('the record batch at offset 7: the one before it ends at 8')
  })

  test('what stands in front of a bad batch is handed out first', async () => {
    const bytes = joined(
      await stored([rec(1, 'a')], { compression: 'gzip' }),
      await change((_, b) => (b[b.length - 1] = 9)).then((b) => b.fill(0, 30, 31)),
    )
    const d = new RecordSetDecoder({ topic: 't', partition: 0, bytes, from: 0, aborted: [], release: () => {} }, tools)
    expect(await d.read(1 << 20)).toMatchObject({ next: 2, batch: { count: 1 } })
    expect(d.done).toBe(false)
    await expect(d.read(1 << 20)).rejects.toMatchObject({ problem: 'checksum' })
    expect(d.done).toBe(true)
  })

  describe('bombs', () => {
    const zeros = new Uint8Array(limits.kafkaBatchBytes + 1)
    test.each<[string, number, () => Uint8Array]>([
      ['gzip', 1, () => gzipSync(zeros)],
      ['zstd', 4, () => zstdCompressSync(zeros)],
      ['snappy that says what it is', 2, () => joined(Uint8Array.of(0x80, 0x80, 0x80, 0x40), new Uint8Array(2 ** 21 + 1))],
      ['lz4', 3, lz4Bomb],
    ])('%s', async (_, codec, make) => {
      await expect(readSet(await bomb(codec, make()))).rejects.toMatchObject({ problem: 'too-large', offset: 7 })
    })
    test('snappy that lies', async () => {
      await expect(readSet(await bomb(2, Uint8Array.of(0xff, 0xff, 0xff, 0xff, 0x0f, 1, 2)))).rejects.toThrow(
        'no length that it could have',
      )
    })
    test('more records than there is room for', async () => {
      const records = limits.kafkaBatchRecords + 1
      const head = (await good()).slice(0, AT.records)
      const bytes = patched(joined(head), (v) => {
        v.setInt16(AT.attributes, 4)
        v.setInt32(AT.lastOffsetDelta, records)
        v.setInt32(AT.count, records)
        v.setInt32(AT.length, AT.records - 12)
      })
      await expect(readSet(bytes)).rejects.toMatchObject({ problem: 'too-large' })
    })
  })
})

describe('encoding', () => {
  test('gives the producer’s stamp, and another one', async () => {
    const stamp = { producerId: 2 ** 40 + 5, producerEpoch: 32_767, baseSequence: 2 ** 31 - 1 }
    const encoded = await encodeRecordBatch(batchOf([rec(0, 'a')]), 0, 1, { ...plainly, stamp, transactional: true })
    const { bytes } = encoded
    expect(stampOf(bytes)).toEqual(stamp)
    expect(new DataView(bytes.buffer).getInt16(AT.attributes)).toBe(16)
    restamp(bytes, NO_PRODUCER, tools.crc32c)
    expect(stampOf(bytes)).toEqual(NO_PRODUCER)
    expect((await readSet(bytes.slice())).records).toEqual([plain({ ...rec(0, 'a') })])
    encoded.release()
  })

  test('one time for all', async () => {
    const bytes = await stored([rec(3, 'a'), rec(4, 'b')], { timestampMs: 99 })
    expect((await readSet(bytes)).records.map((r) => (r as unknown[])[1])).toEqual([99, 99])
  })

  test('its memory comes back, compressed or not', async () => {
    for (const compression of ['none', 'gzip', 'snappy', 'zstd'] as const) {
      const memory = new Counted(1 << 20)
      const encoded = await encodeRecordBatch(batchOf([rec(0, 'a')]), 0, 1, { ...plainly, compression, memory })
      expect(memory.out).toBe(1)
      expect(memory.owns(encoded.bytes.buffer)).toBe(true)
      encoded.release()
      expect(memory.out).toBe(0)
    }
  })

  test('refuses what Kafka could not read', async () => {
    const b = batchOf([rec(0, 'a', { headers: [['h', text('v')]] }), rec(1, 'b')])
    await expect(encodeRecordBatch(b, 1, 1, plainly)).rejects.toThrow('encoding the records [1, 1) of a batch of 2')
    await expect(encodeRecordBatch(b, 0, 3, plainly)).rejects.toThrow(RangeError)
    await expect(encodeRecordBatch(b, 0, 1, { ...plainly, timestampMs: 0.5 })).rejects.toThrow('of time 0.5')
    const cut = { ...b, headerEnd: b.headerEnd!.map((e, i) => (i === 0 ? e - 1 : e)) }
    await expect(encodeRecordBatch(cut, 0, 2, plainly)).rejects.toThrow('its 4 bytes of headers are not Kafka’s encoding'.replace('’', "'"))
    const huge = { ...batchOf([rec(0, 'a')]), bytes: new Uint8Array(limits.kafkaBatchBytes), valueStart: Uint32Array.of(0) }
    await expect(encodeRecordBatch({ ...huge, valueEnd: Uint32Array.of(limits.kafkaBatchBytes) }, 0, 1, plainly)).rejects.toThrow(
      /the limit is/,
    )
  })
})

test('times: of nanoseconds, before 1970, and of none', async () => {
  const ns = patched(await stored([rec(0, 'a')]), (v) => v.setBigInt64(AT.baseTimestamp, 1_795_000_000_000_000_000n))
  expect((await readSet(ns)).records.map((r) => (r as unknown[])[1])).toEqual([8.64e15])
  const old = [rec(0, 'a', { ms: -1 }), rec(1, 'b', { ms: -(2 ** 50) }), rec(2, 'c', { ms: 2 ** 50 })]
  expect((await readSet(await stored(old))).records).toEqual(old.map(plain))
  expect(varint(-1)).toEqual([1])
})

test('varints: 32 bits in 5 bytes, 64 in 10, no more', () => {
  for (const n of [0, -1, 1, 63, -64, 64, 8_191, 8_192, 2 ** 20, 2 ** 27 - 1, 2 ** 27, -(2 ** 31), 2 ** 31 - 1]) {
    expect(readVarint(varint(n), 'int')).toBe(n)
    expect(readVarint(varint(n), 'long')).toBe(n)
  }
  for (const n of [2 ** 31, -(2 ** 34) - 1, 2 ** 51 + 3, -(2 ** 52) + 1]) expect(readVarint(varint(n), 'long')).toBe(n)
  expect(readVarint([255, 255, 255, 255, 255, 1], 'int')).toBe(null)
  expect(readVarint([...Array.from({ length: 9 }, () => 255), 1], 'long')).toBe(-(2 ** 63))
  expect(readVarint([...Array.from({ length: 10 }, () => 255), 1], 'long')).toBe(null)
})

test('snappy-java’s framing: blocks of 32 KiB, cut ones, one of another length than it says', async () => {
  const all = Array.from({ length: 900 }, (_, i) => rec(i, `${i} `.repeat(40)))
  const bytes = await stored(all)
  const body = bytes.subarray(AT.records)
  expect(body.length).toBeGreaterThan(3 * 32_768)
  const blocks: Buffer[] = [Buffer.from('82534e41505059000000000100000001', 'hex')]
  for (let at = 0; at < body.length; at += 32_768) {
    const block = compressSync(body.subarray(at, at + 32_768))
    const length = Buffer.alloc(4)
    length.writeInt32BE(block.length)
    blocks.push(length, block)
  }
  const framed = (b: Uint8Array): Uint8Array =>
    patched(joined(bytes.subarray(0, AT.records), b), (v) => {
      v.setInt16(AT.attributes, 2)
      v.setInt32(AT.length, v.byteLength - 12)
    })
  const whole = joined(...blocks)
  expect((await readSet(framed(whole))).records).toEqual(all.map(plain))
  await expect(readSet(framed(whole.slice(0, -1)))).rejects.toThrow('the Snappy frame is cut off')
  await expect(readSet(framed(joined(whole, Uint8Array.of(0, 0))))).rejects.toThrow('the Snappy frame is cut off')
  await expect(readSet(framed(joined(...blocks.slice(0, -2))))).rejects.toMatchObject({ problem: 'malformed', offset: 0 })
})
