import { createHash, createHmac } from 'node:crypto'
import { SignatureV4 } from '@smithy/signature-v4'
import { describe, expect, test } from 'vitest'
import { canonicalPath, canonicalQuery, canonicalRequest, canonicalValue } from '../../core/api/canonical.ts'
import { ApiError } from '../../core/api/errors.ts'
import { wildcard, type ApiKey, type Principal } from '../../core/api/principal.ts'
import { headNames } from '../../core/api/head-names.ts'
import { readHead, type RequestHead } from '../../core/api/request.ts'
import { openGate, sigv4Gate, type Gate } from '../../core/api/sigv4.ts'
import { limits } from '../../core/limits.ts'
import { ACCOUNT } from './fakes.ts'
import { Sha } from './sha.ts'

const KEY: ApiKey = { accessKey: 'AKIDEXAMPLE', secretKey: 'wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY' }
const OTHER: ApiKey = {
  accessKey: 'AKIDOTHER',
  secretKey: 'another-secret-of-another-key',
  allow: ['firehose:PutRecord*'],
  streams: ['clicks*'],
}
const NOW = Date.UTC(2026, 10, 22, 17, 30, 0)
const REGION = 'us-east-1'

class Clock {
  ms = NOW
  now = (): number => this.ms
  monotonic = (): number => this.ms
}
const clock = new Clock()
function gateOf(o: { replayCache?: boolean } = {}): Gate {
  return sigv4Gate({ keys: [KEY, OTHER], region: REGION, account: ACCOUNT, clock, ...o })
}

interface Ask {
  key?: ApiKey
  region?: string
  service?: string
  headers?: Record<string, string>
  body?: string
  path?: string
  query?: Record<string, string | string[]>
  at?: number
}
async function sign(a: Ask = {}): Promise<{ headers: Record<string, string>; url: string; body: Buffer }> {
  const key = a.key ?? KEY
  const signer = new SignatureV4({
    service: a.service ?? 'firehose',
    region: a.region ?? REGION,
    credentials: { accessKeyId: key.accessKey, secretAccessKey: key.secretKey },
    sha256: Sha as never,
    applyChecksum: false,
  })
  const body = a.body ?? '{"DeliveryStreamName":"clicks"}'
  const request = {
    method: 'POST',
    protocol: 'http:',
    hostname: 'localhost',
    path: a.path ?? '/',
    query: a.query ?? {},
    headers: {
      host: 'localhost:4580',
      'content-type': 'application/x-amz-json-1.1',
      'x-amz-target': 'Firehose_20150804.PutRecord',
      'user-agent': 'unsigned',
      ...a.headers,
    },
    body,
  }
  const signed = await signer.sign(request, { signingDate: new Date(a.at ?? NOW) })
  const query = Object.entries(a.query ?? {}).flatMap(([k, v]) =>
    [v].flat().map((x) => `${encodeURIComponent(k)}=${encodeURIComponent(x)}`),
  )
  return { headers: signed.headers, url: (a.path ?? '/') + (query.length > 0 ? `?${query.join('&')}` : ''), body: Buffer.from(body) }
}

interface Sent {
  headers: Record<string, string> | readonly (readonly [string, string])[]
  url?: string
  body?: Uint8Array
}
/** A head of names and values in turn. */
function headOf(method: string, url: string, fields: readonly string[]): RequestHead {
  const names = fields.filter((_, i) => i % 2 === 0).map((name) => `${name}:`)
  return readHead(
    method,
    url,
    headNames(names),
    fields.filter((_, i) => i % 2 === 1),
  )
}
/** Asks the gate as the server does. */
function ask(gate: Gate, s: Sent, service: string | undefined = 'firehose', action: string | undefined = 'firehose:PutRecord'): Principal {
  const raw = (Array.isArray(s.headers) ? s.headers : Object.entries(s.headers)) as [string, string][]
  return gate.authenticate(gate.admit(headOf('POST', s.url ?? '/', raw.flat()), service, action), s.body ?? Buffer.alloc(0))
}
function refusal(gate: Gate, s: Sent, service?: string, action?: string): { code: string; message: string; status: number } {
  try {
    ask(gate, s, service, action)
  } catch (e) {
    if (e instanceof ApiError) return { code: e.code, message: e.message, status: e.status }
    throw e
  }
  throw new Error('the gate let it pass')
}

const h = (k: string | Buffer, s: string): Buffer => createHmac('sha256', k).update(s).digest()

describe('the oracle signs, the gate agrees', () => {
  test('and gives the principal of the key', async () => {
    expect(ask(gateOf(), await sign()).id).toBe('AKIDEXAMPLE')
    expect(ask(gateOf(), await sign({ key: OTHER })).id).toBe('AKIDOTHER')
  })
  test.each([
    ['empty body', { body: '' }],
    ['UTF-8 body', { body: '{"DeliveryStreamName":"é€😀"}' }],
    ['values with spaces', { headers: { 'x-amz-meta': '  a   b  ', 'x-amz-user-agent': 'a  b' } }],
    ['a path with dots, doubles and escapes', { path: '/a/./b/../c//d%20e/%2f/é' }],
    ['a path that ends in a slash', { path: '/a/b/' }],
    ['a query with every kind of character', { query: { b: ["!'()* ~-_.", 'z'], a: '=&/+é', A: '' } }],
    ['a query without a value', { query: { flag: '' } }],
  ] satisfies [string, Ask][])('%s', async (_, a: Ask) => {
    expect(ask(gateOf(), await sign(a)).id).toBe('AKIDEXAMPLE')
  })
  test('a cached scope serves later requests, another day gets its own key', async () => {
    const gate = gateOf()
    for (const at of [NOW, NOW + 1_000, NOW + 60_000]) expect(ask(gate, await sign({ at })).id).toBe('AKIDEXAMPLE')
    clock.ms = NOW + 86_400_000
    try {
      expect(ask(gate, await sign({ at: clock.ms })).id).toBe('AKIDEXAMPLE')
    } finally {
      clock.ms = NOW
    }
  })
  test('a Date header in place of X-Amz-Date, when it is signed', async () => {
    // no AWS SDK does this; the string is signed by hand from the published steps
    const date = 'Sun, 22 Nov 2026 17:30:00 GMT'
    const headers = { host: 'h', date }
    const bodyHash = createHash('sha256').update('').digest('hex')
    const request = `POST\n/\n\ndate:${date}\nhost:h\n\ndate;host\n${bodyHash}`
    const scope = `20261122/${REGION}/firehose/aws4_request`
    const text = `AWS4-HMAC-SHA256\n20261122T173000Z\n${scope}\n${createHash('sha256').update(request).digest('hex')}`
    const key = h(h(h(h(`AWS4${KEY.secretKey}`, '20261122'), REGION), 'firehose'), 'aws4_request')
    const authorization = `AWS4-HMAC-SHA256 Credential=${KEY.accessKey}/${scope}, SignedHeaders=date;host, Signature=${h(key, text).toString('hex')}`
    expect(ask(gateOf(), { headers: { ...headers, authorization } }).id).toBe('AKIDEXAMPLE')
  })
})

describe('refused: a signature that does not fit', () => {
  const mismatch = { code: 'InvalidSignatureException', status: 400 }
  test('another body, header, path, query, secret or method', async () => {
    const s = await sign()
    expect(refusal(gateOf(), { ...s, body: Buffer.from('{}') })).toMatchObject(mismatch)
    expect(refusal(gateOf(), { ...s, url: '/x' })).toMatchObject(mismatch)
    expect(refusal(gateOf(), { ...s, url: '/?a=b' })).toMatchObject(mismatch)
    expect(refusal(gateOf(), { ...s, headers: { ...s.headers, host: 'evil' } })).toMatchObject(mismatch)
    expect(refusal(gateOf(), { ...s, headers: { ...s.headers, 'x-amz-target': 'Firehose_20150804.DeleteDeliveryStream' } })).toMatchObject(
      mismatch,
    )
    const wrong = await sign({ key: { ...KEY, secretKey: OTHER.secretKey } })
    expect(refusal(gateOf(), wrong).message).toMatch(/^The request signature we calculated does not match the signature you provided\./)
    const head = headOf('PUT', s.url, Object.entries(s.headers).flat())
    const gate = gateOf()
    expect(() => gate.authenticate(gate.admit(head, 'firehose', undefined), s.body)).toThrow(/does not match/)
  })
  test('one flipped digit of the signature, anywhere', async () => {
    const s = await sign()
    const authorization = s.headers['authorization'] ?? ''
    for (let i = 1; i <= 64; i += 7) {
      const at = authorization.length - i
      const flipped = `${authorization.slice(0, at)}${authorization[at] === '0' ? '1' : '0'}${authorization.slice(at + 1)}`
      expect(refusal(gateOf(), { ...s, headers: { ...s.headers, authorization: flipped } })).toMatchObject(mismatch)
    }
  })
  test('a signature that is short, long, upper-case or no hexadecimal', async () => {
    const s = await sign()
    const [start = '', signature = ''] = (s.headers['authorization'] ?? '').split('Signature=')
    for (const bad of [signature.slice(1), `${signature}0`, signature.toUpperCase().replace(/^./, 'A'), 'g'.repeat(64)]) {
      const headers = { ...s.headers, authorization: `${start}Signature=${bad}` }
      expect(refusal(gateOf(), { ...s, headers })).toMatchObject({ ...mismatch, message: expect.stringMatching(/hexadecimal/) as string })
    }
  })
})

const editHeader = async (f: (authorization: string) => string): Promise<Sent> => {
  const s = await sign()
  return { ...s, headers: { ...s.headers, authorization: f(s.headers['authorization'] ?? '') } }
}

describe('refused: the form of the header', () => {
  test('no signature at all', async () => {
    const { authorization: _, ...headers } = (await sign()).headers
    expect(refusal(gateOf(), { headers })).toEqual({
      code: 'MissingAuthenticationTokenException',
      message: 'Missing Authentication Token',
      status: 400,
    })
  })
  test('other schemes: SigV2, SigV4A, Bearer, nothing', async () => {
    for (const scheme of ['AWS', 'AWS4-ECDSA-P256-SHA256', 'Bearer', 'AWS4-HMAC-SHA512', '']) {
      const s = await editHeader((a) => a.replace('AWS4-HMAC-SHA256', scheme))
      expect(refusal(gateOf(), s)).toMatchObject({
        code: 'IncompleteSignatureException',
        message: `Unsupported AWS 'algorithm': '${scheme}'.`,
      })
    }
  })
  test.each(['Credential', 'SignedHeaders', 'Signature'])('%s missing, or there twice', async (part) => {
    const missing = await editHeader((a) => a.replace(new RegExp(`,? ?${part}=[^,]+`), '').replace('SHA256,', 'SHA256'))
    expect(refusal(gateOf(), missing)).toMatchObject({
      code: 'IncompleteSignatureException',
      message: expect.stringContaining(`Authorization header requires '${part}' parameter.`) as string,
    })
    const twice = await editHeader((a) => `${a}, ${part}=x`)
    expect(refusal(gateOf(), twice).code).toBe('IncompleteSignatureException')
  })
  test('the answer does not repeat the signature', async () => {
    const s = await editHeader((a) => `${a}, Extra=1`)
    expect(refusal(gateOf(), s).message).not.toMatch(/Signature=[0-9a-f]/)
  })
  test('no date, a broken date', async () => {
    const { 'x-amz-date': _, ...headers } = (await sign()).headers
    expect(refusal(gateOf(), { headers }).message).toContain("existence of either a 'X-Amz-Date' or a 'Date' header.")
    for (const date of ['2026-11-22T17:30:00Z', '20261122T173000', '20261122T17300xZ', 'yesterday']) {
      const code = refusal(gateOf(), { headers: { ...(await sign()).headers, 'x-amz-date': date } }).code
      expect(code).toBe('IncompleteSignatureException')
    }
  })
  test('credentials in the query, alone or beside the header', async () => {
    const s = await sign()
    const url = '/?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=0'
    expect(refusal(gateOf(), { ...s, url }).message).toMatch(/^Found both 'X-Amz-Algorithm' as a query-string param and 'Authorization'/)
    expect(refusal(gateOf(), { headers: { host: 'h' }, url })).toMatchObject({ code: 'InvalidSignatureException' })
  })
  test('payload hashes that are no hash, and one that is of something else', async () => {
    for (const v of ['UNSIGNED-PAYLOAD', 'STREAMING-AWS4-HMAC-SHA256-PAYLOAD', 'STREAMING-UNSIGNED-PAYLOAD-TRAILER', 'abc']) {
      expect(refusal(gateOf(), await sign({ headers: { 'x-amz-content-sha256': v } })).message).toContain('is not supported')
    }
    const hash = createHash('sha256').update('other').digest('hex')
    // signed with the claimed hash, as a client that lies would
    expect(refusal(gateOf(), await sign({ headers: { 'x-amz-content-sha256': hash } })).message).toMatch(
      /^The provided 'x-amz-content-sha256'/,
    )
    const body = '{}'
    const right = createHash('sha256').update(body).digest('hex')
    expect(ask(gateOf(), await sign({ body, headers: { 'x-amz-content-sha256': right } })).id).toBe('AKIDEXAMPLE')
  })
})

describe('refused: what must be signed', () => {
  test.each(['host', 'x-amz-target', 'x-amz-date', 'content-type'])('%s is not in SignedHeaders', async (name) => {
    const s = await sign()
    const list = /SignedHeaders=([^,]+)/.exec(s.headers['authorization'] ?? '')?.[1]?.split(';') ?? []
    const authorization = (s.headers['authorization'] ?? '').replace(
      /SignedHeaders=[^,]+/,
      `SignedHeaders=${list.filter((n) => n !== name).join(';')}`,
    )
    expect(refusal(gateOf(), { ...s, headers: { ...s.headers, authorization } })).toMatchObject({
      code: 'InvalidSignatureException',
      message: expect.stringMatching(/must be a 'SignedHeader' in the AWS Authorization\.$/) as string,
    })
  })
  test('an x-amz header added on the way', async () => {
    const s = await sign()
    const message = refusal(gateOf(), { ...s, headers: { ...s.headers, 'x-amz-added': '1' } }).message
    expect(message).toBe("'x-amz-added' must be a 'SignedHeader' in the AWS Authorization.")
  })
  test('a signed header that was not sent, an unsorted list, a list with a double or upper case', async () => {
    const s = await sign()
    const withList = (f: (l: string) => string): Sent => {
      const authorization = (s.headers['authorization'] ?? '').replace(/SignedHeaders=([^,]+)/, (_, l: string) => `SignedHeaders=${f(l)}`)
      return { ...s, headers: { ...s.headers, authorization } }
    }
    expect(
      refusal(
        gateOf(),
        withList((l) => `${l};zzz`),
      ).message,
    ).toBe("The header 'zzz' is signed but was not sent.")
    for (const f of [
      (l: string) => l.split(';').toReversed().join(';'),
      (l: string) => `${l};x-amz-target`,
      (l: string) => l.toUpperCase(),
    ]) {
      expect(refusal(gateOf(), withList(f)).message).toMatch(/^SignedHeaders must be lower-case, sorted/)
    }
  })
})

describe('refused: the wrong key, scope or time', () => {
  test('an unknown key id, a session token that no key has', async () => {
    const expected = { code: 'UnrecognizedClientException', message: 'The security token included in the request is invalid.', status: 400 }
    expect(refusal(gateOf(), await sign({ key: { ...KEY, accessKey: 'AKIDNOBODY' } }))).toEqual(expected)
    expect(refusal(gateOf(), await sign({ headers: { 'x-amz-security-token': 'FwoGZX' } }))).toEqual(expected)
  })
  test('another region, service, terminator, day', async () => {
    expect(refusal(gateOf(), await sign({ region: 'eu-west-1' })).message).toMatch(
      /^Credential should be scoped to a valid region, not 'eu-west-1'/,
    )
    const kinesis = await sign({ service: 'kinesis' })
    expect(refusal(gateOf(), kinesis).message).toBe("Credential should be scoped to correct service: 'firehose'.")
    // also when the same gate has met that scope on its own service before
    const gate = gateOf()
    expect(ask(gate, kinesis, 'kinesis', undefined).id).toBe('AKIDEXAMPLE')
    expect(refusal(gate, kinesis).message).toBe("Credential should be scoped to correct service: 'firehose'.")
    const s = await sign()
    const edit = (from: string, to: string): Sent => ({
      ...s,
      headers: { ...s.headers, authorization: (s.headers['authorization'] ?? '').replace(from, to) },
    })
    expect(refusal(gateOf(), edit('aws4_request', 'aws5_request')).message).toContain(
      "valid terminator: 'aws4_request', not 'aws5_request'",
    )
    expect(refusal(gateOf(), edit('/20261122/', '/20261121/')).message).toMatch(/^Date in Credential scope does not match YYYYMMDD/)
    expect(refusal(gateOf(), edit('/aws4_request', '/aws4_request/x')).code).toBe('IncompleteSignatureException')
    expect(refusal(gateOf(), edit('/firehose/aws4_request', '')).code).toBe('IncompleteSignatureException')
  })
  test('five minutes both ways, and AWS says by how much', async () => {
    const skew = limits.signatureSkewMs
    for (const at of [NOW - skew, NOW + skew]) expect(ask(gateOf(), await sign({ at })).id).toBe('AKIDEXAMPLE')
    expect(refusal(gateOf(), await sign({ at: NOW - skew - 1_000 })).message).toBe(
      'Signature expired: 20261122T172459Z is now earlier than 20261122T172500Z (20261122T173000Z - 5 min.)',
    )
    expect(refusal(gateOf(), await sign({ at: NOW + skew + 1_000 })).message).toBe(
      'Signature not yet current: 20261122T173501Z is still later than 20261122T173500Z (20261122T173000Z + 5 min.)',
    )
  })
  test('the head is judged before the body is seen', async () => {
    const { headers } = await sign({ at: NOW - 3_600_000 })
    expect(() => gateOf().admit(headOf('POST', '/', Object.entries(headers).flat()), 'firehose', undefined)).toThrow(/expired/)
  })
})

describe('headers that came twice', () => {
  test.each(['Host', 'Authorization', 'X-Amz-Target', 'x-amz-anything', 'Content-Length', 'X-Amz-Date', 'Content-Type'])('%s', (name) => {
    const raw = ['host', 'h', 'authorization', 'a', 'x-amz-target', 't', 'x-amz-anything', '1', 'content-length', '0', 'x-amz-date', 'd']
    expect(() => headOf('POST', '/', [...raw, 'content-type', 'c', name, 'second'])).toThrow(/was sent more than once/)
  })
  test(':authority is the host of HTTP/2; another Host beside it is refused', () => {
    expect(headOf('POST', '/', [':authority', 'a', ':path', '/']).host).toBe('a')
    expect(headOf('POST', '/', [':authority', 'a', 'host', 'a']).names).toEqual(['host'])
    expect(() => headOf('POST', '/', [':authority', 'a', 'host', 'b'])).toThrow(/more than once/)
  })
  test('other headers are joined', () => {
    expect(headOf('POST', '/', ['accept', 'a', 'Accept', 'b']).values).toEqual(['a,b'])
  })
})

describe('canonical form', () => {
  test("AWS's published example", () => {
    // AWS General Reference, the worked example for IAM ListUsers
    const head = headOf('GET', '/?Action=ListUsers&Version=2010-05-08', [
      'Host', 'iam.amazonaws.com',
      'Content-Type', 'application/x-www-form-urlencoded; charset=utf-8',
      'X-Amz-Date', '20150830T123600Z',
    ]) // prettier-ignore
    const names = ['content-type', 'host', 'x-amz-date']
    const empty = createHash('sha256').update('').digest('hex')
    const text = canonicalRequest(
      head,
      { list: names.join(';'), starts: names.map((n) => `${n}:`), places: names.map((n) => head.names.indexOf(n)) },
      empty,
    )
    expect(createHash('sha256').update(text).digest('hex')).toBe('f536975d06c0309214f805bb90ccff089219ecd68b2577efef23edd43b7e1a59')
  })
  test.each([
    ['/', '/'],
    ['', '/'],
    ['/a/../b//c', '/b/c'],
    ['/%2f', '/%252f'],
    ['/a/./', '/a/'],
    ['/..', '/'],
    ['/é', '/%C3%A9'],
  ])('path %s → %s', (path, expected) => expect(canonicalPath(path)).toBe(expected))
  test.each([
    ['b=2&a=1&a=0', 'a=0&a=1&b=2'],
    ['a', 'a='],
    ['a=%20&b=+', 'a=%20&b=%2B'],
    ['a=%zz', 'a=%25zz'],
    ["k=!'()*~", 'k=%21%27%28%29%2A~'],
  ])('query %s → %s', (query, expected) => expect(canonicalQuery(query)).toBe(expected))
  test('values are trimmed and runs of spaces become one', () => expect(canonicalValue('  a   b\t c ')).toBe('a b c'))
})

describe('replay cache', () => {
  test('off: the same request passes twice; on: once, until its time window is over', async () => {
    const s = await sign()
    const open = gateOf()
    ask(open, s)
    expect(ask(open, s).id).toBe('AKIDEXAMPLE')
    const gate = gateOf({ replayCache: true })
    ask(gate, s)
    expect(refusal(gate, s).message).toMatch(/^This signature was used before/)
    clock.ms = NOW + limits.signatureSkewMs
    try {
      expect(refusal(gate, s).message).toMatch(/^This signature was used before/)
    } finally {
      clock.ms = NOW
    }
    expect(refusal(gate, { ...s, body: Buffer.from('x') }).message).toMatch(/does not match/)
    // the cache turns over while a signature is still good: it is remembered in the half before
    try {
      clock.ms = NOW + 2 * limits.signatureSkewMs - 1_000
      const late = await sign({ at: clock.ms })
      ask(gate, late)
      clock.ms += 2_000
      ask(gate, await sign({ at: clock.ms }))
      expect(refusal(gate, late).message).toMatch(/^This signature was used before/)
    } finally {
      clock.ms = NOW
    }
  })
})

describe('what a key may do', () => {
  test('actions by pattern, before the body is read; streams by pattern', async () => {
    const p = ask(gateOf(), await sign({ key: OTHER }))
    expect(p.may('firehose:PutRecord', 'clicks-1')).toBe(true)
    expect(p.may('firehose:PutRecordBatch', 'clicks')).toBe(true)
    expect(p.may('firehose:PutRecord', 'orders')).toBe(false)
    expect(p.may('firehose:DeleteDeliveryStream', 'clicks')).toBe(false)
    expect(refusal(gateOf(), await sign({ key: OTHER }), 'firehose', 'firehose:DeleteDeliveryStream')).toEqual({
      code: 'AccessDeniedException',
      message: `User: arn:aws:iam::${ACCOUNT}:user/AKIDOTHER is not authorized to perform: firehose:DeleteDeliveryStream on resource: *`,
      status: 400,
    })
  })
  test.each([
    ['*', 'anything', true],
    ['clicks*', 'clicks', true],
    ['clicks*', 'click', false],
    ['*-prod', 'a-prod', true],
    ['*-prod', 'a-prod2', false],
    ['a*b*c', 'aXbYbZc', true],
    ['a?c', 'abc', true],
    ['a?c', 'ac', false],
    ['a.c', 'abc', false],
    ['', '', true],
  ])('%s on %s: %s', (pattern, text, expected) => expect(wildcard(pattern)(text)).toBe(expected))
  test('a hostile pattern costs nothing', () => {
    const t = performance.now()
    expect(wildcard('*a*a*a*a*a*a*a*a*b')('a'.repeat(2_000))).toBe(false)
    expect(performance.now() - t).toBeLessThan(500)
  })
  test('auth: none is anonymous, also with a broken signature', () => {
    expect(ask(openGate(), { headers: { authorization: 'nonsense' } }).id).toBe('anonymous')
  })
})
