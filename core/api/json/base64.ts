/** What Node's decoder lets pass and AWS does not: everything here is about telling a good blob from a nearly good one. */

const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/'
/** By character code: how many low bits of its six are zero, capped at 4 (the last digit before padding must end in zeros). */
const zeroBits = new Uint8Array(256)
for (let v = 0; v < 64; v++) zeroBits[alphabet.charCodeAt(v)] = v % 16 === 0 ? 4 : v % 4 === 0 ? 2 : 0

const EQUALS = 0x3d

/**
 * Bytes that a base64 text of `length` characters stands for, if all its characters are good: a multiple of four, padding only at the
 * end, unused bits zero. −1 when its shape is wrong already. `c1`, `c2`, `c3` are the last three characters (codes).
 */
export function decodedLength(length: number, c3: number, c2: number, c1: number): number {
  if ((length & 3) !== 0) return -1
  if (length === 0) return 0
  const bytes = (length >>> 2) * 3
  if (c1 !== EQUALS) return bytes
  if (c2 !== EQUALS) return zeroBits[c2 & 0xff] === 0 ? -1 : bytes - 1
  return zeroBits[c3 & 0xff] === 4 ? bytes - 2 : -1
}

/** What is wrong with a base64 text, in AWS's words, or null. Slow and exact: for the path that is not hot. */
export function base64Problem(text: string): string | null {
  const n = text.length
  if (n % 4 !== 0) return `Base64 encoded length is expected a multiple of 4 bytes but found: ${n}`
  const bad = /[^A-Za-z0-9+/=]|=(?!=?$)/.exec(text)
  if (bad) return `Invalid Base64 character: '${bad[0]}'`
  if (decodedLength(n, text.charCodeAt(n - 3), text.charCodeAt(n - 2), text.charCodeAt(n - 1)) === -1) {
    return 'Invalid last non-pad Base64 character dectected' // AWS's own spelling
  }
  return null
}

/** Decoded bytes of a good base64 text. */
export function base64Bytes(text: string): number {
  const n = text.length
  return decodedLength(n, text.charCodeAt(n - 3), text.charCodeAt(n - 2), text.charCodeAt(n - 1))
}
