import { decodeIdentity, specHash } from './identity.ts'
import type { PipelineRecord } from '../registry/registry.ts'
import { backupSpec, type Entry, type Shared } from './running.ts'
import type { PipelineSpec } from './spec.ts'

/**
 * Row 36: a daemon puts its YAML's spec in force once, at start, by compare-and-set. A spec that was in force before is older than
 * the registry's: then the registry wins, and `hydrant pipelines apply --force` goes back.
 */
export async function specInForce(s: Shared, entry: Entry, yaml: PipelineSpec): Promise<PipelineSpec> {
  const { record } = entry.stored
  const { hash } = specHash(yaml, s.parts.targetOf)
  if (hash === record.specHash || !record.history.includes(hash)) return yaml
  const bytes = await s.registry.spec(record.specHash)
  if (!bytes) throw new Error(`starting ${record.name}: the registry does not hold its spec ${record.specHash}`)
  const i = decodeIdentity(bytes)
  const message = `the configuration of "${record.name}" is older than what is in force (it was in force before): the registry wins; \`hydrant pipelines apply ${record.name} --force\` goes back`
  s.events.emit({ type: 'warning', code: 'OlderSpec', message })
  s.log.warn({ pipeline: record.name, specHash: record.specHash, configured: hash }, message)
  if (i.sink.type !== yaml.sink.type) {
    throw new Error(
      `${message}; but its sink is of type ${yaml.sink.type}, the one in force of type ${i.sink.type}: put the newer configuration back`,
    )
  }
  const { prefix, errorPrefix, fileExtension, timeZone, target } = i.sink
  const sink = { ...yaml.sink, prefix, errorPrefix, fileExtension, timeZone, options: { ...yaml.sink.options, ...target } }
  return { ...yaml, stages: i.stages, format: i.format, sink }
}

export interface SpecWriter {
  readonly shared: Shared
  putSpecInForce(entry: Entry, spec: PipelineSpec, more: Partial<PipelineRecord>): Promise<void>
}

/** After the lanes are known: a changed YAML spec becomes the one in force, versionId + 1. */
export async function applyYaml(
  m: SpecWriter,
  entry: Entry,
  yaml: PipelineSpec,
  force: boolean,
): Promise<{ specHash: string; changed: boolean }> {
  const { record } = entry.stored
  const spec = force ? yaml : (entry.spec ?? yaml)
  const { hash } = specHash(spec, m.shared.parts.targetOf)
  if (hash === record.specHash && (spec.backup === null) === (record.backupId === null)) {
    entry.spec = spec
    entry.main?.replaceSpec(spec, record.versionId)
    const second = backupSpec(spec)
    if (second) entry.backup?.replaceSpec(second, record.versionId)
    return { specHash: hash, changed: false }
  }
  await m.putSpecInForce(entry, spec, {})
  return { specHash: hash, changed: true }
}
