import { crc32 } from 'node:zlib'
import { expect, test } from 'vitest'
import { memoryBody, memoryWriter } from '../../core/format/body.ts'
import { contentOf } from './helpers.ts'

const chunks = ['abc', '', 'defg', 'h'].map((s) => new Uint8Array(Buffer.from(s)))

test('every range can be read, again and again', async () => {
  const body = memoryBody(chunks)
  expect(body.size).toBe(8)
  expect(body.memoryBytes).toBe(8)
  for (let start = 0; start <= 8; start++) {
    for (let end = start; end <= 8; end++) expect((await contentOf(body, start, end)).toString()).toBe('abcdefgh'.slice(start, end))
  }
  expect((await contentOf(body)).toString()).toBe('abcdefgh')
  await expect(contentOf(body, 3, 9)).rejects.toThrow('[3, 9)')
  await expect(contentOf(body, 4, 3)).rejects.toThrow('[4, 3)')
})

test('the checksum is what S3 calls ChecksumCRC32', () => {
  // the check value of CRC-32: 0xcbf43926 for "123456789"
  expect(memoryBody([Buffer.from('1234'), Buffer.from('56789')]).crc32).toBe('y/Q5Jg==')
  expect(Buffer.from(memoryBody(chunks).crc32, 'base64').readUInt32BE()).toBe(crc32('abcdefgh'))
  expect(memoryBody([]).crc32).toBe('AAAAAA==')
})

test('release gives the memory back', async () => {
  const body = memoryBody(chunks)
  await body.release()
  await body.release()
  expect(body.memoryBytes).toBe(0)
  await expect(contentOf(body)).rejects.toThrow('released')
})

test('a writer is used once', async () => {
  const w = memoryWriter()
  await w.write(Buffer.from('x'))
  expect((await w.finish()).size).toBe(1)
  await expect(w.write(Buffer.from('y'))).rejects.toThrow('finished or aborted')
  await expect(w.finish()).rejects.toThrow('finished or aborted')
  const other = memoryWriter()
  await other.abort()
  await expect(other.write(Buffer.from('y'))).rejects.toThrow('finished or aborted')
})
