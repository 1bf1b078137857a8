import { limits } from '../../limits.ts'
import { headNames, type HeadNames } from '../head-names.ts'

/** The head of an HTTP/1 request (RFC 9112): what frames it is looked at here, the rest is the exchange's. */
export interface Head {
  readonly method: string
  readonly url: string
  readonly names: HeadNames
  /** values[i] belongs to name i. Slices of the head: whoever keeps one copies it. */
  readonly values: readonly string[]
  /** Bytes of the body; null = it comes in chunks. */
  readonly length: number | null
  /** The client wants, or by its version expects, that the connection ends with the answer. */
  readonly close: boolean
  /** It sends its body when it is told to go on. */
  readonly expects: boolean
}
export type HeadFault = 'malformed' | 'too-many-fields'

/** Visible characters, spaces, tabs and obs-text between CRLFs: no control character, no bare CR or LF, no empty line. */
const TEXT = /^[\t\x20-\x7e\x80-\xff]+(?:\r\n[\t\x20-\x7e\x80-\xff]+)*$/
/** The target is a path, * or a whole URL (RFC 9112 §3.2); the fourth form is that of CONNECT. */
const REQUEST_LINE = /^([!#$%&'*+\-.^_`|~0-9A-Za-z]+) (\/[\x21-\x7e]*|\*|[A-Za-z]+:\/\/[\x21-\x7e]+) HTTP\/1\.([01])$/
/** Readers disagree whether such a value is understood. */
const FRAMING_WITH_TAB = /\r\n(?:transfer-encoding|content-length):[^\r]*\t/i
const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/
/** What every AWS client sends. */
const USUAL_LINE = 'POST / HTTP/1.1'

/** The name with its colon, as a string of its own: a slice would keep the whole head alive. Null: no name. */
function nameOf(raw: string): string | null {
  return TOKEN.test(raw) ? Buffer.from(`${raw}:`, 'latin1').toString('latin1') : null
}

/** What the fields say of the framing, gathered line by line. */
interface Framing {
  length: string | null
  encoding: string | null
  connection: string
  expect: string | null
}

/**
 * Reads a head without its empty line, one character a byte. Strict where two readers could disagree about where a request ends
 * (RFC 9112 §2.2, §5, §6.3, §11.2): no folded lines, no space before a colon, one Content-Length of digits only, no Content-Length
 * beside a Transfer-Encoding, no encoding but `chunked`, and that only in HTTP/1.1, which must name its Host (§3.2).
 */
export function parseHead(text: string, last: HeadNames): Head | HeadFault {
  if (!TEXT.test(text)) return 'malformed'
  let at = text.indexOf('\r\n')
  const first = at === -1 ? text : text.slice(0, at)
  const line = first === USUAL_LINE ? null : REQUEST_LINE.exec(first)
  if (line === null && first !== USUAL_LINE) return 'malformed'
  const values: string[] = []
  const framing: Framing = { length: null, encoding: null, connection: '', expect: null }
  /** Null for as long as they are the names of the request before. */
  let other: string[] | null = null
  while (at !== -1) {
    if (values.length >= limits.httpHeaderFields) return 'too-many-fields'
    const from = at + 2
    at = text.indexOf('\r\n', from)
    const end = at === -1 ? text.length : at
    let raw = last.raw[values.length]
    if (raw === undefined || !text.startsWith(raw, from)) {
      const colon = text.indexOf(':', from)
      const found = colon === -1 || colon >= end ? null : nameOf(text.slice(from, colon))
      if (found === null) return 'malformed'
      raw = found
      other ??= last.raw.slice(0, values.length)
    }
    other?.push(raw)
    const value = trimmed(text, from + raw.length, end)
    if (!frames(framing, raw, value)) return 'malformed'
    values.push(value)
  }
  const names = other === null && values.length === last.raw.length ? last : headNames(other ?? last.raw.slice(0, values.length))
  if (text.includes('\t') && FRAMING_WITH_TAB.test(text)) return 'malformed'
  return framed(framing, names, values, line)
}

/** Without spaces and tabs around it. */
function trimmed(text: string, start: number, stop: number): string {
  let from = start
  let to = stop
  while (from < to && (text.charCodeAt(from) === 0x20 || text.charCodeAt(from) === 0x09)) from++
  while (to > from && (text.charCodeAt(to - 1) === 0x20 || text.charCodeAt(to - 1) === 0x09)) to--
  return text.slice(from, to)
}

/** False: a field that frames came twice. */
function frames(f: Framing, raw: string, value: string): boolean {
  switch (raw.length) {
    case 'connection:'.length:
      if (isNamed(raw, 'connection:')) f.connection += `,${value}`
      return true
    case 'expect:'.length:
      return !isNamed(raw, 'expect:') || once(f, 'expect', value)
    case 'content-length:'.length:
      return !isNamed(raw, 'content-length:') || once(f, 'length', value)
    case 'transfer-encoding:'.length:
      return !isNamed(raw, 'transfer-encoding:') || once(f, 'encoding', value)
    default:
      return true
  }
}
/** Both are as long. */
const isNamed = (raw: string, name: string): boolean =>
  (raw.charCodeAt(0) | 0x20) === name.charCodeAt(0) && (raw === name || raw.toLowerCase() === name)
function once(f: Framing, which: 'length' | 'encoding' | 'expect', value: string): boolean {
  if (f[which] !== null) return false
  f[which] = value
  return true
}

function framed(f: Framing, names: HeadNames, values: readonly string[], line: RegExpExecArray | null): Head | HeadFault {
  const http11 = line?.[3] !== '0'
  if (http11 && names.at.host === names.names.length) return 'malformed'
  let length: number | null = 0
  if (f.encoding !== null) {
    if (f.length !== null || !http11 || f.encoding.toLowerCase() !== 'chunked') return 'malformed'
    length = null
  } else if (f.length !== null) {
    if (!/^\d{1,15}$/.test(f.length)) return 'malformed'
    length = Number(f.length)
  }
  const options = f.connection === '' ? [] : f.connection.split(',').map((o) => o.trim().toLowerCase())
  const close = options.includes('close') || (!http11 && !options.includes('keep-alive'))
  // an expectation that is not known is as good as none: RFC 9110 §10.1.1 allows to answer it 417, and nobody sends one
  const expects = http11 && f.expect?.toLowerCase() === '100-continue'
  return { method: line?.[1] ?? 'POST', url: line?.[2] ?? '/', names, values, length, close, expects }
}
