import { z, type ZodType } from 'zod'
import { untilAborted } from './abort.ts'
import { ConfigError, PermanentError, RetryableError } from './errors.ts'
import type { PluginKit } from './sink.ts'

const SIZE: Readonly<Record<string, number>> = { B: 1, KiB: 1024, MiB: 1024 ** 2, GiB: 1024 ** 3, TiB: 1024 ** 4 }
const TIME: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 }

function withUnit(
  what: string,
  units: Readonly<Record<string, number>>,
  example: string,
  mark: { format: string },
): ZodType<number, string | number> {
  const pattern = new RegExp(`^(\\d+(?:\\.\\d+)?) ?(${Object.keys(units).join('|')})$`)
  const text = z.string().regex(pattern, `${what} is a number and a unit (${Object.keys(units).join(', ')}), such as ${example}`)
  return z
    .union([z.int().nonnegative(), text])
    .transform((v) => {
      if (typeof v === 'number') return v
      const [, n = '', unit = ''] = pattern.exec(v) ?? []
      return Math.round(Number(n) * (units[unit] ?? 1))
    })
    .meta(mark)
}

/** `8MiB`, `64KiB`, or a plain number of bytes. Output: bytes. */
const bytes = (): ZodType<number, string | number> => withUnit('a size', SIZE, '8MiB', { format: 'size' })
/** `250ms`, `30s`, `5m`, or a plain number of milliseconds. Output: milliseconds. */
const duration = (): ZodType<number, string | number> => withUnit('a duration', TIME, '30s', { format: 'duration' })
/** A string that is scrubbed from every output. */
const secret = (): ZodType<string> => z.string().min(1).meta({ secret: true })

/** What every plugin factory is called with. */
export const pluginKit: PluginKit = { z, secret, bytes, duration, untilAborted, RetryableError, PermanentError, ConfigError }

interface Wrapper {
  readonly def: { readonly innerType?: ZodType; readonly in?: ZodType }
}

/** True for a schema made by `secret()`, also inside optional, default, nullable or a transform. */
export function isSecret(schema: ZodType): boolean {
  for (let at: ZodType | undefined = schema; at;) {
    if (at.meta()?.['secret'] === true) return true
    const { innerType, in: input }: Wrapper['def'] = (at as unknown as Wrapper).def
    at = innerType ?? input
  }
  return false
}

interface JsonSchema {
  readonly type?: string | readonly string[]
  readonly format?: string
  /** Of a size or duration: `0s to 1h`. */
  readonly range?: string
  readonly minimum?: number
  readonly maximum?: number
  readonly minLength?: number
  readonly maxLength?: number
  readonly description?: string
  readonly default?: unknown
  readonly secret?: boolean
  readonly enum?: readonly (string | number)[]
  readonly const?: string | number | boolean
  readonly anyOf?: readonly JsonSchema[]
  readonly properties?: Readonly<Record<string, JsonSchema>>
  readonly required?: readonly string[]
}

/** JSON Schema (draft 2020-12) of what may be written for these options. */
export function optionsJsonSchema(options: ZodType): object {
  return z.toJSONSchema(options, { io: 'input', unrepresentable: 'any' })
}

/** The options of a plugin as a Markdown table, one row a key, made from its schema alone. */
export function optionsTable(options: ZodType): string {
  const rows: string[] = []
  collect(optionsJsonSchema(options), '', true, rows)
  return ['| option | type | default | meaning |', '| --- | --- | --- | --- |', ...rows].join('\n')
}

function collect(schema: JsonSchema, path: string, always: boolean, rows: string[]): void {
  for (const [key, p] of Object.entries(schema.properties ?? {})) {
    const required = (schema.required ?? []).includes(key) && p.default === undefined
    const must = always ? '**required**' : `required in \`${path.slice(0, -1)}\``
    const fallback = p.default === undefined ? (required ? must : '–') : `\`${JSON.stringify(p.default).replaceAll('"', '')}\``
    rows.push(`| \`${path}${key}\` | ${typeName(p)}${rangeOf(p)} | ${fallback} | ${(p.description ?? '').replaceAll('|', '\\|')} |`)
    if (p.properties) collect(p, `${path}${key}.`, always && required, rows)
  }
}

/** `, 1 to 19`; nothing where any value of the type goes. "Not empty" goes without saying. */
function rangeOf(p: JsonSchema): string {
  const { minimum = Number.MIN_SAFE_INTEGER, maximum = Number.MAX_SAFE_INTEGER, minLength = 0, maxLength } = p
  if (p.range !== undefined) return `, ${p.range}`
  if (maximum < Number.MAX_SAFE_INTEGER) return minimum > Number.MIN_SAFE_INTEGER ? `, ${minimum} to ${maximum}` : `, at most ${maximum}`
  if (minimum > Number.MIN_SAFE_INTEGER) return `, at least ${minimum}`
  if (maxLength !== undefined) return minLength > 0 ? `, ${minLength} to ${maxLength} characters` : `, at most ${maxLength} characters`
  return minLength > 1 ? `, at least ${minLength} characters` : ''
}

function typeName(p: JsonSchema): string {
  if (p.secret === true) return 'secret'
  if (p.format === 'size' || p.format === 'duration') return p.format
  if (p.enum) return p.enum.map((v) => `\`${String(v)}\``).join(', ')
  if (p.const !== undefined) return `\`${String(p.const)}\``
  if (p.anyOf) return [...new Set(p.anyOf.map(typeName))].join(' or ')
  return [p.type ?? 'any'].flat().join(' or ')
}
