/** De-aggregation of several records in one (firehose.md §6.4). Delimiter base64. */
export type DeaggregateSpec = { readonly type: 'json' } | { readonly type: 'delimited'; readonly delimiter: string }

/** The stages of a pipeline, as its spec names them. */
export interface StagesSpec {
  readonly deaggregate: DeaggregateSpec | null
  /** gunzip every record (CloudWatch Logs). */
  readonly decompress: boolean
  /** Replace a CloudWatch Logs envelope by its messages; needs decompress. */
  readonly extractMessages: boolean
}
