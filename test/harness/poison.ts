import { BufferPool } from '../../core/sdk/pool.ts'

const given = new WeakSet<object>()
/**
 * From now on memory that comes back to a pool is overwritten at once, in this process: whoever still reads it is noticed by the test
 * that does so.
 */
export function poisonPools(): void {
  if (given.has(BufferPool.prototype)) return
  given.add(BufferPool.prototype)
  const give = Object.getOwnPropertyDescriptor(BufferPool.prototype, 'give')?.value as BufferPool['give']
  BufferPool.prototype.give = function (this: BufferPool, buffer: ArrayBufferLike): void {
    give.call(this, buffer)
    new Uint8Array(buffer).fill(0xdd)
  }
}
