import { ApiError } from './errors.ts'
import { mustBeSingle, type HeadNames } from './head-names.ts'

/**
 * What is known of a request before its body: the headers as they came, looked at once. Only the headers that the front door acts on
 * have a field; the rest is found by name when a signature names it.
 */
export interface RequestHead {
  readonly method: string
  /** As sent: path and query. */
  readonly url: string
  /** Lower-case names; values[i] belongs to names[i], joined with "," where a harmless header came more than once. */
  readonly names: readonly string[]
  /** What knows more of these names; null where they had to be put in order first. */
  readonly like: HeadNames | null
  readonly values: readonly string[]
  readonly host: string | undefined
  readonly authorization: string | undefined
  readonly target: string | undefined
  readonly contentType: string | undefined
  readonly contentLength: string | undefined
  readonly amzDate: string | undefined
  readonly date: string | undefined
  readonly securityToken: string | undefined
  readonly contentSha256: string | undefined
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] }

/**
 * Takes the head apart. Of HTTP/2 it has pseudo headers, where `:authority` is the host. Throws ApiError for a header that came twice and
 * must not: which one was signed (security.md §2.1)?
 */
export function readHead(method: string, url: string, names: HeadNames, values: readonly string[]): RequestHead {
  const head: Mutable<RequestHead> = {
    method,
    url,
    like: null,
    names: names.names,
    values,
    host: undefined,
    authorization: undefined,
    target: undefined,
    contentType: undefined,
    contentLength: undefined,
    amzDate: undefined,
    date: undefined,
    securityToken: undefined,
    contentSha256: undefined,
  }
  if (names.plain) head.like = names
  else join(head, names, values)
  const { fields } = names
  for (let i = 0; i < fields.length; i++) {
    const field = fields[i]
    if (field !== null && field !== undefined) head[field] = values[i]
  }
  return head
}

/** The names without pseudo headers and doubles, the values of harmless doubles joined. */
function join(head: Mutable<RequestHead>, given: HeadNames, all: readonly string[]): void {
  const names: string[] = []
  const values: string[] = []
  let authority: string | undefined
  let host: string | undefined
  for (const [i, name] of given.names.entries()) {
    const value = all[i] ?? ''
    if (name.startsWith(':')) {
      if (name === ':authority') authority = value
      continue
    }
    const before = names.indexOf(name)
    if (before !== -1) {
      if (mustBeSingle(name)) throw duplicate(name)
      values[before] = `${values[before] ?? ''},${value}`
      continue
    }
    names.push(name)
    values.push(value)
    if (name === 'host') host = value
  }
  if (authority !== undefined) {
    if (host !== undefined && host !== authority) throw duplicate('host')
    if (host === undefined) {
      names.push('host')
      values.push(authority)
      head.host = authority
    }
  }
  head.names = names
  head.values = values
}

function duplicate(name: string): ApiError {
  return new ApiError('InvalidSignatureException', `The header '${name}' was sent more than once; one value is expected.`)
}
