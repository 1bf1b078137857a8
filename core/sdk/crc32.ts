/**
 * CRC-32 (IEEE) of two ranges that follow each other, from theirs: so that bytes which one room has checked need not be read again by
 * the next. The method is zlib's crc32_combine: multiplying by x^(8·length) modulo the polynomial.
 */
const POLYNOMIAL = 0xedb8_8320
const ONE = 0x8000_0000

/** a·b modulo the polynomial; bit 31 is x^0. */
function multiply(a: number, b: number): number {
  let product = 0
  for (let bit = ONE, x = b; bit !== 0; bit >>>= 1) {
    if ((a & bit) !== 0) product ^= x
    x = (x & 1) === 0 ? x >>> 1 : (x >>> 1) ^ POLYNOMIAL
  }
  return product >>> 0
}

/** x^(2^n), n from 0 to 31: they repeat after that. */
const powers = new Uint32Array(32)
powers[0] = ONE >>> 1
for (let n = 1; n < 32; n++) powers[n] = multiply(powers[n - 1]!, powers[n - 1]!)

/** CRC of a range of CRC `first` followed by one of CRC `second` and `length` bytes. */
export function crc32Combine(first: number, second: number, length: number): number {
  let shift = ONE
  for (let n = 3, left = length; left > 0; left = Math.floor(left / 2), n++) {
    if (left % 2 === 1) shift = multiply(powers[n % 32]!, shift)
  }
  return (multiply(shift, first) ^ second) >>> 0
}
