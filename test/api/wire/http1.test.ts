import { describe, expect, test } from 'vitest'
import { limits } from '../../../core/limits.ts'
import { connection, feed, OK, type Behaviour, type Rig, type Seen } from './pipe.ts'

const head = (fields = ''): string => `POST / HTTP/1.1\r\nHost: x\r\n${fields}\r\n`
const post = (body: string, fields = ''): string => `${head(`${fields}Content-Length: ${body.length}\r\n`)}${body}`
const bodies = (r: Rig): string[] => r.seen.map((e) => e.body.toString('latin1'))
const idle = (): void => {}
const refuse = (e: Seen): void => e.wire.answer({ ...OK, status: 413 })
/** The client has sent this, and sends no more. */
function at(o: Behaviour, text: string): Rig {
  const r = connection(o)
  feed(r, text)
  r.http.ended()
  return r
}
const only = (r: Rig, i = 0): Seen => r.seen[i] ?? expect.unreachable()

describe('one after the other', () => {
  test('pipelined requests wait for the answer before, and what is kept is bounded by a pause', () => {
    const r = connection({ done: idle })
    feed(r, post('one') + post('two') + post('three'))
    expect([bodies(r), r.pipe.paused]).toEqual([['one'], true])
    for (let i = 0; i < 3; i++) {
      only(r, i).wire.answer(OK)
      expect(r.seen.length).toBe(i + 1)
      r.pipe.flush()
    }
    expect([bodies(r), r.pipe.paused, r.pipe.statuses]).toEqual([['one', 'two', 'three'], false, [200, 200, 200]])
    expect(r.seen.map((e) => e.lost)).toEqual([1, 1, 1])
  })
  test('half a head behind a request: the other half is waited for', () => {
    const r = connection()
    const next = post('two')
    feed(r, post('one') + next.slice(0, 20))
    expect(r.pipe.paused).toBe(true)
    r.pipe.flush()
    expect(r.pipe.paused).toBe(false)
    feed(r, next.slice(20))
    expect(bodies(r)).toEqual(['one', 'two'])
  })
  test('half a body behind a request', () => {
    const r = connection()
    const next = post('0123456789')
    feed(r, post('one') + next.slice(0, -3))
    r.pipe.flush()
    expect(r.pipe.paused).toBe(false)
    feed(r, next.slice(-3))
    expect(bodies(r)).toEqual(['one', '0123456789'])
  })
  test('an exchange that waits takes the body later, and the request behind it', () => {
    const r = connection({ started: idle })
    feed(r, post('one') + post('two'))
    expect([r.pipe.paused, bodies(r)]).toEqual([true, ['']])
    only(r).wire.receive()
    expect([r.pipe.paused, bodies(r)]).toEqual([true, ['one']])
    r.pipe.flush()
    expect(r.pipe.paused).toBe(true)
    only(r, 1).wire.receive()
    expect([r.pipe.paused, bodies(r)]).toEqual([false, ['one', 'two']])
  })
  test('an exchange that waits without a body behind it does not stop the connection', () => {
    const r = connection({ started: idle })
    feed(r, head('Content-Length: 3\r\n'))
    expect(r.pipe.paused).toBe(false)
    feed(r, 'on')
    only(r).wire.receive()
    expect(r.pipe.paused).toBe(false)
    feed(r, 'e')
    expect(bodies(r)).toEqual(['one'])
  })
  test('a second answer, and an answer after the end, say nothing', () => {
    const r = connection({ done: idle })
    feed(r, post('one'))
    only(r).wire.answer(OK)
    only(r).wire.answer({ ...OK, status: 500 })
    r.pipe.flush()
    r.http.destroy()
    only(r).wire.answer(OK)
    expect(r.pipe.statuses).toEqual([200])
  })
})

describe('refused before the body is there', () => {
  test.each([
    ['with a length', post('x'.repeat(500))],
    ['in chunks', `${head('Transfer-Encoding: chunked\r\n')}1F4\r\n${'x'.repeat(500)}\r\n0\r\n\r\n`],
  ])('%s: the rest is thrown away, the next request is taken', (_, text) => {
    let first = true
    const r = connection({ started: (e) => (first ? ((first = false), refuse(e)) : e.wire.receive()) })
    for (const c of text.match(/.{1,7}/gs) ?? []) {
      feed(r, c)
      r.pipe.flush()
    }
    feed(r, post('two'))
    expect([r.pipe.statuses, bodies(r)]).toEqual([
      [413, 200],
      ['', 'two'],
    ])
  })
  test('in the middle: what comes later does not reach the exchange', () => {
    const r = connection()
    feed(r, head('Content-Length: 10\r\n') + '01234')
    refuse(only(r))
    feed(r, '56789' + post('two'))
    r.pipe.flush()
    expect([bodies(r), r.pipe.statuses, only(r).complete]).toEqual([['01234', 'two'], [413, 200], false])
  })
  test('a client that waits to be asked is not asked, and the connection ends', () => {
    const r = connection({ started: refuse })
    feed(r, head('Expect: 100-continue\r\nContent-Length: 10\r\n'))
    expect(r.pipe.out).toContain('Connection: close\r\n')
    r.pipe.flush()
    expect([r.pipe.ended, r.pipe.statuses]).toEqual([true, [413]])
  })
  test('what is thrown away is bounded', () => {
    const r = connection({ started: refuse })
    feed(r, head(`Content-Length: ${limits.httpDiscardBytes * 2}\r\n`))
    r.pipe.flush()
    const block = new Uint8Array(1 << 20)
    for (let n = 0; n < limits.httpDiscardBytes; n += block.length) r.http.feed(block)
    expect(r.pipe.destroyed).toBe(false)
    r.http.feed(block)
    expect(r.pipe.destroyed).toBe(true)
  })
})

describe('Expect: 100-continue', () => {
  test('is answered when the body is wanted, not before', () => {
    const r = connection({ started: idle })
    feed(r, head('Expect: 100-Continue\r\nContent-Length: 3\r\n'))
    expect(r.pipe.out).toBe('')
    only(r).wire.receive()
    expect(r.pipe.out).toBe('HTTP/1.1 100 Continue\r\n\r\n')
    feed(r, 'one')
    expect(r.pipe.statuses).toEqual([100, 200])
  })
  test('is not there in HTTP/1.0', () => {
    const r = connection()
    feed(r, 'POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\none')
    r.pipe.flush()
    expect([r.pipe.statuses, r.pipe.ended]).toEqual([[200], true])
  })
})

test('an answer to HEAD has no body, and says how long it would be', () => {
  const r = connection()
  feed(r, 'HEAD / HTTP/1.1\r\nHost: x\r\n\r\n' + post('one'))
  r.pipe.flush()
  expect(r.pipe.out).toMatch(/Content-Length: 2\r\n[^{]*\r\n\r\nHTTP\/1\.1 200 OK[^{]*\{\}$/)
})
test('an answer that is no ASCII has as many bytes as it says', () => {
  const r = connection({ done: (e) => e.wire.answer({ ...OK, body: '{"é":"–"}' }) })
  feed(r, post('one'))
  const [, length, body] = /Content-Length: (\d+)[^]*\r\n\r\n([^]*)$/.exec(r.pipe.out) ?? []
  expect([Number(length), Buffer.from(body ?? '', 'latin1').toString('utf8')]).toEqual([body?.length, '{"é":"–"}'])
})

describe('the client says that it sends no more', () => {
  test('before a request: the end', () => expect(at({}, '\r\n').pipe).toMatchObject({ ended: true, out: '', destroyed: false }))
  test('in a head: 400', () => expect(at({}, head().slice(0, 9)).pipe).toMatchObject({ ended: true, statuses: [400] }))
  test('in a body: 400, and nobody waits for the rest', () => {
    const r = at({}, head('Content-Length: 9\r\n') + 'one')
    expect([r.pipe.statuses, r.pipe.ended, only(r).lost]).toEqual([[400], true, 1])
  })
  test('in a body that was refused: no second answer', () => {
    const r = at({ started: (e) => e.wire.answer({ ...OK, status: 413 }) }, head('Content-Length: 9\r\n') + 'one')
    expect([r.pipe.statuses, r.pipe.ended, only(r).lost]).toEqual([[413], true, 1])
  })
  test('while its exchange waits for a body that cannot come: 400', () => {
    const r = at({ started: idle }, head('Content-Length: 9\r\n'))
    expect([r.pipe.statuses, only(r).lost]).toEqual([[400], 1])
  })
  test.each([
    ['with nothing to come', head()],
    ['with all of it behind', post('one')],
  ])('while its exchange waits, %s: it is answered, and the connection ends', (_, text) => {
    const r = at({ started: idle }, text)
    expect(r.pipe.statuses).toEqual([])
    only(r).wire.receive()
    r.pipe.flush()
    expect([r.pipe.statuses, r.pipe.ended, only(r).lost]).toEqual([[200], true, 1])
  })
  test('while it waits for the answer: it gets it, and the connection ends', () => {
    const r = at({ done: idle }, post('one'))
    only(r).wire.answer(OK)
    r.pipe.flush()
    expect([r.pipe.statuses, r.pipe.ended]).toEqual([[200], true])
    expect(r.pipe.out).toContain('Connection: close\r\n')
  })
  test('with more requests behind: all are answered', () => {
    const r = at({}, post('one') + post('two') + post('three'))
    r.pipe.flush()
    expect([bodies(r), r.pipe.statuses, r.pipe.ended]).toEqual([['one', 'two', 'three'], [200, 200, 200], true])
  })
  test('with half a request behind: 400 after the answers', () => {
    for (const half of [post('three').slice(0, -1), head().slice(0, -1)]) {
      const r = at({}, post('one') + half)
      r.pipe.flush()
      expect([r.pipe.statuses, r.pipe.ended]).toEqual([[200, 400], true])
    }
  })
  test('after the last answer: what is still to be written is written', () => {
    const r = at({}, 'nonsense\r\n\r\n')
    expect(r.pipe).toMatchObject({ statuses: [400], ended: true, destroyed: false })
  })
})

describe('time', () => {
  test('idle: empty lines do not prolong it', () => {
    const r = connection()
    r.pass(60_000)
    feed(r, '\r\n')
    r.pass(5_000)
    expect(r.pipe.destroyed).toBe(false)
    r.pass(1)
    expect([r.pipe.destroyed, r.pipe.out]).toEqual([true, ''])
  })
  test('a head: 408, and the end', () => {
    const r = connection()
    r.pass(60_000)
    for (const c of head().slice(0, 5)) feed(r, c)
    r.pass(10_000)
    expect(r.pipe.out).toBe('')
    r.pass(1)
    expect([r.pipe.statuses, r.pipe.ended]).toEqual([[408], true])
    r.pass(limits.httpEndMs + 1)
    expect(r.pipe.destroyed).toBe(true)
  })
  test('an exchange that waits has a time of its own', () => {
    const r = connection({ started: idle })
    feed(r, post('one'))
    r.pass(1e9)
    expect(r.pipe).toMatchObject({ destroyed: false, out: '' })
  })
  test('a body: 408, and its reader is gone', () => {
    const r = connection()
    feed(r, head('Content-Length: 9\r\n'))
    r.pass(30_000)
    feed(r, 'one')
    r.pass(1)
    expect([r.pipe.statuses, only(r).lost, r.pipe.ended]).toEqual([[408], 1, true])
    feed(r, 'too late')
    expect(bodies(r)).toEqual(['one'])
  })
  test('a body that nobody wants', () => {
    const r = connection({ started: (e) => e.wire.answer({ ...OK, status: 413 }) })
    feed(r, head('Content-Length: 9\r\n'))
    r.pipe.flush()
    r.pass(30_001)
    expect([r.pipe.statuses, r.pipe.destroyed]).toEqual([[413], true])
  })
  test('an answer that nobody reads', () => {
    const r = connection()
    feed(r, post('one'))
    r.pass(30_000 + limits.httpHandlerMs)
    expect(r.pipe.destroyed).toBe(false)
    r.pass(1)
    expect([r.pipe.destroyed, only(r).lost]).toEqual([true, 1])
  })
  test('an operation that takes long has a time of its own', () => {
    const r = connection({ done: idle })
    feed(r, post('one'))
    r.pass(1e9)
    expect(r.pipe.destroyed).toBe(false)
  })
})

describe('memory of the body itself', () => {
  const memory = Buffer.alloc(20_000)
  const direct = (): Rig => connection({ started: (e) => ((e.memory = memory), e.wire.receive()) })
  test('is offered only where nothing but a body can come', () => {
    const r = direct()
    expect(r.http.room()).toBeNull()
    feed(r, head('Content-Length: 20000\r\n'))
    expect(r.http.room()).toBe(memory)
    memory.fill('a')
    expect(r.http.filled(12_000)).toBe(true)
    expect(r.http.room()).toBeNull() // so little is left that more may come with it
    feed(r, 'b'.repeat(8_000) + post('two'))
    r.pipe.flush()
    expect(bodies(r)).toEqual(['a'.repeat(12_000) + 'b'.repeat(8_000), 'two'])
  })
  test('that was lent when the request was refused, timed out or lost is not read', () => {
    for (const end of [
      (r: Rig) => only(r).wire.answer({ ...OK, status: 408 }),
      (r: Rig) => r.pass(30_001),
      (r: Rig) => r.http.ended(),
      (r: Rig) => r.http.closed(),
    ]) {
      const r = direct()
      feed(r, head('Content-Length: 20000\r\n'))
      expect(r.http.room()).toBe(memory)
      end(r)
      expect([r.http.filled(9_000), r.http.room()]).toEqual([false, null])
      feed(r, 'x'.repeat(9_000))
      expect(bodies(r)).toEqual([''])
    }
  })
})

test('a reader is told once that it is over, however it ends', () => {
  for (const end of [(r: Rig) => r.http.closed(), (r: Rig) => r.http.destroy(), (r: Rig) => (r.http.ended(), r.http.closed())]) {
    for (const text of [head('Content-Length: 3\r\n'), post('one')]) {
      for (const started of [idle, (e: Seen) => e.wire.receive()]) {
        const r = connection({ started })
        feed(r, text)
        end(r)
        r.pipe.unwritten.splice(0).forEach((f) => f())
        r.http.closed()
        expect(only(r).lost).toBe(1)
      }
    }
  }
})
