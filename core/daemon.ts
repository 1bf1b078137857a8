import { join } from 'node:path'
import { startAdmin, type AdminServer } from './admin/server.ts'
import { watchCertificates, type CertificateWatch } from './api/certificates.ts'
import { firehoseService } from './api/firehose/index.ts'
import { startFrontDoor, type FrontDoor } from './api/server.ts'
import { openGate, sigv4Gate } from './api/sigv4.ts'
import { bucketTarget } from './config/buckets.ts'
import type { Config, PluginRegistry } from './config/types.ts'
import { SinkPool } from './delivery/sinks.ts'
import { openEmbeddedLog, type EmbeddedLog } from './log/embedded/index.ts'
import { MemoryBudget } from './pipeline/budget.ts'
import type { Ingest } from './pipeline/control.ts'
import { PipelineManager } from './pipeline/manager.ts'
import { Operator } from './pipeline/operator.ts'
import type { Shared } from './pipeline/running.ts'
import type { PipelineSpec, StagesSpec } from './pipeline/spec.ts'
import { Registry } from './registry/registry.ts'
import type { Host } from './sdk/host.ts'
import type { Logger } from './sdk/sink.ts'
import { Streams } from './stream/streams.ts'
import { eventBus, type HydrantEvent } from './telemetry/events.ts'
import { logEvents } from './telemetry/listen.ts'
import { createMetrics } from './telemetry/metrics.ts'
import { createStages } from './transform/chain.ts'
import type { Stage } from './transform/types.ts'

export interface DaemonOptions {
  readonly config: Config
  readonly host: Host
  readonly log: Logger
  readonly debug: boolean
  readonly plugins: PluginRegistry
  /** The folder was restored from a backup (exactly-once row 33). */
  readonly restored: boolean
  /** Reads the pipelines of the configuration file again, for `hydrant pipelines apply`. */
  readonly yaml: () => Promise<readonly PipelineSpec[]>
  /** Tests: further stages, a listener, the note guard off. */
  readonly test?: {
    stages?: (s: StagesSpec) => readonly Stage[]
    on?: (e: HydrantEvent) => void
    unguarded?: boolean
    shared?: (s: Shared) => void
  }
}
/** Cuts that are recorded and not delivered go on at the next start; null = a lane did not even let go in time. */
export interface Stopped {
  readonly open: readonly { pipeline: string; shard: string; cuts: number }[] | null
}
export interface Daemon {
  readonly api: FrontDoor['address']
  readonly admin: AdminServer['address']
  /** Reads the certificate of the API again; what came of it is in the log. Never rejects. */
  reloadCertificates(): Promise<void>
  /** Refuses new puts, ends and delivers open cuts until the deadline, closes everything. Answers what is left open. */
  stop(deadline: AbortSignal): Promise<Stopped>
}

/** The only place where parts are put together. Start order: admin, log, registry, sinks, lanes, front door; stop order: the reverse. */
export async function startDaemon(o: DaemonOptions): Promise<Daemon> {
  const { config, host, log } = o
  const metrics = createMetrics({ clock: host.clock })
  const events = eventBus([metrics.on, logEvents(log, { clock: host.clock, debug: o.debug }), ...(o.test?.on ? [o.test.on] : [])])
  const state: { operator: Operator | null; embedded: EmbeddedLog | null; ready: boolean; reason: string } = {
    operator: null,
    embedded: null,
    ready: false,
    reason: 'starting',
  }
  const admin = await startAdmin({
    listen: config.admin.listen,
    readiness: () => readiness(state),
    metrics,
    operator: () => state.operator,
    log,
  })
  const undo: (() => Promise<unknown>)[] = [() => admin.close()]
  try {
    const { path, lingerMs } = config.log
    const embedded = await openEmbeddedLog({
      path,
      host,
      events,
      lingerMs,
      freeDiskBytes: config.limits.freeDiskBytes,
      restored: o.restored,
    })
    state.embedded = embedded
    undo.unshift(() => embedded.close())
    const sinks = await openSinks(o, events)
    undo.unshift(() => sinks.close())
    const spillDir = join(path, 'spill')
    await host.fs.remove(spillDir)
    await host.fs.mkdir(spillDir)
    const shared = sharedOf(o, { events, sinks, embedded, spillDir })
    o.test?.shared?.(shared)
    const manager = new PipelineManager(shared, { drainMs: config.drainMs })
    await manager.start(new Map(config.pipelines.map((p) => [p.name, p])))
    undo.unshift(() => manager.stop(AbortSignal.abort()))
    state.operator = new Operator(manager, { drainMs: config.drainMs, yaml: async () => new Map((await o.yaml()).map((p) => [p.name, p])) })
    const door = await openFrontDoor(o, events, manager, shared.streams)
    undo.unshift(() => door.close())
    const tls = config.api.tls
    const certificates = tls && (await watchCertificates({ files: tls, setTls: (t) => door.setTls(t), host, events }))
    state.ready = true
    return {
      api: door.address,
      admin: admin.address,
      reloadCertificates: async () => certificates?.reload(),
      stop: (deadline) => stop(deadline, { host, door, certificates, manager, sinks, embedded, admin, state }),
    }
  } catch (e) {
    for (const step of undo) await step()
    throw e
  }
}

type Bus = ReturnType<typeof eventBus>

function sharedOf(o: DaemonOptions, x: { events: Bus; sinks: SinkPool; embedded: EmbeddedLog; spillDir: string }): Shared {
  const { config, host, log } = o
  const { events, sinks, embedded, spillDir } = x
  return {
    host,
    events,
    log,
    registry: new Registry(embedded.meta),
    streams: new Streams(embedded, events),
    memory: new MemoryBudget(config.limits.memoryBytes, events),
    spillDir,
    parts: {
      sink: (spec, pipelineId) => sinks.open(spec, pipelineId),
      stages: (s) => [...createStages(s), ...(o.test?.stages?.(s) ?? [])],
      targetOf: (spec) => sinks.targetOf(spec),
      ordered: (spec) => sinks.ordered(spec.sink),
      forget: (pipelineId) => sinks.forget(pipelineId),
    },
    forgetGroup: (group) => embedded.deleteGroup(group),
    unguarded: o.test?.unguarded ?? false,
  }
}

function readiness(s: { ready: boolean; reason: string; embedded: EmbeddedLog | null }): { ready: boolean; reasons: string[] } {
  if (!s.ready) return { ready: false, reasons: [s.reason] }
  const health = s.embedded?.health()
  return health?.ok === false ? { ready: false, reasons: [health.reason ?? 'the log is not healthy'] } : { ready: true, reasons: [] }
}

async function openSinks(o: DaemonOptions, events: Bus): Promise<SinkPool> {
  const { config, host, log, plugins } = o
  const sinks = new SinkPool({
    host,
    events,
    log,
    baseDir: config.baseDir,
    plugin: async (type) => (await plugins.resolve(type)).plugin,
    bucket: (name) => bucketTarget(config.buckets, name),
  })
  const types = config.pipelines.flatMap((p) => [p.sink, p.rejects, p.backup?.sink ?? null]).flatMap((s) => (s ? [s.type] : []))
  for (const type of new Set(types)) await sinks.load(type)
  return sinks
}

function openFrontDoor(o: DaemonOptions, events: Bus, streams: PipelineManager, ingest: Ingest): Promise<FrontDoor> {
  const { config, host, log } = o
  const { api } = config
  const { region, account } = api
  const gate =
    api.auth === 'none' ? openGate() : sigv4Gate({ keys: api.keys, region, account, clock: host.clock, replayCache: api.replayCache })
  const kms = (bucket: string): boolean => bucketTarget(config.buckets, bucket).type === 's3'
  const folder = (bucket: string): boolean => bucketTarget(config.buckets, bucket).type === 'file'
  return startFrontDoor({
    listen: api.listen,
    ...(api.tls ? { tls: api.tls } : {}),
    gate,
    services: [firehoseService({ streams, ingest, account, region, maxStreams: config.limits.deliveryStreams, events, kms, folder })],
    host,
    events,
    log,
    limits: { httpConnections: config.limits.connections },
  })
}

interface Parts {
  host: Host
  door: FrontDoor
  certificates: CertificateWatch | null
  manager: PipelineManager
  sinks: SinkPool
  embedded: EmbeddedLog
  admin: AdminServer
  state: { ready: boolean; reason: string }
}

async function stop(deadline: AbortSignal, p: Parts): Promise<Stopped> {
  p.state.ready = false
  p.state.reason = 'stopping'
  p.certificates?.end()
  await p.door.drain(deadline)
  const { open } = await within<Stopped>(deadline, p.host, p.manager.stop(deadline), { open: null })
  await p.door.close()
  // a sink that ignores its signal must not keep the daemon: names make what it still does harmless
  await within(deadline, p.host, p.sinks.close(), undefined)
  await p.embedded.close()
  await p.admin.close()
  return { open }
}

const GRACE_MS = 2_000

/** `work`, or `otherwise` when it has not settled shortly after the deadline. */
function within<T>(deadline: AbortSignal, host: Host, work: Promise<T>, otherwise: T): Promise<T> {
  const over = Promise.withResolvers<T>()
  const late = (): void => void host.clock.timer(GRACE_MS, () => over.resolve(otherwise))
  if (deadline.aborted) late()
  else deadline.addEventListener('abort', late, { once: true })
  return Promise.race([work, over.promise])
}
