import type { ZonedTime } from './timezone.ts'

export { isTimeZone, zonedTime, type ZonedTime } from './timezone.ts'

/** A compiled pattern. */
export type TimestampFormat = (t: ZonedTime) => string

/** `letter`: a letter that is not for timestamps; `syntax`: an open quote or bracket, a reserved character, too many letters. */
export class TimestampPatternError extends Error {
  readonly kind: 'letter' | 'syntax'
  constructor(kind: TimestampPatternError['kind'], message: string) {
    super(message)
    this.name = 'TimestampPatternError'
    this.kind = kind
  }
}

const months = 'January February March April May June July August September October November December'.split(' ')
const days = 'Sunday Monday Tuesday Wednesday Thursday Friday Saturday'.split(' ')
const quarters = ['1st quarter', '2nd quarter', '3rd quarter', '4th quarter']

const pad = (n: number, width: number): string => String(n).padStart(width, '0')
const number =
  (value: (t: ZonedTime) => number, width: number): TimestampFormat =>
  (t) =>
    pad(value(t), width)

/** java.time's year widths: 2 = the last two digits, from 4 on a plus sign when the year is wider than the letters. */
function year(value: (t: ZonedTime) => number, count: number): TimestampFormat {
  if (count === 2) return (t) => pad(Math.abs(value(t)) % 100, 2)
  return (t) => {
    const y = value(t)
    const digits = pad(Math.abs(y), count)
    return y < 0 ? `-${digits}` : count >= 4 && digits.length > count ? `+${digits}` : digits
  }
}

type Maker = (count: number) => TimestampFormat | undefined

/** 1-3 short, 4 full, 5 one letter; `numeric` says what 1 and 2 are instead. */
function text(full: (t: ZonedTime) => string, short: (s: string) => string, narrow: (s: string) => string, numeric?: Maker): Maker {
  return (count) => {
    if (count <= 2 && numeric) return numeric(count)
    if (count <= 3) return (t) => short(full(t))
    if (count === 4) return full
    return count === 5 ? (t) => narrow(full(t)) : undefined
  }
}
const three = (s: string): string => s.slice(0, 3)
const one = (s: string): string => s.slice(0, 1)

/** One or two digits. */
const small = (value: (t: ZonedTime) => number): Maker => {
  return (count) => (count <= 2 ? number(value, count) : undefined)
}
/** Any width up to the 19 digits of a long. */
const wide = (value: (t: ZonedTime) => number): Maker => {
  return (count) => (count <= 19 ? number(value, count) : undefined)
}
/** Exactly one letter. */
const single = (format: TimestampFormat): Maker => {
  return (count) => (count === 1 ? format : undefined)
}

const yearOfEra = (t: ZonedTime): number => (t.year > 0 ? t.year : 1 - t.year)
const quarter = (t: ZonedTime): number => Math.floor((t.month + 2) / 3)

// weeks as in the US locale, which Firehose's hosts use: from Sunday, and the week of 1 January is week 1 whatever its length
const dayOfUsWeek = (t: ZonedTime): number => t.dayOfWeek + 1
const weekOf = (dayOfPeriod: number, dayOfWeek: number): number => {
  const firstDay = (((dayOfWeek - (dayOfPeriod - 1)) % 7) + 7) % 7
  return Math.floor((dayOfPeriod - 1 + firstDay) / 7) + 1
}
/** The Saturday of its week lies in the next year. */
const inNextYear = (t: ZonedTime): boolean => t.month === 12 && t.day + (6 - t.dayOfWeek) > 31
const weekYear = (t: ZonedTime): number => t.year + (inNextYear(t) ? 1 : 0)
const weekOfYear = (t: ZonedTime): number => (inNextYear(t) ? 1 : weekOf(t.dayOfYear, t.dayOfWeek))

interface OffsetStyle {
  readonly zero: string
  readonly colon: boolean
  readonly minutes: 'always' | 'if any'
}
function offset(s: OffsetStyle, seconds: boolean): TimestampFormat {
  const between = s.colon ? ':' : ''
  return ({ offset: o }) => {
    const abs = Math.abs(o)
    const [h, m, sec] = [Math.floor(abs / 3600), Math.floor(abs / 60) % 60, abs % 60]
    if (h === 0 && m === 0 && (sec === 0 || !seconds)) return s.zero
    const sign = o < 0 ? '-' : '+'
    const minute = s.minutes === 'always' || m > 0 ? between + pad(m, 2) : ''
    return sign + pad(h, 2) + minute + (seconds && sec > 0 ? between + pad(sec, 2) : '')
  }
}
/** X: Z for zero; x: +00 and its kin. */
function isoOffset(count: number, zulu: boolean): TimestampFormat | undefined {
  if (count > 5) return undefined
  const colon = count === 3 || count === 5
  const zero = zulu ? 'Z' : count === 1 ? '+00' : colon ? '+00:00' : '+0000'
  return offset({ zero, colon, minutes: count === 1 ? 'if any' : 'always' }, count >= 4)
}
/** GMT+8, or GMT+08:00 when full. */
function gmtOffset(full: boolean): TimestampFormat {
  return ({ offset: o }) => {
    if (o === 0) return 'GMT'
    const abs = Math.abs(o)
    const [h, m, s] = [Math.floor(abs / 3600), Math.floor(abs / 60) % 60, abs % 60]
    const tail = (full || m > 0 || s > 0 ? `:${pad(m, 2)}` : '') + (s > 0 ? `:${pad(s, 2)}` : '')
    return `GMT${o < 0 ? '-' : '+'}${pad(h, full ? 2 : 1)}${tail}`
  }
}

/** Pattern letters of java.time.format.DateTimeFormatter that Firehose takes (firehose.md §3.2), in English. */
const letters: Readonly<Record<string, Maker>> = {
  G: text(
    (t) => (t.year > 0 ? 'Anno Domini' : 'Before Christ'),
    (s) => (s === 'Anno Domini' ? 'AD' : 'BC'),
    one,
  ),
  u: (count) => (count <= 19 ? year((t) => t.year, count) : undefined),
  y: (count) => (count <= 19 ? year(yearOfEra, count) : undefined),
  Y: (count) => year(weekYear, count),
  D: (count) => (count <= 3 ? number((t) => t.dayOfYear, count) : undefined),
  M: text(
    (t) => months[t.month - 1] ?? '',
    three,
    one,
    small((t) => t.month),
  ),
  L: text(
    (t) => months[t.month - 1] ?? '',
    three,
    one,
    small((t) => t.month),
  ),
  d: small((t) => t.day),
  Q: text(
    (t) => quarters[quarter(t) - 1] ?? '',
    (s) => `Q${one(s)}`,
    one,
    small(quarter),
  ),
  q: text(
    (t) => quarters[quarter(t) - 1] ?? '',
    (s) => `Q${one(s)}`,
    one,
    small(quarter),
  ),
  w: small(weekOfYear),
  W: single(number((t) => weekOf(t.day, t.dayOfWeek), 1)),
  E: text((t) => days[t.dayOfWeek] ?? '', three, one),
  e: text((t) => days[t.dayOfWeek] ?? '', three, one, small(dayOfUsWeek)),
  c: text((t) => days[t.dayOfWeek] ?? '', three, one, single(number(dayOfUsWeek, 1))),
  F: single(number((t) => ((t.day - 1) % 7) + 1, 1)),
  a: single((t) => (t.hour < 12 ? 'AM' : 'PM')),
  h: small((t) => ((t.hour + 11) % 12) + 1),
  K: small((t) => t.hour % 12),
  k: small((t) => (t.hour === 0 ? 24 : t.hour)),
  H: small((t) => t.hour),
  m: small((t) => t.minute),
  s: small((t) => t.second),
  S: (count) => (count <= 9 ? (t) => `${pad(t.milli, 3)}000000`.slice(0, count) : undefined),
  A: wide((t) => t.millisOfDay),
  n: wide((t) => t.milli * 1e6),
  N: wide((t) => t.millisOfDay * 1e6),
  O: (count) => (count === 1 || count === 4 ? gmtOffset(count === 4) : undefined),
  X: (count) => isoOffset(count, true),
  x: (count) => isoOffset(count, false),
  Z: (count) => (count <= 3 ? isoOffset(2, false) : count === 4 ? gmtOffset(true) : isoOffset(count, true)),
}

/** Compiles a pattern. Throws TimestampPatternError. All fields exist in a ZonedTime, so an optional section is always printed. */
export function compileTimestamp(pattern: string): TimestampFormat {
  const parts: TimestampFormat[] = []
  let optional = 0
  for (let at = 0; at < pattern.length;) {
    const c = pattern.charAt(at)
    let end = at + 1
    if (/[A-Za-z]/.test(c)) {
      while (pattern[end] === c) end++
      parts.push(field(c, end - at))
    } else if (c === "'") {
      end = quoted(pattern, at, parts)
    } else if (c === '[') {
      optional++
    } else if (c === ']') {
      if (--optional < 0) throw new TimestampPatternError('syntax', `pattern "${pattern}": "]" without "["`)
    } else if (c === '{' || c === '}' || c === '#') {
      throw new TimestampPatternError('syntax', `pattern "${pattern}": "${c}" is reserved`)
    } else {
      parts.push(() => c)
    }
    at = end
  }
  return (t) => parts.map((p) => p(t)).join('')
}

function field(letter: string, count: number): TimestampFormat {
  const maker = letters[letter]
  if (!maker) throw new TimestampPatternError('letter', `"${letter}" is not a letter of a timestamp pattern`)
  const made = maker(count)
  if (!made) throw new TimestampPatternError('syntax', `"${letter.repeat(count)}" is not a timestamp field: wrong number of letters`)
  return made
}

/** A literal in single quotes, '' being one quote; returns the place after it. */
function quoted(pattern: string, start: number, parts: TimestampFormat[]): number {
  let literal = ''
  for (let at = start + 1; at < pattern.length; at++) {
    if (pattern[at] !== "'") literal += pattern.charAt(at)
    else if (pattern[at + 1] === "'") literal += pattern.charAt(at++)
    else {
      const value = at === start + 1 ? "'" : literal
      parts.push(() => value)
      return at + 1
    }
  }
  throw new TimestampPatternError('syntax', `pattern "${pattern}": a quote is not closed`)
}
