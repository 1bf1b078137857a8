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
  change(bytes: number, spilled = 0): void {
    this.#used += bytes
    this.#spilled += spilled
    this.#events.emit({ type: 'memory.changed', usedBytes: this.#used, limitBytes: this.limit, waiting: 0, spilledBytes: this.#spilled })
  }
}

export class MemoryShare {
  readonly #budget: MemoryBudget
  #used = 0
  readonly #waiting = new Set<() => void>()

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
    for (const wake of this.#waiting) wake()
    this.#waiting.clear()
  }
  spilled(bytes: number): void {
    this.#budget.change(0, bytes)
  }
  /** Is there room for a lane to open one more cut beside those it has? */
  get crowded(): boolean {
    return this.#used > this.#budget.cap * 0.75 || this.#budget.used > this.#budget.limit * 0.9
  }
  /** Resolves at the next give(), or when the signal aborts. */
  changed(signal: AbortSignal): Promise<void> {
    if (signal.aborted) return Promise.resolve()
    return new Promise((resolve) => {
      const wake = (): void => {
        this.#waiting.delete(wake)
        signal.removeEventListener('abort', wake)
        resolve()
      }
      this.#waiting.add(wake)
      signal.addEventListener('abort', wake, { once: true })
    })
  }
  end(): void {
    this.#budget.end(this)
  }
}

const SPILL_READ = 1024 * 1024
let spillNumber = 0

/** Keeps a body in memory while its share gives it, then moves it to a spill file: a recovered cut is never held whole. */
export function bodyWriter(share: MemoryShare, host: Host, spillDir: string): BodyWriter {
  let chunks: Uint8Array[] = []
  let memory = 0
  let size = 0
  let crc = 0
  let file: { handle: FileHandle; path: string } | null = null

  const spill = async (): Promise<{ handle: FileHandle; path: string }> => {
    const path = `${spillDir}/${process.pid}-${++spillNumber}`
    const opened = { handle: await host.fs.open(path, 'wx'), path }
    file = opened
    let at = 0
    for (const c of chunks) {
      await opened.handle.write(c, at)
      at += c.length
    }
    chunks = []
    share.give(memory)
    share.spilled(memory)
    memory = 0
    return opened
  }
  const drop = async (): Promise<void> => {
    chunks = []
    share.give(memory)
    memory = 0
    if (file) {
      const f = file
      file = null
      share.spilled(-size)
      await f.handle.close()
      await host.fs.unlink(f.path)
    }
  }
  return {
    async write(chunk) {
      if (chunk.length === 0) return
      crc = crc32(chunk, crc)
      if (!file && share.tryTake(chunk.length)) {
        memory += chunk.length
        chunks.push(chunk)
      } else {
        const f = file ?? (await spill())
        await f.handle.write(chunk, size)
        share.spilled(chunk.length)
      }
      size += chunk.length
    },
    finish: () => {
      let released = false
      const body: Body = {
        size,
        crc32: crc32Base64(crc),
        get memoryBytes() {
          return memory
        },
        open: (start = 0, end = size) => (file ? readFile(file.handle, start, end) : readChunks(chunks, start, end)),
        release: async () => {
          if (released) return
          released = true
          await drop()
        },
      }
      return Promise.resolve(body)
    },
    abort: drop,
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
