import type { BufferPool } from '../../sdk/pool.ts'

/** One answer of a broker, without its size. */
export interface Frame {
  readonly bytes: Buffer
  /** Its memory comes from the pool; else it is the holder's own. */
  readonly pooled: boolean
  /** Nobody looks at `bytes` any more. Throws the second time: the memory may be another's by then. */
  readonly release: () => void
}
/** What came cannot be an answer. */
export class FrameError extends Error {}

const SIZE = 4
const CORRELATION = 4
/** 0x15: a TLS alert, 0x16: a TLS handshake; then the version, 3.x. */
const looksLikeTls = (size: number): boolean => size >>> 24 >= 0x15 && size >>> 24 <= 0x16 && ((size >>> 16) & 0xff) === 3

/**
 * Cuts what is read into frames. Small ones are copied out of a block that all share. As soon as the size of a larger one is known it is
 * read straight into memory of its own, so its bytes are touched once, and whatever the broker sends above what was asked for fits.
 */
export class FrameReader {
  readonly #pool: BufferPool
  readonly #most: number
  readonly #emit: (f: Frame) => void
  readonly #block: Buffer
  #begin = 0
  #end = 0
  #large: Buffer | null = null
  #filled = 0

  /** `most`: bytes of a frame; a larger one is a FrameError. `emit` is called from within `filled`. */
  constructor(o: { pool: BufferPool; block: number; most: number; emit: (f: Frame) => void }) {
    this.#pool = o.pool
    this.#most = o.most
    this.#emit = o.emit
    this.#block = Buffer.allocUnsafeSlow(o.block)
  }

  /** Where the next bytes go. */
  room(): Uint8Array {
    if (this.#large) return this.#large.subarray(this.#filled)
    if (this.#begin > 0) {
      this.#block.copyWithin(0, this.#begin, this.#end)
      this.#end -= this.#begin
      this.#begin = 0
    }
    return this.#block.subarray(this.#end)
  }

  /** So many bytes came into what `room` gave last. Throws FrameError. */
  filled(bytes: number): void {
    if (this.#large) {
      this.#filled += bytes
      if (this.#filled < this.#large.length) return
      const whole = this.#large
      this.#large = null
      this.#emit(this.#pooled(whole))
      return
    }
    this.#end += bytes
    while (this.#end - this.#begin >= SIZE) {
      const size = this.#size(this.#block.readInt32BE(this.#begin))
      const from = this.#begin + SIZE
      const to = from + size
      if (to <= this.#end) {
        this.#begin = to
        this.#emit(own(Buffer.from(this.#block.subarray(from, to))))
      } else if (SIZE + size > this.#block.length) {
        this.#large = Buffer.from(this.#pool.take(size), 0, size)
        this.#filled = this.#block.copy(this.#large, 0, from, this.#end)
        this.#begin = this.#end = 0
        return
      } else return
    }
  }

  #size(announced: number): number {
    if (announced >= CORRELATION && announced <= this.#most) return announced
    const why = looksLikeTls(announced) ? ': these are bytes of TLS, and this connection is plain; set tls' : ''
    throw new FrameError(`an answer of ${announced} bytes was announced, and it has ${CORRELATION} to ${this.#most}${why}`)
  }

  #pooled(bytes: Buffer): Frame {
    let out = true
    const release = (): void => {
      if (!out) throw new Error(`an answer of ${bytes.length} bytes was released twice`)
      out = false
      this.#pool.give(bytes.buffer)
    }
    return { bytes, pooled: true, release }
  }
}

const own = (bytes: Buffer): Frame => ({ bytes, pooled: false, release: () => {} })
