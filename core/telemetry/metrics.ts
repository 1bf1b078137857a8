import type { Counter, Registry } from '@prometheus-io/client'
import type { Clock } from '../sdk/host.ts'
import type { CutReason, HydrantEvent } from './events.ts'
import { Family, Histogram } from './tally.ts'
import { cloudWatch, type CloudWatchView } from './cloudwatch.ts'

const SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10]
const BYTES = [1e3, 1e4, 1e5, 1e6, 4e6, 1.6e7, 6.4e7, 2.56e8, 1e9]

const counter = (name: string, help: string, ...labels: string[]): Family => new Family('counter', name, help, labels)
const gauge = (name: string, help: string, ...labels: string[]): Family => new Family('gauge', name, help, labels)

/** Every metric of hydrant: `hydrant_<thing>_<unit>_total` for what only rises. docs/runbook.md says which to watch. */
export function families() {
  return {
    requests: counter('hydrant_requests_total', 'API requests answered', 'operation', 'status', 'code'),
    requestBytes: counter('hydrant_request_bytes_total', 'Bytes of request bodies', 'operation'),
    requestSeconds: new Histogram('hydrant_request_seconds', 'Time to answer an API request', 'operation', SECONDS),
    accepted: counter('hydrant_accepted_records_total', 'Records acknowledged to a producer', 'stream'),
    acceptedBytes: counter('hydrant_accepted_bytes_total', 'Bytes of records acknowledged to a producer', 'stream'),
    acceptedPuts: counter('hydrant_accepted_puts_total', 'Puts acknowledged to a producer', 'stream'),
    refused: counter('hydrant_refused_records_total', 'Records refused, by error code', 'stream', 'code'),
    refusing: gauge('hydrant_log_refusing', '1 while the log refuses puts (disk, pending writes)', 'stream'),
    poisoned: gauge('hydrant_log_poisoned', '1 after a failed fsync: restart after the disk is mended', 'stream'),

    entered: counter('hydrant_entered_records_total', 'Source records of finished cuts', 'pipeline'),
    transformed: counter('hydrant_transformed_records_total', 'Records after the stages', 'pipeline'),
    delivered: counter('hydrant_delivered_records_total', 'Records stored by the sink', 'pipeline'),
    rejected: counter('hydrant_rejected_records_total', 'Records written as rejected', 'pipeline'),
    dropped: counter('hydrant_dropped_records_total', 'Records that a stage dropped on purpose', 'pipeline'),
    givenUp: counter('hydrant_given_up_records_total', 'Records given up to the backup', 'pipeline'),
    expired: counter('hydrant_expired_records_total', 'Positions lost to retention before delivery', 'pipeline'),
    discarded: counter('hydrant_discarded_records_total', 'Positions discarded by a delete', 'pipeline', 'reason'),
    unaccounted: counter('hydrant_unaccounted_records_total', 'Records of a cut that are in no other counter: must be 0', 'pipeline'),
    deliveredBytes: counter('hydrant_delivered_bytes_total', 'Uncompressed bytes of finished cuts', 'pipeline'),

    recordedCuts: counter('hydrant_recorded_cuts_total', 'Cuts recorded, by why they ended', 'pipeline', 'reason'),
    deliveredCuts: counter('hydrant_delivered_cuts_total', 'Cuts finished', 'pipeline', 'replayed'),
    adoptedCuts: counter('hydrant_adopted_cuts_total', 'Cuts whose end was taken over from a stored object', 'pipeline'),
    givenUpCuts: counter('hydrant_given_up_cuts_total', 'Cuts given up to the backup', 'pipeline'),
    commits: counter('hydrant_commits_total', 'Commits of positions, by result', 'pipeline', 'result'),
    commitEntries: counter('hydrant_commit_entries_total', 'Lane states in those commits', 'pipeline'),
    commitSeconds: new Histogram('hydrant_commit_seconds', 'Time for one commit', 'result', SECONDS),

    objects: counter('hydrant_stored_objects_total', 'Objects stored', 'pipeline', 'kind'),
    objectBytes: counter('hydrant_stored_bytes_total', 'Bytes of stored objects, compressed', 'pipeline', 'kind'),
    objectSize: new Histogram('hydrant_object_bytes', 'Size of stored objects', 'kind', BYTES),
    existed: counter('hydrant_existing_objects_total', 'Objects that were there before the put', 'pipeline', 'equal'),
    aborted: counter('hydrant_aborted_uploads_total', 'Unfinished uploads cleaned up', 'pipeline'),
    failedAttempts: counter('hydrant_failed_attempts_total', 'Attempts at a sink that failed', 'pipeline', 'operation', 'code'),
    retries: counter('hydrant_retries_total', 'Attempts at a sink that are made again', 'pipeline'),
    breakers: gauge('hydrant_breaker_open', '1 while a target gets single trial requests only', 'sink', 'endpoint', 'target'),

    freshness: gauge('hydrant_lane_freshness_seconds', 'Age of the oldest record not yet delivered', 'pipeline', 'shard'),
    lag: gauge('hydrant_lane_lag_records', 'Positions between the committed one and the head', 'pipeline', 'shard'),
    position: gauge('hydrant_lane_position', 'Committed position', 'pipeline', 'shard'),
    undecided: gauge(
      'hydrant_lane_undecided',
      '1 while retries are over and the sink does not say whether the object exists',
      'pipeline',
      'shard',
    ),
    running: gauge('hydrant_lane_running', '1 running, 0 stopped: an operator is needed', 'pipeline', 'shard'),
    stopped: counter('hydrant_stopped_lanes_total', 'Times a lane stopped, by why', 'pipeline', 'code'),

    memoryUsed: gauge('hydrant_memory_used_bytes', 'Of the budget of all pipelines'),
    memoryLimit: gauge('hydrant_memory_limit_bytes', 'The budget of all pipelines'),
    memoryWaiting: gauge('hydrant_memory_waiting_lanes', 'Lanes that wait for memory'),
    spilled: gauge('hydrant_spilled_bytes', 'Encoded objects that wait in files'),
    certificateExpiry: gauge(
      'hydrant_tls_certificate_expiry_timestamp_seconds',
      'When the certificate in force (the first of its chain) ends, seconds since 1970',
    ),
    certificateRefused: gauge('hydrant_tls_certificate_refused', '1 while the files hold a certificate that cannot be taken'),
    warnings: counter('hydrant_warnings_total', 'Warnings, by code', 'code'),
  }
}
export type Families = ReturnType<typeof families>
type Of<T extends HydrantEvent['type']> = Extract<HydrantEvent, { type: T }>

function onCut(f: Families, e: Of<'cut.delivered'>): void {
  const p = e.pipeline
  f.entered.add(e.records, p)
  f.transformed.add(e.transformed, p)
  f.delivered.add(e.delivered, p)
  f.rejected.add(e.rejected, p)
  f.dropped.add(e.dropped, p)
  f.givenUp.add(e.givenUp, p)
  f.deliveredBytes.add(e.bytes, p)
  f.deliveredCuts.add(1, p, String(e.replayed))
  // out = delivered + rejected_out + given_up, and rejected_out is a part of rejected: what that leaves over is lost or doubled
  const rejectedOut = e.transformed - e.delivered - e.givenUp
  f.unaccounted.add(Math.max(0, rejectedOut - e.rejected) + Math.max(0, -rejectedOut), p)
}
function onStored(f: Families, e: Of<'object.stored'>): void {
  f.objects.add(1, e.pipeline, e.kind)
  f.objectBytes.add(e.size, e.pipeline, e.kind)
  f.objectSize.observe(e.size, e.kind)
}
function onRequest(f: Families, e: Of<'request.handled'>): void {
  f.requests.add(1, e.operation, String(e.status), e.code ?? '')
  f.requestBytes.add(e.bytes, e.operation)
  f.requestSeconds.observe(e.ms / 1000, e.operation)
}
function onCommit(f: Families, e: Of<'commit.finished'>): void {
  f.commits.add(1, e.pipeline, e.result)
  f.commitEntries.add(e.entries, e.pipeline)
  f.commitSeconds.observe(e.ms / 1000, e.result)
}
function onMemory(f: Families, e: Of<'memory.changed'>): void {
  f.memoryUsed.set(e.usedBytes)
  f.memoryLimit.set(e.limitBytes)
  f.memoryWaiting.set(e.waiting)
  f.spilled.set(e.spilledBytes)
}
const REASONS: readonly CutReason[] = ['size', 'interval', 'note', 'shutdown', 'recovered']

/** Everything that a pipeline and its stream may be asked for, at 0; what is told apart by an open list of codes is not. */
function known(f: Families, p: string): void {
  const plain = [
    f.accepted, f.acceptedBytes, f.acceptedPuts, f.refusing, f.poisoned,
    f.entered, f.transformed, f.delivered, f.rejected, f.dropped, f.givenUp, f.expired, f.unaccounted, f.deliveredBytes,
    f.adoptedCuts, f.givenUpCuts, f.commitEntries, f.aborted, f.retries,
  ] // prettier-ignore
  for (const family of plain) family.zero(p)
  for (const code of ['Overloaded', 'DiskReserve', 'DiskFull', 'Poisoned']) f.refused.zero(p, code)
  for (const reason of REASONS) f.recordedCuts.zero(p, reason)
  for (const replayed of ['false', 'true']) f.deliveredCuts.zero(p, replayed)
  for (const reason of ['delete', 'force']) f.discarded.zero(p, reason)
  for (const equal of ['false', 'true']) f.existed.zero(p, equal)
  for (const result of ['saved', 'refused']) f.commits.zero(p, result)
  for (const kind of ['anchor', 'object', 'rejects', 'backup']) {
    f.objects.zero(p, kind)
    f.objectBytes.zero(p, kind)
  }
}
function onLane(f: Families, e: Of<'lane.started' | 'lane.stopped' | 'lane.ended'>): void {
  if (e.type === 'lane.ended') {
    for (const family of [f.freshness, f.lag, f.position, f.undecided, f.running]) family.forget(e.pipeline, e.shard)
    return
  }
  if (e.type === 'lane.started') known(f, e.pipeline)
  f.running.set(e.type === 'lane.started' ? 1 : 0, e.pipeline, e.shard)
  if (e.type === 'lane.started') f.position.set(e.position, e.pipeline, e.shard)
  else f.stopped.add(1, e.pipeline, e.code)
}

const HANDLERS: { readonly [T in HydrantEvent['type']]: (f: Families, e: Of<T>) => void } = {
  'request.handled': onRequest,
  'records.accepted': (f, e) => {
    f.accepted.add(e.records, e.stream)
    f.acceptedBytes.add(e.bytes, e.stream)
    f.acceptedPuts.add(1, e.stream)
  },
  'records.refused': (f, e) => f.refused.add(e.records, e.stream, e.code),
  'log.refusing': (f, e) => f.refusing.set(1, e.stream),
  'log.resumed': (f, e) => f.refusing.set(0, e.stream),
  'log.poisoned': (f, e) => f.poisoned.set(1, e.stream),
  'lane.started': onLane,
  'lane.stopped': onLane,
  'lane.ended': onLane,
  'lane.lag': (f, e) => {
    f.lag.set(e.lagRecords, e.pipeline, e.shard)
    f.freshness.set(e.freshnessMs / 1000, e.pipeline, e.shard)
  },
  'cut.recorded': (f, e) => f.recordedCuts.add(1, e.pipeline, e.reason),
  'cut.delivered': onCut,
  'cut.adopted': (f, e) => f.adoptedCuts.add(1, e.pipeline),
  'cut.given-up': (f, e) => f.givenUpCuts.add(1, e.pipeline),
  'cut.undecided': (f, e) => f.undecided.set(e.waiting ? 1 : 0, e.pipeline, e.shard),
  'object.existed': (f, e) => f.existed.add(1, e.pipeline, String(e.equal)),
  'object.stored': onStored,
  'uploads.aborted': (f, e) => f.aborted.add(e.count, e.pipeline),
  'attempt.failed': (f, e) => {
    f.failedAttempts.add(1, e.pipeline, e.operation, e.code)
    f.retries.add(1, e.pipeline)
  },
  'target.opened': (f, e) => f.breakers.zero(e.sink, e.endpoint, e.target),
  'breaker.changed': (f, e) => f.breakers.set(e.open ? 1 : 0, e.sink, e.endpoint, e.target),
  'position.advanced': (f, e) => f.position.set(e.position, e.pipeline, e.shard),
  'commit.finished': onCommit,
  'records.expired': (f, e) => f.expired.add(e.to - e.from, e.pipeline),
  'records.discarded': (f, e) => f.discarded.add(e.to - e.from, e.pipeline, e.reason),
  'memory.changed': onMemory,
  'certificate.loaded': (f, e) => {
    f.certificateExpiry.set(e.expiresMs / 1000)
    f.certificateRefused.set(0)
  },
  'certificate.refused': (f) => f.certificateRefused.set(1),
  warning: (f, e) => f.warnings.add(1, e.code),
}

export interface Metrics {
  /** The listener for the event bus. */
  readonly on: (e: HydrantEvent) => void
  readonly families: Families
  /** Prometheus text. */
  prometheus(): Promise<{ contentType: string; body: string }>
  /** The same numbers under the names of AWS/Firehose, totals since the start. */
  cloudWatch(): CloudWatchView
}

/**
 * Counts events. The Prometheus client costs 60-100 ms to load and is asked for by the first scrape only; the numbers are
 * our own from the first event on.
 */
export function createMetrics(o: { clock: Clock }): Metrics {
  const f = families()
  // freshness grows between two reports while something waits: a lane that hangs must not look fresh
  const reported = new Map<string, { pipeline: string; shard: string; ms: number; lag: number; at: number }>()
  const age = (): void => {
    for (const r of reported.values()) {
      if (r.lag > 0) f.freshness.set((r.ms + o.clock.monotonic() - r.at) / 1000, r.pipeline, r.shard)
    }
  }
  let registry: Promise<Registry> | null = null
  return {
    families: f,
    on(e) {
      const handle = HANDLERS[e.type] as (f: Families, e: HydrantEvent) => void
      handle(f, e)
      if (e.type === 'lane.lag') {
        const { pipeline, shard, freshnessMs: ms, lagRecords: lag } = e
        reported.set(`${pipeline}\0${shard}`, { pipeline, shard, ms, lag, at: o.clock.monotonic() })
      } else if (e.type === 'lane.ended') reported.delete(`${e.pipeline}\0${e.shard}`)
    },
    async prometheus() {
      registry ??= openRegistry(f)
      const r = await registry
      age()
      return { contentType: r.contentType, body: await r.metrics() }
    },
    cloudWatch() {
      age()
      return cloudWatch(f)
    },
  }
}

async function openRegistry(f: Families): Promise<Registry> {
  const { default: client } = await import('@prometheus-io/client')
  const registry = new client.Registry()
  for (const family of Object.values(f)) {
    const { name, help, type } = family
    const metric = {
      name,
      help,
      type,
      aggregator: 'sum',
      get: async () => ({ name, help, type, aggregator: 'sum', values: family.samples() }),
    }
    // the registry asks a metric for its name and its values only: any object that gives them is one
    registry.registerMetric(metric as unknown as Counter)
  }
  client.collectDefaultMetrics({ register: registry })
  return registry
}
