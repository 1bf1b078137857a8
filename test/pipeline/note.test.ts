import { describe, expect, test } from 'vitest'
import { formatNote, formatRuns, noteHasRoom, parseNote, parseRuns, type Note, type NoteCut } from '../../core/pipeline/note.ts'
import { Seeded } from '../simulation/scheduler.ts'

const cut = (o: Partial<NoteCut> = {}): NoteCut => ({
  length: 50_000, records: 50_000, digest: '0123456789abcdef', arrivalMs: 1_795_370_000_000, epoch: 7, specHash: 'aaaaaaaaaaaaaaaa', byLimit: [], givenUp: false, ...o,
}) // prettier-ignore
const note = (cuts: NoteCut[]): Note => ({ pipelineId: 'p1', lineage: 1, topicId: 't-1', position: 2 ** 50, counter: 12345, cuts })

test('reads back what it wrote, for random states', () => {
  const r = new Seeded(1)
  for (let i = 0; i < 500; i++) {
    const cuts = Array.from({ length: r.int(17) }, () => {
      let at = 0
      const byLimit = Array.from({ length: r.int(4) }, () => {
        const first = at + r.int(1000)
        const count = 1 + r.int(5)
        at = first + count
        return [first, count] as const
      })
      return cut({
        length: 1 + r.int(2 ** 31),
        records: r.int(2 ** 31),
        epoch: r.int(1000),
        specHash: r.chance(0.5) ? 'aaaaaaaaaaaaaaaa' : 'bbbbbbbbbbbbbbbb',
        byLimit,
        givenUp: r.chance(0.2),
      })
    })
    const n = { ...note(cuts), position: r.int(2 ** 31) * 4096, lineage: r.int(9), counter: r.int(2 ** 31) }
    expect(parseNote(formatNote(n))).toEqual(n)
  }
})

test('16 cuts fit well into the 3,500 characters of a commit, ASCII only (row 31)', () => {
  const text = formatNote(note(Array.from({ length: 16 }, () => cut())))
  expect(text.length).toBeLessThan(1_200)
  expect(text).toMatch(/^[\x21-\x7e]+$/)
  expect(noteHasRoom(note(Array.from({ length: 16 }, () => cut())), [])).toBe(true)
})

test('a note without room for one more cut says so before the commit', () => {
  const storm = Array.from({ length: 900 }, (_, i) => [i * 3, 1] as const)
  expect(noteHasRoom(note([cut({ byLimit: storm })]), [])).toBe(false)
  expect(noteHasRoom(note([]), storm)).toBe(false)
})

test('runs are told apart from their gaps', () => {
  expect(parseRuns(formatRuns([[0, 1], [2, 3], [100, 7]]))).toEqual([[0, 1], [2, 3], [100, 7]]) // prettier-ignore
  expect(parseRuns('')).toEqual([])
})

describe('a note that is not ours is never guessed at', () => {
  for (const text of [
    '',
    'x',
    'hyd2;p;1;t;0;0;',
    'hyd1;p;1;t',
    'hyd1;p;one!;t;0;0;',
    'hyd1;p;1;t;0;0;a;1.1.d.0.0',
    'hyd1;p;1;t;0;0;;1.1.d.0.0.0..',
    'hyd1;p;1;t;0;0;a;1.1.d.0.0.5..',
  ]) {
    test(`"${text}"`, () => {
      expect(() => parseNote(text)).toThrow(/not hydrant's/)
    })
  }
})
