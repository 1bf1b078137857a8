import { describe, expect, test } from 'vitest'
import type { Applied } from 'hydrant/sdk'
import { pluginKit } from 'hydrant/sdk/testing'
import { verdict } from './answers.ts'
import { S3Failure, type Operation } from './client.ts'

/** `applied`: may what was asked stand in the store nevertheless? A wrong 'no' doubles records where a cut is given up. */
describe('the table of answers', () => {
  const rows: [Operation, number | undefined, string, string, Applied, RegExp?][] = [
    ['put', 412, 'PreconditionFailed', 'existed', 'unknown'],
    ['complete', 412, 'PreconditionFailed', 'existed', 'unknown'],
    ['create', 412, 'PreconditionFailed', 'PermanentError', 'unknown'],
    ['put', undefined, 'ECONNRESET', 'look', 'unknown'],
    ['complete', undefined, 'ECONNRESET', 'look', 'unknown'],
    ['part', undefined, 'ECONNRESET', 'RetryableError', 'unknown'],
    ['complete', 200, 'InternalError', 'look', 'unknown'],
    ['put', 200, 'UnreadableAnswer', 'look', 'unknown'],
    ['complete', 404, 'NoSuchUpload', 'look', 'unknown'],
    ['part', 404, 'NoSuchUpload', 'RetryableError', 'unknown'],
    ['abort', 404, 'NoSuchUpload', 'gone', 'unknown'],
    ['head', 404, 'NotFound', 'gone', 'unknown'],
    ['get', 404, 'NoSuchKey', 'gone', 'unknown'],
    ['get', 404, 'NoSuchBucket', 'RetryableError', 'unknown'],
    ['put', 404, 'NoSuchBucket', 'RetryableError', 'no', /create the bucket or correct/],
    ['put', 409, 'ConditionalRequestConflict', 'RetryableError', 'no', /new upload/],
    ['put', 409, 'ObjectParentIsFile', 'PermanentError', 'no'],
    ['put', 503, 'SlowDown', 'RetryableError', 'no'],
    ['complete', 503, 'SlowDown', 'RetryableError', 'no'],
    ['put', 503, 'ServiceUnavailable', 'RetryableError', 'unknown'],
    ['put', 502, 'BadGateway', 'RetryableError', 'unknown'],
    ['put', undefined, 'ECONNREFUSED', 'RetryableError', 'no'],
    ['put', undefined, 'ECONNRESET', 'look', 'unknown'],
    ['put', 500, 'InternalError', 'RetryableError', 'unknown'],
    ['put', 429, 'TooManyRequests', 'RetryableError', 'no'],
    ['put', 408, 'Timeout', 'RetryableError', 'unknown'],
    ['put', 400, 'RequestTimeout', 'RetryableError', 'no'],
    ['put', 400, 'BadDigest', 'RetryableError', 'no'],
    ['put', 403, 'RequestTimeTooSkewed', 'RetryableError', 'no'],
    ['complete', 400, 'EntityTooSmall', 'RetryableError', 'no'],
    ['put', 400, 'ExpiredToken', 'RetryableError+refresh', 'no'],
    ['put', 403, 'InvalidAccessKeyId', 'RetryableError+refresh', 'no'],
    ['put', 403, 'SignatureDoesNotMatch', 'RetryableError+refresh', 'no'],
    ['put', undefined, 'CredentialsProviderError', 'RetryableError+refresh', 'no'],
    ['put', 301, 'PermanentRedirect', 'RetryableError', 'no', /correct `region`/],
    ['put', 403, 'AccessDenied', 'RetryableError', 'no', /s3:PutObject/],
    ['list', 403, 'AccessDenied', 'RetryableError', 'unknown', /s3:ListBucketMultipartUploads/],
    ['head', 403, '403', 'PermanentError', 'unknown', /s3:GetObject and s3:ListBucket/],
    ['get', 403, 'AccessDenied', 'PermanentError', 'unknown', /s3:GetObject/],
    ['put', 400, 'KMS.DisabledException', 'RetryableError', 'no', /kms_key/],
    ['put', 400, 'KMS.NotFoundException', 'ConfigError', 'no'],
    ['put', 501, 'NotImplemented', 'ConfigError', 'no'],
    ['put', 400, 'InvalidStorageClass', 'ConfigError', 'no'],
    ['put', 400, 'KeyTooLongError', 'PermanentError', 'no'],
    ['put', 400, 'InvalidArgument', 'PermanentError', 'no'],
  ]
  test.each(rows)('%s %s %s → %s, applied: %s', (operation, status, code, expected, applied, message = /lake\/a\/b/) => {
    const notSent = code === 'CredentialsProviderError' || code === 'ECONNREFUSED'
    const outcome = notSent || (status !== undefined && status >= 300) ? 'refused' : 'unknown'
    const f = new S3Failure(operation, { ...(status === undefined ? {} : { status }), code, message: code, outcome, retryAfterMs: 1500 })
    const v = verdict(f, 'lake', 'a/b', pluginKit)
    const kind = v.error.constructor.name + (v.means === 'throw' && v.refresh ? '+refresh' : '')
    expect(v.means === 'throw' ? kind : v.means).toBe(expected)
    expect(v.error.message).toMatch(message)
    expect(v.error.message.startsWith(`${operation} s3://lake/a/b: `)).toBe(true)
    expect(v.error).toMatchObject({ applied })
    if (v.error instanceof pluginKit.RetryableError) expect(v.error.retryAfterMs).toBe(1500)
  })
})
