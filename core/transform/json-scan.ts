const QUOTE = 0x22
const BACKSLASH = 0x5c
const OPEN_BRACE = 0x7b
const CLOSE_BRACE = 0x7d
const OPEN_BRACKET = 0x5b
const CLOSE_BRACKET = 0x5d

/** Brackets waiting for their closing one; shared, since the scan is synchronous. */
let open = new Uint8Array(256)

/** After the white space of JSON (RFC 8259 §2). */
export function skipSpace(bytes: Uint8Array, from: number, end: number): number {
  let at = from
  while (at < end) {
    const c = bytes[at]
    if (c !== 0x20 && c !== 0x0a && c !== 0x0d && c !== 0x09) break
    at++
  }
  return at
}

/**
 * The place after the object or array that opens at `from`, or -1 when it does not end in [from, end). Follows strings, escapes and
 * the nesting of brackets; what stands between them is not checked, so the end is right for every valid value, however it is laid out.
 */
export function endOfContainer(bytes: Uint8Array, from: number, end: number): number {
  let depth = 0
  for (let at = from; at < end; at++) {
    const c = bytes[at]
    if (c === QUOTE) {
      at = closingQuote(bytes, at + 1, end)
      if (at < 0) return -1
    } else if (c === OPEN_BRACE || c === OPEN_BRACKET) {
      if (depth === open.length) {
        const more = new Uint8Array(depth * 2)
        more.set(open)
        open = more
      }
      open[depth++] = c + 2 // ASCII has } and ] two after { and [
    } else if (c === CLOSE_BRACE || c === CLOSE_BRACKET) {
      if (open[--depth] !== c) return -1
      if (depth === 0) return at + 1
    }
  }
  return -1
}

function closingQuote(bytes: Uint8Array, from: number, end: number): number {
  for (let at = from; at < end; at++) {
    const c = bytes[at]
    if (c === QUOTE) return at
    if (c === BACKSLASH) at++
  }
  return -1
}
