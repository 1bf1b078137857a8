/** The MetaStore of the embedded log: keys of the control environment, versions rising over the whole store. */
import { ConflictError, type MetaChange, type MetaStore, type Versioned } from '../../sdk/log.ts'
import { limits } from '../../limits.ts'
import type { Control } from './control.ts'
import { outward } from './env.ts'
import { afterPrefix, keyText, META, SYSTEM, textKey } from './keys.ts'

const COUNTER = textKey(SYSTEM, 'meta-version')
const VERSION_BYTES = 8

interface Watcher {
  readonly prefix: string
  /** Newest version of each key not yet told, in the order of the versions; values are read when they are told. */
  readonly changed: Map<string, number>
  wake(): void
}

export class EmbeddedMeta implements MetaStore {
  readonly #control: Control
  readonly #watchers = new Set<Watcher>()
  #closed = false

  constructor(control: Control) {
    this.#control = control
  }

  get(key: string): Promise<Versioned | null> {
    return Promise.resolve(this.#read(key))
  }

  put(key: string, value: Uint8Array | null, expected: number | 'absent' | 'any'): Promise<number> {
    const k = textKey(META, key)
    if (key === '' || k.length > limits.metaKeyBytes) {
      return Promise.reject(new RangeError(`writing a key of ${k.length - 1} bytes: the limit is 1 to ${limits.metaKeyBytes - 1}`))
    }
    const copy = value === null ? null : Uint8Array.from(value)
    const written = this.#control.submit((c) => {
      const found = c.get(k)
      const actual = found === undefined ? 'absent' : versionOf(found)
      if (expected !== 'any' && expected !== actual) throw new ConflictError(key, expected, actual)
      const counter = c.get(COUNTER)
      const version = (counter === undefined ? 0 : versionOf(counter)) + 1
      c.put(COUNTER, stamped(version, new Uint8Array(0)))
      c.put(k, copy === null ? null : stamped(version, copy))
      c.after(() => this.#tell(key, version))
      return version
    })
    return written.catch((e: unknown) => {
      throw outward(`writing ${key}`, e)
    })
  }

  async *scan(prefix: string): AsyncIterable<Versioned> {
    for (const key of this.#keys(prefix)) {
      const v = this.#read(key)
      if (v !== null) yield v // deleted since the listing
    }
  }

  async *watch(prefix: string, signal: AbortSignal): AsyncIterable<MetaChange> {
    let wake: (() => void) | null = null
    const w: Watcher = { prefix, changed: new Map(), wake: () => wake?.() }
    // one synchronous step: what is not in the listing is told as a change
    this.#watchers.add(w)
    const keys = this.#keys(prefix)
    const counter = this.#control.env.get(COUNTER)
    const caughtUp = counter === undefined ? 0 : versionOf(counter)
    const over = (): boolean => signal.aborted || this.#closed
    const onAbort = (): void => wake?.()
    signal.addEventListener('abort', onAbort)
    try {
      for (const key of keys) {
        if (over()) return
        const v = this.#read(key)
        if (v === null) continue // its deletion is told below
        if (w.changed.get(key) === v.version) w.changed.delete(key)
        yield v
      }
      if (over()) return
      yield { caughtUp }
      while (!over()) {
        for (const [key, version] of w.changed) {
          w.changed.delete(key)
          yield this.#read(key) ?? { key, value: null, version }
          if (over()) return
        }
        if (w.changed.size > 0) continue
        await new Promise<void>((r) => void (over() ? r() : (wake = r)))
        wake = null
      }
    } finally {
      this.#watchers.delete(w)
      signal.removeEventListener('abort', onAbort)
    }
  }

  /** Ends the watches. */
  close(): void {
    this.#closed = true
    for (const w of this.#watchers) w.wake()
  }

  #tell(key: string, version: number): void {
    for (const w of this.#watchers) {
      if (!key.startsWith(w.prefix)) continue
      w.changed.delete(key) // to the end: version order
      w.changed.set(key, version)
      w.wake()
    }
  }

  #keys(prefix: string): string[] {
    const start = textKey(META, prefix)
    const found: string[] = []
    for (const key of this.#control.env.keys({ start, end: afterPrefix(start) })) found.push(keyText(key))
    return found
  }

  #read(key: string): Versioned | null {
    const found = this.#control.env.get(textKey(META, key))
    return found === undefined ? null : { key, value: found.subarray(VERSION_BYTES), version: versionOf(found) }
  }
}

function versionOf(row: Uint8Array): number {
  return new DataView(row.buffer, row.byteOffset, row.length).getFloat64(0, true)
}
function stamped(version: number, value: Uint8Array): Uint8Array {
  const row = new Uint8Array(VERSION_BYTES + value.length)
  new DataView(row.buffer).setFloat64(0, version, true)
  row.set(value, VERSION_BYTES)
  return row
}
