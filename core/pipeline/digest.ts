import { crc32 } from 'node:zlib'
import { NONE, type RecordBatch } from '../sdk/batch.ts'
import { crc32Combine } from '../sdk/crc32.ts'

const HEADER_WORDS = 7 // position u64, arrivalMs u64, key, value, headers length i32 (NONE = −1); little-endian, as the log asserts of the machine

/**
 * D: what a range of records was, independent of how it was batched. Two CRC-32 (IEEE), because zlib's runs at
 * 3.5 GB/s where CRC32C in JavaScript would cost a fifth of a gzip: one over every record's header (position,
 * arrival, lengths; −1 = null), one over key, value and headers bytes. 16 hex digits.
 */
export class RecordDigest {
  #headers = 0
  #content = 0
  records = 0
  #scratch = new Uint32Array(0)

  add(b: RecordBatch): void {
    if (b.count === 0) return
    this.#addHeaders(b)
    this.#addContent(b)
    this.records += b.count
  }

  #addHeaders(b: RecordBatch): void {
    const { count, keyStart, keyEnd, valueStart, valueEnd, headerStart, headerEnd, position, arrivalMs } = b
    if (this.#scratch.length < count * HEADER_WORDS) this.#scratch = new Uint32Array(count * HEADER_WORDS)
    const s = this.#scratch
    for (let i = 0, at = 0; i < count; i++) {
      at = putSafeInteger(s, at, position[i]!)
      at = putSafeInteger(s, at, arrivalMs[i]!)
      s[at++] = keyEnd[i] === NONE ? NONE : keyEnd[i]! - keyStart[i]!
      s[at++] = valueEnd[i] === NONE ? NONE : valueEnd[i]! - valueStart[i]!
      s[at++] = headerStart && headerEnd ? headerEnd[i]! - headerStart[i]! : NONE
    }
    this.#headers = crc32(new Uint8Array(s.buffer, 0, count * HEADER_WORDS * 4), this.#headers)
  }

  /**
   * Neighbouring pieces are joined before the call: one native call for a batch whose values lie back to back, and none if that is all of
   * its bytes and the log knows their sum.
   */
  #addContent(b: RecordBatch): void {
    const { bytes, crc32: known } = b
    let from = 0
    let to = 0
    const flush = (): void => {
      if (known !== undefined && from === 0 && to === bytes.length) this.#content = crc32Combine(this.#content, known, to)
      else if (to > from) this.#content = crc32(bytes.subarray(from, to), this.#content)
    }
    const piece = (start: number, end: number): void => {
      if (end === NONE || end === start) return
      if (start !== to) {
        flush()
        from = start
      }
      to = end
    }
    for (let i = 0; i < b.count; i++) {
      piece(b.keyStart[i]!, b.keyEnd[i]!)
      piece(b.valueStart[i]!, b.valueEnd[i]!)
      if (b.headerStart && b.headerEnd) piece(b.headerStart[i]!, b.headerEnd[i]!)
    }
    flush()
  }

  value(): string {
    return hex8(this.#headers) + hex8(this.#content)
  }
}

/** u64 as two words; `>>> 0` is the remainder of 2^32. */
function putSafeInteger(words: Uint32Array, at: number, n: number): number {
  const low = n >>> 0
  words[at] = low
  words[at + 1] = (n - low) / 0x1_0000_0000
  return at + 2
}

function hex8(n: number): string {
  return n.toString(16).padStart(8, '0')
}

export const DELIVERED = 0
export const DROPPED = 1
export const REJECTED = 2
export type Outcome = typeof DELIVERED | typeof DROPPED | typeof REJECTED

/** O: the run-length list of what became of a cut's records, by (position, sub), before a sink is asked. 8 hex digits. */
export class OutcomeDigest {
  #crc = 0
  #outcome: Outcome | -1 = -1
  #run = 0
  readonly #pair = new DataView(new ArrayBuffer(5))
  readonly counts = { delivered: 0, dropped: 0, rejected: 0 }

  add(outcome: Outcome, count: number): void {
    if (count === 0) return
    this.counts[outcome === DELIVERED ? 'delivered' : outcome === DROPPED ? 'dropped' : 'rejected'] += count
    if (outcome === this.#outcome) {
      this.#run += count
      return
    }
    this.#flush()
    this.#outcome = outcome
    this.#run = count
  }

  #flush(): void {
    if (this.#outcome === -1) return
    this.#pair.setUint8(0, this.#outcome)
    this.#pair.setUint32(1, this.#run, true)
    this.#crc = crc32(new Uint8Array(this.#pair.buffer), this.#crc)
  }

  /** Ends the list. */
  value(): string {
    this.#flush()
    this.#outcome = -1
    return hex8(this.#crc)
  }
}
