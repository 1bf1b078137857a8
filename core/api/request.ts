import { ApiError } from './errors.ts'

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
type Field = 'host' | 'authorization' | 'target' | 'contentType' | 'contentLength' | 'amzDate' | 'date' | 'securityToken' | 'contentSha256'

/** Headers with a meaning of their own. A second copy of one of them, or of any x-amz-*, is refused: which one was signed? */
const fields = new Map<string, Field>([
  ['host', 'host'],
  ['authorization', 'authorization'],
  ['x-amz-target', 'target'],
  ['content-type', 'contentType'],
  ['content-length', 'contentLength'],
  ['x-amz-date', 'amzDate'],
  ['date', 'date'],
  ['x-amz-security-token', 'securityToken'],
  ['x-amz-content-sha256', 'contentSha256'],
])

/**
 * Reads names (in lower case) and values in turn; of HTTP/2 with pseudo headers, where `:authority` is the host. Throws ApiError for a
 * header that came twice and must not: which one was signed (security.md §2.1)?
 */
export function readHead(method: string, url: string, given: readonly string[]): RequestHead {
  const names: string[] = []
  const values: string[] = []
  const head: Mutable<RequestHead> = {
    method,
    url,
    names,
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
  let authority: string | undefined
  for (let i = 0; i + 1 < given.length; i += 2) {
    const name = given[i] ?? ''
    const value = given[i + 1] ?? ''
    if (name.charCodeAt(0) === 0x3a) {
      if (name === ':authority') authority = value
      continue
    }
    const seen = names.indexOf(name)
    if (seen !== -1) {
      if (fields.has(name) || name.startsWith('x-amz-')) throw duplicate(name)
      values[seen] = `${values[seen] ?? ''},${value}`
      continue
    }
    names.push(name)
    values.push(value)
    const field = fields.get(name)
    if (field) head[field] = value
  }
  if (authority !== undefined) {
    if (head.host !== undefined && head.host !== authority) throw duplicate('host')
    if (head.host === undefined) {
      names.push('host')
      values.push(authority)
      head.host = authority
    }
  }
  return head
}

function duplicate(name: string): ApiError {
  return new ApiError('InvalidSignatureException', `The header '${name}' was sent more than once; one value is expected.`)
}
