import type { PluginKit } from 'hydrant/sdk'

export interface S3Options {
  readonly bucket: string
  readonly region?: string | undefined
  readonly endpoint?: string | undefined
  readonly path_style?: boolean | undefined
  readonly credentials?:
    | { readonly access_key: string; readonly secret_key: string; readonly session_token?: string | undefined }
    | undefined
  readonly conditional_writes: 'auto' | 'require' | 'off'
  readonly kms_key?: string | undefined
  readonly storage_class?: string | undefined
  readonly acl?: 'private' | 'bucket-owner-full-control' | 'bucket-owner-read' | undefined
  readonly checksum: boolean
  readonly part_size: number
  readonly request_timeout: number
  readonly tls?: { readonly ca?: string | undefined; readonly insecure_skip_verify: boolean } | undefined
}

export const MIN_PART_BYTES = 5 * 1024 ** 2
export const MAX_PART_BYTES = 5 * 1024 ** 3
export const MAX_PARTS = 10_000

export function s3Options({ z, secret, bytes, duration }: PluginKit) {
  return z.strictObject({
    bucket: z
      .string()
      .regex(/^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/, 'a bucket name has 3 to 63 characters: a-z, 0-9, dot, hyphen')
      .meta({ description: 'Name of the bucket. It must exist.' }),
    region: z
      .string()
      .min(1)
      .optional()
      .meta({ description: 'Region. Left out: `AWS_REGION` or the AWS profile; with `endpoint`: us-east-1.' }),
    endpoint: z
      .url({ protocol: /^https?$/, hostname: /./, error: 'expected http:// or https:// and a host, such as http://127.0.0.1:7070' })
      .optional()
      .meta({
        description:
          'Address of another store than AWS, such as `http://127.0.0.1:7070`. Left out: `AWS_ENDPOINT_URL_S3`, `AWS_ENDPOINT_URL`, else AWS.',
      }),
    path_style: z
      .boolean()
      .optional()
      .meta({ description: '`endpoint/bucket/key` instead of `bucket.endpoint/key`. Left out: true with `endpoint`, else false.' }),
    credentials: z
      .strictObject({
        access_key: z.string().min(1).meta({ description: 'Access key id.' }),
        secret_key: secret().meta({ description: 'Best a reference: `${env:NAME}` or `${file:/path}`.' }),
        session_token: secret().optional().meta({ description: 'For temporary credentials.' }),
      })
      .optional()
      .meta({ description: 'Left out: the usual AWS chain (environment, profile, container, instance).' }),
    conditional_writes: z.enum(['auto', 'require', 'off']).default('auto').meta({
      description:
        '`auto`: AWS has them; another store is asked once, by an object that is removed again. `require`: always used, never asked. `off`: the object is looked for first; two daemons at once may then both write.',
    }),
    kms_key: z
      .string()
      .min(1)
      .optional()
      .meta({ description: 'Encrypts objects with this KMS key (SSE-KMS). Left out: as the bucket says.' }),
    storage_class: z
      .string()
      .regex(/^[A-Z_]+$/)
      .optional()
      .meta({ description: 'Such as `STANDARD_IA`. Left out: as the bucket says.' }),
    acl: z
      .enum(['private', 'bucket-owner-full-control', 'bucket-owner-read'])
      .optional()
      .meta({ description: 'Canned ACL of new objects.' }),
    checksum: z
      .boolean()
      .default(true)
      .meta({ description: 'Sends a CRC-32 with every body, which the store verifies. false: for a store that refuses it.' }),
    part_size: bytes()
      .refine((n) => n >= MIN_PART_BYTES && n <= MAX_PART_BYTES, 'part_size lies between 5MiB and 5GiB')
      .prefault('8MiB')
      .meta({ description: 'Larger bodies are uploaded in parts of this size, as many at once as the memory of the upload allows.' }),
    request_timeout: duration().prefault('30s').meta({ description: 'One request; the attempt as a whole has hydrant’s `timeout`.' }),
    tls: z
      .strictObject({
        ca: z.string().min(1).optional().meta({ description: 'PEM file of the authority that signed the endpoint’s certificate.' }),
        insecure_skip_verify: z.boolean().default(false).meta({ description: 'Accepts any certificate.' }),
      })
      .optional()
      .meta({ description: 'For an `https://` endpoint with its own certificate.' }),
  })
}

/** The options with the endpoint that the AWS SDK would take from the environment, so that every default that hangs on it follows. */
export function withEnvironment(o: S3Options, env: Readonly<Record<string, string | undefined>>): S3Options {
  if (o.endpoint !== undefined || env['AWS_IGNORE_CONFIGURED_ENDPOINT_URLS'] === 'true') return o
  const endpoint = env['AWS_ENDPOINT_URL_S3'] || env['AWS_ENDPOINT_URL']
  return endpoint ? { ...o, region: o.region ?? env['AWS_REGION'], endpoint } : o
}
