/**
 * The control environment and its one writer: topics, group positions and notes, the MetaStore, the folder's id and boot
 * count. Changes queue while a transaction is made durable; all that wait go into the next one. Each change reads the
 * state the changes before it leave, in the same synchronous step in which it writes.
 */
import { ConfigError } from '../../sdk/errors.ts'
import { Env, WriteError, type Op, type Seams } from './env.ts'
import type { Poison } from './health.ts'
import { SYSTEM, textKey } from './keys.ts'

/** What a change sees and writes. Its writes count only if it does not throw. */
export interface Change {
  get(key: Uint8Array): Uint8Array | undefined
  put(key: Uint8Array, value: Uint8Array | null): void
  /** Runs when the change is durable, before its promise resolves, in the order of the changes. */
  after(fn: () => void): void
}
interface Pending {
  run(c: Overlay): { durable(): void; failed(e: WriteError): void } | null
}

const FOLDER = textKey(SYSTEM, 'folder')
const IDENTITY = textKey(SYSTEM, 'identity')
const utf8 = (b: Uint8Array): string => Buffer.from(b.buffer, b.byteOffset, b.length).toString()

class Overlay {
  readonly #env: Env
  readonly #changed = new Map<string, Op>()

  constructor(env: Env) {
    this.#env = env
  }
  get(key: Uint8Array): Uint8Array | undefined {
    const op = this.#changed.get(latin(key))
    return op === undefined ? this.#env.get(key) : (op.value ?? undefined)
  }
  merge(ops: Iterable<Op>): void {
    for (const op of ops) this.#changed.set(latin(op.key), op)
  }
  ops(): Op[] {
    return [...this.#changed.values()]
  }
}
const latin = (key: Uint8Array): string => Buffer.from(key.buffer, key.byteOffset, key.length).toString('latin1')

export class Control {
  readonly env: Env
  readonly bootEpoch: number
  #folderId = ''
  readonly #poison: Poison
  #queue: Pending[] = []
  #running: Promise<void> | null = null
  #closed = false

  private constructor(env: Env, bootEpoch: number, poison: Poison) {
    this.env = env
    this.bootEpoch = bootEpoch
    this.#poison = poison
  }

  /** Counts the boot (durable before anything is read). */
  static async open(dir: string, poison: Poison, seams: Seams): Promise<Control> {
    const env = new Env(dir, seams)
    const bootEpoch = env.foundEpoch() + 1
    try {
      await env.takeOver(bootEpoch)
    } catch (e) {
      await env.close()
      throw e
    }
    return new Control(env, bootEpoch, poison)
  }

  get folderId(): string {
    return this.#folderId
  }

  /**
   * Settles who this folder is. `identity` is what a copy would not share; with `restored` the folder gets a new id and
   * `renew` writes what hangs on it, in the same transaction.
   */
  async settleFolder(o: {
    path: string
    identity: string
    restored: boolean
    newId(): string
    renew(c: Change, id: string): void
  }): Promise<void> {
    const found = this.env.get(FOLDER)
    const identity = this.env.get(IDENTITY)
    if (found && identity && utf8(identity) !== o.identity && !o.restored) {
      throw new ConfigError(
        'Log.FolderCopied',
        `the data folder ${o.path} is a copy of another one (its files are not those it was made with): two logs with the same ids ` +
          `would deliver different records under the same names. If it was restored from a backup, start it once with \`hydrant serve --restored\``,
      )
    }
    const id = found && !o.restored ? utf8(found) : o.newId()
    this.#folderId = id
    await this.submit((c) => {
      if (!found || o.restored) c.put(FOLDER, Buffer.from(id))
      c.put(IDENTITY, Buffer.from(o.identity))
      if (found && o.restored) o.renew(c, id)
    })
  }

  /** Runs `change` inside the next transaction; resolves with its result once that is durable. Rejects with what it throws, or with WriteError. */
  submit<T>(change: (c: Change) => T): Promise<T> {
    if (this.#closed) return Promise.reject(new WriteError('unknown', `writing ${this.env.dir}: the log is closed`))
    if (this.#poison.reason !== null) return Promise.reject(new WriteError('fenced', this.#poison.reason))
    return new Promise<T>((resolve, reject) => {
      this.#queue.push({ run: (overlay) => runChange(overlay, change, resolve, reject) })
      this.#running ??= this.#run()
    })
  }

  async #run(): Promise<void> {
    while (this.#queue.length > 0) {
      await new Promise<void>((r) => void setImmediate(r)) // lets the changes of this turn in
      await this.#transaction(this.#queue.splice(0))
    }
    this.#running = null
  }

  async #transaction(pending: readonly Pending[]): Promise<void> {
    const overlay = new Overlay(this.env)
    const done = pending.map((p) => p.run(overlay)).filter((d) => d !== null)
    const ops = overlay.ops()
    try {
      this.#mustBeSound('fenced')
      if (ops.length > 0) await this.env.write(ops)
      this.#mustBeSound('unknown')
    } catch (e) {
      const error = e instanceof WriteError ? e : new WriteError('unknown', String(e), e)
      if (error.fault !== 'full') this.#poison.set('', error.message)
      for (const d of done) d.failed(error)
      return
    }
    for (const d of done) d.durable()
  }

  /** No acknowledgement once the log is poisoned, also when a stream did it. */
  #mustBeSound(fault: 'fenced' | 'unknown'): void {
    if (this.#poison.reason !== null) throw new WriteError(fault, this.#poison.reason)
  }

  async close(): Promise<void> {
    this.#closed = true
    while (this.#running !== null) await this.#running
    await this.env.close()
  }
}

function runChange<T>(
  overlay: Overlay,
  change: (c: Change) => T,
  resolve: (t: T) => void,
  reject: (e: unknown) => void,
): ReturnType<Pending['run']> {
  const own = new Map<string, Op>()
  const after: (() => void)[] = []
  let result: T
  try {
    result = change({
      get: (key) => {
        const op = own.get(latin(key))
        return op === undefined ? overlay.get(key) : (op.value ?? undefined)
      },
      put: (key, value) => void own.set(latin(key), { key, value }),
      after: (fn) => void after.push(fn),
    })
  } catch (e) {
    reject(e)
    return null
  }
  overlay.merge(own.values())
  return {
    durable: () => {
      for (const fn of after) fn()
      resolve(result)
    },
    failed: reject,
  }
}
