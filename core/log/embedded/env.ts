/**
 * One lmdb environment: a folder with one data file. Writes run on a thread of lmdb; reads are synchronous, of the
 * newest durable snapshot. `overlappingSync` is off: a transaction becomes visible only after fdatasync and the
 * synchronous write of its meta page (exactly-once.md row 9), and a failed flush rejects the write; with overlapping
 * sync it would be visible before it is durable and the promise of a failed flush would never settle.
 *
 * The data file never shrinks: space of trimmed rows is used again by later rows. The map grows by itself.
 */
import { closeSync, openSync, statfsSync, statSync, truncateSync, writeSync } from 'node:fs'
import { constants } from 'node:os'
import { join } from 'node:path'
import { open, type Database, type RootDatabase } from 'lmdb'
import { PermanentError, RetryableError } from '../../sdk/errors.ts'
import { limits } from '../../limits.ts'

/** full: certainly nothing was stored, there is no room. fenced: another daemon opened the folder. unknown: a flush or a meta page failed. */
export type WriteFault = 'full' | 'fenced' | 'unknown'

export class WriteError extends Error {
  readonly fault: WriteFault
  constructor(fault: WriteFault, message: string, cause?: unknown) {
    super(message, { cause })
    this.name = 'WriteError'
    this.fault = fault
  }
}

/** A failed write as other rooms see it: no room is retriable, a failed flush or another daemon is not. */
export function outward(what: string, e: unknown): unknown {
  if (!(e instanceof WriteError)) return e
  const message = `${what}: ${e.message}`
  return e.fault === 'full'
    ? new RetryableError('Log.DiskFull', message, { cause: e })
    : new PermanentError('Log.Poisoned', message, { cause: e })
}

/** value null removes the key. */
export interface Op {
  readonly key: Uint8Array
  readonly value: Uint8Array | null
  /** Size of the value that is removed. */
  readonly bytes?: number
}

/** Places where a test may stand between the log and the disk. */
export interface Seams {
  /** Address space of an environment at its opening, bytes. */
  readonly mapBytes?: number
  /** Bytes of rows read through one map, instead of limits.logReadMapBytes. */
  readonly readMapBytes?: number
  /** Runs before the transaction is given to lmdb; a throw is the answer of the disk. */
  beforeWrite?(dir: string): Promise<void>
  /** Runs after lmdb answered and before anybody learns of it; a throw is a failed flush. */
  afterWrite?(dir: string): Promise<void>
}

const BOOT = Buffer.from('boot')
const { ENOSPC, EDQUOT, EIO } = constants.errno // EDQUOT is another number on macOS than on Linux
const MDB_MAP_FULL = -30792
const NO_ROOM: ReadonlySet<unknown> = new Set([ENOSPC, EDQUOT, MDB_MAP_FULL, 'ENOSPC', 'EDQUOT'])
const zeros = new Uint8Array(limits.logSlackBytes)
/** lmdb looks at the first page of a value that it removes, and Linux maps so much around a page that is looked at. */
const MAPPED_AROUND = 64 * 1024
/** Pages that a transaction writes beside its values, bytes. */
const PAGES_BESIDE = 1024 * 1024

export interface KeyRange {
  readonly start: Uint8Array
  readonly end: Uint8Array
  readonly reverse?: boolean
  readonly limit?: number
}

export class Env {
  readonly dir: string
  /** Bytes that the file should have had and had not: it was cut off. Reading there answers with an error of its own. */
  readonly missingBytes: number
  #root!: RootDatabase<Uint8Array, Uint8Array>
  #boot!: Database<Uint8Array, Uint8Array>
  #data!: Database<Uint8Array, Uint8Array>
  readonly #seams: Seams
  #epoch = 0
  #tail: Promise<unknown> = Promise.resolve()
  #closed = false
  /** Bytes of rows that were read or looked at through this map. */
  #mappedBytes = 0
  #renewing: Promise<void> | null = null
  #closing = false
  /** Why the environment could not be opened again. */
  #lost: PermanentError | null = null

  constructor(dir: string, seams: Seams) {
    this.dir = dir
    this.#seams = seams
    let missing = 0
    this.#open(() => (missing = this.#mend()))
    this.missingBytes = missing
  }

  /** `beforeUse` runs when the file is open and none of its pages has been read. */
  #open(beforeUse: () => void): void {
    const o = { encoding: 'binary', keyEncoding: 'binary' } as const
    try {
      this.#root = open<Uint8Array, Uint8Array>({
        path: this.dir,
        ...o,
        maxDbs: 2,
        mapSize: this.#seams.mapBytes ?? limits.logMapBytes,
        overlappingSync: false,
        eventTurnBatching: false, // one write = one transaction, and no internal promise is left unhandled
      })
      beforeUse()
      this.#boot = this.#root.openDB({ name: 'boot', ...o, useVersions: true })
      this.#data = this.#root.openDB({ name: 'data', ...o })
    } catch (e) {
      throw new PermanentError('Log.Unreadable', `opening ${this.dir}: ${e instanceof Error ? e.message : String(e)}`, { cause: e })
    }
  }

  /** Not null while the map waits to be made anew, and is: await it, and look again, right before reading. */
  get renewing(): Promise<void> | null {
    return this.#renewing
  }

  /**
   * Pages of rows that were read or removed stay resident for as long as they are mapped: 1 GB of backlog would make the daemon 1 GB
   * larger while it is read, and by half of that when it is trimmed. Closing the environment between two writes and opening it again unmaps them.
   */
  #renewSoon(): void {
    this.#mappedBytes = 0
    // readers wait from now on: behind a long write they would map as much again
    this.#renewing = this.#tail.then(() => this.#renew())
    this.#tail = this.#renewing
  }
  async #renew(): Promise<void> {
    try {
      if (this.#closed) return
      this.#closing = true
      await this.#root.close()
      this.#open(() => {})
    } catch (e) {
      this.#lost = new PermanentError('Log.Unreadable', `making the map of ${this.dir} anew: ${String(e)}`, { cause: e })
    } finally {
      this.#closing = false
      this.#renewing = null
    }
  }

  #mapped(bytes: number): void {
    this.#mappedBytes += bytes
    const enough = this.#seams.readMapBytes ?? limits.logReadMapBytes
    if (this.#mappedBytes > enough && this.#renewing === null) this.#renewSoon()
  }

  /** lmdb throws out of a timer when it is read while it closes. */
  #mustBeOpen(): void {
    if (this.#lost !== null) throw this.#lost
    if (this.#closing) throw new Error(`reading ${this.dir} while its map is made anew: the caller did not await renewing`)
  }

  /**
   * A data file shorter than its pages (cut off by a copy or by a repair of the file system) would kill the process with
   * SIGBUS when the memory map is read there. Filled up with zeros, the pages that are missing fail their checks instead.
   */
  #mend(): number {
    const { lastPageNumber, pageSize } = this.#root.getStats() as { lastPageNumber: number; pageSize: number }
    const file = join(this.dir, 'data.mdb')
    const end = (lastPageNumber + 1) * pageSize
    const { size } = statSync(file)
    if (size < end) truncateSync(file, end)
    fill(file, Math.max(size, end), end + limits.logSlackBytes)
    return Math.max(0, end - size)
  }

  /** The boot epoch found in the environment, 0 = new. */
  foundEpoch(): number {
    return this.#boot.getEntry(BOOT)?.version ?? 0
  }

  /** Writes the boot epoch (durable when it resolves, and with it whatever was visible). Every later write holds only while it stands. */
  async takeOver(epoch: number): Promise<void> {
    const found = this.foundEpoch()
    if (found >= epoch) throw new WriteError('fenced', this.#fencedMessage(found, epoch))
    const put = (): void => void this.#boot.put(BOOT, BOOT, epoch)
    let ok: boolean
    try {
      ok = await settle(found === 0 ? this.#boot.ifNoExists(BOOT, put) : this.#boot.ifVersion(BOOT, found, put))
    } catch (e) {
      throw this.#faultOf(e, [])
    }
    if (!ok) throw new WriteError('fenced', this.#fencedMessage(this.foundEpoch(), epoch))
    this.#epoch = epoch
  }

  #fencedMessage(found: number, epoch: number): string {
    return `writing ${this.dir}: another daemon has opened this folder (boot ${found}, this daemon is boot ${epoch})`
  }

  /** All or nothing, durable when it resolves; one at a time, in order of the calls. Rejects with WriteError. */
  write(ops: readonly Op[]): Promise<void> {
    const result = this.#tail.then(() => this.#write(ops))
    this.#tail = result.catch(() => {}) // the caller has the error
    return result
  }

  async #write(ops: readonly Op[]): Promise<void> {
    if (this.#closed) throw new WriteError('unknown', `writing ${this.dir}: it is closed`)
    if (this.#lost !== null) throw new WriteError('unknown', this.#lost.message, this.#lost)
    let ok: boolean
    try {
      await this.#seams.beforeWrite?.(this.dir)
      ok = await settle(
        this.#boot.ifVersion(BOOT, this.#epoch, () => {
          for (const op of ops) void (op.value === null ? this.#data.remove(op.key) : this.#data.put(op.key, op.value))
        }),
      )
      await this.#seams.afterWrite?.(this.dir)
    } catch (e) {
      throw this.#faultOf(e, ops)
    }
    this.#data.resetReadTxn()
    this.#mapped(ops.reduce((sum, op) => sum + Math.min(op.bytes ?? 0, MAPPED_AROUND), 0))
    if (!ok) throw new WriteError('fenced', this.#fencedMessage(this.foundEpoch(), this.#epoch))
  }

  #faultOf(e: unknown, ops: readonly Op[]): WriteError {
    const { code, message } = e as { code?: unknown; message?: unknown }
    // lmdb adds addresses of its buffers
    const text = `writing ${this.dir}: ${String(message).replace(/: Attempting.*/s, '')}`
    const full = NO_ROOM.has(code) || (code === EIO && this.#noRoomFor(ops))
    // "no room" is believed only when the file really shows the state before
    if (full && !this.#shows(ops)) return new WriteError('full', text, e)
    return new WriteError('unknown', text, e)
  }

  /** lmdb calls a short write EIO, and the first write that meets a full disk is often short. The meta page is written last: nothing was stored. */
  #noRoomFor(ops: readonly Op[]): boolean {
    const { bavail, bsize } = statfsSync(this.dir)
    return bavail * bsize < ops.reduce((sum, op) => sum + (op.value?.length ?? 0), PAGES_BESIDE)
  }

  /** Whether the newest state holds the writes, or may. */
  #shows(ops: readonly Op[]): boolean {
    if (ops.length === 0) return false // only the boot epoch: it is written again
    try {
      this.#data.resetReadTxn()
      return ops.every((op) => {
        const now = this.get(op.key)
        return op.value === null ? now === undefined : now !== undefined && Buffer.compare(now, op.value) === 0
      })
    } catch {
      return true // lmdb refuses to read after a meta page failed: nothing is certain, the error at hand is told
    }
  }

  /** The value in lmdb's own buffer: good until the next read of any environment. */
  peek(key: Uint8Array): Uint8Array | undefined {
    this.#mustBeOpen()
    const shared = this.#data.getBinaryFast(key)
    this.#mapped(shared?.length ?? 0)
    return shared && new Uint8Array(shared.buffer, shared.byteOffset, shared.length)
  }
  /** A private copy. */
  get(key: Uint8Array): Uint8Array | undefined {
    this.#mustBeOpen()
    return this.#data.getBinary(key)
  }
  /** Keys with start ≤ key < end, or with `reverse` start ≥ key > end. */
  keys(r: KeyRange): Iterable<Uint8Array> {
    this.#mustBeOpen()
    return this.#data.getKeys(r)
  }

  /** Waits for writes under way. */
  async close(): Promise<void> {
    if (this.#closed) return
    await this.#tail
    this.#closed = true
    await this.#root.close()
  }
}

/** Gives [from, to) its blocks on the disk, as far as it has room: opening and small commits then work when it is full. */
function fill(file: string, from: number, to: number): void {
  const fd = openSync(file, 'r+')
  try {
    for (let at = from; at < to;) at += writeSync(fd, zeros, 0, Math.min(zeros.length, to - at), at)
  } catch (e) {
    if (!NO_ROOM.has((e as NodeJS.ErrnoException).code)) throw e
  } finally {
    closeSync(fd)
  }
}

/** lmdb rejects with "Commit failed" and tells the reason in a promise of its own. */
async function settle(p: Promise<boolean>): Promise<boolean> {
  try {
    return await p
  } catch (e) {
    const { commitError } = e as { commitError?: Promise<never> }
    if (commitError) await commitError
    throw e
  }
}
