import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { parse } from 'yaml'
import { z } from 'zod'
import { configJsonSchema } from '../../core/config/json-schema.ts'
import { realHost } from '../../core/host/host.ts'
import { pluginKit } from '../../core/plugin/kit.ts'
import { pluginRegistry } from '../../core/plugin/registry.ts'
import { configReference, REFERENCE } from '../../scripts/generate-config-reference.ts'

const registry = pluginRegistry({ baseDir: '/', host: realHost(), kit: pluginKit })
const root = new URL('../../', import.meta.url).pathname
const example = (): unknown => parse(readFileSync(`${root}config.example.yaml`, 'utf8'))

interface JsonSchema {
  description?: string
  properties?: Record<string, JsonSchema>
  items?: JsonSchema
  additionalProperties?: JsonSchema | boolean
  anyOf?: JsonSchema[]
  oneOf?: JsonSchema[]
}
/** Paths of keys without a description. */
function bare(s: JsonSchema, path: string): string[] {
  const own = Object.entries(s.properties ?? {}).flatMap(([k, p]) => {
    const said = p.description ?? p.anyOf?.find((o) => o.description !== undefined)?.description
    return [...(said === undefined ? [`${path}.${k}`] : []), ...bare(p, `${path}.${k}`)]
  })
  const inner = [
    s.items,
    typeof s.additionalProperties === 'object' ? s.additionalProperties : undefined,
    ...(s.anyOf ?? []),
    ...(s.oneOf ?? []),
  ]
  return [...own, ...inner.flatMap((i) => (i ? bare(i, `${path}[]`) : []))]
}

const p = (more: object, sink: object = { type: 'file', path: 'x' }): unknown => ({
  pipelines: { p: { source: { direct_put: {} }, sink, ...more } },
})

test('the JSON Schema takes the example and every form an editor must take, and refuses what check refuses', async () => {
  const schema = z.fromJSONSchema((await configJsonSchema(registry)) as Parameters<typeof z.fromJSONSchema>[0])
  const takes = (value: unknown): boolean => schema.safeParse(value).success
  expect(takes(example())).toBe(true)
  expect(takes({})).toBe(true)
  expect(takes(p({ buffer: { size: '${env:SIZE}', interval: '5m' } }))).toBe(true)
  expect(takes(p({}, { type: 's3', bucket: 'lake' }))).toBe(true)
  expect(takes(p({}, { type: '@acme/sink', anything: 1 }))).toBe(true)
  expect(takes({ buckets: { lake: { endpoint: 'http://127.0.0.1:1' }, default: { path: 'x' } } })).toBe(true)
  expect(takes(p({ buffer: { size: 5 } }))).toBe(false)
  expect(takes(p({ formt: {} }))).toBe(false)
  expect(takes(p({}, { type: 'file', pth: 'x' }))).toBe(false)
  expect(takes({ api: { auth: 'x' } })).toBe(false)
})

test('every key has its line of documentation', async () => {
  expect(bare((await configJsonSchema(registry)) as JsonSchema, '')).toEqual([])
})

test('docs/reference/config.md is not stale: run node -C hydrant-source scripts/generate-config-reference.ts', async () => {
  expect(readFileSync(REFERENCE, 'utf8')).toBe(await configReference())
})
