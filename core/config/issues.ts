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
type UnionIssue = Extract<ZodIssue, { code: 'invalid_union' }>

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

/** Everything the functions below need to speak of one file. */
interface Voice {
  readonly doc: ConfigDocument
  readonly root: unknown
  readonly scrub: (message: string) => string
  readonly show: (path: Path, schema?: z.core.$ZodType) => string
}
/** One schema over the part of the file that stands at `at`. */
interface Place {
  readonly schema: z.core.$ZodType
  readonly at: Path
  readonly also: readonly string[]
}
const valueIssue = (c: Voice, path: Path, message: string): ConfigIssue => c.doc.atValue(path, c.scrub(message))
const keyIssue = (c: Voice, path: Path, key: string, message: string): ConfigIssue => c.doc.atKey(path, key, c.scrub(message))

function unknownKeys(c: Voice, p: Place, local: Path, keys: readonly string[]): ConfigIssue[] {
  const path = [...p.at, ...local]
  const found = schemaAt(p.schema, local, valueAt(c.root, p.at))
  const allowed = [...(local.length === 0 ? p.also : []), ...Object.keys((found && shapeOf(found)) ?? {})]
  return keys.map((k) => {
    const later = laterKey(path, k)
    if (later) return keyIssue(c, path, k, later)
    const moved = elsewhere(path, k)
    if (moved) return keyIssue(c, path, k, `unknown key "${k}" here: it is ${moved}`)
    return keyIssue(c, path, k, `unknown key "${k}"${didYouMean(k, allowed)}; allowed: ${allowed.join(', ')}`)
  })
}

/** The issues of the option that was meant: of the same kind (text, number), else of the same shape, else the deepest. */
function ofMeantOption(c: Voice, p: Place, i: UnionIssue): ConfigIssue[] {
  const local = steps(i)
  const root = valueAt(c.root, p.at)
  const scalar = typeof valueAt(root, local) !== 'object'
  const fitting = i.errors.find((es) => scalar && es.every((e) => e.code !== 'invalid_type' || e.path.length > 0))
  const found = schemaAt(p.schema, local, root)
  const index = found ? (optionsOf(schemaAt(p.schema, local.slice(0, -1), root) ?? p.schema) ?? []).indexOf(found) : -1
  const best = fitting ?? i.errors[index] ?? i.errors.toSorted((a, b) => depth(b) - depth(a))[0] ?? []
  return best.flatMap((e) => speak(c, { ...p, also: [] }, { ...e, path: [...i.path, ...e.path] }))
}

function ofUnion(c: Voice, p: Place, i: UnionIssue): ConfigIssue[] {
  if (i.errors.length > 0) return ofMeantOption(c, p, i)
  const local = steps(i)
  const path = [...p.at, ...local]
  const v = valueAt(c.root, path)
  const later = laterValue(path, v)
  if (later) return [valueIssue(c, path, later)]
  const parent = schemaAt(p.schema, local.slice(0, -1), valueAt(c.root, p.at))
  const allowed = `allowed: ${(parent ? discriminatorsOf(parent, String(local.at(-1) ?? '')) : []).join(', ')}`
  return [valueIssue(c, path, v === undefined ? `missing; ${allowed}` : `${c.show(path)} is not allowed; ${allowed}`)]
}

/** One of zod's issues in our words. */
function speak(c: Voice, p: Place, i: ZodIssue): ConfigIssue[] {
  const local = steps(i)
  const path = [...p.at, ...local]
  if (i.code === 'unrecognized_keys') return unknownKeys(c, p, local, i.keys)
  if (i.code === 'invalid_union') return ofUnion(c, p, i)
  if (i.code === 'invalid_key') {
    const key = String(local.at(-1))
    return [keyIssue(c, path.slice(0, -1), key, `the name ${JSON.stringify(key)}: ${i.issues.map(expectedOf).join('; ')}`)]
  }
  const v = valueAt(c.root, path)
  const found = schemaAt(p.schema, local, valueAt(c.root, p.at)) ?? undefined
  if (v === undefined && (i.code === 'invalid_type' || i.code === 'invalid_value')) {
    const hint = found ? metaOf(found)['description'] : undefined
    return [valueIssue(c, path, `missing: ${typeof hint === 'string' ? hint : expectedOf(i)}`)]
  }
  const later = laterValue(path, v)
  if (later) return [valueIssue(c, path, later)]
  const shown = c.show(path, found)
  if (i.code !== 'invalid_value') return [valueIssue(c, path, `${expectedOf(i)}, got ${shown}`)]
  const guess = typeof v === 'string' ? didYouMean(v, i.values.map(String)) : ''
  return [valueIssue(c, path, `${shown} is not allowed${guess}; ${expectedOf(i)}`)]
}

/** `{stream: x}` in place of `{direct_put: …}`: what is missing says nothing beside what is refused. */
function worthSaying(c: Voice, at: Path, issues: readonly ZodIssue[]): readonly ZodIssue[] {
  const refused = new Set(issues.flatMap((i) => (i.code === 'unrecognized_keys' ? laterParents(i, at) : [])))
  const missing = (i: ZodIssue): boolean => i.code === 'invalid_type' && valueAt(c.root, [...at, ...steps(i)]) === undefined
  return issues.filter((i) => !(missing(i) && refused.has(pathKey(steps(i).slice(0, -1)))))
}

export function reporter(doc: ConfigDocument, resolved: Resolved): Reporter {
  // the longest first: a secret may contain another
  const hidden = [...resolved.hidden].filter(([v]) => v.length >= 4).toSorted(([a], [b]) => b.length - a.length)
  const show = (path: Path, schema?: z.core.$ZodType): string => {
    const reference = resolved.referenced.get(pathKey(path))
    if (reference !== undefined) return reference
    const v = valueAt(resolved.value, path)
    if (v === null || v === undefined || typeof v === 'object') return kindOf(v)
    if ((schema && isSecret(schema as ZodType)) || path.some((p) => SENSITIVE.test(String(p)))) return 'a secret value'
    if (typeof v !== 'string') return kindOf(v)
    return JSON.stringify(v.length > 80 ? `${v.slice(0, 77)}…` : v)
  }
  const c: Voice = {
    doc,
    root: resolved.value,
    scrub: (message) => hidden.reduce((m, [value, shown]) => m.replaceAll(value, shown), message),
    show,
  }
  return {
    value: (path, message) => valueIssue(c, path, message),
    key: (path, key, message) => keyIssue(c, path, key, message),
    show,
    zod: (issues, schema, at, also = []) => worthSaying(c, at, issues).flatMap((i) => speak(c, { schema, at, also }, i)),
  }
}

function depth(issues: readonly ZodIssue[]): number {
  return Math.max(0, ...issues.map((i) => i.path.length))
}
