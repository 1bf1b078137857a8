/**
 * Bytes that may be held at once. Whoever asks for more than is left waits in line; nobody overtakes, so that a large request is not
 * starved by small ones.
 */
export class ByteBudget {
  readonly #max: number
  #used = 0
  readonly #line: { bytes: number; go: () => void }[] = []
  constructor(max: number) {
    this.#max = max
  }
  get used(): number {
    return this.#used
  }
  get waiting(): number {
    return this.#line.length
  }
  /** Calls `go` as soon as the bytes are there, at once if they are. Returns what leaves the line again (no effect after `go`). */
  take(bytes: number, go: () => void): () => void {
    if (bytes > this.#max) throw new RangeError(`asking for ${bytes} bytes of a budget of ${this.#max}`)
    if (this.#line.length === 0 && this.#used + bytes <= this.#max) {
      this.#used += bytes
      go()
      return () => {}
    }
    const place = { bytes, go }
    this.#line.push(place)
    return () => {
      const at = this.#line.indexOf(place)
      if (at !== -1) this.#line.splice(at, 1)
      this.#serve()
    }
  }
  give(bytes: number): void {
    this.#used -= bytes
    this.#serve()
  }
  #serve(): void {
    for (;;) {
      const first = this.#line[0]
      if (!first || this.#used + first.bytes > this.#max) return
      this.#line.shift()
      this.#used += first.bytes
      first.go()
    }
  }
}
