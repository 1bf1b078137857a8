/**
 * Writes docs/reference/config.md from the schema of the configuration file and of the built-in sinks: every key, its type, its
 * default, one line. Run: node -C hydrant-source scripts/generate-config-reference.ts; test/config/schema.test.ts says when it is stale.
 */
import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { z } from 'zod'
import { metaOf, optionsOf, shapeOf } from '../core/config/introspect.ts'
import { configSchema, sinkShape } from '../core/config/schema.ts'
import { realHost } from '../core/host/host.ts'
import { optionsTable, pluginKit } from '../core/plugin/kit.ts'
import { pluginRegistry } from '../core/plugin/registry.ts'

const root = join(import.meta.dirname, '..')
export const REFERENCE = join(root, 'docs/reference/config.md')

const described = (s: z.core.$ZodType): string => {
  const text = metaOf(s)['description']
  if (typeof text !== 'string')
    throw new Error(`a key without a description: ${JSON.stringify(z.toJSONSchema(s, { io: 'input' })).slice(0, 200)}`)
  return text
}
function section(title: string, schema: z.core.$ZodType, table: string): string[] {
  return [`## ${title}`, '', described(schema), '', table, '']
}
const part = (schema: z.core.$ZodType, key: string): z.core.$ZodType => {
  const found = shapeOf(schema)?.[key]
  if (!found) throw new Error(`the schema has no key ${key}`)
  return found
}
/** One table of several keys. */
const tableOf = (shape: Readonly<Record<string, z.core.$ZodType>>): string =>
  optionsTable(z.strictObject(shape as Record<string, z.ZodType>))

const INTRO = `# Configuration

Made by \`scripts/generate-config-reference.ts\` from the schema: do not edit.

One YAML file. \`hydrant check -c FILE\` says what is wrong with it at line and column; \`hydrant config schema\` prints its JSON Schema
for editors. Relative paths start at the file's folder.

- Sizes have units: B, KiB, MiB, GiB, TiB (1024), KB, MB, GB, TB (1000). Durations too: ms, s, m, h, d.
- In any text \`\${env:NAME}\` stands for an environment variable and \`\${file:/path}\` for a file without its last newline. A missing one is
  an error; the value is never printed. \`$\${…}\` is the literal text.
- A key that hydrant does not know is an error.
`

/** The whole page. */
export async function configReference(): Promise<string> {
  const plugins = pluginRegistry({ baseDir: root, host: realHost(), kit: pluginKit })
  // blocks of plugins have tables of their own
  const opaque = z.unknown()
  const schema = configSchema(opaque, opaque)
  const { shape } = schema
  const pipeline = shape.pipelines.unwrap().valueType
  const lines = [INTRO]
  const [embedded = opaque] = optionsOf(shape.log) ?? []
  lines.push(...section('log', shape.log, optionsTable(embedded as z.ZodType)))
  lines.push(...section('api', shape.api, optionsTable(shape.api)))
  const key = (part(shape.api, 'keys') as unknown as { unwrap(): z.ZodArray }).unwrap().element
  lines.push('Each of `api.keys`:', '', optionsTable(key as z.ZodType), '')
  lines.push(...section('limits', shape.limits, optionsTable(shape.limits)))
  const { drain_timeout } = shape
  lines.push('## Single keys', '', tableOf({ drain_timeout }), '')
  lines.push(
    ...section(
      'buckets',
      shape.buckets,
      'The keys of an entry are those of the sink (below); a bucket has the name of its entry unless `bucket` says another.',
    ),
  )
  lines.push(...section('admin', shape.admin, optionsTable(shape.admin)))
  lines.push(...section('pipelines.NAME', shape.pipelines, optionsTable(pipeline)))
  lines.push('## Every sink', '', 'Beside `type` and the keys of the plugin:', '', tableOf(sinkShape), '')
  for (const type of plugins.builtIn) {
    const { plugin } = await plugins.resolve(type)
    lines.push(
      `## type: ${type}`,
      '',
      `${plugin.summary}. Delivers ${plugin.guarantee.replace('-', ' ')}.`,
      '',
      optionsTable(plugin.options),
      '',
    )
  }
  lines.push(...section('plugins', shape.plugins, optionsTable(shape.plugins.unwrap().element)))
  return `${lines.join('\n').trimEnd().replaceAll('| `` |', '| empty |')}\n`
}

if (import.meta.main) {
  mkdirSync(dirname(REFERENCE), { recursive: true })
  writeFileSync(REFERENCE, await configReference())
}
