/** Keys of the environments. Big-endian, so that byte order is numeric order. */
import { PermanentError } from '../../sdk/errors.ts'
import { limits } from '../../limits.ts'

export const ROW = 1
export const PARTITION = 2
export const EPOCH = 3

export const SYSTEM = 1
export const TOPIC = 2
export const GROUP = 3
export const META = 4

/** What can be told of a row without reading it: it stands in the row's key, so that seeking by time or trimming touches no data. */
export interface RowKey {
  readonly key: Uint8Array
  readonly partition: number
  readonly baseOffset: number
  readonly count: number
  readonly appendTimeMs: number
  readonly leaderEpoch: number
  /** Of the whole row. */
  readonly bytes: number
}

export function rowKey(r: Omit<RowKey, 'key'>): Uint8Array {
  const k = Buffer.allocUnsafe(29)
  k[0] = ROW
  k.writeUInt32BE(r.partition, 1)
  k.writeUIntBE(r.baseOffset, 5, 6)
  k.writeUInt32BE(r.count, 11)
  k.writeUIntBE(r.appendTimeMs, 15, 6)
  k.writeUInt32BE(r.leaderEpoch, 21)
  k.writeUInt32BE(r.bytes, 25)
  return k
}
export function parseRowKey(key: Uint8Array): RowKey {
  const k = Buffer.from(key.buffer, key.byteOffset, key.length)
  return {
    key,
    partition: k.readUInt32BE(1),
    baseOffset: k.readUIntBE(5, 6),
    count: k.readUInt32BE(11),
    appendTimeMs: k.readUIntBE(15, 6),
    leaderEpoch: k.readUInt32BE(21),
    bytes: k.readUInt32BE(25),
  }
}
/** Sorts before every row of the partition whose base offset is ≥ `offset`, and after all others. */
export function rowBound(partition: number, offset: number): Uint8Array {
  const k = Buffer.allocUnsafe(11)
  k[0] = ROW
  k.writeUInt32BE(partition, 1)
  k.writeUIntBE(offset, 5, 6)
  return k
}
export function partitionKey(partition: number): Uint8Array {
  const k = Buffer.allocUnsafe(5)
  k[0] = PARTITION
  k.writeUInt32BE(partition, 1)
  return k
}
export function epochKey(partition: number, epoch: number): Uint8Array {
  const k = Buffer.allocUnsafe(9)
  k[0] = EPOCH
  k.writeUInt32BE(partition, 1)
  k.writeUInt32BE(epoch, 5)
  return k
}
export function textKey(room: number, text: string): Uint8Array {
  const bytes = Buffer.from(text)
  const k = Buffer.allocUnsafe(1 + bytes.length)
  k[0] = room
  bytes.copy(k, 1)
  return k
}
export function keyText(key: Uint8Array): string {
  return Buffer.from(key.buffer, key.byteOffset + 1, key.length - 1).toString()
}
/** The first key after all keys that start with `prefix`. */
export function afterPrefix(prefix: Uint8Array): Uint8Array {
  const k = Buffer.from(prefix)
  for (let i = k.length - 1; i >= 0; i--) {
    if (k[i] !== 255) {
      k[i] = (k[i] ?? 0) + 1
      return k.subarray(0, i + 1)
    }
  }
  throw new Error('a key prefix of only 0xff bytes has no end')
}

/** Names of topics and groups stand in keys: no control characters, and short enough for lmdb. */
export function checkName(what: string, name: string): void {
  if (/^[\x21-\x7e]+$/.test(name) && name.length <= limits.logNameChars) return
  throw new PermanentError('Log.Name', `${what} "${name}": a name is 1 to ${limits.logNameChars} printable ASCII characters without spaces`)
}
