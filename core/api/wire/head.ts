import { limits } from '../../limits.ts'

/** The head of an HTTP/1 request (RFC 9112): what frames it is looked at here, the rest is the exchange's. */
export interface Head {
  readonly method: string
  readonly url: string
  /** Names in lower case and values, in turn. Values are slices of the head: whoever keeps one copies it. */
  readonly fields: readonly string[]
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
const REQUEST_LINE = /^([!#$%&'*+\-.^_`|~0-9A-Za-z]+) ([\x21-\x7e\x80-\xff]+) HTTP\/1\.([01])$/
const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/
/** What every AWS client sends. */
const USUAL_LINE = 'POST / HTTP/1.1'

/** Names as they came → in lower case. Few are seen, again and again. */
const known = new Map<string, string>()
function nameOf(raw: string): string | null {
  const name = known.get(raw)
  if (name !== undefined) return name
  if (!TOKEN.test(raw)) return null
  // a slice would keep the whole head alive
  const own = Buffer.from(raw, 'latin1').toString('latin1')
  if (known.size < limits.httpKnownNames) known.set(own, own.toLowerCase())
  return own.toLowerCase()
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
 * beside a Transfer-Encoding, no encoding but `chunked`, and that only in HTTP/1.1.
 */
export function parseHead(text: string): Head | HeadFault {
  if (!TEXT.test(text)) return 'malformed'
  let at = text.indexOf('\r\n')
  const first = at === -1 ? text : text.slice(0, at)
  const line = first === USUAL_LINE ? null : REQUEST_LINE.exec(first)
  if (line === null && first !== USUAL_LINE) return 'malformed'
  const fields: string[] = []
  const framing: Framing = { length: null, encoding: null, connection: '', expect: null }
  while (at !== -1) {
    const from = at + 2
    at = text.indexOf('\r\n', from)
    const end = at === -1 ? text.length : at
    const colon = text.indexOf(':', from)
    if (colon === -1 || colon >= end) return 'malformed'
    const name = nameOf(text.slice(from, colon))
    if (name === null) return 'malformed'
    const value = trimmed(text, colon + 1, end)
    if (!frames(framing, name, value)) return 'malformed'
    if (fields.length >= 2 * limits.httpHeaderFields) return 'too-many-fields'
    fields.push(name, value)
  }
  return framed(framing, fields, line?.[1] ?? 'POST', line?.[2] ?? '/', line?.[3] !== '0')
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
function frames(f: Framing, name: string, value: string): boolean {
  switch (name) {
    case 'content-length':
      if (f.length !== null) return false
      f.length = value
      return true
    case 'transfer-encoding':
      if (f.encoding !== null) return false
      f.encoding = value
      return true
    case 'expect':
      if (f.expect !== null) return false
      f.expect = value
      return true
    case 'connection':
      f.connection += `,${value}`
      return true
    default:
      return true
  }
}

function framed(f: Framing, fields: readonly string[], method: string, url: string, http11: boolean): Head | HeadFault {
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
  return { method, url, fields, length, close, expects }
}
