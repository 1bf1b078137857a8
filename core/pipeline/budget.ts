import { crc32 } from 'node:zlib'
import type { FileHandle, Host } from '../sdk/host.ts'
import { crc32Base64, sliceChunks } from '../format/body.ts'
import { limits } from '../limits.ts'
import { BufferPool } from '../sdk/pool.ts'
import type { Body, BodyWriter } from '../format/types.ts'
import type { Events } from '../telemetry/events.ts'

/**
 * One memory budget for the daemon (limits.memory): encoded bodies. What they give back is kept for the next ones as far as the budget
 * has room beside them, so that bodies and free memory together stay within it.
 */
export class MemoryBudget {
  readonly limit: number
  readonly pool: BufferPool
  readonly #events: Events
  #used = 0
  #spilled = 0
  #waiting = 0
  readonly #shares = new Set<MemoryShare>()

  constructor(limit: number, events: Events) {
    this.limit = limit
    this.#events = events
    this.pool = new BufferPool(() => this.#kept)
  }
  get used(): number {
    return this.#used
  }
  /** A pipeline's part: at most limit / pipelines, so that a sick one cannot starve the others (row 22). */
  share(): MemoryShare {
    const share = new MemoryShare(this)
    this.#shares.add(share)
    return share
  }
  end(share: MemoryShare): void {
    this.#shares.delete(share)
  }
  get cap(): number {
    return this.limit / Math.max(1, this.#shares.size)
  }
  /** Free memory that is kept beside the bodies. */
  get #kept(): number {
    return Math.min(this.limit - this.#used, this.#used === 0 ? limits.idleBodyBytes : Infinity)
  }
  change(bytes: number, spilled = 0, waiting = 0): void {
    this.#used += bytes
    this.#spilled += spilled
    this.#waiting += waiting
    if (bytes !== 0) this.pool.shrink(this.#kept)
    this.#events.emit({
      type: 'memory.changed',
      usedBytes: this.#used,
      limitBytes: this.limit,
      waiting: this.#waiting,
      spilledBytes: this.#spilled,
    })
  }
}

export class MemoryShare {
  readonly #budget: MemoryBudget
  #used = 0

  constructor(budget: MemoryBudget) {
    this.#budget = budget
  }
  /** Memory of bodies, used again. Only what a body holds is counted. */
  get pool(): BufferPool {
    return this.#budget.pool
  }
  tryTake(bytes: number): boolean {
    if (this.#used + bytes > this.#budget.cap || this.#budget.used + bytes > this.#budget.limit) return false
    this.#used += bytes
    this.#budget.change(bytes)
    return true
  }
  give(bytes: number): void {
    this.#used -= bytes
    this.#budget.change(-bytes)
  }
  spilled(bytes: number): void {
    this.#budget.change(0, bytes)
  }
  /** A lane waits for memory until `until` settles. */
  async waiting(until: Promise<unknown>): Promise<void> {
    this.#budget.change(0, 0, 1)
    try {
      await until
    } finally {
      this.#budget.change(0, 0, -1)
    }
  }
  /** Is there room for a lane to open one more cut beside those it has? */
  get crowded(): boolean {
    return this.#used > this.#budget.cap * 0.4 || this.#budget.used > this.#budget.limit * 0.9
  }
  end(): void {
    this.#budget.end(this)
  }
}

const SPILL_READ = 1024 * 1024
let spillNumber = 0

/** Keeps a body in memory while its share gives it, then moves it to a spill file: a recovered cut is never held whole. */
export function bodyWriter(share: MemoryShare, host: Host, spillDir: string): BodyWriter {
  return new SpillingBody(share, host, spillDir)
}

/** Steps come one after the other: an abort waits for the write under way, so that no file is opened behind it. */
class SpillingBody implements BodyWriter {
  readonly #share: MemoryShare
  readonly #host: Host
  readonly #dir: string
  #chunks: Uint8Array[] = []
  #memory = 0
  #size = 0
  #spilled = 0
  #crc = 0
  #file: { handle: FileHandle; path: string } | null = null
  #busy: Promise<void> = Promise.resolve()
  #dropped = false
  /** Borrowed and not told to be over. */
  #readers = 0

  constructor(share: MemoryShare, host: Host, spillDir: string) {
    this.#share = share
    this.#host = host
    this.#dir = spillDir
  }

  take(bytes: number): Uint8Array {
    return new Uint8Array(this.#share.pool.take(bytes), 0, bytes)
  }
  give({ buffer }: Uint8Array): void {
    this.#share.pool.give(buffer)
  }

  write(chunk: Uint8Array): Promise<void> {
    if (chunk.length === 0) return Promise.resolve()
    return this.#inTurn(() => {
      if (this.#dropped) throw new Error('writing to a body that was given up')
      return this.#write(chunk)
    })
  }
  #inTurn(step: () => Promise<void>): Promise<void> {
    const mine = this.#busy.then(step)
    this.#busy = mine.catch(() => {})
    return mine
  }

  async #write(chunk: Uint8Array): Promise<void> {
    if (!this.#file && this.#share.tryTake(chunk.length)) {
      this.#memory += chunk.length
      this.#chunks.push(chunk)
    } else {
      const file = this.#file ?? (await this.#spill())
      await file.handle.write(chunk, this.#size)
      this.#count(chunk.length)
    }
    this.#crc = crc32(chunk, this.#crc)
    this.#size += chunk.length
    if (this.#file) this.#reuse([chunk])
  }
  async #spill(): Promise<{ handle: FileHandle; path: string }> {
    const path = `${this.#dir}/${process.pid}-${++spillNumber}`
    const file = { handle: await this.#host.fs.open(path, 'wx+'), path }
    this.#file = file
    let at = 0
    for (const c of this.#chunks) {
      await file.handle.write(c, at)
      at += c.length
    }
    this.#count(this.#memory)
    this.#giveMemory()
    return file
  }
  #count(bytes: number): void {
    this.#spilled += bytes
    this.#share.spilled(bytes)
  }
  #giveMemory(): void {
    const chunks = this.#chunks
    this.#chunks = []
    this.#share.give(this.#memory)
    this.#memory = 0
    if (this.#readers === 0) this.#reuse(chunks)
  }
  /** Chunks that nobody reads any more. Those which were not taken here are left to the collector. */
  #reuse(chunks: readonly Uint8Array[]): void {
    const { pool } = this.#share
    for (const { buffer } of chunks) if (pool.owns(buffer)) pool.give(buffer)
  }

  finish(): Promise<Body> {
    const size = this.#size
    const memory = (): number => this.#memory
    return Promise.resolve({
      size,
      crc32: crc32Base64(this.#crc),
      get memoryBytes() {
        return memory()
      },
      open: (start = 0, end = size) => (this.#file ? readFile(this.#file.handle, start, end) : this.#read(start, end)),
      borrow: () => this.#borrow(),
      release: () => this.abort(),
    })
  }
  #borrow(): () => void {
    this.#readers++
    let reads = true
    return () => {
      if (reads) this.#readers--
      reads = false
    }
  }
  async *#read(start: number, end: number): AsyncIterable<Uint8Array> {
    for (const piece of sliceChunks(this.#chunks, start, end)) {
      if (this.#dropped) break
      yield piece
    }
    // what stands there now may be another object
    if (this.#dropped) throw new Error(`reading a body of ${this.#size} bytes: it was released`)
  }
  /** Also what releasing the finished body does; a second call does nothing. */
  abort(): Promise<void> {
    return this.#inTurn(async () => {
      if (this.#dropped) return
      this.#dropped = true
      this.#giveMemory()
      this.#share.spilled(-this.#spilled)
      const file = this.#file
      if (!file) return
      this.#file = null
      try {
        await file.handle.close()
      } finally {
        await this.#host.fs.unlink(file.path)
      }
    })
  }
}

async function* readFile(handle: FileHandle, start: number, end: number): AsyncIterable<Uint8Array> {
  for (let at = start; at < end;) {
    const piece = new Uint8Array(Math.min(SPILL_READ, end - at))
    const n = await handle.read(piece, at)
    if (n === 0) throw new Error(`reading a spilled body at ${at}: it ends before ${end}`)
    yield piece.subarray(0, n)
    at += n
  }
}
