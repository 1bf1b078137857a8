import type { RequestHead } from './request.ts'

/** The headers that a signature covers. */
export interface Signed {
  /** As SignedHeaders has them. */
  readonly list: string
  /** Each name with its colon. */
  readonly starts: readonly string[]
  /** Where each of them stands in the head. */
  readonly places: readonly number[]
}

/**
 * The canonical request of Signature Version 4 (AWS General Reference, "Create a canonical request"), for services other than S3:
 * the path is normalized and encoded once more, query values are decoded and encoded once, header values are trimmed and inner runs of
 * spaces become one.
 */
export function canonicalRequest(head: Pick<RequestHead, 'method' | 'url' | 'values'>, signed: Signed, bodyHash: string): string {
  const { url } = head
  let text: string
  if (url === '/') text = `${head.method}\n/\n\n`
  else {
    const at = url.indexOf('?')
    const path = at === -1 ? url : url.slice(0, at)
    text = `${head.method}\n${canonicalPath(path)}\n${at === -1 ? '' : canonicalQuery(url.slice(at + 1))}\n`
  }
  const { starts, places } = signed
  for (let i = 0; i < starts.length; i++) text += (starts[i] ?? '') + canonicalValue(head.values[places[i] ?? 0] ?? '') + '\n'
  return `${text}\n${signed.list}\n${bodyHash}`
}

/** Trims and collapses runs of spaces. The wires have trimmed already, so most values leave at once. */
export function canonicalValue(value: string): string {
  const last = value.charCodeAt(value.length - 1)
  if (value.charCodeAt(0) !== 0x20 && last !== 0x20 && !value.includes('  ') && !value.includes('\t')) return value
  return value.trim().replace(/\s+/g, ' ')
}

/** RFC 3986: everything but A-Z a-z 0-9 - . _ ~ as upper-case %XX of its UTF-8. */
export function uriEncode(text: string): string {
  return encodeURIComponent(text).replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`)
}

/** Removes `.`, `..` and empty segments (RFC 3986 §5.2.4), then encodes each segment as sent once more. */
export function canonicalPath(path: string): string {
  const out: string[] = []
  for (const part of path.split('/')) {
    if (part === '..') out.pop()
    else if (part !== '' && part !== '.') out.push(part)
  }
  const last = path.endsWith('/') || path.endsWith('/.') || path.endsWith('/..') ? '/' : ''
  return out.length === 0 ? '/' : `/${out.map(uriEncode).join('/')}${last}`
}

/** Decoded once, encoded once, sorted by name and then by value. A broken %-sequence is taken as it stands. */
export function canonicalQuery(query: string): string {
  if (query === '') return ''
  return query
    .split('&')
    .filter((p) => p !== '')
    .map((p) => {
      const at = p.indexOf('=')
      const name = at === -1 ? p : p.slice(0, at)
      return [uriEncode(decode(name)), at === -1 ? '' : uriEncode(decode(p.slice(at + 1)))] as const
    })
    .toSorted((a, b) => compare(a[0], b[0]) || compare(a[1], b[1]))
    .map(([k, v]) => `${k}=${v}`)
    .join('&')
}

function decode(s: string): string {
  try {
    return decodeURIComponent(s)
  } catch {
    return s
  }
}
const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0)
