import { join } from 'node:path'
import { ConfigError } from '../sdk/errors.ts'
import type { BucketConfig } from './types.ts'

/** Where buckets live when the file does not say. */
export const DEFAULT_BUCKET_PATH = './data/buckets'

/**
 * The sink type and options for the bucket of an API call. A bucket with an entry of its own lives there; any other one
 * below the folder of `default`, or at its endpoint under its own name. Throws ConfigError for a name that is no folder name.
 */
export function bucketTarget(buckets: Readonly<Record<string, BucketConfig>>, name: string): BucketConfig {
  if (!/^[\w.-]{1,255}$/.test(name) || name === '.' || name === '..') {
    throw new ConfigError('BucketName', `bucket ${JSON.stringify(name)}: expected 1 to 255 letters, digits, _ . - and neither . nor ..`)
  }
  const own = name === 'default' || !Object.hasOwn(buckets, name) ? undefined : buckets[name]
  if (own) return own
  const { type, options } = buckets['default'] ?? { type: 'file', options: { path: DEFAULT_BUCKET_PATH } }
  const folder = options['path']
  if (type === 'file' && typeof folder === 'string') return { type, options: { ...options, path: join(folder, name) } }
  return { type, options: { ...options, bucket: name } }
}
