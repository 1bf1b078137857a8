import { expect, test } from 'vitest'
import { loadCrc32c, slicedCrc32c } from '../../../core/log/kafka/crc32c.ts'
import { rng } from '../../harness/random.ts'

// RFC 3720 B.4, and the check value of the catalogue of parametrised CRC algorithms
test.each([
  ['32 zeros', new Uint8Array(32), 0x8a91_36aa],
  ['32 ones', new Uint8Array(32).fill(0xff), 0x62a8_ab43],
  ['rising', Uint8Array.from({ length: 32 }, (_, i) => i), 0x46dd_794e],
  ['falling', Uint8Array.from({ length: 32 }, (_, i) => 31 - i), 0x113f_db5c],
  ['check', Buffer.from('123456789'), 0xe306_9283],
  ['nothing', new Uint8Array(0), 0],
])('%s', async (_, bytes, sum) => {
  expect(slicedCrc32c(bytes)).toBe(sum)
  expect((await loadCrc32c())(bytes)).toBe(sum)
})

test('ours and the native one agree at every length and place', async () => {
  const native = await loadCrc32c()
  expect(native).not.toBe(slicedCrc32c)
  const r = rng(7)
  const bytes = Uint8Array.from({ length: 600 }, () => r.below(256))
  for (let length = 0; length < 300; length++) {
    const part = bytes.subarray(length % 9, (length % 9) + length)
    expect(slicedCrc32c(part)).toBe(native(part))
  }
})
