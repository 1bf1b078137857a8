import { describe, expect, test } from 'vitest'
import { ChunkReader } from '../../../core/api/wire/chunks.ts'
import { limits } from '../../../core/limits.ts'
import { connection, feed } from './pipe.ts'

/** The data and what was not read, or null where these are no chunks; undefined where more is wanted. */
function read(text: string, pieces: readonly number[] = []): { data: string; rest: string } | null | undefined {
  const reader = new ChunkReader()
  const bytes = Buffer.from(text, 'latin1')
  let data = ''
  for (const [i, from] of [0, ...pieces].entries()) {
    const to = pieces[i] ?? bytes.length
    const part = Buffer.from(bytes.subarray(from, to))
    const at = reader.read(part, 0, (d) => (data += Buffer.from(d).toString('latin1')))
    part.fill(0xdd)
    if (at === -1) return null
    if (reader.ended) return { data, rest: bytes.toString('latin1', from + at) }
    expect(at).toBe(part.length)
  }
  return undefined
}
const cut = (text: string): number[][] => [
  [],
  Array.from({ length: Math.max(0, text.length - 1) }, (_, i) => i + 1),
  ...Array.from({ length: text.length }, (_, i) => [i]),
]

describe('what is a body in chunks', () => {
  test.each([
    ['nothing', '0\r\n\r\n', ''],
    ['one', '3\r\none\r\n0\r\n\r\n', 'one'],
    ['two, digits in both cases', 'a\r\n0123456789\r\nA\r\nabcdefghij\r\n0\r\n\r\n', '0123456789abcdefghij'],
    ['leading zeros', '00000003\r\none\r\n00000000\r\n\r\n', 'one'],
    ['an extension', '3;name=value;other="a b"\r\none\r\n0;x\r\n\r\n', 'one'],
    ['trailer fields', '3\r\none\r\n0\r\nX-Sum: 1\r\nY:\r\n\r\n', 'one'],
    ['data that looks like the end', '5\r\n0\r\n\r\n\r\n0\r\n\r\n', '0\r\n\r\n'],
  ])('%s', (_, text, data) => {
    for (const pieces of cut(text)) expect(read(text, pieces)).toEqual({ data, rest: '' })
    for (let n = 0; n < text.length; n++) expect(read(text.slice(0, n))).toBeUndefined()
  })
  test('what comes behind it is left', () => expect(read('0\r\n\r\nGET /')).toEqual({ data: '', rest: 'GET /' }))
})

describe('what is none', () => {
  test.each([
    ['no size', '\r\n'],
    ['no size but an extension', ';a\r\n'],
    ['a sign', '+3\r\n'],
    ['0x', '0x3\r\n'],
    ['no hexadecimal digit', 'g\r\n'],
    ['a space before the size', ' 3\r\n'],
    ['a space behind it', '3 \r\n'],
    ['a bare LF behind the size', '3\none\r\n0\r\n\r\n'],
    ['a bare CR behind the size', '3\rone'],
    ['more than 32 bits', '100000000\r\n'],
    ['nine digits', '000000003\r\n'],
    ['LF in an extension', '3;a\nb\r\n'],
    ['NUL in an extension', '3;a\0b\r\n'],
    ['data that is longer', '3\r\nonely'],
    ['data that ends with a bare LF', '3\r\none\n0\r\n\r\n'],
    ['a bare LF at the end', '0\r\n\n'],
    ['a bare LF in the last place', '0\n\r\n'],
    ['a trailer field with a bare LF', '0\r\na: b\n\r\n'],
    ['a trailer field without a colon', '0\r\nGET / HTTP/1.1\r\n\r\n'],
    ['a folded trailer field', '0\r\na: b\r\n c\r\n\r\n'],
    ['NUL in a trailer field', '0\r\na: \0\r\n\r\n'],
    ['a space before the colon', '0\r\na : b\r\n\r\n'],
  ])('%s', (_, text) => {
    for (const pieces of cut(text)) expect(read(text, pieces)).toBeNull()
  })
  test.each([
    ['an extension', `3;${'a'.repeat(limits.httpChunkLineBytes + 9)}`],
    ['the name of a trailer field', `0\r\n${'a'.repeat(limits.httpHeaderBytes + 9)}`],
    ['trailer fields', `0\r\n${'a: 0123456789\r\n'.repeat(limits.httpHeaderBytes / 10)}`],
  ])('%s without end', (_, text) => expect(read(text)).toBeNull())
  test('more around the data than may be thrown away', () => {
    const reader = new ChunkReader()
    const chunk = Buffer.from('00000001\r\nx\r\n'.repeat(100_000))
    let all = 0
    for (; reader.read(chunk, 0, () => {}) !== -1; all += chunk.length) expect(all).toBeLessThan(limits.httpDiscardBytes * 1.1)
    expect(all).toBeGreaterThan(limits.httpDiscardBytes / 2)
  })
})

test('a body that is none is answered 400, its reader is gone, and the connection ends', () => {
  const r = connection()
  feed(r, 'POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n-1\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n')
  expect([r.pipe.statuses, r.pipe.ended, r.seen.map((e) => [e.complete, e.lost])]).toEqual([[400], true, [[false, 1]]])
})
