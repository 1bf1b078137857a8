import { describe, expect, test } from 'vitest'
import { LaneBook, type OpenCut } from '../../core/pipeline/book.ts'
import { parseNote } from '../../core/pipeline/note.ts'
import { Seeded } from '../simulation/scheduler.ts'

const book = (position = 0): LaneBook =>
  new LaneBook({ pipelineId: 'p', lineage: 1, topicId: 't', position, counter: 0, cuts: [] }, 1, true)
const cutAt = (start: number, length: number): OpenCut => ({
  start, end: start + length, records: length, digest: 'ab', arrivalMs: 1, epoch: 1, specHash: 'a', byLimit: [], givenUp: false, acked: false, confirmed: false,
}) // prettier-ignore

test('row 30: whatever the order of cuts, confirmations and advances, what is sent is one snapshot of the lane', () => {
  for (let seed = 1; seed <= 200; seed++) {
    const r = new Seeded(seed)
    const b = book()
    let stored = b.serialize()
    for (let i = 0; i < 60; i++) {
      const what = r.int(4)
      if (what === 0 && b.cuts.length < 16) b.append(cutAt(b.end, 1 + r.int(9)), Infinity)
      else if (what === 1 && b.cuts.length > 0) b.cuts[r.int(b.cuts.length)]!.confirmed = true
      else if (what === 2) b.advance()
      else {
        const before = { position: b.position, cuts: b.cuts.map((c) => c.end - c.start) }
        const sent = b.serialize()
        const note = parseNote(sent.state.note)
        expect({ position: sent.state.position, cuts: note.cuts.map((c) => c.length) }).toEqual(before)
        expect(note.position).toBe(sent.state.position)
        expect(note.counter).toBeGreaterThan(stored.counter)
        stored = sent
        b.acked(sent.counter, sent.cuts)
      }
    }
  }
})
test('the position moves over the longest confirmed run from the front, to recorded ends only', () => {
  const b = book(10)
  const cuts = [cutAt(10, 5), cutAt(15, 5), cutAt(20, 5)]
  for (const c of cuts) b.append(c, 100)
  cuts[1]!.confirmed = true
  expect(b.advance()).toEqual([])
  expect(b.position).toBe(10)
  cuts[0]!.confirmed = true
  expect(b.advance().map((c) => c.end)).toEqual([15, 20])
  expect(b.position).toBe(20)
})
describe('what would break an invariant throws', () => {
  test('I4: a hole, an overlap, an empty cut, an end beyond the stable log', () => {
    const b = book(10)
    for (const [c, stable] of [
      [cutAt(11, 5), 99],
      [cutAt(9, 5), 99],
      [cutAt(10, 0), 99],
      [cutAt(10, 5), 14],
    ] as const) {
      // prettier-ignore
      expect(() => b.append(c, stable)).toThrow('invariant I4')
    }
  })
  test('I2: an acknowledgement out of order', () => {
    const b = book()
    const one = b.serialize()
    const two = b.serialize()
    b.acked(two.counter, two.cuts)
    expect(() => b.acked(one.counter, one.cuts)).toThrow('invariant I2')
  })
  test('I6: adopting a cut that is not the first', () => {
    const b = book()
    b.append(cutAt(0, 5), 99)
    expect(() => b.adopt(cutAt(5, 5))).toThrow('invariant I6')
  })
  test('I9: a note that is too long', () => {
    const b = book()
    b.append({ ...cutAt(0, 10_000), byLimit: Array.from({ length: 1_000 }, (_, i) => [i * 2, 1] as const) }, 99_999)
    expect(() => b.serialize()).toThrow('invariant I9')
  })
})
