import { expect, test } from 'vitest'
import { lz4Compress } from '@platformatic/wasm-utils'
import { lz4Bound, lz4Decode } from '../../../core/log/kafka/lz4.ts'
import { rng } from '../../harness/random.ts'

function decode(frame: Uint8Array): string {
  const out = new Uint8Array(lz4Bound(frame))
  return Buffer.from(out.subarray(0, lz4Decode(frame, out))).toString('latin1')
}
const u32 = (n: number): number[] => [n & 255, (n >>> 8) & 255, (n >>> 16) & 255, n >>> 24]
const HEAD = [0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82]
const frame = (...blocks: number[][]): Uint8Array =>
  Uint8Array.from([...HEAD, ...blocks.flatMap((b) => [...u32(b.length), ...b]), ...u32(0)])
const times = (n: number, c: number): number[] => Array.from({ length: n }, () => c)
const chars = (s: string): number[] => [...Buffer.from(s)]

// made by lz4 1.9 with these options
test.each([
  ['-1', 12, 'BCJNGGRApx8AAADfaGVsbG8ga2Fma2EsIA0AfNB0aGUgZW5kIG9mIGl0AAAAALlnQqE='],
  ['-9 -BX --content-size', 12, 'BCJNGHxAqQAAAAAAAADjHwAAAN9oZWxsbyBrYWZrYSwgDQB80HRoZSBlbmQgb2YgaXQeZHppAAAAALlnQqE='],
  [
    '-B4 -BD --no-frame-crc: blocks that look back into the one before',
    10_000,
    'BCJNGEBAwBcBAADfaGVsbG8ga2Fma2EsIA0A/////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////9tQLCBoZWwOAQAAD/3/////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////udB0aGUgZW5kIG9mIGl0AAAAAA==',
  ],
])('lz4 %s', (_, count, base64) => {
  expect(decode(Buffer.from(base64, 'base64'))).toBe('hello kafka, '.repeat(count) + 'the end of it')
})

test('what lz4_flex compresses, of every size', () => {
  const r = rng(11)
  const words = ['alpha', 'beta', '{"id":', '"}', '\n', '0123456789', 'x'.repeat(70), 'abcabcabc']
  for (const size of [0, 1, 12, 13, 100, 5_000, 65_535, 65_536, 65_537, 300_000]) {
    let text = ''
    while (text.length < size) text += r.below(4) === 0 ? String.fromCharCode(r.below(256)) : r.pick(words)
    text = text.slice(0, size)
    expect(decode(lz4Compress(Buffer.from(text, 'latin1'))) === text, `${size} bytes`).toBe(true)
  }
})

test('stored blocks, empty frames, skippable frames and several in a row', () => {
  const stored = [...HEAD, ...u32((0x8000_0000 | 3) >>> 0), ...chars('abc'), ...u32(0)]
  const skippable = [...u32(0x184d_2a53), ...u32(5), 1, 2, 3, 4, 5]
  expect(decode(Uint8Array.from(stored))).toBe('abc')
  expect(decode(frame())).toBe('')
  expect(decode(Uint8Array.from([...skippable, ...stored, ...frame([0x30, ...chars('def')])]))).toBe('abcdef')
})

test.each<[string, Uint8Array, RegExp]>([
  ['not a frame', Uint8Array.from(chars('hello kafka')), /where an LZ4 frame begins/],
  ['a cut head', Uint8Array.from(HEAD.slice(0, 6)), /cut off: 8 bytes are needed, 6 are there/],
  ['no end mark', frame([0x30, ...chars('abc')]).subarray(0, -4), /cut off/],
  ['a cut block', frame([0x30, ...chars('abc')]).subarray(0, 13), /cut off/],
  ['another version', Uint8Array.from([...HEAD.slice(0, 4), 0xa0, ...HEAD.slice(5), ...u32(0)]), /version 2/],
  ['a dictionary', Uint8Array.from([...HEAD.slice(0, 4), 0x61, ...HEAD.slice(5), ...u32(0)]), /dictionary/],
  ['no block size', Uint8Array.from([...HEAD.slice(0, 5), 0x30, 0, ...u32(0)]), /blocks of size 3/],
  ['a block beyond the frame’s size', Uint8Array.from([...HEAD, ...u32(70_000), ...times(70_000, 0)]), /allows 65536/],
  ['a literal beyond the block', frame([0x40, ...chars('abc')]), /a literal of 4 bytes, 3 are there/],
  ['a match before the start', frame([0x10, 0x61, 2, 0, 0]), /from 2 bytes before 1/],
  ['a match of distance 0', frame([0x10, 0x61, 0, 0, 0]), /from 0 bytes before/],
  ['a match at the end', frame([0x10, 0x61, 1, 0]), /ends with a match/],
  ['half a distance', frame([0x10, 0x61, 1]), /ends inside a match/],
  ['a length that never ends', frame([0x1f, 0x61, 1, 0, ...times(500, 255)]), /fit/],
])('%s is refused', (_, bytes, message) => {
  expect(() => decode(bytes)).toThrow(message)
})

test('a block that says more than its frame allows is refused, however much room there is', () => {
  // 1 literal and matches of 255 more each: 254 bytes of lengths make 64 KiB, these are 300
  const bomb = frame([0x1f, 0x61, 1, 0, ...times(300, 255), 0, 0])
  expect(lz4Bound(bomb)).toBeLessThanOrEqual(65_536)
  expect(() => lz4Decode(bomb, new Uint8Array(1 << 20))).toThrow(/fit/)
})

/** 65,501 bytes of a match, then literals. */
const full = (literals: number): Uint8Array =>
  frame([0x1f, 0x61, 1, 0, ...times(256, 255), 201, 0xf0, literals - 15, ...times(literals, 0x62)])

test('a literal beyond the frame’s size is refused, however much room there is', () => {
  const room = new Uint8Array(1 << 20)
  expect(lz4Decode(full(35), room)).toBe(65_536)
  expect(() => lz4Decode(full(36), room)).toThrow('a literal of 36 bytes, 36 are there and 35 fit')
})

test('any changed byte gives an error or other bytes within the bound, never a crash', () => {
  const r = rng(5)
  const good = Uint8Array.from(lz4Compress(Buffer.from('the quick brown fox, '.repeat(50) + 'jumps over the lazy dog')))
  let refused = 0
  for (let i = 0; i < 3_000; i++) {
    const bad = Uint8Array.from(good).subarray(0, r.below(4) === 0 ? r.below(good.length) : good.length)
    for (let k = r.below(3); k >= 0; k--) bad[r.below(bad.length)] = r.below(256)
    try {
      const out = new Uint8Array(lz4Bound(bad) + 8)
      expect(lz4Decode(bad, out.subarray(0, -8))).toBeLessThanOrEqual(out.length - 8)
      expect(out.subarray(-8)).toEqual(new Uint8Array(8)) // nothing beyond its room
    } catch (e) {
      expect(e).toBeInstanceOf(Error)
      expect(e).not.toBeInstanceOf(RangeError)
      refused++
    }
  }
  expect(refused).toBeGreaterThan(1_000)
})
