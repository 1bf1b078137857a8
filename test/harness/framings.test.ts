import { createRequire } from 'node:module'
import { crc32, deflateRawSync, gzipSync, zstdCompressSync } from 'node:zlib'
import { describe, expect, test } from 'vitest'
import { unpack, unsnappy } from './framings.ts'
import { rng } from './random.ts'

const snappy = createRequire(new URL('../../core/package.json', import.meta.url))('snappy') as { compressSync(b: Buffer): Buffer }
const random = rng(1)
const text = Buffer.from(Array.from({ length: 200_000 }, (_, i) => (i % 7 === 0 ? random.below(256) : 65 + (i % 50))))
const int = (n: number): Buffer => {
  const b = Buffer.alloc(4)
  b.writeInt32BE(n)
  return b
}

function zip(body: Buffer): Buffer {
  const packed = deflateRawSync(body)
  const shared = Buffer.alloc(26)
  shared.writeUInt16LE(20, 0)
  shared.writeUInt16LE(8, 4)
  shared.writeUInt32LE(crc32(body), 10)
  shared.writeUInt32LE(packed.length, 14)
  shared.writeUInt32LE(body.length, 18)
  shared.writeUInt16LE(1, 22)
  const local = Buffer.concat([Buffer.from('504b0304', 'hex'), shared, Buffer.from('e')])
  const central = Buffer.concat([Buffer.from('504b0102', 'hex'), Buffer.from([20, 0]), shared, Buffer.alloc(14), Buffer.from('e')])
  const end = Buffer.alloc(22)
  end.writeUInt32LE(0x06054b50, 0)
  end.writeUInt16LE(1, 8)
  end.writeUInt16LE(1, 10)
  end.writeUInt32LE(central.length, 12)
  end.writeUInt32LE(local.length + packed.length, 16)
  return Buffer.concat([local, packed, central, end])
}
const blocks = [text.subarray(0, 65_536), text.subarray(65_536, 131_072), text.subarray(131_072)]
const forms = {
  gzip: gzipSync(text),
  zstd: zstdCompressSync(text),
  zip: zip(text),
  snappy: Buffer.concat([
    Buffer.from('82534e41505059000000000100000001', 'hex'),
    ...blocks.flatMap((b) => [snappy.compressSync(b)]).flatMap((c) => [int(c.length), c]),
  ]),
  hadoop_snappy: Buffer.concat(blocks.flatMap((b) => [int(b.length), int(snappy.compressSync(b).length), snappy.compressSync(b)])),
} as const
const kinds = Object.keys(forms) as (keyof typeof forms)[]

describe('stored forms read by our own code', () => {
  test.each(kinds)('%s: a whole file gives its bytes', (kind) => {
    expect(Buffer.compare(unpack(forms[kind], kind), text)).toBe(0)
  })

  test.each(kinds)('%s: a file that ends early is refused', (kind) => {
    const whole = forms[kind]
    for (const cut of [1, 2, 8, 100, whole.length >> 1]) expect(() => unpack(whole.subarray(0, whole.length - cut), kind)).toThrow()
  })

  test.each(['gzip', 'zip', 'snappy', 'hadoop_snappy', 'zstd'] as const)('%s: bytes after the end are refused', (kind) => {
    expect(() => unpack(Buffer.concat([forms[kind], Buffer.from('abcdefg')]), kind)).toThrow()
  })

  test('snappy of a long run with far copies', () => {
    const run = Buffer.concat([text.subarray(0, 60_000), Buffer.alloc(40_000, 'ab'), text.subarray(0, 60_000)])
    expect(Buffer.compare(unsnappy(snappy.compressSync(run)), run)).toBe(0)
  })
})
