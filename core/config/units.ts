import { z } from 'zod'

const SIZES: Readonly<Record<string, number>> = {
  B: 1,
  KiB: 2 ** 10,
  MiB: 2 ** 20,
  GiB: 2 ** 30,
  TiB: 2 ** 40,
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
}
const DURATIONS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 }
const SIZE = /^(\d+(?:\.\d+)?) ?(B|KiB|MiB|GiB|TiB|KB|MB|GB|TB)$/
const DURATION = /^(\d+(?:\.\d+)?) ?(ms|s|m|h|d)$/
const REFERENCE = '.*\\$\\{(env|file):[^}]+\\}.*'

/** What an editor may accept: the pattern, or a reference that becomes it. */
export function orReference(pattern: RegExp): string {
  return `(${pattern.source})|(^${REFERENCE}$)`
}

function read(text: string, pattern: RegExp, units: Readonly<Record<string, number>>): number | null {
  const m = pattern.exec(text)
  const value = m ? Number(m[1]) * (units[m[2] ?? ''] ?? NaN) : NaN
  // 1.5KiB is 1536 bytes; 1.3B is not a size
  return Number.isSafeInteger(value) ? value : null
}
/** `64MiB` → bytes; null when it is not a size. */
export function parseSize(text: string): number | null {
  return read(text, SIZE, SIZES)
}
/** `60s` → milliseconds; null when it is not a duration. */
export function parseDuration(text: string): number | null {
  return read(text, DURATION, DURATIONS)
}

function show(value: number, units: Readonly<Record<string, number>>, order: readonly string[]): string {
  for (const unit of order) {
    const size = units[unit] ?? 1
    if (value >= size && value % size === 0) return `${value / size}${unit}`
  }
  return `0${order.at(-1) ?? ''}`
}
/** The shortest exact way to write it: 5242880 → `5MiB`. */
export function showSize(bytes: number): string {
  return show(bytes, SIZES, ['TiB', 'GiB', 'MiB', 'KiB', 'B'])
}
/** 90000 → `90s`. */
export function showDuration(ms: number): string {
  if (ms === 0) return '0s'
  return show(ms, DURATIONS, ['d', 'h', 'm', 's', 'ms'])
}

export interface Range {
  readonly min: number
  readonly max: number
}
interface Unit {
  readonly format: string
  readonly what: string
  readonly pattern: RegExp
  readonly parse: (text: string) => number | null
  readonly show: (value: number) => string
}
function measure(unit: Unit, range: Range): z.ZodType<number, string> {
  return z
    .string({ error: (i) => (i.code === 'invalid_type' ? unit.what : undefined) })
    .meta({ pattern: orReference(unit.pattern), format: unit.format, range: `${unit.show(range.min)} to ${unit.show(range.max)}` })
    .transform((text, context) => {
      const value = unit.parse(text)
      if (value === null) context.addIssue({ code: 'custom', message: unit.what })
      else if (value < range.min || value > range.max) {
        context.addIssue({ code: 'custom', message: `expected ${unit.show(range.min)} to ${unit.show(range.max)}` })
      } else return value
      return z.NEVER
    })
}
/** A YAML size with its unit, as bytes. */
export function size(range: Range): z.ZodType<number, string> {
  const what = 'expected a size with its unit (B, KiB, MiB, GiB, TiB, KB, MB, GB, TB), such as 64MiB'
  return measure({ format: 'size', what, pattern: SIZE, parse: parseSize, show: showSize }, range)
}
/** A YAML duration with its unit, as milliseconds. */
export function duration(range: Range): z.ZodType<number, string> {
  const what = 'expected a duration with its unit (ms, s, m, h, d), such as 60s'
  return measure({ format: 'duration', what, pattern: DURATION, parse: parseDuration, show: showDuration }, range)
}
