import { limits } from '../limits.ts'

/** Headers that the front door acts on. A second copy of one of them, or of any x-amz-*, is refused: which one was signed? */
const fields = {
  host: 'host',
  authorization: 'authorization',
  target: 'x-amz-target',
  contentType: 'content-type',
  contentLength: 'content-length',
  amzDate: 'x-amz-date',
  date: 'date',
  securityToken: 'x-amz-security-token',
  contentSha256: 'x-amz-content-sha256',
} as const
type Field = keyof typeof fields

const single: ReadonlySet<string> = new Set(Object.values(fields))
export const mustBeSingle = (name: string): boolean => single.has(name) || name.startsWith('x-amz-')

/**
 * The names of a head, in their order. A client sends the same ones with every request, so what follows from the names alone is found once:
 * heads with the same names have the same object.
 */
export interface HeadNames {
  /** As they came, each with its colon. */
  readonly raw: readonly string[]
  /** In lower case. */
  readonly names: readonly string[]
  /** Which value is that of a field; their number when there is none. */
  readonly at: Readonly<Record<Field, number>>
  /** No name came twice, and none is a pseudo header of HTTP/2. */
  readonly plain: boolean
  /** Characters of all of them. */
  readonly bytes: number
}

const seen = new Map<string, HeadNames>()

/** `raw` with colons; the strings are kept, so none may be a slice of a head. */
export function headNames(raw: readonly string[]): HeadNames {
  const key = raw.join('')
  const known = seen.get(key)
  if (known !== undefined) return known
  const names = raw.map((r) => r.slice(0, -1).toLowerCase())
  const plain = new Set(names).size === names.length && !names.some((n) => n.startsWith(':'))
  const made = { raw, names, at: placesOf(names), plain, bytes: key.length }
  if (made.bytes > limits.httpKnownHeadBytes) return made
  if (seen.size >= limits.httpKnownHeads) seen.clear()
  seen.set(key, made)
  return made
}

export function placesOf(names: readonly string[]): Readonly<Record<Field, number>> {
  const place = (name: string): number => (names.includes(name) ? names.indexOf(name) : names.length)
  return Object.fromEntries(Object.entries(fields).map(([field, name]) => [field, place(name)])) as Record<Field, number>
}
