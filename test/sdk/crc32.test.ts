import { crc32 } from 'node:zlib'
import { expect, test } from 'vitest'
import { RecordDigest } from '../../core/pipeline/digest.ts'
import { batchOf, sliceBatch } from '../../core/sdk/batch.ts'
import { crc32Combine } from '../../core/sdk/crc32.ts'
import { rng } from '../harness/random.ts'

test('the sum of two ranges is the sum of their bytes', () => {
  const random = rng(1)
  for (const length of [0, 1, 2, 3, 31, 32, 33, 255, 4_096, 65_537, 1_000_003]) {
    for (const before of [0, 1, 17, 5_000]) {
      const bytes = Uint8Array.from({ length: before + length }, () => random.below(256))
      const second = crc32(bytes.subarray(before))
      expect(crc32Combine(crc32(bytes.subarray(0, before)), second, length)).toBe(crc32(bytes))
    }
  }
})

test('a digest is the same whether the sum of a batch is known or not, and however it is sliced', () => {
  const plain = batchOf(
    Array.from({ length: 20 }, (_, i) => ({ value: Buffer.from(`value ${i}`), key: i % 3 === 0 ? null : Buffer.from('key') })),
  )
  const known = { ...plain, crc32: crc32(plain.bytes) }
  const of = (batches: readonly (typeof plain)[]): string => {
    const d = new RecordDigest()
    for (const b of batches) d.add(b)
    return d.value()
  }
  const expected = of([plain, plain])
  expect(of([known, known])).toBe(expected)
  expect(of([known, sliceBatch(known, 0, 7), sliceBatch(known, 7, 20)])).toBe(expected)
  // records that are not all of the bytes, or stand in another order than their bytes, are read
  const part = { ...sliceBatch(plain, 0, 5), crc32: known.crc32 }
  expect(of([part])).toBe(of([sliceBatch(plain, 0, 5)]))
})
