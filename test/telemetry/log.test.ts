import { describe, expect, test } from 'vitest'
import { logEvents } from '../../core/telemetry/listen.ts'
import { createLogger, logLevel, type LogLevel } from '../../core/telemetry/log.ts'
import type { HydrantEvent } from '../../core/telemetry/events.ts'
import { RECORDED, stoppedClock } from './support.ts'

interface Line {
  level: string
  time: number
  msg: string
  [field: string]: unknown
}
function recorder(level: LogLevel) {
  const lines: Line[] = []
  const log = createLogger({ level, now: () => 5, write: (l) => void lines.push(JSON.parse(l) as Line) })
  return { lines, log }
}

describe('log lines', () => {
  test('are JSON with level, time, fields and msg', () => {
    const { lines, log } = recorder('info')
    log.debug({ a: 1 }, 'no')
    log.info({ a: 1 }, 'yes')
    expect(lines).toEqual([{ level: 'info', time: 5, a: 1, msg: 'yes' }])
  })
  test('hold no bytes, no secret, nothing long or deep', () => {
    const { lines, log } = recorder('info')
    const secrets = { secret_key: 'hunter2', nested: { password: 'hunter2', Authorization: 'hunter2', ok: 1 } }
    const cycle: { self?: unknown } = {}
    cycle.self = cycle
    log.info({ ...secrets, bytes: Buffer.from('hunter2'), view: [new Uint8Array(3)], big: 10n, long: 'x'.repeat(5_000), cycle }, 'm')
    expect(JSON.stringify(lines)).not.toMatch(/hunter2|aHVudGVyMg/)
    expect(lines[0]).toMatchObject({ bytes: '(7 bytes)', view: ['(3 bytes)'], big: '10', nested: { ok: 1 } })
    expect(JSON.stringify(lines).length).toBeLessThan(2_000)
  })
  test('show an error by name, code, message and stack', () => {
    const { lines, log } = recorder('info')
    log.error({ err: Object.assign(new Error('no'), { code: 'ENOENT' }) }, 'm')
    expect(lines[0]).toMatchObject({ err: { name: 'Error', code: 'ENOENT', message: 'no' } })
  })
  test('the level comes from a known word', () => {
    expect([logLevel(undefined), logLevel('warn')]).toEqual(['info', 'warn'])
    expect(() => logLevel('verbose')).toThrow('HYDRANT_LOG_LEVEL: "verbose" is not allowed; allowed: debug, info, warn, error, silent')
  })
})

const listen = (level: LogLevel) => {
  const { lines, log } = recorder(level)
  const clock = stoppedClock()
  return { lines, clock, on: logEvents(log, { clock, debug: level === 'debug' }) }
}
const failed = (code: string): HydrantEvent => ({
  type: 'attempt.failed',
  pipeline: 'p',
  sink: 's3',
  operation: 'put',
  attempt: 1,
  code,
  message: 'm',
  delayMs: 5,
})

describe('events become lines', () => {
  test('normal work says nothing above debug', () => {
    const { lines, on } = listen('info')
    for (const e of RECORDED) on(e)
    expect(lines.map((l) => `${l.level} ${String(l['event'])}`)).toEqual([
      'error certificate.refused',
      'info certificate.loaded',
      'warn request.handled',
      'warn log.refusing',
      'warn attempt.failed',
      'warn breaker.changed',
      'warn records.expired',
      'warn records.discarded',
      'error lane.stopped',
      'warn warning',
    ])
    expect(lines.at(-2)?.msg).toBe('lane p/s0 stopped: x')
  })
  test('at debug every event has its line', () => {
    const { lines, on } = listen('debug')
    for (const e of RECORDED) on(e)
    expect(lines.length).toBe(RECORDED.length)
  })
  test('the same failure is told once in 30 s, and how often it came meanwhile', () => {
    const { lines, on, clock } = listen('info')
    for (let i = 0; i < 100; i++) on(failed('SlowDown'))
    on(failed('Timeout'))
    clock.advance(29_999)
    on(failed('SlowDown'))
    clock.advance(1)
    on(failed('SlowDown'))
    on(failed('SlowDown'))
    expect(lines.map((l) => [l['code'], l['suppressed'] ?? 0])).toEqual([
      ['SlowDown', 0],
      ['Timeout', 0],
      ['SlowDown', 100],
    ])
  })
  test('a breaker that closes is told at once', () => {
    const { lines, on } = listen('info')
    on({ type: 'breaker.changed', sink: 's3', endpoint: '', target: 'b', open: true })
    on({ type: 'breaker.changed', sink: 's3', endpoint: '', target: 'b', open: false })
    expect(lines.map((l) => l.level)).toEqual(['warn', 'info'])
  })
  test('a certificate that has expired is an error', () => {
    const { lines, on } = listen('info')
    on({ type: 'certificate.loaded', file: '/c.pem', expiresMs: 0, expired: true, changed: true })
    expect(lines[0]).toMatchObject({
      level: 'error',
      msg: 'certificate /c.pem: in force, ends 1970-01-01T00:00:00.000Z: it has expired, clients refuse it',
    })
  })
  test('times have no fractions, targets are told with their place', () => {
    const { lines, on } = listen('info')
    on({ ...failed('SlowDown'), delayMs: 73.0451 } as HydrantEvent)
    on({ type: 'breaker.changed', sink: 's3', endpoint: 'http://127.0.0.1:7070', target: 'lake', open: true })
    on({ type: 'breaker.changed', sink: 'file', endpoint: '', target: './out', open: false })
    expect(lines.map((l) => [l.msg, l['delayMs'], l['target']])).toEqual([
      ['put at s3 for p: m; next attempt in 73 ms', 73, undefined],
      ['lake at http://127.0.0.1:7070 (s3) refuses everything: single trials only', undefined, 'lake'],
      ['./out (file) answers again', undefined, './out'],
    ])
  })
  test('a lane that stops again and again is told every time', () => {
    const { lines, on } = listen('info')
    for (let i = 0; i < 3; i++) on({ type: 'lane.stopped', pipeline: 'p', shard: 's', code: 'c', message: 'm'.repeat(5_000) })
    expect(lines.length).toBe(3)
    expect(lines[0]?.msg.length).toBe(1_000)
  })
})
