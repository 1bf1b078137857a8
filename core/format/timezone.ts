/** An instant on the wall clock of a zone: proleptic ISO calendar, like java.time.ZonedDateTime. */
export interface ZonedTime {
  readonly year: number
  /** 1-12 */
  readonly month: number
  readonly day: number
  readonly hour: number
  readonly minute: number
  readonly second: number
  readonly milli: number
  /** 1-366 */
  readonly dayOfYear: number
  /** 0 = Sunday */
  readonly dayOfWeek: number
  readonly millisOfDay: number
  /** Seconds east of UTC. */
  readonly offset: number
}

const DAY = 86_400_000
const formatters = new Map<string, Intl.DateTimeFormat>()

function formatterOf(timeZone: string): Intl.DateTimeFormat {
  let f = formatters.get(timeZone)
  if (!f) {
    const numeric = 'numeric'
    const parts = { era: 'short', year: numeric, month: numeric, day: numeric, hour: numeric, minute: numeric, second: numeric } as const
    f = new Intl.DateTimeFormat('en-US', { timeZone, calendar: 'iso8601', hourCycle: 'h23', ...parts })
    formatters.set(timeZone, f)
  }
  return f
}

/** The zone's offset in seconds at an instant: what its wall clock shows, read as if it were UTC, minus the instant. */
function offsetAt(ms: number, timeZone: string): number {
  if (timeZone === 'UTC') return 0
  const field: Record<string, string> = {}
  for (const { type, value } of formatterOf(timeZone).formatToParts(ms)) field[type] = value
  const n = (name: string): number => Number(field[name])
  const year = field['era']?.startsWith('B') ? 1 - n('year') : n('year')
  const wall = new Date(0)
  wall.setUTCFullYear(year, n('month') - 1, n('day'))
  wall.setUTCHours(n('hour'), n('minute'), n('second'))
  return wall.getTime() / 1000 - Math.floor(ms / 1000)
}

export function zonedTime(ms: number, timeZone: string): ZonedTime {
  const instant = Math.floor(ms)
  const offset = offsetAt(instant, timeZone)
  const wall = new Date(instant + offset * 1000)
  const year = wall.getUTCFullYear()
  const newYear = new Date(0).setUTCFullYear(year, 0, 1)
  const millisOfDay = ((wall.getTime() % DAY) + DAY) % DAY
  return {
    year,
    month: wall.getUTCMonth() + 1,
    day: wall.getUTCDate(),
    hour: wall.getUTCHours(),
    minute: wall.getUTCMinutes(),
    second: wall.getUTCSeconds(),
    milli: wall.getUTCMilliseconds(),
    dayOfYear: Math.floor((wall.getTime() - newYear) / DAY) + 1,
    dayOfWeek: wall.getUTCDay(),
    millisOfDay,
    offset,
  }
}

/**
 * True for an IANA name that this system knows, as CustomTimeZone takes it: no offsets, and no three-letter ids (EST, PST …) but
 * UTC and GMT, since they mean different things to different people (firehose.md §1.7).
 */
export function isTimeZone(name: string): boolean {
  if (!/^[A-Z][A-Za-z0-9_+-]*(\/[A-Za-z0-9_+-]+)*$/.test(name)) return false
  if (name.length === 3 && name !== 'UTC' && name !== 'GMT') return false
  try {
    void new Intl.DateTimeFormat('en-US', { timeZone: name }) // not kept: names that are only asked about must not fill the cache
    return true
  } catch (e) {
    if (e instanceof RangeError) return false
    throw e
  }
}
