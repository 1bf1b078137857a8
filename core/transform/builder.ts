import { NONE, type WorkBatch } from '../sdk/batch.ts'

/** Uint32Array that grows. */
class Numbers {
  #all: Uint32Array<ArrayBuffer>
  length = 0
  constructor(capacity: number) {
    this.#all = new Uint32Array(Math.max(capacity, 1))
  }
  push(n: number): void {
    if (this.length === this.#all.length) {
      const more = new Uint32Array(this.length * 2)
      more.set(this.#all)
      this.#all = more
    }
    this.#all[this.length++] = n
  }
  done(): Uint32Array {
    return this.#all.subarray(0, this.length)
  }
}

/** Picks the elements `which` of an array. */
function pick<T extends Uint32Array | Float64Array>(from: T, which: Uint32Array, into: T): T {
  for (let i = 0; i < which.length; i++) into[i] = from[which[i] ?? 0] ?? 0
  return into
}

/** What every stage copies from the batch it was given: position, arrival and grouping of the records `from`. */
function inherited(given: WorkBatch, from: Uint32Array) {
  const n = from.length
  return {
    count: n,
    source: given.source,
    origin: pick(given.origin, from, new Uint32Array(n)),
    position: pick(given.position, from, new Float64Array(n)),
    arrivalMs: pick(given.arrivalMs, from, new Float64Array(n)),
    release: () => given.release(),
  }
}

/** Builds a batch whose values are parts of the given batch's values: no byte is copied. */
export class SliceBuilder {
  readonly #given: WorkBatch
  readonly #from: Numbers
  readonly #sub: Numbers
  readonly #start: Numbers
  readonly #end: Numbers

  constructor(given: WorkBatch) {
    this.#given = given
    this.#from = new Numbers(given.count)
    this.#sub = new Numbers(given.count)
    this.#start = new Numbers(given.count)
    this.#end = new Numbers(given.count)
  }

  /** A record of bytes[start .. end) (end NONE = null), made of record `from`. */
  push(from: number, sub: number, start: number, end: number): void {
    this.#from.push(from)
    this.#sub.push(sub)
    this.#start.push(start)
    this.#end.push(end)
  }

  done(): WorkBatch {
    const given = this.#given
    const from = this.#from.done()
    const n = from.length
    const { headerStart, headerEnd } = given
    return {
      ...inherited(given, from),
      bytes: given.bytes,
      sub: this.#sub.done(),
      valueStart: this.#start.done(),
      valueEnd: this.#end.done(),
      keyStart: pick(given.keyStart, from, new Uint32Array(n)),
      keyEnd: pick(given.keyEnd, from, new Uint32Array(n)),
      ...(headerStart && headerEnd
        ? { headerStart: pick(headerStart, from, new Uint32Array(n)), headerEnd: pick(headerEnd, from, new Uint32Array(n)) }
        : {}),
    }
  }
}

/** Builds a batch of new values, one or none for each record given; keys and headers are copied beside them. */
export class ValueBuilder {
  readonly #given: WorkBatch
  readonly #from: Numbers
  readonly #values: Uint8Array[] = []
  #bytes = 0

  constructor(given: WorkBatch) {
    this.#given = given
    this.#from = new Numbers(given.count)
  }

  /** Record `from` has this value now. */
  push(from: number, value: Uint8Array): void {
    const { keyStart, keyEnd, headerStart, headerEnd } = this.#given
    this.#from.push(from)
    this.#values.push(value)
    this.#bytes += value.length + length(keyStart, keyEnd, from) + length(headerStart, headerEnd, from)
    if (this.#bytes >= NONE) throw new RangeError(`${this.#bytes} bytes in one batch: offsets have 32 bits`)
  }

  done(): WorkBatch {
    const given = this.#given
    const from = this.#from.done()
    const arena = Buffer.allocUnsafeSlow(this.#bytes)
    const source = Buffer.from(given.bytes.buffer, given.bytes.byteOffset, given.bytes.byteLength)
    const valueStart = new Uint32Array(from.length)
    const valueEnd = new Uint32Array(from.length)
    let at = 0
    for (const [i, value] of this.#values.entries()) {
      valueStart[i] = at
      arena.set(value, at)
      valueEnd[i] = at += value.length
    }
    const moved = (start: Uint32Array, end: Uint32Array): [Uint32Array, Uint32Array] => {
      const starts = new Uint32Array(from.length)
      const ends = new Uint32Array(from.length)
      for (let i = 0; i < from.length; i++) {
        const r = from[i] ?? 0
        starts[i] = at
        if (end[r] === NONE) ends[i] = NONE
        else ends[i] = at += source.copy(arena, at, start[r], end[r])
      }
      return [starts, ends]
    }
    const [keyStart, keyEnd] = moved(given.keyStart, given.keyEnd)
    const headers = given.headerStart && given.headerEnd ? moved(given.headerStart, given.headerEnd) : null
    return {
      ...inherited(given, from),
      bytes: arena,
      sub: pick(given.sub, from, new Uint32Array(from.length)),
      valueStart,
      valueEnd,
      keyStart,
      keyEnd,
      ...(headers ? { headerStart: headers[0], headerEnd: headers[1] } : {}),
    }
  }
}

function length(start: Uint32Array | undefined, end: Uint32Array | undefined, i: number): number {
  const e = end?.[i] ?? NONE
  return e === NONE ? 0 : e - (start?.[i] ?? 0)
}
