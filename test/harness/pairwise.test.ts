import { describe, expect, test } from 'vitest'
import { cover } from './pairwise.ts'

const factors = {
  point: ['a', 'b', 'c', 'd', 'e', 'f'],
  sink: ['s3', 'file'],
  format: ['raw', 'gzip'],
  cut: ['size', 'interval'],
} as const
type Case = { point: string; sink: string; format: string; cut: string }
const names = ['point', 'sink', 'format', 'cut'] as const
const all = (valid: (c: Case) => boolean = () => true): Case[] =>
  factors.point
    .flatMap((point) =>
      factors.sink.flatMap((sink) => factors.format.flatMap((format) => factors.cut.map((cut) => ({ point, sink, format, cut })))),
    )
    .filter(valid)

function combinations(cases: readonly Case[], strength: number): Set<string> {
  const found = new Set<string>()
  for (const c of cases)
    for (let bits = 0; bits < 16; bits++) {
      const chosen = names.filter((_, i) => (bits >> i) & 1)
      if (chosen.length === strength) found.add(chosen.map((n) => `${n}=${c[n]}`).join(' '))
    }
  return found
}

describe('covering arrays', () => {
  test.each([2, 3])('%i-wise holds every combination, with fewer cases than the product, for many seeds', (strength) => {
    for (let seed = 1; seed <= 20; seed++) {
      const chosen = cover<Case>(factors, strength, seed)
      expect(combinations(chosen, strength)).toEqual(combinations(all(), strength))
      expect(chosen.length).toBeLessThan(all().length)
    }
  })

  test('impossible combinations are left out, all others are in', () => {
    const valid = (c: Case): boolean => !(c.point === 'a' && c.sink === 'file')
    const chosen = cover<Case>(factors, 2, 7, valid)
    expect(chosen.every(valid)).toBe(true)
    expect(combinations(chosen, 2)).toEqual(combinations(all(valid), 2))
  })

  test('the same seed gives the same cases', () => {
    expect(cover<Case>(factors, 2, 5)).toEqual(cover<Case>(factors, 2, 5))
  })
})
