import type { Applied, PluginKit } from 'hydrant/sdk'
import type { S3Failure } from './client.ts'

/** What a failed request means for the attempt (exactly-once row 27). */
export type Verdict =
  /** The key is taken: HEAD says by what. Nothing there after all: `error`. */
  | { readonly means: 'existed'; readonly error: Error }
  /** Done or not, nobody knows: HEAD says. Nothing there: `error`. */
  | { readonly means: 'look'; readonly error: Error }
  /** What was asked about is not there, which was the question. */
  | { readonly means: 'gone'; readonly error: Error }
  /** refresh: the credentials are asked for again before the next attempt. */
  | { readonly means: 'throw'; readonly error: Error; readonly refresh?: true }

const CREDENTIALS = new Set([
  'ExpiredToken',
  'ExpiredTokenException',
  'TokenRefreshRequired',
  'InvalidToken',
  'RequestExpired',
  'InvalidAccessKeyId',
  'SignatureDoesNotMatch',
])
const REGION = new Set(['PermanentRedirect', 'TemporaryRedirect', 'AuthorizationHeaderMalformed', 'IllegalLocationConstraintException'])
const WIRE = new Set([
  'BadDigest',
  'InvalidDigest',
  'XAmzContentSHA256Mismatch',
  'XAmzContentChecksumMismatch',
  'IncompleteBody',
  'RequestTimeout',
  'RequestTimeTooSkewed',
  'InvalidChecksum',
])
const UPLOAD = new Set(['NoSuchUpload', 'InvalidPart', 'InvalidPartOrder', 'EntityTooSmall'])
const SETTING = new Set([
  'NotImplemented',
  'MethodNotAllowed',
  'InvalidStorageClass',
  'AccessControlListNotSupported',
  'InvalidEncryptionAlgorithmError',
  'KMS.NotFoundException',
  'InvalidBucketName',
])
const THROTTLED = new Set(['SlowDown', 'Throttling', 'ThrottlingException', 'TooManyRequests', 'RequestLimitExceeded'])
const PERMISSION: Readonly<Record<string, string>> = {
  put: 's3:PutObject (and with kms_key: kms:GenerateDataKey)',
  create: 's3:PutObject (and with kms_key: kms:GenerateDataKey)',
  part: 's3:PutObject (and with kms_key: kms:Decrypt)',
  complete: 's3:PutObject (and with kms_key: kms:Decrypt)',
  head: 's3:GetObject and s3:ListBucket',
  get: 's3:GetObject and s3:ListBucket',
  abort: 's3:AbortMultipartUpload',
  list: 's3:ListBucketMultipartUploads',
  delete: 's3:DeleteObject',
  reach: 's3:ListBucket',
  lifecycle: 's3:GetLifecycleConfiguration',
}

/**
 * The store has certainly not done what a write asked, and will not: no connection came about, or its own answer refuses. Any other 5xx
 * may come from a server in between, after the deed; 408 says only that somebody has lost patience.
 */
function refuses(f: S3Failure): boolean {
  if (f.outcome !== 'refused') return false
  return f.status === undefined || (f.status < 500 && f.status !== 408) || f.status === 501 || THROTTLED.has(f.code)
}

/**
 * The one table of answers. What an operator can mend while the lane waits (permission, bucket, credentials, region) is
 * retryable: the records stay in the log and delivery goes on by itself. The exception is a refused HEAD: whether the object
 * exists decides between done and lost, so the lane stops and names the permission.
 */
export function verdict(f: S3Failure, bucket: string, key: string, kit: PluginKit): Verdict {
  const visible = f.operation === 'put' || f.operation === 'complete'
  const after = f.retryAfterMs === undefined ? {} : { retryAfterMs: f.retryAfterMs }
  const unknown = (text: string): Error => new kit.RetryableError(`S3.${f.code}`, text, { cause: f, ...after })
  const known: Known = { cause: f, applied: visible && refuses(f) ? 'no' : 'unknown' }
  const retry = (text: string): Error => new kit.RetryableError(`S3.${f.code}`, text, { ...known, ...after })
  const name = key === '' ? `s3://${bucket}` : `s3://${bucket}/${key}`
  const said = f.status === undefined ? f.code : `${f.status} ${f.code}`
  const words = f.message === f.code ? said : f.message.startsWith(f.code) ? f.message : `${said}: ${f.message}`
  const what = `${f.operation} ${name}: ${words.slice(0, 400)}`

  if (f.code === 'NoSuchBucket') {
    return {
      means: 'throw',
      error: retry(`${what}; create the bucket or correct \`bucket\`, \`region\` and \`endpoint\`: delivery goes on by itself`),
    }
  }
  if (f.status === 404 && (f.operation === 'head' || f.operation === 'get' || f.operation === 'delete'))
    return { means: 'gone', error: retry(what) }
  if (f.operation === 'abort' && (f.code === 'NoSuchUpload' || f.status === 404)) return { means: 'gone', error: retry(what) }
  if (visible && f.status === 412) return { means: 'existed', error: unknown(`${what}; then HEAD found nothing`) }
  if (visible && f.outcome === 'unknown') return { means: 'look', error: unknown(`${what}; whether it was stored is not known`) }
  if (f.operation === 'complete' && f.code === 'NoSuchUpload') return { means: 'look', error: unknown(what) }
  return judge(f, what, { retry, known }, kit)
}

interface Known {
  readonly cause: S3Failure
  readonly applied: Applied
}
interface Errors {
  readonly known: Known
  readonly retry: (text: string) => Error
}

function fail(error: Error): Verdict {
  return { means: 'throw', error }
}

function judge(f: S3Failure, what: string, { retry, known }: Errors, kit: PluginKit): Verdict {
  if (f.code === 'ObjectParentIsFile')
    return fail(new kit.PermanentError(`S3.${f.code}`, `${what}; another object is a file where this key needs a folder`, known))
  // 409 ConditionalRequestConflict, OperationAborted: somebody else wrote at the same time; the next attempt uploads all of it again
  if (f.status === 409 || UPLOAD.has(f.code)) return fail(retry(`${what}; the next attempt is a new upload`))
  if (THROTTLED.has(f.code) || f.code === 'ServiceUnavailable' || f.status === 429 || WIRE.has(f.code)) return fail(retry(what))
  if (CREDENTIALS.has(f.code)) {
    return { means: 'throw', refresh: true, error: retry(`${what}; credentials are asked for again with the next attempt`) }
  }
  if (f.code === 'CredentialsProviderError')
    return { means: 'throw', refresh: true, error: retry(`${what}; give \`credentials\` or set up the AWS chain`) }
  if (REGION.has(f.code) || f.status === 301 || f.status === 307)
    return fail(retry(`${what}; the bucket is in another region: correct \`region\``))
  if (/Region is missing/.test(f.message)) return fail(new kit.ConfigError('S3.NoRegion', `${what}; set \`region\` or AWS_REGION`, known))
  if (SETTING.has(f.code) || f.status === 501)
    return fail(new kit.ConfigError(`S3.${f.code}`, `${what}; the store does not take this setting`, known))
  if (f.status === 403 || f.status === 401 || f.code === 'AccessDenied') return fail(denied(f, what, retry, kit))
  if (f.code.startsWith('KMS.')) return fail(retry(`${what}; see to the key \`kms_key\`: delivery goes on by itself`))
  if (f.status !== undefined && f.status >= 400 && f.status < 500 && f.status !== 408 && f.status !== 404) {
    return fail(new kit.PermanentError(`S3.${f.code}`, what, known))
  }
  return fail(retry(what))
}

function denied(f: S3Failure, what: string, retry: (text: string) => Error, kit: PluginKit): Error {
  const need = `; the credentials need ${PERMISSION[f.operation] ?? 'more rights'}`
  if (f.operation === 'head' || f.operation === 'get') return new kit.PermanentError('S3.HeadDenied', what + need, { cause: f })
  return retry(`${what}${need}: delivery goes on by itself`)
}
