import type { CutReason } from '../telemetry/events.ts'
import type { OpenCut } from './book.ts'
import type { LaneContext } from './context.ts'
import type { Delivery } from './deliver.ts'
import type { Encoded } from './encode.ts'

/** What operators and tests see of a cut. */
export function reportCut(x: LaneContext, cut: OpenCut, bytes: number, reason: CutReason): void {
  const { start, end, records } = cut
  x.events.emit({ type: 'cut.recorded', pipeline: x.pipeline, shard: x.lane.shard, start, end, records, bytes, reason })
}

/** The two balances of a cut (I7): in = transformed + dropped + rejected, out = delivered + given up. */
export function reportDelivered(x: LaneContext, cut: OpenCut, encoded: Encoded, d: Delivery & { kind: 'done' }, replayed: boolean): void {
  const { delivered, dropped, rejected } = encoded.counts
  x.events.emit({
    type: 'cut.delivered',
    pipeline: x.pipeline,
    shard: x.lane.shard,
    start: cut.start,
    end: cut.end,
    records: encoded.records,
    transformed: delivered,
    dropped,
    rejected,
    delivered: cut.givenUp ? 0 : delivered,
    givenUp: cut.givenUp ? delivered : 0,
    objects: d.objects,
    bytes: encoded.sourceBytes,
    storedBytes: d.storedBytes,
    freshnessMs: x.host.clock.now() - encoded.oldestArrivalMs,
    replayed,
  })
}
