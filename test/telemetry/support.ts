import type { Clock } from '../../core/sdk/host.ts'
import type { HydrantEvent } from '../../core/telemetry/events.ts'

/** A clock that stands still until it is told. */
export function stoppedClock(): Clock & { advance(ms: number): void } {
  let at = 1_000
  return {
    now: () => at,
    monotonic: () => at,
    sleep: async () => {},
    timer: () => () => {},
    advance: (ms) => {
      at += ms
    },
  }
}
const lane = { pipeline: 'p', shard: 's0' }
export const cut = (more: object): HydrantEvent => ({
  type: 'cut.delivered',
  ...lane,
  start: 0,
  end: 10,
  records: 10,
  transformed: 10,
  dropped: 0,
  rejected: 0,
  delivered: 10,
  givenUp: 0,
  objects: 1,
  bytes: 1_000,
  storedBytes: 100,
  freshnessMs: 5,
  replayed: false,
  ...more,
})

/** Two puts, one refused; a cut with every outcome; a replayed one; a failing sink; a stopped lane. */
export const RECORDED: readonly HydrantEvent[] = [
  { type: 'memory.changed', usedBytes: 7, limitBytes: 100, waiting: 1, spilledBytes: 3 },
  { type: 'certificate.refused', file: '/tls/cert.pem', message: 'm' },
  { type: 'certificate.loaded', file: '/tls/cert.pem', expiresMs: 2_000, expired: false, changed: true },
  { type: 'request.handled', operation: 'PutRecordBatch', status: 200, ms: 2, bytes: 700 },
  { type: 'records.accepted', stream: 'p', records: 20, bytes: 500 },
  { type: 'request.handled', operation: 'PutRecordBatch', status: 200, ms: 40, bytes: 300 },
  { type: 'records.accepted', stream: 'p', records: 5, bytes: 50 },
  { type: 'request.handled', operation: 'PutRecord', status: 503, code: 'ServiceUnavailableException', ms: 1, bytes: 10 },
  { type: 'records.refused', stream: 'p', records: 1, code: 'DiskFull' },
  { type: 'log.refusing', stream: 'p', reason: 'disk' },
  { type: 'lane.started', ...lane, position: 0, recoveredCuts: 1 },
  { type: 'cut.recorded', ...lane, start: 0, end: 10, records: 10, bytes: 1_000, reason: 'size' },
  { type: 'commit.finished', pipeline: 'p', entries: 1, result: 'saved', ms: 3 },
  { type: 'attempt.failed', pipeline: 'p', sink: 's3', operation: 'put', attempt: 1, code: 'SlowDown', message: 'm', delayMs: 5 },
  { type: 'target.opened', sink: 's3', endpoint: 'http://h', target: 'b' },
  { type: 'breaker.changed', sink: 's3', endpoint: 'http://h', target: 'b', open: true },
  { type: 'object.stored', ...lane, key: 'r', size: 30, records: 2, kind: 'rejects' },
  { type: 'object.stored', ...lane, key: 'a', size: 60, records: 4, kind: 'anchor' },
  { type: 'object.stored', ...lane, key: 'b', size: 40, records: 3, kind: 'object' },
  { type: 'object.existed', ...lane, key: 'b', equal: true },
  // 10 in, split to 12: 1 dropped, 1 rejected on the way in, 10 transformed: 7 delivered, 1 rejected by the sink, 2 given up
  cut({ transformed: 10, dropped: 1, rejected: 2, delivered: 7, givenUp: 2 }),
  { type: 'position.advanced', ...lane, position: 10 },
  cut({ start: 10, end: 15, records: 5, transformed: 5, delivered: 5, bytes: 500, replayed: true }),
  { type: 'records.expired', ...lane, from: 15, to: 18 },
  { type: 'records.discarded', ...lane, from: 18, to: 20, reason: 'delete' },
  { type: 'lane.lag', ...lane, lagRecords: 5, freshnessMs: 2_000 },
  { type: 'lane.stopped', ...lane, code: 'Diverged', message: 'x' },
  { type: 'warning', code: 'slow', message: 'w' },
]
