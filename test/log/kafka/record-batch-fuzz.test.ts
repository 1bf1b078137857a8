import { expect, test } from 'vitest'
import { lz4Compress } from '@platformatic/wasm-utils'
import { AT, RecordBatchError } from '../../../core/log/kafka/record-batch.ts'
import { rng, type Rng } from '../../harness/random.ts'
import { decodeByKafkajs, encodeByKafkajs } from './kafkajs.ts'
import { patched, plain, readSet, stored, type Rec } from './support.ts'

const WRITTEN = ['none', 'gzip', 'snappy', 'zstd'] as const
const NUMBER = { none: 0, gzip: 1, snappy: 2, lz4: 3, zstd: 4 } as const

function bytes(r: Rng): Uint8Array {
  const n = r.pick([0, 1, 5, 23, 24, 25, 63, 64, 200, r.below(20) === 0 ? 9_000 : 90])
  const c = r.below(256)
  return Uint8Array.from({ length: n }, () => (r.below(3) === 0 ? r.below(256) : c))
}

/** `foreign`: only what kafkajs can say: no null headers, names once. */
function records(r: Rng, foreign: boolean, most = 150): Rec[] {
  const headers = r.below(2) === 0
  let offset = r.pick([0, 1, 2 ** 31, 2 ** 45])
  return Array.from({ length: 1 + r.below(r.pick([2, Math.min(20, most), most])) }, () => ({
    offset: (offset += r.below(5) === 0 ? 1 + r.below(300) : 1),
    ms: 1_795_000_000_000 + r.pick([0, -1, 1, 63, 64, -8_192, 2 ** 27, 2 ** 28, -(2 ** 34), 2 ** 40]),
    key: r.below(3) === 0 ? null : bytes(r),
    value: r.below(6) === 0 ? null : bytes(r),
    headers: Array.from({ length: headers ? r.below(4) : 0 }, (_, i) => [
      foreign ? `name ${i}` : r.pick(['', 'a', 'a', 'größe', 'x'.repeat(70)]),
      !foreign && r.below(4) === 0 ? null : bytes(r),
    ]),
  }))
}

/** Our encoder numbers without holes. */
const dense = (all: readonly Rec[]): Rec[] => all.map((x, i) => ({ ...x, offset: (all[0]?.offset ?? 0) + i }))

test('what we write we read: every column, every compression', async () => {
  const r = rng(4_001)
  for (let i = 0; i < 150; i++) {
    const all = dense(records(r, false))
    const compression = r.pick(WRITTEN)
    const read = await readSet(await stored(all, { compression }), { maxBytes: r.pick([1, 1 << 20]) })
    expect(read.records, `round ${i}`).toEqual(all.map(plain))
  }
})

test('kafkajs reads what we write', async () => {
  const r = rng(4_002)
  for (let i = 0; i < 80; i++) {
    const all = dense(records(r, true))
    const read = await decodeByKafkajs(await stored(all, { compression: r.pick(WRITTEN) }))
    expect(read.map(plain), `round ${i}`).toEqual(all.map(plain))
  }
})

test('we read what kafkajs writes, in sets, from anywhere', async () => {
  const r = rng(4_003)
  for (let i = 0; i < 120; i++) {
    const all = records(r, true)
    const sets: Uint8Array[] = []
    for (let at = 0; at < all.length;) {
      const to = at + 1 + r.below(all.length - at)
      sets.push(await encodeByKafkajs(all.slice(at, to), r.below(5)))
      at = to
    }
    const from = (all[0]?.offset ?? 0) + r.below(60) - 10
    const read = await readSet(Buffer.concat(sets), { from, maxBytes: r.pick([1, 1_000, 1 << 20]) })
    expect(read.records, `round ${i}`).toEqual(all.filter((x) => x.offset >= from).map(plain))
    expect(read.next).toBe(Math.max(from, (all.at(-1)?.offset ?? 0) + 1))
  }
})

/** Equal to what stood there, or an error of ours: never other records. */
async function same(bad: Uint8Array, all: readonly Rec[], what: string): Promise<'read' | 'refused'> {
  const known = new Set(all.map((x) => JSON.stringify(plain(x))))
  try {
    const read = await readSet(bad)
    for (const x of read.records) expect(known.has(JSON.stringify(x)), what).toBe(true)
    return 'read'
  } catch (e) {
    if (!(e instanceof RecordBatchError)) throw new Error(`${what}: not an error of ours`, { cause: e })
    return 'refused'
  }
}

test('changed bytes and cuts: the records that stood there, or an error', async () => {
  const r = rng(4_004)
  const counts = { read: 0, refused: 0 }
  for (let i = 0; i < 1_000; i++) {
    const all = dense(records(r, false, 6))
    const good = await stored(all, { compression: r.pick(WRITTEN) })
    // the base offset and the leader epoch are not under the sum: whoever changes them is not noticed here
    const bad = good.slice(0, r.below(3) === 0 ? r.below(good.length) : good.length)
    const at = r.pick([AT.length, AT.magic, AT.crc, AT.attributes, AT.records]) + r.below(r.pick([4, 40, good.length]))
    if (at < bad.length && (at < AT.leaderEpoch || at >= AT.magic)) bad[at] = r.below(256)
    counts[await same(bad, all, `round ${i}, byte ${at}`)]++
  }
  expect(counts.read).toBeGreaterThan(100)
  expect(counts.refused).toBeGreaterThan(200)
})

test('changed bytes under a right sum: an error of ours or records, always an end', async () => {
  const r = rng(4_005)
  const counts = { read: 0, refused: 0 }
  for (let i = 0; i < 1_500; i++) {
    const all = dense(records(r, true, 8))
    const compression = r.pick(['none', 'none', 'gzip', 'snappy', 'lz4', 'zstd'] as const)
    const good = compression === 'lz4' ? await lz4(all) : await stored(all, { compression })
    const bad = patched(good, (v, b) => {
      for (let n = r.below(4); n >= 0; n--)
        b[AT.attributes + r.below(b.length - AT.attributes)] = r.pick([0, 1, 127, 128, 255, r.below(256)])
      if (r.below(2) === 0) v.setInt16(AT.attributes, NUMBER[compression])
    })
    try {
      const read = await readSet(bad)
      expect(read.next).toBeGreaterThanOrEqual(0)
      counts.read++
    } catch (e) {
      if (!(e instanceof RecordBatchError)) throw new Error(`round ${i}, ${compression}: not an error of ours`, { cause: e })
      counts.refused++
    }
  }
  expect(counts.read).toBeGreaterThan(100)
  expect(counts.refused).toBeGreaterThan(500)
})

async function lz4(all: readonly Rec[]): Promise<Uint8Array> {
  const good = await stored(all)
  const body = lz4Compress(Buffer.from(good.subarray(AT.records)))
  return patched(Buffer.concat([good.subarray(0, AT.records), body]), (v) => {
    v.setInt16(AT.attributes, NUMBER.lz4)
    v.setInt32(AT.length, v.byteLength - 12)
  })
}

test('batches that are large enough for the pool', async () => {
  const r = rng(4_006)
  const all = Array.from({ length: 3_000 }, (_, i): Rec => ({
    offset: i,
    ms: i,
    key: null,
    value: Uint8Array.from({ length: 100 }, () => r.below(256)),
    headers: [],
  }))
  for (const compression of WRITTEN) {
    const set = await stored(all, { compression })
    expect(set.length).toBeGreaterThan(200_000)
    expect((await readSet(set)).records).toEqual(all.map(plain))
  }
})
