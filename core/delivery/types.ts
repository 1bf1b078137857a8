/** Where objects go. `options` is what the plugin's schema validated; the rest is core's. */
export interface SinkSpec {
  /** Plugin name (`s3`, `file`, a package), or `bucket`: the bucket of an API call, resolved by the `buckets:` section. */
  readonly type: string
  readonly options: Readonly<Record<string, unknown>>
  /** As written: `!{…}` expressions not yet evaluated. '' = Firehose's default yyyy/MM/dd/HH/. */
  readonly prefix: string
  readonly errorPrefix: string
  /** '' = the compression's own. */
  readonly fileExtension: string
  /** IANA name; 'UTC' by default. */
  readonly timeZone: string
  readonly retry: RetrySpec
  /** One attempt, ms. */
  readonly timeoutMs: number
  /** Attempts at once, all lanes of the pipeline. */
  readonly concurrency: number
}
export interface RetrySpec {
  /** After so long a cut is given up to the backup, as soon as it is known that the sink does not have it; null = never. */
  readonly durationMs: number | null
  readonly baseMs: number
  readonly maxMs: number
}
