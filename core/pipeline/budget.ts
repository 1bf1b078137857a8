import { crc32 } from 'node:zlib'
import type { FileHandle, Host } from '../sdk/host.ts'
import { crc32Base64, sliceChunks } from '../format/body.ts'
import type { Body, BodyWriter } from '../format/types.ts'
import type { Events } from '../telemetry/events.ts'

/** One memory budget for the daemon (limits.memory): encoded bodies and pieces in hand. */
export class MemoryBudget {
  readonly limit: number
  readonly #events: Events
  #used = 0
  #spilled = 0
  #waiting = 0
  readonly #shares = new Set<MemoryShare>()

  constructor(limit: number, events: Events) {
    this.limit = limit
    this.#events = events
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
  change(bytes: number, spilled = 0, waiting = 0): void {
    this.#used += bytes
    this.#spilled += spilled
    this.#waiting += waiting
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

  constructor(share: MemoryShare, host: Host, spillDir: string) {
    this.#share = share
    this.#host = host
    this.#dir = spillDir
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
    this.#chunks = []
    this.#share.give(this.#memory)
    this.#memory = 0
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
      open: (start = 0, end = size) => (this.#file ? readFile(this.#file.handle, start, end) : readChunks(this.#chunks, start, end)),
      release: () => this.abort(),
    })
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

async function* readChunks(chunks: readonly Uint8Array[], start: number, end: number): AsyncIterable<Uint8Array> {
  yield* sliceChunks(chunks, start, end)
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
