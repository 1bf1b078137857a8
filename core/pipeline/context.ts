import type { Logger } from '../sdk/sink.ts'
import type { Host } from '../sdk/host.ts'
import type { BodyWriter } from '../format/types.ts'
import type { Registry } from '../registry/registry.ts'
import type { Lane } from '../stream/source.ts'
import type { Events } from '../telemetry/events.ts'
import type { MemoryShare } from './budget.ts'
import type { Flow } from './flow.ts'
import type { BufferSpec } from './spec.ts'

/** What a lane is handed for one assignment. Made by pipeline/lanes.ts. */
export interface LaneContext {
  readonly pipeline: string
  readonly pipelineId: string
  readonly lane: Lane
  readonly host: Host
  readonly events: Events
  readonly log: Logger
  readonly registry: Registry
  readonly memory: MemoryShare
  writer(): BodyWriter
  /** The spec in force for new cuts, and its transport. Durable in the registry before it is handed out (I13). */
  current(): Promise<{ flow: Flow; buffer: BufferSpec }>
  /** The flow of a recorded cut; throws when the spec is unknown or has no transport. */
  flow(specHash: string): Promise<Flow>
  readonly onGap: 'stop' | 'skip'
  readonly maxOpenCuts: number
  /** Hard end: lease lost, deadline of a drain, error. Every effect stops. */
  readonly signal: AbortSignal
  /** Soft end: the open cut is ended and delivered, nothing more is read. */
  readonly drain: AbortSignal
  /** Somebody waits for the lane's end (a deletion): a back-off under way ends at once, and delivery goes on. */
  readonly hurry: AbortSignal
  /** Deletion drains to here, then the lane ends by itself; null = for ever. */
  until(): number | null
  /** Something changed that status() shows. */
  progress(p: Partial<LaneProgress>): void
  /** For tests of exactly-once §6 (7): the guard against a missing note is off. */
  readonly unguarded: boolean
}
export interface LaneProgress {
  state: 'starting' | 'recovering' | 'running' | 'waiting' | 'stopped' | 'paused'
  position: number
  head: number
  /** Arrival of the first record of the first open cut; null = none. */
  cutMs: number | null
  /** Arrival of the first record of the cut that fills; null = none. */
  fillMs: number | null
  openCuts: number
  reason: string | null
  /** Why a cut whose retries are over is not given up yet; shown before `reason`. */
  doubt: string | null
  lineage: number
}

/** Stops a lane for good: an operator must look. Says what happened and what to do. */
export class LaneStoppedError extends Error {
  readonly code: string
  constructor(code: string, message: string) {
    super(message)
    this.name = 'LaneStoppedError'
    this.code = code
  }
}
