import { ApiError } from './errors.ts'
import { mustBeSingle, placesOf, type HeadNames } from './head-names.ts'

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

/**
 * Takes the head apart. Of HTTP/2 it has pseudo headers, where `:authority` is the host. Throws ApiError for a header that came twice and
 * must not: which one was signed (security.md §2.1)?
 */
export function readHead(method: string, url: string, names: HeadNames, values: readonly string[]): RequestHead {
  if (names.plain) return headOf(method, url, names, names, values)
  const joined = join(names, values)
  return headOf(method, url, null, { names: joined.names, at: placesOf(joined.names) }, joined.values)
}

function headOf(
  method: string,
  url: string,
  like: HeadNames | null,
  { names, at }: Pick<HeadNames, 'names' | 'at'>,
  values: readonly string[],
): RequestHead {
  return {
    method,
    url,
    like,
    names,
    values,
    host: values[at.host],
    authorization: values[at.authorization],
    target: values[at.target],
    contentType: values[at.contentType],
    contentLength: values[at.contentLength],
    amzDate: values[at.amzDate],
    date: values[at.date],
    securityToken: values[at.securityToken],
    contentSha256: values[at.contentSha256],
  }
}

/** The names without pseudo headers and doubles, the values of harmless doubles joined. */
function join(given: HeadNames, all: readonly string[]): { names: string[]; values: string[] } {
  const names: string[] = []
  const values: string[] = []
  let authority: string | undefined
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
  }
  if (authority === undefined) return { names, values }
  const host = values[names.indexOf('host')]
  if (host !== undefined && host !== authority) throw duplicate('host')
  if (host === undefined) {
    names.push('host')
    values.push(authority)
  }
  return { names, values }
}

function duplicate(name: string): ApiError {
  return new ApiError('InvalidSignatureException', `The header '${name}' was sent more than once; one value is expected.`)
}
