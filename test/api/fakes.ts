import { request, type Agent } from 'node:http'
import { ControlError, type DeliveryStreamInfo, type DeliveryStreams, type Ingest } from '../../core/pipeline/control.ts'
import type { JsonObject, PipelineSpec } from '../../core/pipeline/spec.ts'
import { firehoseService } from '../../core/api/firehose/index.ts'
import { startFrontDoor, type FrontDoor, type FrontDoorOptions } from '../../core/api/server.ts'
import type { Call, Operation } from '../../core/api/service.ts'
import { openGate } from '../../core/api/sigv4.ts'
import { NoStreamError } from '../../core/stream/streams.ts'
import { realHost } from '../../core/host/host.ts'
import { valueOf } from '../../core/sdk/batch.ts'
import type { Logger } from '../../core/sdk/sink.ts'
import { eventBus, type HydrantEvent } from '../../core/telemetry/events.ts'
import { poisonPools } from '../harness/poison.ts'

// whoever reads a body that was given back answers nonsense
poisonPools()

export const ACCOUNT = '000000000000'
export const REGION = 'us-east-1'
type Mutable<T> = { -readonly [K in keyof T]: T[K] }

/** A registry in memory, with the rules of the contract. */
export class FakeStreams implements DeliveryStreams {
  readonly all = new Map<string, Mutable<DeliveryStreamInfo>>()
  readonly deleted: { name: string; force: boolean }[] = []
  nowMs = 1_700_000_000_000
  get(name: string): DeliveryStreamInfo | null {
    return this.all.get(name) ?? null
  }
  list(): readonly DeliveryStreamInfo[] {
    return [...this.all.values()].toSorted((a, b) => (a.name < b.name ? -1 : 1))
  }
  create(c: {
    name: string
    document: JsonObject
    spec: PipelineSpec
    tags: Readonly<Record<string, string>>
  }): Promise<DeliveryStreamInfo> {
    if (this.all.has(c.name)) return Promise.reject(new ControlError('exists', c.name))
    const info = this.add(c.name, c)
    return Promise.resolve(info)
  }
  update(name: string, expected: string, c: { document: JsonObject; spec: PipelineSpec }): Promise<DeliveryStreamInfo> {
    const info = this.#must(name)
    if (info.versionId !== expected) return Promise.reject(new ControlError('version', `it is at version ${info.versionId}`))
    info.versionId = String(Number(info.versionId) + 1)
    info.updatedMs = this.nowMs + 500
    info.document = c.document
    info.spec = c.spec
    return Promise.resolve(info)
  }
  delete(name: string, o: { force: boolean }): Promise<void> {
    this.#must(name)
    this.all.delete(name)
    this.deleted.push({ name, force: o.force })
    return Promise.resolve()
  }
  setTags(name: string, tags: Readonly<Record<string, string>>): Promise<void> {
    this.#must(name).tags = tags
    return Promise.resolve()
  }
  add(
    name: string,
    c: { document: JsonObject | null; spec: PipelineSpec; tags?: Readonly<Record<string, string>> },
  ): Mutable<DeliveryStreamInfo> {
    const info: Mutable<DeliveryStreamInfo> = {
      name,
      pipelineId: `p-${name}`,
      origin: c.document === null ? 'yaml' : 'api',
      status: 'ACTIVE',
      versionId: '1',
      createdMs: this.nowMs,
      updatedMs: null,
      tags: c.tags ?? {},
      document: c.document,
      spec: c.spec,
      paused: false,
    }
    this.all.set(name, info)
    return info
  }
  #must(name: string): Mutable<DeliveryStreamInfo> {
    const info = this.all.get(name)
    if (!info) throw new ControlError('not-found', name)
    return info
  }
}

/** A log in memory: copies of the values, by stream. `fail` is thrown instead of storing. */
export class FakeIngest implements Ingest {
  readonly streams: FakeStreams
  readonly values = new Map<string, Uint8Array[]>()
  fail: Error | null = null
  /** Awaited before storing. */
  gate: Promise<void> = Promise.resolve()
  puts = 0
  keep = true
  constructor(streams: FakeStreams) {
    this.streams = streams
  }
  async put(...[name, batch, signal]: Parameters<Ingest['put']>): ReturnType<Ingest['put']> {
    await this.gate
    signal.throwIfAborted()
    if (this.fail) throw this.fail
    const info = this.streams.get(name)
    if (info?.status !== 'ACTIVE') throw new NoStreamError(name)
    this.puts++
    const list = this.values.get(name) ?? []
    this.values.set(name, list)
    const baseOffset = list.length
    if (this.keep) for (let i = 0; i < batch.count; i++) list.push(Uint8Array.from(valueOf(batch, i) ?? []))
    return { topicId: `topic-${name}`, shard: 0, baseOffset, appendTimeMs: 0 }
  }
}

export const quiet: Logger & { readonly errors: object[] } = {
  errors: [],
  debug: () => {},
  info: () => {},
  warn: () => {},
  error(fields) {
    this.errors.push(fields)
  },
}

export interface Rig {
  readonly door: FrontDoor
  readonly streams: FakeStreams
  readonly ingest: FakeIngest
  readonly events: HydrantEvent[]
  readonly url: string
  call(operation: string, input: unknown): Promise<Answer>
  close(): Promise<void>
}
export interface Answer {
  readonly status: number
  readonly headers: Readonly<Record<string, string | string[] | undefined>>
  readonly body: Record<string, unknown>
  readonly text: string
}

/** A front door with Firehose on a free port of 127.0.0.1, against the fakes. */
export async function rig(
  o: Partial<FrontDoorOptions> & { maxStreams?: number; kms?: (bucket: string) => boolean; folder?: (bucket: string) => boolean } = {},
): Promise<Rig> {
  const streams = new FakeStreams()
  const ingest = new FakeIngest(streams)
  const events: HydrantEvent[] = []
  const { maxStreams, kms, folder, ...rest } = o
  const door = await startFrontDoor({
    listen: { host: '127.0.0.1', port: 0 },
    gate: openGate(),
    services: [
      firehoseService({
        streams,
        ingest,
        account: ACCOUNT,
        region: REGION,
        events: eventBus([(e) => events.push(e)]),
        ...(maxStreams === undefined ? {} : { maxStreams }),
        ...(kms === undefined ? {} : { kms }),
        ...(folder === undefined ? {} : { folder }),
      }),
    ],
    host: realHost(),
    events: eventBus([(e) => events.push(e)]),
    log: quiet,
    ...rest,
  })
  const { port } = door.address
  return {
    door,
    streams,
    ingest,
    events,
    url: `http://127.0.0.1:${port}`,
    call: (operation, input) => post(port, { 'x-amz-target': `Firehose_20150804.${operation}` }, JSON.stringify(input)),
    close: () => door.close(),
  }
}

/** POST / over HTTP/1.1 with these headers over the usual ones. */
export function post(
  port: number,
  headers: Record<string, string | string[]>,
  body: string | Uint8Array,
  o: { agent?: Agent | false; method?: string; path?: string } = {},
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const req = request(
      {
        host: '127.0.0.1',
        port,
        method: o.method ?? 'POST',
        path: o.path ?? '/',
        agent: o.agent ?? false,
        headers: { 'content-type': 'application/x-amz-json-1.1', 'content-length': Buffer.byteLength(body), ...headers },
      },
      (res) => {
        const chunks: Buffer[] = []
        res.on('data', (c: Buffer) => chunks.push(c))
        res.on('end', () => {
          const text = Buffer.concat(chunks).toString()
          const parsed = text === '' ? {} : (JSON.parse(text) as Record<string, unknown>)
          resolve({ status: res.statusCode ?? 0, headers: res.headers, body: parsed, text })
        })
        res.on('error', reject)
      },
    )
    req.on('error', reject)
    req.end(body)
  })
}

export const answerText = (a: string | Uint8Array): string => (typeof a === 'string' ? a : Buffer.from(a).toString())

/** Runs one operation without a server, as an anonymous caller. */
export async function runOperation(operations: readonly Operation[], name: string, input: unknown): Promise<Record<string, unknown>> {
  const operation = operations.find((o) => o.name === name)
  if (!operation) throw new Error(`no operation ${name}`)
  const gate = openGate()
  const body = Buffer.from(JSON.stringify(input))
  const head = { method: 'POST', url: '/', names: [], values: [] } as unknown as Parameters<typeof gate.admit>[0]
  const principal = gate.authenticate(gate.admit(head, undefined, undefined), body)
  const call: Call = { principal, body: new Uint8Array(body), signal: AbortSignal.timeout(10_000) }
  return JSON.parse(answerText(await operation.run(call))) as Record<string, unknown>
}

export const S3 = { RoleARN: 'arn:aws:iam::123456789012:role/r', BucketARN: 'arn:aws:s3:::b' }
