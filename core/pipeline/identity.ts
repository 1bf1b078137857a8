import { hash } from 'node:crypto'
import type { FormatSpec } from '../format/types.ts'
import type { SinkSpec } from '../delivery/types.ts'
import type { PipelineSpec, StagesSpec } from './spec.ts'

/** The part of a sink that decides names and places. Transport (endpoint, credentials, time-outs, retry) stays live. */
export interface SinkIdentity {
  readonly type: string
  readonly target: Readonly<Record<string, string>>
  readonly prefix: string
  readonly errorPrefix: string
  readonly fileExtension: string
  readonly timeZone: string
}
/** What a cut is bound to (architecture §5): hashed, and durable in the registry before a note names it (I13). */
export interface SpecIdentity {
  readonly v: 1
  /** In object names. */
  readonly stream: string
  readonly versionId: string
  readonly stages: StagesSpec
  readonly format: FormatSpec
  readonly sink: SinkIdentity
  readonly rejects: SinkIdentity
}

export type TargetOf = (s: SinkSpec) => Readonly<Record<string, string>>

export function identityOf(spec: PipelineSpec, versionId: string, targetOf: TargetOf): SpecIdentity {
  const identity = (s: SinkSpec): SinkIdentity => ({
    type: s.type,
    target: targetOf(s),
    prefix: s.prefix,
    errorPrefix: s.errorPrefix,
    fileExtension: s.fileExtension,
    timeZone: s.timeZone,
  })
  return {
    v: 1,
    stream: spec.name,
    versionId,
    stages: spec.stages,
    format: spec.format,
    sink: identity(spec.sink),
    rejects: identity(spec.rejects ?? spec.sink),
  }
}

export function encodeIdentity(i: SpecIdentity): { hash: string; bytes: Uint8Array } {
  const text = canonical(i)
  return { hash: hash('sha256', text, 'hex').slice(0, 16), bytes: Buffer.from(text) }
}
export function decodeIdentity(bytes: Uint8Array): SpecIdentity {
  const i = JSON.parse(Buffer.from(bytes).toString('utf8')) as SpecIdentity
  if (i.v !== 1) throw new Error(`spec of version ${String(i.v)}: this hydrant reads version 1`)
  return i
}

/** JSON with sorted keys and without undefined: one text for one value. */
export function canonical(v: unknown): string {
  if (Array.isArray(v)) return `[${v.map(canonical).join(',')}]`
  if (typeof v !== 'object' || v === null) return JSON.stringify(v)
  const entries = Object.entries(v)
    .filter(([, x]) => x !== undefined)
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
  return `{${entries.map(([k, x]) => `${JSON.stringify(k)}:${canonical(x)}`).join(',')}}`
}

/** The spec's identity without the version: what tells whether a configuration changed (row 36). */
export function specHash(spec: PipelineSpec, targetOf: TargetOf): { hash: string; bytes: Uint8Array } {
  return encodeIdentity(identityOf(spec, '0', targetOf))
}
