import type { Clock } from '../sdk/host.ts'
import type { Logger } from '../sdk/sink.ts'
import type { HydrantEvent } from './events.ts'

const EVERY_MS = 30_000
const MOST_KEYS = 1_000

type Level = 'debug' | 'info' | 'warn' | 'error'
interface Line {
  readonly level: Level
  readonly message: string
  /** At most one line in 30 s for one key; the next says how many it stands for. */
  readonly throttle?: string
}

/** Events as a reader wants them: times without the noise of floating point. */
function readable(e: HydrantEvent): HydrantEvent {
  return e.type === 'attempt.failed' ? { ...e, delayMs: Math.round(e.delayMs) } : e
}

/** Normal work is debug. warn: it mends itself, or somebody should look some day; error: nothing moves before an operator acts. */
function lineOf(e: HydrantEvent): Line {
  switch (e.type) {
    case 'lane.stopped':
      return { level: 'error', message: `lane ${e.pipeline}/${e.shard} stopped: ${e.message}` }
    case 'log.poisoned':
      return { level: 'error', message: `the log of ${e.stream} takes no more puts: ${e.reason}` }
    case 'log.refusing':
      return { level: 'warn', message: `the log of ${e.stream} refuses puts: ${e.reason}`, throttle: e.stream }
    case 'log.resumed':
      return { level: 'info', message: `the log of ${e.stream} takes puts again`, throttle: e.stream }
    case 'request.handled':
      return e.status >= 500
        ? { level: 'warn', message: `${e.operation} was answered ${e.status}`, throttle: `${e.operation}\0${e.status}\0${e.code ?? ''}` }
        : { level: 'debug', message: `${e.operation} was answered ${e.status}` }
    case 'attempt.failed': {
      const what = `${e.operation} at ${e.sink} for ${e.pipeline}: ${e.message}`
      return { level: 'warn', message: `${what}; next attempt in ${e.delayMs} ms`, throttle: `${e.pipeline}\0${e.operation}\0${e.code}` }
    }
    case 'breaker.changed': {
      const place = `${e.target}${e.endpoint === '' ? '' : ` at ${e.endpoint}`} (${e.sink})`
      const key = `${e.sink}\0${e.endpoint}\0${e.target}`
      return e.open
        ? { level: 'warn', message: `${place} refuses everything: single trials only`, throttle: `${key}\0open` }
        : { level: 'info', message: `${place} answers again`, throttle: `${key}\0closed` }
    }
    case 'cut.adopted':
      return { level: 'warn', message: `${e.pipeline}/${e.shard}: cut ${e.start} took over the end ${e.recordedEnd} of a stored object` }
    case 'cut.given-up':
      return {
        level: 'warn',
        message: `${e.pipeline}/${e.shard}: ${e.records} records of [${e.start}, ${e.end}) are given up to the backup`,
      }
    case 'cut.undecided': {
      const what = `${e.pipeline}/${e.shard}: the retries of [${e.start}, ${e.end}) are over`
      return e.waiting
        ? {
            level: 'warn',
            message: `${what}; it is given up only when it is known that ${e.key} does not exist: the sink is asked until it answers`,
          }
        : { level: 'info', message: `${what}; the lane waits no longer for whether ${e.key} exists` }
    }
    case 'object.existed':
      return e.equal
        ? { level: 'debug', message: `${e.key} was there already, the same` }
        : { level: 'warn', message: `${e.key} was there already, and differs` }
    case 'records.expired':
      return { level: 'warn', message: `${e.pipeline}/${e.shard}: positions [${e.from}, ${e.to}) expired before delivery` }
    case 'records.discarded':
      return { level: 'warn', message: `${e.pipeline}/${e.shard}: positions [${e.from}, ${e.to}) are discarded (${e.reason})` }
    case 'certificate.loaded': {
      const message = `certificate ${e.file}: ${e.changed ? 'in force' : 'unchanged'}, ends ${new Date(e.expiresMs).toISOString()}`
      return e.expired ? { level: 'error', message: `${message}: it has expired, clients refuse it` } : { level: 'info', message }
    }
    case 'certificate.refused':
      return {
        level: 'error',
        message: `the certificate in ${e.file} is not taken, the one before stays in force; a restart would fail: ${e.message}`,
      }
    case 'warning':
      return { level: 'warn', message: e.message, throttle: e.code }
    default:
      return { level: 'debug', message: e.type }
  }
}

const LOUD: readonly HydrantEvent['type'][] = [
  'lane.stopped', 'log.poisoned', 'log.refusing', 'log.resumed', 'attempt.failed', 'breaker.changed', 'cut.adopted',
  'cut.given-up', 'cut.undecided', 'records.expired', 'records.discarded', 'certificate.loaded', 'certificate.refused', 'warning',
] // prettier-ignore
/** Events that are worth a line above debug: the others cost nothing where debug is off. */
function isLoud(e: HydrantEvent): boolean {
  return LOUD.includes(e.type) || (e.type === 'request.handled' && e.status >= 500) || (e.type === 'object.existed' && !e.equal)
}

/** Turns events into log lines. Fields are the event's own: counts, names, positions; never a record's bytes. */
export function logEvents(log: Logger, o: { clock: Clock; debug: boolean }): (e: HydrantEvent) => void {
  const last = new Map<string, { at: number; suppressed: number }>()
  return (given) => {
    if (!o.debug && !isLoud(given)) return
    const e = readable(given)
    const { level, message: whole, throttle } = lineOf(e)
    const message = whole.slice(0, 1_000)
    const { type: event, ...fields } = e
    // the message is in `msg` already
    const { message: _said, ...rest } = fields as { message?: string }
    if (throttle === undefined) return log[level]({ event, ...rest }, message)
    const key = `${event}\0${throttle}`
    const before = last.get(key)
    const now = o.clock.monotonic()
    if (before && now - before.at < EVERY_MS) {
      before.suppressed++
      return
    }
    if (!before && last.size >= MOST_KEYS) last.delete(last.keys().next().value ?? '')
    last.set(key, { at: now, suppressed: 0 })
    log[level]({ event, ...rest, ...(before?.suppressed ? { suppressed: before.suppressed } : {}) }, message)
  }
}
