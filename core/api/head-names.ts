import { limits } from '../limits.ts'

/** Headers that the front door acts on. */
export type Field =
  | 'host'
  | 'authorization'
  | 'target'
  | 'contentType'
  | 'contentLength'
  | 'amzDate'
  | 'date'
  | 'securityToken'
  | 'contentSha256'

/** A second copy of one of them, or of any x-amz-*, is refused: which one was signed? */
const fields: ReadonlyMap<string, Field> = new Map([
  ['host', 'host'],
  ['authorization', 'authorization'],
  ['x-amz-target', 'target'],
  ['content-type', 'contentType'],
  ['content-length', 'contentLength'],
  ['x-amz-date', 'amzDate'],
  ['date', 'date'],
  ['x-amz-security-token', 'securityToken'],
  ['x-amz-content-sha256', 'contentSha256'],
] as const)

export const mustBeSingle = (name: string): boolean => fields.has(name) || name.startsWith('x-amz-')

/**
 * The names of a head, in their order. A client sends the same ones with every request, so what follows from the names alone is found once:
 * heads with the same names have the same object.
 */
export interface HeadNames {
  /** As they came, each with its colon. */
  readonly raw: readonly string[]
  /** In lower case. */
  readonly names: readonly string[]
  /** Which field value i is. */
  readonly fields: readonly (Field | null)[]
  /** No name came twice, and none is a pseudo header of HTTP/2. */
  readonly plain: boolean
}

const seen = new Map<string, HeadNames>()

/** `raw` with colons; the strings are kept, so none may be a slice of a head. */
export function headNames(raw: readonly string[]): HeadNames {
  const key = raw.join('')
  const known = seen.get(key)
  if (known !== undefined) return known
  const names = raw.map((r) => r.slice(0, -1).toLowerCase())
  const plain = new Set(names).size === names.length && !names.some((n) => n.startsWith(':'))
  const made = { raw, names, fields: names.map((n) => fields.get(n) ?? null), plain }
  if (seen.size >= limits.httpKnownHeads) seen.clear()
  seen.set(key, made)
  return made
}
