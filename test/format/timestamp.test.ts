import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { compileTimestamp, isTimeZone, TimestampPatternError, zonedTime } from '../../core/format/timestamp.ts'

interface Java {
  readonly patterns: readonly string[]
  readonly refused: readonly string[]
  readonly cases: readonly (readonly [string, number, ...string[]])[]
}
const java = JSON.parse(readFileSync(new URL('java-timestamps.json', import.meta.url), 'utf8')) as Java

test('every pattern says what java.time says, at every instant and zone of the table', () => {
  const compiled = java.patterns.map((p) => compileTimestamp(p))
  const wrong: string[] = []
  let checked = 0
  for (const [zone, ms, ...texts] of java.cases) {
    const time = zonedTime(ms, zone)
    for (const [i, text] of texts.entries()) {
      const got = compiled[i]?.(time)
      checked++
      if (got !== text) wrong.push(`${java.patterns[i]} at ${ms} in ${zone}: ${got}, Java ${text}`)
    }
  }
  expect(wrong).toEqual([])
  expect(checked).toBeGreaterThan(4000)
})

test('what Java refuses is refused', () => {
  for (const p of java.refused) expect(() => compileTimestamp(p), p).toThrow(TimestampPatternError)
})

test('letters that Firehose refuses, and those whose text differs between systems, are no letters', () => {
  for (const p of 'CIJPRTUVbfijloprtBgvz') {
    expect(() => compileTimestamp(`yyyy${p}`), p).toThrow(expect.objectContaining({ kind: 'letter' }) as Error)
  }
})

test('time zones are IANA names', () => {
  const good = ['UTC', 'GMT', 'Europe/Berlin', 'America/Port-au-Prince', 'America/Argentina/Buenos_Aires', 'US/Pacific', 'Etc/GMT+5']
  for (const zone of good) expect(isTimeZone(zone), zone).toBe(true)
  const bad = ['', 'EST', 'PST', 'CET', 'europe/berlin', 'Europe/Atlantis', '+01:00', 'UTC+1', 'Z', ' UTC', 'Europe/Berlin ']
  for (const zone of bad) expect(isTimeZone(zone), zone).toBe(false)
})
