import type { Family, Histogram } from './tally.ts'

/** Numbers under the names that Firehose's users know (firehose.md §9.1). Totals are since the daemon's start. */
export interface CloudWatchView {
  readonly Namespace: 'AWS/Firehose'
  readonly MetricData: readonly {
    readonly MetricName: string
    readonly Dimensions: readonly { readonly Name: string; readonly Value: string }[]
    readonly Unit: 'Count' | 'Bytes' | 'Seconds' | 'Milliseconds' | 'None'
    readonly Value: number
  }[]
}
/** The metrics that it reads, by their names in metrics.ts. */
type Families = Readonly<
  Record<'accepted' | 'acceptedBytes' | 'acceptedPuts' | 'refused' | 'objects' | 'objectBytes' | 'failedAttempts' | 'delivered', Family> &
    Record<'freshness' | 'requestBytes', Family> &
    Record<'requestSeconds', Histogram>
>
type Datum = CloudWatchView['MetricData'][number]

const labelsOf = (rows: readonly { labels: Readonly<Record<string, string>> }[], label: string): string[] => [
  ...new Set(rows.map((r) => r.labels[label] ?? '')),
]

function ofStream(f: Families, name: string): Datum[] {
  const out: Datum[] = []
  const put = (MetricName: string, Unit: Datum['Unit'], Value: number): void => {
    out.push({ MetricName, Dimensions: [{ Name: 'DeliveryStreamName', Value: name }], Unit, Value })
  }
  put('IncomingRecords', 'Count', f.accepted.get(name))
  put('IncomingBytes', 'Bytes', f.acceptedBytes.get(name))
  put('IncomingPutRequests', 'Count', f.acceptedPuts.get(name))
  put('ThrottledRecords', 'Count', f.refused.sum({ stream: name }))
  const objects = f.objects.get(name, 'anchor') + f.objects.get(name, 'object')
  const failed = f.failedAttempts.sum({ pipeline: name })
  put('DeliveryToS3.Records', 'Count', f.delivered.get(name))
  put('DeliveryToS3.Bytes', 'Bytes', f.objectBytes.get(name, 'anchor') + f.objectBytes.get(name, 'object'))
  put('DeliveryToS3.ObjectCount', 'Count', objects)
  // AWS: successful puts ÷ all puts; nothing tried is no failure
  put('DeliveryToS3.Success', 'None', objects + failed === 0 ? 1 : objects / (objects + failed))
  const ages = f.freshness.samples({ pipeline: name }).map((s) => s.value)
  if (ages.length > 0) put('DeliveryToS3.DataFreshness', 'Seconds', Math.max(...ages))
  return out
}

export function cloudWatch(f: Families): CloudWatchView {
  const names = new Set([
    ...labelsOf(f.accepted.samples(), 'stream'),
    ...labelsOf(f.delivered.samples(), 'pipeline'),
    ...labelsOf(f.freshness.samples(), 'pipeline'),
  ])
  const MetricData = [...names].toSorted().flatMap((n) => ofStream(f, n))
  for (const { value: operation, sum, count } of f.requestSeconds.totals()) {
    MetricData.push({ MetricName: `${operation}.Requests`, Dimensions: [], Unit: 'Count', Value: count })
    MetricData.push({ MetricName: `${operation}.Latency`, Dimensions: [], Unit: 'Milliseconds', Value: (sum * 1000) / count })
    if (/^PutRecord(Batch)?$/.test(operation)) {
      MetricData.push({ MetricName: `${operation}.Bytes`, Dimensions: [], Unit: 'Bytes', Value: f.requestBytes.get(operation) })
    }
  }
  return { Namespace: 'AWS/Firehose', MetricData }
}
