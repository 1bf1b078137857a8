import { createHmac, hash, timingSafeEqual } from 'node:crypto'
import { limits } from '../limits.ts'
import type { Clock } from '../sdk/host.ts'
import { canonicalRequest, type Signed as SignedHeaders } from './canonical.ts'
import { ApiError } from './errors.ts'
import { ANONYMOUS, accessDenied, principalOf, type ApiKey, type Principal } from './principal.ts'
import type { HeadNames } from './head-names.ts'
import type { RequestHead } from './request.ts'

/** What the head of a request gave; only the gate that made it can read it. */
export interface Admitted {
  readonly head: RequestHead
}

/**
 * The one gate of the front door. `admit` looks at the head only (form, key, scope, time, may the key do this at all), before a byte of
 * the body is read or hashed; `authenticate` checks the signature over the body and gives the Principal that every handler asks for.
 * Both throw ApiError.
 */
export interface Gate {
  /** `signature` = the service that the scope must name; `action` such as `firehose:PutRecord`; both undefined when the target is unknown. */
  admit(head: RequestHead, service: string | undefined, action: string | undefined): Admitted
  authenticate(a: Admitted, body: Uint8Array): Principal
}

/** `auth: none`: every request is anonymous, signed or not. */
export function openGate(): Gate {
  const anonymous = principalOf({ accessKey: ANONYMOUS })
  return { admit: (head) => ({ head }), authenticate: () => anonymous }
}

export interface SigV4Options {
  readonly keys: readonly ApiKey[]
  readonly region: string
  readonly account: string
  readonly clock: Pick<Clock, 'now' | 'monotonic'>
  /** Refuse a signature that was seen before, inside the time window. */
  readonly replayCache?: boolean
}

interface KeyEntry {
  readonly secret: string
  readonly principal: Principal
}
/** One `Credential=` value that was found good, with the key derived for it. Valid for its own day, region and service only. */
interface Scope {
  readonly entry: KeyEntry
  readonly day: string
  readonly service: string
  /** `20261122/us-east-1/firehose/aws4_request` */
  readonly text: string
  readonly inner: Buffer
  readonly outer: Buffer
}
/** An Authorization header up to the signature. A client sends the same one all day. */
interface Claim {
  readonly credential: string
  readonly list: string
  readonly names: readonly string[]
  /** The last head that was checked against it, and what came of that. */
  like: HeadNames | null
  signed: SignedHeaders | null
}
interface Signed extends Admitted {
  readonly scope: Scope
  readonly stamp: string
  readonly signature: string
  readonly headers: SignedHeaders
}

const ALGORITHM = 'AWS4-HMAC-SHA256'
/** Before the scope in the string to sign: algorithm, stamp; after it: the hash. */
const STRING_TO_SIGN_HEAD = ALGORITHM.length + 1 + 16 + 1

/**
 * `auth: sigv4`, Signature Version 4 in the Authorization header over the whole body; every other form is refused, never skipped.
 * Refusals carry AWS's codes and words with HTTP 400, as Kinesis and Firehose answer. An unknown key id is answered at once
 * (UnrecognizedClientException, as on AWS): key ids are no secret, and a stranger must not make this process hash bodies.
 */
export function sigv4Gate(o: SigV4Options): Gate {
  const keys = new Map<string, KeyEntry>()
  for (const key of o.keys) keys.set(key.accessKey, { secret: key.secretKey, principal: principalOf(key) })
  const verifier = new Verifier(keys, o)
  const replays = o.replayCache === true ? new ReplayCache(o.clock) : null
  return {
    admit: (head, service, action) => verifier.admit(head, service, action),
    authenticate(a, body) {
      const principal = verifier.authenticate(a as Signed, body)
      replays?.check((a as Signed).signature)
      return principal
    },
  }
}

class Verifier {
  readonly #keys: ReadonlyMap<string, KeyEntry>
  readonly #o: SigV4Options
  readonly #scopes = new Map<string, Scope>()
  /** By the header up to the signature. */
  readonly #claims = new Map<string, Claim>()
  readonly #wanted = Buffer.alloc(64)
  readonly #given = Buffer.alloc(64)

  constructor(keys: ReadonlyMap<string, KeyEntry>, o: SigV4Options) {
    this.#keys = keys
    this.#o = o
  }

  admit(head: RequestHead, service: string | undefined, action: string | undefined): Signed {
    const { authorization } = head
    const inQuery = head.url !== '/' && /[?&]x-amz-(algorithm|signature|credential)=/i.test(head.url)
    if (authorization === undefined) {
      if (inQuery) throw signatureError('Signing in the query string is not supported here; sign with the Authorization header.')
      throw new ApiError('MissingAuthenticationTokenException', 'Missing Authentication Token')
    }
    if (inQuery) throw signatureError("Found both 'X-Amz-Algorithm' as a query-string param and 'Authorization' as HTTP header.")
    const { claim, signature } = this.#claim(authorization, head)
    const scope = this.#scope(claim.credential, head, service)
    const stamp = stampOf(head, authorization)
    this.#checkTime(stamp, scope.day)
    if (head.securityToken !== undefined) throw unknownKey()
    const headers = claim.signed !== null && claim.like !== null && claim.like === head.like ? claim.signed : signedHeaders(claim, head)
    checkContentHash(head.contentSha256)
    if (action !== undefined && !scope.entry.principal.mayAct(action)) {
      throw accessDenied(scope.entry.principal, this.#o.account, action, '*')
    }
    return { head, scope, stamp, signature, headers }
  }

  /** Reads the header, or knows all of it but the signature already. */
  #claim(authorization: string, head: RequestHead): { claim: Claim; signature: string } {
    const at = authorization.length - SIGNATURE_DIGITS
    const known = this.#claims.get(authorization.slice(0, at))
    const last = authorization.slice(at)
    if (known !== undefined && last.length === SIGNATURE_DIGITS && (head.amzDate !== undefined || head.date !== undefined)) {
      return { claim: known, signature: last }
    }
    const { credential, signedHeaders, signature } = parseAuthorization(authorization, head)
    const list = ownText(signedHeaders)
    const claim = { credential: ownText(credential), list, names: signedNames(list), like: null, signed: null }
    if (signature === last) {
      if (this.#claims.size >= limits.signingKeys) this.#claims.clear()
      this.#claims.set(ownText(authorization.slice(0, at)), claim)
    }
    return { claim, signature }
  }

  authenticate(a: Signed, body: Uint8Array): Principal {
    const bodyHash = hash('sha256', body)
    const { contentSha256 } = a.head
    if (contentSha256 !== undefined && contentSha256 !== bodyHash) {
      throw signatureError("The provided 'x-amz-content-sha256' header does not match what was computed.")
    }
    const request = hash('sha256', canonicalRequest(a.head, a.headers, bodyHash))
    const { inner, outer, text } = a.scope
    // inner = key ^ ipad, then the string to sign: algorithm and scope stand there already
    inner.write(a.stamp, 64 + ALGORITHM.length + 1, 'latin1')
    inner.write(request, 64 + STRING_TO_SIGN_HEAD + text.length + 1, 'latin1')
    outer.write(hash('sha256', inner), 64, 'hex')
    this.#wanted.write(hash('sha256', outer), 'latin1')
    this.#given.write(a.signature, 'latin1')
    if (!timingSafeEqual(this.#wanted, this.#given)) {
      if (!isHex64(a.signature)) throw noSignature()
      throw signatureError(
        'The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing ' +
          'method. Consult the service documentation for details.',
      )
    }
    return a.scope.entry.principal
  }

  #scope(credential: string, head: RequestHead, service: string | undefined): Scope {
    const known = this.#scopes.get(credential)
    if (known && (service === undefined || known.service === service)) return known
    const [id = '', day = '', region = '', scopeService = '', end = '', ...more] = credential.split('/')
    const entry = this.#keys.get(id)
    if (!entry) throw unknownKey()
    if (more.length > 0 || end === '')
      throw incomplete(`Credential must have exactly 5 slash-delimited elements, got '${credential}'`, head)
    if (region !== this.#o.region) {
      throw signatureError(`Credential should be scoped to a valid region, not '${region}'. This endpoint serves '${this.#o.region}'.`)
    }
    if (service !== undefined && scopeService !== service) {
      throw signatureError(`Credential should be scoped to correct service: '${service}'.`)
    }
    if (end !== 'aws4_request') throw signatureError(`Credential should be scoped with a valid terminator: 'aws4_request', not '${end}'.`)
    if (!/^\d{8}$/.test(day)) throw signatureError(`Date in Credential scope is not YYYYMMDD: '${day}'.`)
    // day and service are the sender's: a stranger with a known key id could fill the cache, so it is small and starts anew when full
    if (this.#scopes.size >= limits.signingKeys) this.#scopes.clear()
    const scope = deriveScope(entry, day, region, scopeService)
    this.#scopes.set(credential, scope)
    return scope
  }

  #checkTime(stamp: string, day: string): void {
    if (!stamp.startsWith(day)) {
      throw signatureError(
        'Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: ' +
          `'${day}' != '${stamp.slice(0, 8)}', from '${stamp}'.`,
      )
    }
    const now = this.#o.clock.now()
    const skew = limits.signatureSkewMs
    const at = stampMs(stamp)
    const minutes = skew / 60_000
    if (at < now - skew) {
      throw signatureError(`Signature expired: ${stamp} is now earlier than ${stampText(now - skew)} (${stampText(now)} - ${minutes} min.)`)
    }
    if (at > now + skew) {
      throw signatureError(
        `Signature not yet current: ${stamp} is still later than ${stampText(now + skew)} (${stampText(now)} + ${minutes} min.)`,
      )
    }
  }
}

/** Checks the head against the claim, and remembers it for the next head with the same names. */
function signedHeaders(claim: Claim, head: RequestHead): SignedHeaders {
  checkSigned(head, claim.names)
  const { list, names } = claim
  const signed = { list, starts: names.map((name) => `${name}:`), places: names.map((name) => head.names.indexOf(name)) }
  claim.like = head.like
  claim.signed = signed
  return signed
}

function signedNames(list: string): readonly string[] {
  const names = list.split(';')
  const sorted = names.every((n, i) => n !== '' && n === n.toLowerCase() && (i === 0 || (names[i - 1] ?? '') < n))
  if (!sorted) throw signatureError(`SignedHeaders must be lower-case, sorted and without repetition, got '${list}'.`)
  return names
}

/** A copy: a slice would keep the whole head of its request alive. */
const ownText = (slice: string): string => Buffer.from(slice, 'latin1').toString('latin1')

const SIGNATURE_DIGITS = 64
const SHA256_DIGITS = 64
function isHex64(text: string): boolean {
  if (text.length !== SIGNATURE_DIGITS) return false
  for (let i = 0; i < SIGNATURE_DIGITS; i++) {
    const c = text.charCodeAt(i)
    if (c < 0x30 || c > 0x66 || (c > 0x39 && c < 0x61)) return false
  }
  return true
}

/** `AWS4-HMAC-SHA256 Credential=…, SignedHeaders=…, Signature=…`: parameters in any order, each exactly once, nothing else. */
function parseAuthorization(text: string, head: RequestHead): { credential: string; signedHeaders: string; signature: string } {
  const at = text.indexOf(' ')
  const algorithm = at === -1 ? text : text.slice(0, at)
  if (algorithm !== ALGORITHM) {
    throw new ApiError('IncompleteSignatureException', `Unsupported AWS 'algorithm': '${algorithm}'.`)
  }
  let credential: string | undefined
  let signedHeaders: string | undefined
  let signature: string | undefined
  for (const part of text.slice(at + 1).split(',')) {
    const item = part.trim()
    if (item.startsWith('Credential=') && credential === undefined) credential = item.slice(11)
    else if (item.startsWith('SignedHeaders=') && signedHeaders === undefined) signedHeaders = item.slice(14)
    else if (item.startsWith('Signature=') && signature === undefined) signature = item.slice(10)
    else throw incomplete(`'${item}' not a valid key=value pair (missing equal-sign or repeated) in Authorization header`, head)
  }
  let missing = ''
  if (!credential) missing += "Authorization header requires 'Credential' parameter. "
  if (!signature) missing += "Authorization header requires 'Signature' parameter. "
  if (!signedHeaders) missing += "Authorization header requires 'SignedHeaders' parameter. "
  if (head.amzDate === undefined && head.date === undefined) {
    missing += "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. "
  }
  if (!credential || !signature || !signedHeaders || missing !== '') throw incomplete(missing.trim(), head)
  if (!isHex64(signature)) throw noSignature()
  return { credential, signedHeaders, signature }
}

/** yyyyMMdd'T'HHmmss'Z' from X-Amz-Date, else from Date in either form. */
function stampOf(head: RequestHead, authorization: string): string {
  const given = head.amzDate ?? head.date ?? ''
  if (given.length === 16 && !Number.isNaN(stampMs(given))) return given
  if (head.amzDate === undefined) {
    const ms = Date.parse(given)
    if (!Number.isNaN(ms)) return stampText(ms)
  }
  throw new ApiError(
    'IncompleteSignatureException',
    `Date must be in ISO-8601 'basic format'. Got '${given}'. See http://en.wikipedia.org/wiki/ISO_8601 ` +
      `Authorization=${redact(authorization)}`,
  )
}

let lastStamp = ''
let lastStampMs = NaN
/** ms since the epoch, or NaN. Requests of one second share their stamp. */
function stampMs(s: string): number {
  if (s !== lastStamp) {
    lastStampMs = parseStamp(s)
    lastStamp = s
  }
  return lastStampMs
}
function parseStamp(s: string): number {
  if (s.charCodeAt(8) !== 0x54 || s.charCodeAt(15) !== 0x5a || s.length !== 16) return NaN
  return Date.UTC(+s.slice(0, 4), +s.slice(4, 6) - 1, +s.slice(6, 8), +s.slice(9, 11), +s.slice(11, 13), +s.slice(13, 15))
}
function stampText(ms: number): string {
  return new Date(ms)
    .toISOString()
    .replace(/[-:]/g, '')
    .replace(/\.\d{3}/, '')
}

/** Every header that steers the request must be signed (X-Amz-Target would turn PutRecord into DeleteDeliveryStream). */
function checkSigned(head: RequestHead, names: readonly string[]): void {
  for (const name of head.names) {
    const must = name === 'host' || name === 'content-type' || name.startsWith('x-amz-')
    if (must && !names.includes(name)) throw unsigned(name)
  }
  if (head.host === undefined) throw unsigned('host')
  if (head.amzDate === undefined && !names.includes('date')) throw unsigned('date')
  for (const name of names) {
    if (!head.names.includes(name)) throw signatureError(`The header '${name}' is signed but was not sent.`)
  }
}

function checkContentHash(given: string | undefined): void {
  // nothing else that a client may send there has this length; the digits are compared with those of the body
  if (given === undefined || given.length === SHA256_DIGITS) return
  throw signatureError(`x-amz-content-sha256 '${given}' is not supported: the body must be signed whole.`)
}

const step = (key: string | Buffer, text: string): Buffer => createHmac('sha256', key).update(text).digest()

function deriveScope(entry: KeyEntry, day: string, region: string, service: string): Scope {
  const key = step(step(step(step(`AWS4${entry.secret}`, day), region), service), 'aws4_request')
  const text = `${day}/${region}/${service}/aws4_request`
  const inner = Buffer.alloc(64 + STRING_TO_SIGN_HEAD + text.length + 1 + 64)
  const outer = Buffer.alloc(64 + 32)
  key.copy(inner)
  key.copy(outer)
  for (let i = 0; i < 64; i++) {
    inner[i] = (inner[i] ?? 0) ^ 0x36
    outer[i] = (outer[i] ?? 0) ^ 0x5c
  }
  inner.write(`${ALGORITHM}\n${'0'.repeat(16)}\n${text}\n`, 64, 'latin1')
  return { entry, day, service, text, inner, outer }
}

/** Signatures seen in this half of the window and the one before. Full = refuse: an open door would be worse than a closed one. */
class ReplayCache {
  #now = new Set<string>()
  #before = new Set<string>()
  #turnedAt: number
  readonly #clock: Pick<Clock, 'monotonic'>
  constructor(clock: Pick<Clock, 'monotonic'>) {
    this.#clock = clock
    this.#turnedAt = clock.monotonic()
  }
  check(signature: string): void {
    const now = this.#clock.monotonic()
    // a stamp is good for the skew before and after its time, so a signature lives twice the skew: the two halves cover it
    if (now - this.#turnedAt >= limits.signatureSkewMs * 2) {
      this.#before = this.#now
      this.#now = new Set()
      this.#turnedAt = now
    }
    // half of it is enough, in half as many characters, and it is no slice of the request
    const id = Buffer.from(signature.slice(0, 32), 'hex').toString('latin1')
    if (this.#now.has(id) || this.#before.has(id)) {
      throw signatureError('This signature was used before. Sign every request anew: the replay cache of this endpoint is on.')
    }
    if (this.#now.size >= limits.replaySignatures) throw new ApiError('ThrottlingException', 'Rate exceeded')
    this.#now.add(id)
  }
}

const noSignature = (): ApiError => signatureError('The signature is not 64 lower-case hexadecimal digits.')
const signatureError = (message: string): ApiError => new ApiError('InvalidSignatureException', message)
const unsigned = (name: string): ApiError =>
  signatureError(
    name === 'host'
      ? "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization."
      : `'${name}' must be a 'SignedHeader' in the AWS Authorization.`,
  )
const unknownKey = (): ApiError => new ApiError('UnrecognizedClientException', 'The security token included in the request is invalid.')
const incomplete = (what: string, head: RequestHead): ApiError =>
  new ApiError('IncompleteSignatureException', `${what} Authorization=${redact(head.authorization ?? '')}`)
/** AWS repeats the header; the signature itself is left out, since answers may be logged by clients. */
const redact = (authorization: string): string => authorization.replace(/Signature=[^,\s]*/i, 'Signature=…')
