import { createHash, createHmac } from 'node:crypto'

export interface Credentials {
  readonly accessKey: string
  readonly secretKey: string
}
export interface ToSign {
  readonly method: string
  /** As sent: encoded. */
  readonly path: string
  readonly query?: Readonly<Record<string, string>>
  readonly headers: Readonly<Record<string, string>>
  readonly body: Uint8Array | string
  readonly service: string
  readonly region: string
  readonly now: Date
}

const sha256 = (x: Uint8Array | string): string => createHash('sha256').update(x).digest('hex')
const hmac = (key: Uint8Array | string, x: string): Buffer => createHmac('sha256', key).update(x).digest()
const escape = (x: string): string => encodeURIComponent(x).replace(/[!'()*]/g, (c) => '%' + c.charCodeAt(0).toString(16).toUpperCase())

/** The query as it is signed and sent: sorted, RFC 3986 escapes. */
export function queryText(query: Readonly<Record<string, string>>): string {
  const pairs = Object.entries(query).map(([k, v]) => `${escape(k)}=${escape(v)}`)
  return pairs.toSorted((a, b) => (a < b ? -1 : 1)).join('&')
}

/** AWS Signature Version 4, written for the tests from AWS's published description: what hydrant checks must not be made by hydrant. Answers all headers to send. */
export function sign(r: ToSign, c: Credentials): Record<string, string> {
  const stamp = r.now.toISOString().replace(/[-:]|\.\d+/g, '')
  const payload = sha256(r.body)
  const headers: Record<string, string> = { ...r.headers, 'x-amz-date': stamp, 'x-amz-content-sha256': payload }
  const lower = new Map(Object.entries(headers).map(([k, v]) => [k.toLowerCase(), v.trim()]))
  const names = [...lower.keys()].toSorted()
  const canonical = [
    r.method,
    r.path,
    queryText(r.query ?? {}),
    ...names.map((n) => `${n}:${lower.get(n) ?? ''}`),
    '',
    names.join(';'),
    payload,
  ].join('\n')
  const scope = `${stamp.slice(0, 8)}/${r.region}/${r.service}/aws4_request`
  const key = [r.region, r.service, 'aws4_request'].reduce((k, part) => hmac(k, part), hmac('AWS4' + c.secretKey, stamp.slice(0, 8)))
  const signature = hmac(key, ['AWS4-HMAC-SHA256', stamp, scope, sha256(canonical)].join('\n')).toString('hex')
  headers['authorization'] = `AWS4-HMAC-SHA256 Credential=${c.accessKey}/${scope}, SignedHeaders=${names.join(';')}, Signature=${signature}`
  return headers
}
