import { z } from 'zod'
import { shapeOf } from './introspect.ts'
import { configSchema, sinkShape } from './schema.ts'
import type { LoadedPlugin, PluginRegistry } from './types.ts'

/** One sink as it stands in a file: `type`, core's keys, the plugin's own. */
function sinkOf(p: LoadedPlugin): z.ZodType {
  const own = (shapeOf(p.plugin.options) ?? {}) as Readonly<Record<string, z.ZodType>>
  return z.strictObject({ type: z.literal(p.type).meta({ description: p.plugin.summary }), ...sinkShape, ...own })
}
/** A bucket: the plugin's own keys, none required: the bucket's name comes from the call. */
function bucketOf(p: LoadedPlugin): z.ZodType {
  const own = Object.entries((shapeOf(p.plugin.options) ?? {}) as Readonly<Record<string, z.ZodType>>)
  const type = z.literal(p.type).optional().meta({ description: p.plugin.summary })
  return z.strictObject({ type, ...Object.fromEntries(own.map(([k, s]) => [k, k === 'bucket' ? s.optional() : s])) })
}

/**
 * JSON Schema (draft 2020-12) of the configuration file as it is written, for editors and `hydrant config schema`. Built-in sinks
 * are exact; a sink of any other package is open. Rejects with ConfigError when a built-in plugin does not load.
 */
export async function configJsonSchema(plugins: PluginRegistry): Promise<object> {
  const loaded = await Promise.all(plugins.builtIn.map((type) => plugins.resolve(type)))
  const foreign = z.looseObject({
    type: z
      .string()
      .regex(new RegExp(`^(?!(${plugins.builtIn.join('|')})$)`))
      .meta({ description: 'The package of a plugin named under `plugins`.' }),
    ...sinkShape,
  })
  const schema = configSchema(z.union([...loaded.map(sinkOf), foreign]), z.union(loaded.map(bucketOf)))
  return z.toJSONSchema(schema, {
    io: 'input',
    unrepresentable: 'any',
    // our marks for sizes and times; to an editor `duration` would mean P1D
    override: ({ jsonSchema }) => {
      if (jsonSchema.format !== 'size' && jsonSchema.format !== 'duration') return
      delete jsonSchema.format
      delete jsonSchema['range']
    },
  })
}
