import { z } from 'zod'

type Def = z.core.$ZodTypeDef & Record<string, unknown>
const defOf = (s: z.core.$ZodType): Def => s['_zod'].def as Def

/** The schema under optional, default and transform wrappers: what the text in the file must be. */
export function bare(schema: z.core.$ZodType): z.core.$ZodType {
  let s = schema
  for (;;) {
    const def = defOf(s)
    const inner = def.type === 'pipe' ? def['in'] : def['innerType']
    if (!inner || typeof inner !== 'object') return s
    s = inner as z.core.$ZodType
  }
}

/** description, secret … of a schema: the outermost that has them. */
export function metaOf(schema: z.core.$ZodType): Readonly<Record<string, unknown>> {
  let s = schema
  const all: Record<string, unknown> = {}
  for (;;) {
    Object.assign(all, { ...z.globalRegistry.get(s), ...all })
    const def = defOf(s)
    const inner = def.type === 'pipe' ? def['in'] : def['innerType']
    if (!inner || typeof inner !== 'object') return all
    s = inner as z.core.$ZodType
  }
}
/** The keys of an object schema, or null when it is not one. */
export function shapeOf(schema: z.core.$ZodType): Readonly<Record<string, z.core.$ZodType>> | null {
  const def = defOf(bare(schema))
  return def.type === 'object' ? (def['shape'] as Record<string, z.core.$ZodType>) : null
}
export function optionsOf(schema: z.core.$ZodType): readonly z.core.$ZodType[] | null {
  const def = defOf(bare(schema))
  return def.type === 'union' ? (def['options'] as z.core.$ZodType[]) : null
}

function accepts(schema: z.core.$ZodType, value: unknown): boolean {
  return z.safeParse(schema, value).success
}
/** The option of a union that a value means: by its discriminator, else the object one for an object. */
function pick(union: z.core.$ZodType, value: unknown): z.core.$ZodType | null {
  const options = optionsOf(union) ?? []
  const discriminator = defOf(bare(union))['discriminator']
  if (typeof discriminator === 'string') {
    const tag = (value as Record<string, unknown> | null)?.[discriminator]
    return options.find((o) => accepts(shapeOf(o)?.[discriminator] ?? z.never(), tag)) ?? null
  }
  return options.find((o) => (shapeOf(o) !== null) === (typeof value === 'object' && value !== null)) ?? null
}

/** One step down. */
function child(schema: z.core.$ZodType, key: string | number, value: unknown): z.core.$ZodType | null {
  const s = bare(schema)
  const def = defOf(s)
  if (def.type === 'object') return shapeOf(s)?.[String(key)] ?? null
  if (def.type === 'record') return def['valueType'] as z.core.$ZodType
  if (def.type === 'array') return def['element'] as z.core.$ZodType
  if (def.type === 'union') {
    const option = pick(s, value)
    return option ? child(option, key, value) : null
  }
  return null
}
/** The schema at a path of a value, null where the path leaves what the schema knows. */
export function schemaAt(schema: z.core.$ZodType, path: readonly (string | number)[], value: unknown): z.core.$ZodType | null {
  let s: z.core.$ZodType | null = schema
  let v = value
  for (const key of path) {
    if (!s) return null
    s = child(s, key, v)
    v = (v as Record<string | number, unknown> | null | undefined)?.[key]
  }
  const options = s ? optionsOf(s) : null
  return s && options ? (pick(s, v) ?? s) : s
}
/** The value at a path; undefined where there is none. */
export function valueAt(value: unknown, path: readonly (string | number)[]): unknown {
  let v = value
  for (const key of path) {
    if (typeof v !== 'object' || v === null || !Object.hasOwn(v, key)) return undefined
    v = (v as Record<string | number, unknown>)[key]
  }
  return v
}
