/** An HTTP/1.1 wire without a socket: what it writes, and an exchange that does what the test says. */
import { Http1, type Http1Shared, type Pipe } from '../../../core/api/wire/http1.ts'
import type { Answer, BodyReader, Wire } from '../../../core/api/wire/wire.ts'

export class FakePipe implements Pipe {
  out = ''
  paused = false
  ended = false
  destroyed = false
  /** Answers that the client has not read yet. */
  readonly unwritten: (() => void)[] = []
  write(what: string | Uint8Array, b?: 'latin1' | (() => void), c?: () => void): void {
    if (this.ended || this.destroyed) throw new Error('writing after the end')
    this.out += typeof what === 'string' ? what : Buffer.from(what).toString('latin1')
    const written = typeof b === 'function' ? b : c
    if (written) this.unwritten.push(written)
  }
  /** The client reads what was written. */
  flush(): void {
    for (let f = this.unwritten.shift(); f !== undefined; f = this.unwritten.shift()) f()
  }
  end(): void {
    this.ended = true
  }
  pause(): void {
    this.paused = true
  }
  resume(): void {
    this.paused = false
  }
  destroy(): void {
    this.destroyed = true
  }
  /** What it has answered so far. */
  get statuses(): number[] {
    return [...this.out.matchAll(/HTTP\/1\.1 (\d+) /g)].map((m) => Number(m[1]))
  }
}

/** One request as its exchange has seen it. */
export class Seen implements BodyReader {
  readonly wire: Wire
  readonly method: string
  readonly url: string
  /** Names and values in turn, as they came. */
  readonly headers: string[]
  body = Buffer.alloc(0)
  /** Where a body may be read into. */
  memory: Uint8Array | null = null
  complete = false
  lost = 0
  readonly #started: (e: Seen) => void
  readonly #done: (e: Seen) => void
  constructor(wire: Wire, started: (e: Seen) => void, done: (e: Seen) => void) {
    this.wire = wire
    this.method = wire.method
    this.url = wire.url
    this.headers = wire.names.raw.flatMap((name, i) => [name.slice(0, -1), wire.values[i] ?? ''])
    this.#started = started
    this.#done = done
  }
  start(): void {
    this.#started(this)
  }
  room(): Uint8Array | null {
    return this.memory
  }
  filled(bytes: number): void {
    this.#must()
    this.body = Buffer.concat([this.body, (this.memory ?? new Uint8Array(0)).subarray(0, bytes)])
  }
  chunk(bytes: Uint8Array): void {
    this.#must()
    this.body = Buffer.concat([this.body, bytes])
  }
  ended(): void {
    this.#must()
    this.complete = true
    this.#done(this)
  }
  gone(): void {
    this.lost++
  }
  #must(): void {
    if (this.complete || this.lost > 0) throw new Error('a reader is called after its end')
  }
}

export const OK: Answer = { status: 200, requestId: 'id', body: '{}', error: undefined, close: false }
export interface Rig {
  readonly pipe: FakePipe
  readonly http: Http1
  readonly seen: Seen[]
  ms: number
  /** Time passes, and the sweep looks. */
  pass(ms: number): void
}
/** What an exchange does with its request: by default it wants the body at once, and answers when it is there. */
export interface Behaviour {
  readonly started?: (e: Seen) => void
  readonly done?: (e: Seen) => void
}
export function connection(b: Behaviour = {}): Rig {
  const { started = (e) => e.wire.receive(), done = (e) => e.wire.answer(OK) } = b
  const pipe = new FakePipe()
  const seen: Seen[] = []
  const shared: Http1Shared = {
    now: () => rig.ms,
    date: () => 'Thu, 01 Jan 1970 00:00:00 GMT',
    newRequestId: () => 'wire',
    begin: (wire) => {
      const e = new Seen(wire, started, done)
      seen.push(e)
      return e
    },
    bounds: { httpIdleMs: 65_000, httpHeadersMs: 10_000, httpRequestMs: 30_000 },
  }
  const rig = {
    pipe,
    seen,
    ms: 0,
    http: undefined as unknown as Http1,
    pass: (ms: number) => {
      rig.ms += ms
      rig.http.check()
    },
  }
  rig.http = new Http1(pipe, shared)
  return rig
}
/** Bytes in memory that is used again as soon as feed returns. */
export function feed(r: Rig, text: string | Uint8Array): void {
  const bytes = typeof text === 'string' ? Buffer.from(text, 'latin1') : Buffer.from(text)
  r.http.feed(bytes)
  bytes.fill(0xdd)
}
