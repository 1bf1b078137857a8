import { describe, expect, test } from 'vitest'
import { headNames } from '../../../core/api/head-names.ts'
import { parseHead, type Head } from '../../../core/api/wire/head.ts'
import { limits } from '../../../core/limits.ts'

const none = headNames([])
const given = (lines: string | readonly string[], last = none): Head => {
  const head = parseHead(typeof lines === 'string' ? lines : lines.join('\r\n'), last)
  return typeof head === 'string' ? expect.unreachable(`${head}: ${JSON.stringify(lines)}`) : head
}
const fields = (h: Head): string[] => h.names.names.map((name, i) => `${name}=${h.values[i]}`)
const LINE = 'POST / HTTP/1.1'
const HOST = 'Host: x'

describe('what is a head', () => {
  test('its parts, as they came', () => {
    const h = given(['PUT /a?b=%20 HTTP/1.1', 'Host:  x:1 \t', 'Empty:', 'Odd-!#$%&\'*+.^_`|~: \x80 a\tb: "c" '])
    expect([h.method, h.url, h.length, h.close, h.expects]).toEqual(['PUT', '/a?b=%20', 0, false, false])
    expect(fields(h)).toEqual(['host=x:1', 'empty=', 'odd-!#$%&\'*+.^_`|~=\x80 a\tb: "c"'])
    expect(h.names.raw[0]).toBe('Host:')
  })
  test.each(['/', '//', '/a?b#c', '*', 'http://x/y', 'HTTPS://x'])('the target %s', (url) => {
    expect(given([`POST ${url} HTTP/1.1`, HOST]).url).toBe(url)
  })
  test.each([
    ['Content-Length: 0', 0],
    ['content-length: 17', 17],
    ['CONTENT-LENGTH:007', 7],
    ['Content-Length: 999999999999999', 999_999_999_999_999],
    ['Transfer-Encoding: chunked', null],
    ['transfer-encoding:  Chunked ', null],
  ])('%s', (field, length) => expect(given([LINE, HOST, field]).length).toBe(length))
  test.each([
    ['1.1', [], false],
    ['1.1', ['Connection: close'], true],
    ['1.1', ['Connection: Keep-Alive, TE , CLOSE'], true],
    ['1.1', ['Connection: te', 'connection: close'], true],
    ['1.1', ['Connection: closed'], false],
    ['1.0', [], true],
    ['1.0', ['Connection: keep-alive'], false],
    ['1.0', ['Connection: keep-alive, close'], true],
  ])('HTTP/%s %j: it is the last: %s', (version, more, close) => {
    expect(given([`POST / HTTP/${version}`, HOST, ...more]).close).toBe(close)
  })
  test.each([
    ['1.1', '100-continue', true],
    ['1.1', '100-Continue', true],
    ['1.1', '200-ok', false],
    ['1.0', '100-continue', false],
  ])('HTTP/%s, Expect: %s: %s', (version, value, expects) => {
    expect(given([`POST / HTTP/${version}`, HOST, `Expect: ${value}`]).expects).toBe(expects)
  })
  test('as many fields as there may be', () => {
    const many = Array.from({ length: limits.httpHeaderFields - 1 }, (_, i) => `a${i}: b`)
    expect(given([LINE, HOST, ...many]).values.length).toBe(limits.httpHeaderFields)
    expect(parseHead([LINE, HOST, ...many, 'c: d'].join('\r\n'), none)).toBe('too-many-fields')
  })
})

describe('what is none', () => {
  test.each([
    ['an empty one', ''],
    ['a request line of two words', 'POST /'],
    ['two spaces', 'POST  / HTTP/1.1'],
    ['a tab', 'POST\t/ HTTP/1.1'],
    ['a space behind', 'POST / HTTP/1.1 '],
    ['a space before', ' POST / HTTP/1.1'],
    ['a method that is no token', 'PO(ST / HTTP/1.1'],
    ['a space in the path', 'POST /a b HTTP/1.1'],
    ['obs-text in the path', 'POST /\xe9 HTTP/1.1'],
    ['a path without a slash', 'POST a HTTP/1.1'],
    ['CONNECT', 'CONNECT x:1 HTTP/1.1'],
    ['HTTP/0.9', 'POST /'],
    ['HTTP/1.2', 'POST / HTTP/1.2'],
    ['HTTP/2.0', 'POST / HTTP/2.0'],
    ['http/1.1', 'POST / http/1.1'],
    ['HTTP/1.10', 'POST / HTTP/1.10'],
  ])('%s', (_, line) => expect(parseHead(`${line}\r\n${HOST}`, none)).toBe('malformed'))
  test.each([
    ['no Host', 'a: b'],
    ['a space before the colon', `${HOST}\r\nContent-Length : 3`],
    ['a tab before the colon', `${HOST}\r\nContent-Length\t: 3`],
    ['a folded line', `${HOST}\r\na: b\r\n c`],
    ['a folded first line', ` ${HOST}`],
    ['a fold with a tab', `${HOST}\r\na: b\r\n\tc`],
    ['no colon', `${HOST}\r\nabc`],
    ['no name', `${HOST}\r\n: b`],
    ['a name that is no token', `${HOST}\r\na(b: c`],
    ['obs-text in a name', `${HOST}\r\n\xe9: c`],
    ['a bare LF', `${HOST}\nContent-Length: 3`],
    ['a bare CR', `${HOST}\rContent-Length: 3`],
    ['a bare CR in a value', `${HOST}\r\na: b\rc`],
    ['NUL', `${HOST}\r\na: b\0c`],
    ['DEL', `${HOST}\r\na: b\x7fc`],
    ['an empty line', `${HOST}\r\n\r\na: b`],
    ['a line end too many', `${HOST}\r\n`],
    ['two lengths', `${HOST}\r\nContent-Length: 3\r\nContent-Length: 3`],
    ['two lengths in cases', `${HOST}\r\nContent-Length: 3\r\ncontent-length: 4`],
    ['two lengths in one', `${HOST}\r\nContent-Length: 3, 3`],
    ['a length with a sign', `${HOST}\r\nContent-Length: +3`],
    ['a negative length', `${HOST}\r\nContent-Length: -3`],
    ['a length in hexadecimal', `${HOST}\r\nContent-Length: 0x3`],
    ['a length with a fraction', `${HOST}\r\nContent-Length: 3.0`],
    ['a length of two words', `${HOST}\r\nContent-Length: 3 3`],
    ['an empty length', `${HOST}\r\nContent-Length:`],
    ['a length that is no safe number', `${HOST}\r\nContent-Length: 9999999999999999`],
    ['a length and chunks', `${HOST}\r\nContent-Length: 3\r\nTransfer-Encoding: chunked`],
    ['chunks and a length', `${HOST}\r\nTransfer-Encoding: chunked\r\nContent-Length: 3`],
    ['chunks twice', `${HOST}\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked`],
    ['chunks twice in one', `${HOST}\r\nTransfer-Encoding: chunked, chunked`],
    ['another encoding', `${HOST}\r\nTransfer-Encoding: gzip`],
    ['another encoding before', `${HOST}\r\nTransfer-Encoding: gzip, chunked`],
    ['chunks and identity', `${HOST}\r\nTransfer-Encoding: chunked, identity`],
    ['an empty encoding', `${HOST}\r\nTransfer-Encoding:`],
    ['a quoted encoding', `${HOST}\r\nTransfer-Encoding: "chunked"`],
    ['an encoding with an invisible end', `${HOST}\r\nTransfer-Encoding: chunked\x0b`],
    ['an encoding and a tab', `${HOST}\r\nTransfer-Encoding: chunked\t`],
    ['a tab and an encoding', `${HOST}\r\nTransfer-Encoding:\tchunked`],
    ['a length and a tab', `${HOST}\r\nContent-Length: 3\t`],
    ['a tab and a length', `${HOST}\r\nContent-Length:\t3`],
    ['two expectations', `${HOST}\r\nExpect: 100-continue\r\nExpect: 100-continue`],
  ])('%s', (_, rest) => {
    expect(parseHead(`${LINE}\r\n${rest}`, none)).toBe('malformed')
    // the same after a head whose names are known
    const first = rest.split('\r\n').map((line) => line.split(':')[0] ?? '')
    const names = first.filter((name) => /^[\w-]+$/.test(name)).map((name) => `${name}:`)
    expect(parseHead(`${LINE}\r\n${rest}`, headNames(names))).toBe('malformed')
  })
  test('chunks in HTTP/1.0', () => {
    expect(parseHead(`POST / HTTP/1.0\r\n${HOST}\r\nTransfer-Encoding: chunked`, none)).toBe('malformed')
  })
})

describe('names are known again', () => {
  test('the same ones are the same object, whatever is between, and whatever was before', () => {
    const a = given([LINE, HOST, 'a: 1', 'b: 2']).names
    expect(given([LINE, 'Host: y', 'a: 3', 'b:4'], a).names).toBe(a)
    expect(given([LINE, 'Host: y', 'a: 3', 'b:4'], headNames(['b:'])).names).toBe(a)
    for (const other of [
      [HOST, 'a: 1'],
      [HOST, 'a: 1', 'b: 1', 'c: 1'],
      [HOST, 'b: 1', 'a: 1'],
      [HOST, 'A: 1', 'b: 1'],
      [HOST, 'a: 1', 'bb: 1'],
    ]) {
      const h = given([LINE, ...other], a)
      expect(h.names).not.toBe(a)
      expect(fields(h)).toEqual(fields(given([LINE, ...other])))
      expect(h.names.raw).toEqual(other.map((line) => line.slice(0, line.indexOf(':') + 1)))
    }
  })
  test('what a head says does not depend on the one before', () => {
    const lines = [
      'Host: x',
      'a: 1',
      'b: 1',
      'Content-Length: 3',
      'Connection: close',
      'a:',
      'content-length: 4',
      'aa: 2',
      'a-: 1',
      'b:b: 2',
    ]
    let seed = 1
    const pick = (): string => lines[(seed = (seed * 48_271) % 0x7fff_ffff) % lines.length] ?? ''
    let last = none
    let good = 0
    for (let i = 0; i < 5_000; i++) {
      const text = [LINE, 'Host: x', ...Array.from({ length: i % 5 }, pick)].join('\r\n')
      const h = parseHead(text, last)
      const alone = parseHead(text, none)
      expect(typeof h === 'string' ? h : { ...h, names: h.names.raw }).toEqual(
        typeof alone === 'string' ? alone : { ...alone, names: alone.names.raw },
      )
      if (typeof h === 'string') continue
      last = h.names
      good++
    }
    expect(good).toBeGreaterThan(1_000)
  })
  test('long ones are not kept', () => {
    const long = [LINE, HOST, `${'a'.repeat(limits.httpKnownHeadBytes)}: 1`]
    expect(given(long).names).not.toBe(given(long).names)
  })
  test('pseudo headers of HTTP/2 are none of HTTP/1.1', () => {
    const h2 = headNames([':authority:', 'a:'])
    expect([h2.plain, h2.names]).toEqual([false, [':authority', 'a']])
    expect(parseHead(`${LINE}\r\n:authority: x\r\na: b`, h2)).toBe('malformed')
  })
})
