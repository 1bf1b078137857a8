import { describe, expect, test } from 'vitest'
import { createMetrics } from '../../core/telemetry/metrics.ts'
import type { HydrantEvent } from '../../core/telemetry/events.ts'
import { Family, Histogram } from '../../core/telemetry/tally.ts'
import { limits } from '../../core/limits.ts'
import { cut, RECORDED, stoppedClock } from './support.ts'

function after(events: readonly HydrantEvent[]) {
  const clock = stoppedClock()
  const metrics = createMetrics({ clock })
  for (const e of events) metrics.on(e)
  return { clock, metrics, f: metrics.families }
}
/** name{labels} → value, of Prometheus text. */
function parsed(text: string): Map<string, number> {
  const rows = text.split('\n').filter((l) => l !== '' && !l.startsWith('#'))
  return new Map(rows.map((l) => [l.slice(0, l.lastIndexOf(' ')), Number(l.slice(l.lastIndexOf(' ') + 1))]))
}

const undecided = (waiting: boolean): HydrantEvent => ({
  type: 'cut.undecided', pipeline: 'p', shard: 's0', start: 0, end: 5, key: 'k', waiting,
}) // prettier-ignore

describe('counters', () => {
  test('add up to what the events say', () => {
    const { f } = after(RECORDED)
    expect(f.accepted.get('p')).toBe(25)
    expect(f.acceptedBytes.get('p')).toBe(550)
    expect(f.refused.get('p', 'DiskFull')).toBe(1)
    expect([f.failedAttempts.get('p', 'put', 'SlowDown'), f.retries.get('p')]).toEqual([1, 1])
    expect([f.entered, f.transformed, f.delivered, f.rejected, f.dropped, f.givenUp, f.expired].map((x) => x.get('p'))).toEqual([
      15, 15, 12, 2, 1, 2, 3,
    ])
    expect(f.discarded.get('p', 'delete')).toBe(2)
    expect(f.unaccounted.get('p')).toBe(0)
    expect([f.deliveredCuts.get('p', 'false'), f.deliveredCuts.get('p', 'true')]).toEqual([1, 1])
    expect([f.objects.sum(), f.objectBytes.sum({ pipeline: 'p' })]).toEqual([3, 130])
    expect(f.requests.get('PutRecordBatch', '200', '')).toBe(2)
    expect([f.running.get('p', 's0'), f.position.get('p', 's0'), f.lag.get('p', 's0')]).toEqual([0, 10, 5])
    expect([f.memoryUsed.get(), f.memoryLimit.get(), f.memoryWaiting.get(), f.spilled.get()]).toEqual([7, 100, 1, 3])
  })
  test.each([
    ['one is missing', { delivered: 9 }, 1],
    ['two are missing although one was rejected', { delivered: 7, rejected: 1 }, 2],
    ['one is doubled', { delivered: 11 }, 1],
    ['one is delivered and given up', { delivered: 10, givenUp: 1 }, 1],
    ['all rejected', { delivered: 0, rejected: 10 }, 0],
  ])('unaccounted: %s', (_what, more, n) => {
    expect(after([cut(more)]).f.unaccounted.get('p')).toBe(n)
  })
  test('an ended lane is forgotten, its counters are not', () => {
    const { f, metrics } = after([...RECORDED, { type: 'lane.ended', pipeline: 'p', shard: 's0' }])
    expect(f.freshness.samples()).toEqual([])
    expect(f.running.samples()).toEqual([])
    expect(f.delivered.get('p')).toBe(12)
    expect(metrics.cloudWatch().MetricData.find((d) => d.MetricName === 'DeliveryToS3.DataFreshness')).toBeUndefined()
  })
  test('a lane that waits to learn what the sink has, until it knows or ends', () => {
    expect(after([undecided(true)]).f.undecided.get('p', 's0')).toBe(1)
    expect(after([undecided(true), undecided(false)]).f.undecided.get('p', 's0')).toBe(0)
    expect(after([undecided(true), { type: 'lane.ended', pipeline: 'p', shard: 's0' }]).f.undecided.samples()).toEqual([])
  })
  test('a pipeline that has started shows everything at 0; what is there already is left alone', async () => {
    const { metrics, f } = after([{ type: 'lane.started', pipeline: 'p', shard: 's0', position: 0, recoveredCuts: 0 }])
    const rows = parsed((await metrics.prometheus()).body)
    const zeros = [
      'accepted_records_total{stream="p"}', 'accepted_puts_total{stream="p"}', 'refused_records_total{stream="p",code="DiskReserve"}',
      'refused_records_total{stream="p",code="Overloaded"}', 'log_refusing{stream="p"}', 'log_poisoned{stream="p"}',
      'entered_records_total{pipeline="p"}', 'delivered_records_total{pipeline="p"}', 'rejected_records_total{pipeline="p"}',
      'given_up_records_total{pipeline="p"}', 'unaccounted_records_total{pipeline="p"}', 'retries_total{pipeline="p"}',
      'recorded_cuts_total{pipeline="p",reason="interval"}', 'delivered_cuts_total{pipeline="p",replayed="true"}',
      'stored_objects_total{pipeline="p",kind="rejects"}', 'existing_objects_total{pipeline="p",equal="false"}',
    ] // prettier-ignore
    expect(zeros.map((z) => [z, rows.get(`hydrant_${z}`)])).toEqual(zeros.map((z) => [z, 0]))
    metrics.on({ type: 'log.refusing', stream: 'p', reason: 'disk' })
    metrics.on({ type: 'records.accepted', stream: 'p', records: 3, bytes: 5 })
    metrics.on({ type: 'lane.started', pipeline: 'p', shard: 's1', position: 0, recoveredCuts: 0 })
    expect([f.refusing.get('p'), f.accepted.get('p')]).toEqual([1, 3])
  })
  test('a target shows its breaker from its opening on; an open one stays open', () => {
    const place = { sink: 's3', endpoint: 'http://h', target: 'b' }
    const { f, metrics } = after([{ type: 'target.opened', ...place }])
    expect(f.breakers.samples()).toEqual([{ labels: place, value: 0 }])
    metrics.on({ type: 'breaker.changed', ...place, open: true })
    metrics.on({ type: 'target.opened', ...place })
    expect(f.breakers.get('s3', 'http://h', 'b')).toBe(1)
  })
  test('half of the labels is kept for what happens', () => {
    const f = new Family('counter', 'x', 'x', ['a'])
    for (let i = 0; i < limits.metricLabelValues; i++) f.zero(`a${i}`)
    expect(f.samples().length).toBe(limits.metricLabelValues / 2)
    f.add(1, 'later')
    expect(f.get('later')).toBe(1)
  })
  test('labels are bounded: later ones are counted as other', () => {
    const f = new Family('counter', 'x', 'x', ['a', 'b'])
    for (let i = 0; i < limits.metricLabelValues + 50; i++) f.add(1, `a${i}`, 'b')
    expect(f.samples().length).toBe(limits.metricLabelValues + 1)
    expect(f.get('other', 'other')).toBe(50)
    expect(f.sum()).toBe(limits.metricLabelValues + 50)
    const h = new Histogram('h', 'h', 'a', [1])
    for (let i = 0; i < limits.metricLabelValues + 50; i++) h.observe(1, `a${i}`)
    expect(h.totals().find((t) => t.value === 'other')?.count).toBe(50)
  })
})

describe('/metrics', () => {
  test('shows the same numbers, buckets and freshness that ages while something waits', async () => {
    const { metrics, clock } = after(RECORDED)
    const first = await metrics.prometheus()
    expect(first.contentType).toMatch(/^text\/plain/)
    const rows = parsed(first.body)
    expect(rows.get('hydrant_accepted_records_total{stream="p"}')).toBe(25)
    expect(rows.get('hydrant_delivered_records_total{pipeline="p"}')).toBe(12)
    expect(rows.get('hydrant_unaccounted_records_total{pipeline="p"}')).toBe(0)
    expect(rows.get('hydrant_request_seconds_bucket{operation="PutRecordBatch",le="0.0025"}')).toBe(1)
    expect(rows.get('hydrant_request_seconds_bucket{operation="PutRecordBatch",le="0.05"}')).toBe(2)
    expect(rows.get('hydrant_request_seconds_bucket{operation="PutRecordBatch",le="+Inf"}')).toBe(2)
    expect(rows.get('hydrant_request_seconds_sum{operation="PutRecordBatch"}')).toBeCloseTo(0.042)
    expect(rows.get('hydrant_lane_freshness_seconds{pipeline="p",shard="s0"}')).toBe(2)
    expect(rows.get('hydrant_log_refusing{stream="p"}')).toBe(1)
    expect(rows.get('hydrant_breaker_open{sink="s3",endpoint="http://h",target="b"}')).toBe(1)
    expect(rows.get('process_resident_memory_bytes')).toBeGreaterThan(1e6)
    clock.advance(500)
    expect(parsed((await metrics.prometheus()).body).get('hydrant_lane_freshness_seconds{pipeline="p",shard="s0"}')).toBe(2.5)
  })
  test('a lane that has caught up does not age', async () => {
    const { metrics, clock } = after([{ type: 'lane.lag', pipeline: 'p', shard: 's0', lagRecords: 0, freshnessMs: 0 }])
    clock.advance(60_000)
    expect(parsed((await metrics.prometheus()).body).get('hydrant_lane_freshness_seconds{pipeline="p",shard="s0"}')).toBe(0)
  })
  test('every name is hydrant_…, and what only rises ends in _total', () => {
    for (const f of Object.values(createMetrics({ clock: stoppedClock() }).families)) {
      expect(f.name).toMatch(/^hydrant_[a-z_]+$/)
      expect(f.name.endsWith('_total')).toBe(f.type === 'counter')
    }
  })
  test('label values cannot break the format', async () => {
    const { metrics } = after([{ type: 'warning', code: 'a"b\\c\nd', message: '' }])
    expect((await metrics.prometheus()).body).toContain('hydrant_warnings_total{code="a\\"b\\\\c\\nd"} 1')
  })
})

test('/metrics/cloudwatch has the names of AWS', () => {
  const data = after(RECORDED).metrics.cloudWatch()
  const values = Object.fromEntries(data.MetricData.map((d) => [`${d.Dimensions[0]?.Value ?? ''} ${d.MetricName} ${d.Unit}`, d.Value]))
  expect(data.Namespace).toBe('AWS/Firehose')
  expect(values).toMatchObject({
    'p IncomingRecords Count': 25,
    'p IncomingBytes Bytes': 550,
    'p IncomingPutRequests Count': 2,
    'p ThrottledRecords Count': 1,
    'p DeliveryToS3.Records Count': 12,
    'p DeliveryToS3.Bytes Bytes': 100,
    'p DeliveryToS3.ObjectCount Count': 2,
    'p DeliveryToS3.Success None': 2 / 3,
    'p DeliveryToS3.DataFreshness Seconds': 2,
    ' PutRecordBatch.Requests Count': 2,
    ' PutRecordBatch.Latency Milliseconds': 21,
    ' PutRecordBatch.Bytes Bytes': 1_000,
  })
})
