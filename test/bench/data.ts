import { mix32 } from '../harness/random.ts'

/** evt300: web events of about 297 bytes with a list and a nested object; evt90: sensor values of about 85 bytes. One JSON text a row, without newline. */
export type Shape = 'evt300' | 'evt90'

const SEED = 0x48594452
const START_MS = Date.UTC(2026, 0, 1)
const hosts = ['www', 'm', 'shop'] as const
const pages = ['search', 'p', 'cart', 'account', 'help'] as const
const refs = ['eu', 'newsletter', 'ads', 'partner', 'none'] as const
const kinds = ['page_view', 'page_view', 'page_view', 'click', 'click', 'add_to_cart', 'purchase'] as const
const labels = ['vip', 'b2b', 'eu', 'returning', 'mobile', 'trial', 'beta'] as const
const systems = ['ios', 'android', 'windows', 'macos', 'linux'] as const
const countries = ['CA', 'BR', 'US', 'DE', 'FR', 'JP', 'IN', 'GB', 'AU', 'ES'] as const
const agents = ['ExampleApp', 'Chrome', 'Firefox', 'Safari'] as const
const categories = ['sensor.temperature', 'sensor.humidity', 'sensor.pressure', 'meter.power'] as const

function draws(row: number): (n: number) => number {
  let state = mix32(SEED ^ mix32(row))
  return (n) => {
    state = (state + 0x9e3779b9) | 0
    return (mix32(state) >>> 0) % n
  }
}
const hex = (n: number, digits: number): string => n.toString(16).padStart(digits, '0')

function event(row: number): string {
  const next = draws(row)
  const pick = <T>(of: readonly T[]): T | undefined => of[next(of.length)]
  const time = new Date(START_MS + row * 2).toISOString()
  const user = String(next(200_000)).padStart(6, '0')
  const url = `https://${pick(hosts)}.example.com/${pick(pages)}/${next(30_000)}?ref=${pick(refs)}&s=${hex(next(1 << 28), 7)}`
  const amount = next(6) === 0 ? (next(50_000) / 100).toFixed(2) : '0.00'
  const ip = `10.${next(256)}.${next(256)}.${next(256)}`
  const session = hex(next(0xffff_ffff), 8) + hex(next(0xffff_ffff), 8)
  return (
    `{"id":${row},"ts":"${time}","user":"u${user}","event":"${pick(kinds)}","url":"${url}","amount":${amount},` +
    `"tags":["${pick(labels)}","${pick(labels)}"],"ctx":{"ip":"${ip}","os":"${pick(systems)}","country":"${pick(countries)}",` +
    `"session":"${session}","w":${320 + next(2_000)},"ua":"${pick(agents)}/${90 + next(40)}.0"}}`
  )
}
function reading(row: number): string {
  const next = draws(row)
  const category = categories[next(categories.length)]
  return `{"id":${row},"category":"${category}","value":${next(10_000)}.${next(1_000_000)},"ts":${START_MS + row}}`
}

/** Row n carries the number FIRST_ID + n: always as many digits, so that a prepared block can be renumbered in place. */
const FIRST_ID = 10_000_000
const ID_AT = 6 // behind {"id":
const ID_LENGTH = 8
/** Rows that are made one by one; later ones repeat them under new numbers, far outside of any compressor's window. */
const BLOCK_ROWS = 20_000

/** The rows of a shape: the same on every machine. ASCII, a newline after each. */
export class Rows {
  readonly #block: Buffer
  /** Where row i of the block starts; one more for the end. */
  readonly #starts = new Uint32Array(BLOCK_ROWS + 1)

  constructor(shape: Shape) {
    const one = shape === 'evt300' ? event : reading
    const texts = Array.from({ length: BLOCK_ROWS }, (_, i) => one(FIRST_ID + i) + '\n')
    for (const [i, t] of texts.entries()) this.#starts[i + 1] = (this.#starts[i] ?? 0) + t.length
    this.#block = Buffer.from(texts.join(''), 'latin1')
  }

  /** Rows [from, to), at most to the end of a block: a private copy, and where each ends (behind its newline). */
  take(from: number, to: number): { bytes: Buffer; ends: Uint32Array; next: number } {
    const first = from % BLOCK_ROWS
    const count = Math.min(to - from, BLOCK_ROWS - first)
    const base = this.#starts[first] ?? 0
    const bytes = Buffer.from(this.#block.subarray(base, this.#starts[first + count]))
    const ends = new Uint32Array(count)
    for (let i = 0; i < count; i++) {
      bytes.write(String(FIRST_ID + from + i), (this.#starts[first + i] ?? 0) - base + ID_AT, 'latin1')
      ends[i] = (this.#starts[first + i + 1] ?? 0) - base
    }
    return { bytes, ends, next: from + count }
  }

  /** Bytes of the rows [0, count), newlines included. */
  size(count: number): number {
    const whole = Math.floor(count / BLOCK_ROWS)
    return whole * this.#block.length + (this.#starts[count % BLOCK_ROWS] ?? 0)
  }

  /** How many rows make so many bytes. */
  countFor(bytes: number): number {
    return Math.ceil(bytes / (this.#block.length / BLOCK_ROWS))
  }
}

/** The row whose text starts at `at`; -1 if none does. */
export function rowAt(bytes: Uint8Array, at: number): number {
  let n = 0
  for (let i = at + ID_AT; i < at + ID_AT + ID_LENGTH; i++) {
    const digit = (bytes[i] ?? 0) - 0x30
    if (digit < 0 || digit > 9) return -1
    n = n * 10 + digit
  }
  const framed = bytes[at] === 0x7b && bytes[at + ID_AT - 1] === 0x3a && bytes[at + ID_AT + ID_LENGTH] === 0x2c
  return framed ? n - FIRST_ID : -1
}

/** Digits at the start of a padded record: a multiple of 3, so that they stand in whole base64 digits of their own. */
export const NUMBER_DIGITS = 12
/** A record of the put paths: its number, then printable bytes that do not compress. */
export function paddedRecord(id: number, bytes: number): Buffer {
  const out = Buffer.alloc(bytes)
  let state = mix32(id)
  for (let i = 0; i < bytes; i++) {
    state = (state + 0x9e3779b9) | 0
    out[i] = 0x30 + ((mix32(state) >>> 0) % 64)
  }
  out.write(String(id).padStart(NUMBER_DIGITS, '0'), 'latin1')
  return out
}
export function paddedNumber(bytes: Uint8Array, at: number): number {
  let n = 0
  for (let i = at; i < at + NUMBER_DIGITS; i++) {
    const digit = (bytes[i] ?? 0) - 0x30
    if (digit < 0 || digit > 9) return -1
    n = n * 10 + digit
  }
  return n
}
