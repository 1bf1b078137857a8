import type { z, ZodType } from 'zod'
import { isSecret } from '../sdk/kit.ts'
import type { ConfigDocument, Path } from './document.ts'
import { metaOf, optionsOf, schemaAt, shapeOf, valueAt } from './introspect.ts'
import { elsewhere, laterKey, laterValue } from './later.ts'
import { pathKey, type Resolved } from './references.ts'
import type { ConfigIssue } from './types.ts'

const SENSITIVE = /(secret|password|passwd|token|credential|private_?key|passphrase|sas|access_key)/i

/** Makes issues that stand at the right place and never show a secret. */
export interface Reporter {
  /** What is wrong with the value at `path`. */
  value(path: Path, message: string): ConfigIssue
  key(path: Path, key: string, message: string): ConfigIssue
  /** The value at `path` as it may be printed. */
  show(path: Path, schema?: z.core.$ZodType): string
  /** zod's issues in our words; paths below `at`. `also`: keys that are legal beside those of the schema. */
  zod(issues: readonly z.core.$ZodIssue[], schema: z.core.$ZodType, at: Path, also?: readonly string[]): ConfigIssue[]
}

/** Edits to get from one word to the other; a swap of neighbours counts one. */
function distance(a: string, b: string): number {
  let before: number[] = []
  let last = Array.from({ length: b.length + 1 }, (_, i) => i)
  for (let i = 1; i <= a.length; i++) {
    const row = [i]
    for (let j = 1; j <= b.length; j++) {
      const cost = a[i - 1] === b[j - 1] ? 0 : 1
      let d = Math.min((last[j] ?? 0) + 1, (row[j - 1] ?? 0) + 1, (last[j - 1] ?? 0) + cost)
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) d = Math.min(d, (before[j - 2] ?? 0) + 1)
      row[j] = d
    }
    before = last
    last = row
  }
  return last[b.length] ?? 0
}
/** ` (did you mean "x"?)`, or nothing. */
export function didYouMean(word: string, known: readonly string[]): string {
  let best = ''
  let least = Math.max(1, Math.floor(word.length / 3)) + 1
  for (const k of known) {
    const d = distance(word.toLowerCase(), k.toLowerCase())
    if (d < least) [best, least] = [k, d]
  }
  return best === '' ? '' : ` (did you mean "${best}"?)`
}

function kindOf(v: unknown): string {
  if (v === null || v === undefined) return 'nothing'
  if (Array.isArray(v)) return 'a list'
  if (typeof v === 'object') return 'a mapping'
  return typeof v === 'string' ? 'a text' : `${v as number | boolean}`
}
const EXPECTED: Readonly<Record<string, string>> = {
  string: 'a text',
  number: 'a number',
  int: 'a whole number',
  boolean: 'true or false',
  array: 'a list',
  object: 'a mapping of keys to values',
  record: 'a mapping of names to values',
}

type ZodIssue = z.core.$ZodIssue

const steps = (i: ZodIssue): (string | number)[] => i.path as (string | number)[]
function laterParents(i: Extract<ZodIssue, { code: 'unrecognized_keys' }>, at: Path): string[] {
  return i.keys.some((k) => laterKey([...at, ...steps(i)], k)) ? [pathKey(steps(i))] : []
}

function boundOf(i: Extract<ZodIssue, { code: 'too_small' | 'too_big' }>): string {
  const n = Number(i.code === 'too_small' ? i.minimum : i.maximum)
  const side = i.code === 'too_small' ? 'at least' : 'at most'
  if (i.origin === 'string')
    return n === 1 && i.code === 'too_small' ? 'expected a text that is not empty' : `expected ${side} ${n} characters`
  if (i.origin === 'array') return `expected ${side} ${n} ${n === 1 ? 'entry' : 'entries'}`
  return `expected ${side} ${n}`
}
function expectedOf(i: ZodIssue): string {
  if (i.code === 'invalid_type' && i.message.startsWith('Invalid input')) return `expected ${EXPECTED[i.expected] ?? i.expected}`
  if (i.code === 'too_small' || i.code === 'too_big') return i.message.startsWith('Too ') ? boundOf(i) : i.message
  if (i.code === 'invalid_value') return `allowed: ${i.values.map(String).join(', ')}`
  return i.message
}
function discriminatorsOf(schema: z.core.$ZodType, key: string): string[] {
  return (optionsOf(schema) ?? []).flatMap((o) => {
    const s = shapeOf(o)?.[key]
    return s ? [...(s['_zod'].values ?? [])].map(String) : []
  })
}

export function reporter(doc: ConfigDocument, resolved: Resolved): Reporter {
  // the longest first: a secret may contain another
  const hidden = [...resolved.hidden].filter(([v]) => v.length >= 4).toSorted(([a], [b]) => b.length - a.length)
  const scrub = (message: string): string => hidden.reduce((m, [value, shown]) => m.replaceAll(value, shown), message)

  const show = (path: Path, schema?: z.core.$ZodType): string => {
    const reference = resolved.referenced.get(pathKey(path))
    if (reference !== undefined) return reference
    const v = valueAt(resolved.value, path)
    if (v === null || v === undefined || typeof v === 'object') return kindOf(v)
    if ((schema && isSecret(schema as ZodType)) || path.some((p) => SENSITIVE.test(String(p)))) return 'a secret value'
    if (typeof v !== 'string') return kindOf(v)
    return JSON.stringify(v.length > 80 ? `${v.slice(0, 77)}…` : v)
  }
  const r: Reporter = {
    value: (path, message) => doc.atValue(path, scrub(message)),
    key: (path, key, message) => doc.atKey(path, key, scrub(message)),
    show,
    zod: (issues, schema, at, also = []) => {
      // {stream: x} in place of {direct_put: …}: what is missing says nothing beside what is refused
      const refused = new Set(issues.flatMap((i) => (i.code === 'unrecognized_keys' ? laterParents(i, at) : [])))
      const rest = issues.filter(
        (i) => !(i.code === 'invalid_type' && isMissing([...at, ...steps(i)]) && refused.has(pathKey(steps(i).slice(0, -1)))),
      )
      return rest.flatMap((i) => one(i, schema, at, also))
    },
  }

  function isMissing(path: Path): boolean {
    return valueAt(resolved.value, path) === undefined
  }
  function unknownKeys(keys: readonly string[], path: Path, schema: z.core.$ZodType, local: Path, also: readonly string[]): ConfigIssue[] {
    const found = schemaAt(schema, local, valueAt(resolved.value, path.slice(0, path.length - local.length)))
    const allowed = [...(local.length === 0 ? also : []), ...Object.keys((found && shapeOf(found)) ?? {})]
    return keys.map((k) => {
      const later = laterKey(path, k)
      if (later) return r.key(path, k, later)
      const moved = elsewhere(path, k)
      if (moved) return r.key(path, k, `unknown key "${k}" here: it is ${moved}`)
      return r.key(path, k, `unknown key "${k}"${didYouMean(k, allowed)}; allowed: ${allowed.join(', ')}`)
    })
  }

  function union(
    i: Extract<ZodIssue, { code: 'invalid_union' }>,
    path: Path,
    schema: z.core.$ZodType,
    local: Path,
    at: Path,
  ): ConfigIssue[] {
    if (i.errors.length > 0) {
      // the option that means the same kind of value says what is wrong with it
      const root = valueAt(resolved.value, at)
      const found = schemaAt(schema, local, root)
      const index = found ? (optionsOf(schemaAt(schema, local.slice(0, -1), root) ?? schema) ?? []).indexOf(found) : -1
      const best = i.errors[index] ?? i.errors.toSorted((a, b) => depth(b) - depth(a))[0] ?? []
      return best.flatMap((e) => one({ ...e, path: [...i.path, ...e.path] }, schema, at, []))
    }
    const later = laterValue(path, valueAt(resolved.value, path))
    if (later) return [r.value(path, later)]
    const discriminator = String(local.at(-1) ?? '')
    const parent = schemaAt(schema, local.slice(0, -1), valueAt(resolved.value, at))
    const known = parent ? discriminatorsOf(parent, discriminator) : []
    if (valueAt(resolved.value, path) === undefined) return [r.value(path, `missing; allowed: ${known.join(', ')}`)]
    return [r.value(path, `${show(path)} is not allowed; allowed: ${known.join(', ')}`)]
  }

  function one(i: ZodIssue, schema: z.core.$ZodType, at: Path, also: readonly string[]): ConfigIssue[] {
    const local = steps(i)
    const path = [...at, ...local]
    if (i.code === 'unrecognized_keys') return unknownKeys(i.keys, path, schema, local, also)
    if (i.code === 'invalid_union') return union(i, path, schema, local, at)
    if (i.code === 'invalid_key') {
      const why = i.issues.map(expectedOf).join('; ')
      const key = String(local.at(-1))
      return [r.key(path.slice(0, -1), key, `the name ${JSON.stringify(key)}: ${why}`)]
    }
    const v = valueAt(resolved.value, path)
    const found = schemaAt(schema, local, valueAt(resolved.value, at))
    if (v === undefined && (i.code === 'invalid_type' || i.code === 'invalid_value')) {
      const hint = found ? metaOf(found)['description'] : undefined
      return [r.value(path, `missing${typeof hint === 'string' ? `: ${hint}` : `: ${expectedOf(i)}`}`)]
    }
    const later = laterValue(path, v)
    if (later) return [r.value(path, later)]
    const guess = i.code === 'invalid_value' && typeof v === 'string' ? didYouMean(v, i.values.map(String)) : ''
    const shown = show(path, found ?? undefined)
    if (i.code === 'invalid_value') return [r.value(path, `${shown} is not allowed${guess}; ${expectedOf(i)}`)]
    return [r.value(path, `${expectedOf(i)}, got ${shown}`)]
  }
  return r
}

function depth(issues: readonly ZodIssue[]): number {
  return Math.max(0, ...issues.map((i) => i.path.length))
}
