import { createRequire } from 'node:module'
import { join } from 'node:path'
import type * as Lmdb from 'lmdb'
import type { Home } from './daemon.ts'

const { open } = createRequire(new URL('../../core/package.json', import.meta.url))('lmdb') as typeof Lmdb
const GROUP_ROOM = 3

/** The lanes' stored positions and notes, by row key in hex. */
export type Notes = ReadonlyMap<string, Uint8Array>

/** Reads the rows of a stopped daemon's folder; with `put` they are written back first: a store that has lost its tail. */
export async function editNotes(home: Home, put?: Notes): Promise<Notes> {
  const root = open<Uint8Array, Uint8Array>({
    path: join(home.folder, 'data', 'control'),
    maxDbs: 2,
    encoding: 'binary',
    keyEncoding: 'binary',
    overlappingSync: false,
  })
  try {
    const data = root.openDB<Uint8Array, Uint8Array>({ name: 'data', encoding: 'binary', keyEncoding: 'binary' })
    for (const [key, value] of put ?? []) await data.put(Buffer.from(key, 'hex'), value)
    const found = new Map<string, Uint8Array>()
    for (const key of data.getKeys({ start: Buffer.from([GROUP_ROOM]), end: Buffer.from([GROUP_ROOM + 1]) })) {
      const value = data.getBinary(key)
      if (value) found.set(Buffer.from(key).toString('hex'), new Uint8Array(value))
    }
    if (found.size === 0) throw new Error(`${home.folder}: no position is stored`)
    return found
  } finally {
    await root.close()
  }
}
