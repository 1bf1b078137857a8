import { limits } from '../../limits.ts'

const CR = 0x0d
const LF = 0x0a
const SEMICOLON = 0x3b
const COLON = 0x3a
const TAB = 0x09
const DEL = 0x7f

type Place =
  | 'size'
  | 'extension'
  | 'size-lf'
  | 'data'
  | 'data-cr'
  | 'data-lf'
  | 'trailer'
  | 'trailer-name'
  | 'trailer-line'
  | 'trailer-lf'
  | 'last-lf'
  | 'end'

/**
 * A body in chunks (RFC 9112 §7.1), byte by byte where it is not data. Extensions and trailer fields are read and forgotten; both are
 * bounded. A bare LF ends no line, a trailer field begins with a name, and no control character stands anywhere: it is where two readers
 * would disagree.
 */
export class ChunkReader {
  #place: Place = 'size'
  /** Of the chunk's size, while it is read; of its data, after. */
  #left = 0
  #digits = 0
  /** Bytes that are no data. */
  #beside = 0

  get ended(): boolean {
    return this.#place === 'end'
  }

  /** Reads from `at` on, at most to the end of the body. Where it stopped, or -1: these are no chunks. Data goes to `take`. */
  read(bytes: Uint8Array, from: number, take: (data: Uint8Array) => void): number {
    let at = from
    while (at < bytes.length && this.#place !== 'end') {
      if (this.#place === 'data') {
        const n = Math.min(this.#left, bytes.length - at)
        take(bytes.subarray(at, at + n))
        at += n
        this.#left -= n
        if (this.#left === 0) this.#place = 'data-cr'
        continue
      }
      if (++this.#beside > limits.httpDiscardBytes || !this.#byte(bytes[at] ?? 0)) return -1
      at++
    }
    return at
  }

  /** False: a byte that must not stand here. */
  #byte(c: number): boolean {
    switch (this.#place) {
      case 'size':
        return this.#size(c)
      case 'extension':
        return c === CR ? this.#go('size-lf') : isText(c) && ++this.#digits <= limits.httpChunkLineBytes
      case 'size-lf':
        this.#digits = 0
        return c === LF && this.#go(this.#left === 0 ? 'trailer' : 'data')
      case 'data-cr':
        return c === CR && this.#go('data-lf')
      case 'data-lf':
        return c === LF && this.#go('size')
      case 'trailer':
        return c === CR ? this.#go('last-lf') : isToken(c) && this.#go('trailer-name')
      case 'trailer-name':
        return c === COLON ? this.#go('trailer-line') : isToken(c) && ++this.#digits <= limits.httpHeaderBytes
      case 'trailer-line':
        return c === CR ? this.#go('trailer-lf') : isText(c) && ++this.#digits <= limits.httpHeaderBytes
      case 'trailer-lf':
        return c === LF && this.#go('trailer')
      case 'last-lf':
        return c === LF && this.#go('end')
      default:
        return false
    }
  }

  #size(c: number): boolean {
    const digit = hex(c)
    if (digit !== -1) {
      this.#left = this.#left * 16 + digit
      return ++this.#digits <= 8
    }
    if (this.#digits === 0) return false
    if (c === CR) return this.#go('size-lf')
    return c === SEMICOLON && this.#go('extension')
  }

  #go(place: Place): true {
    this.#place = place
    return true
  }
}

function hex(c: number): number {
  if (c >= 0x30 && c <= 0x39) return c - 0x30
  if (c >= 0x41 && c <= 0x46) return c - 0x37
  return c >= 0x61 && c <= 0x66 ? c - 0x57 : -1
}

const isText = (c: number): boolean => (c >= 0x20 && c !== DEL) || c === TAB
const TOKEN = new Uint8Array(256)
for (const c of Buffer.from("!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")) TOKEN[c] = 1
const isToken = (c: number): boolean => TOKEN[c] === 1
