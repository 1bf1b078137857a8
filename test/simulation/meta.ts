import { ConflictError, type MetaStore, type Versioned } from '../../core/sdk/log.ts'

/** The registry's store, kept over the deaths of processes. */
export class MemoryMeta {
  readonly #rows = new Map<string, Versioned>()
  #version = 0

  has(key: string): boolean {
    return this.#rows.has(key)
  }

  of(life: { living(): Promise<void> }): MetaStore {
    return {
      get: async (key) => {
        await life.living()
        return this.#rows.get(key) ?? null
      },
      put: async (key, value, expected) => {
        await life.living()
        const was = this.#rows.get(key)
        if (expected !== 'any' && (was?.version ?? 'absent') !== expected) throw new ConflictError(key, expected, was?.version ?? 'absent')
        const version = ++this.#version
        if (value) this.#rows.set(key, { key, value, version })
        else this.#rows.delete(key)
        return version
      },
      scan: (prefix) => rows([...this.#rows.values()].filter((r) => r.key.startsWith(prefix))),
      watch: () => {
        throw new Error('not used')
      },
    }
  }
}

async function* rows(all: readonly Versioned[]): AsyncIterable<Versioned> {
  yield* all
}
