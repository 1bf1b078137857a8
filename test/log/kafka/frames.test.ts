import { expect, test } from 'vitest'
import { FrameError, FrameReader, type Frame } from '../../../core/log/kafka/frames.ts'
import { BufferPool } from '../../../core/sdk/pool.ts'

const BLOCK = 64
function reader(most = 1_000_000): { frames: Frame[]; read: (bytes: Uint8Array, atOnce?: number) => void } {
  const frames: Frame[] = []
  const r = new FrameReader({ pool: new BufferPool(1 << 20), block: BLOCK, most, emit: (f) => frames.push(f) })
  // as the system does: at most what there is room for, and at most `most` of it
  const read = (bytes: Uint8Array, atOnce = Infinity): void => {
    for (let at = 0; at < bytes.length;) {
      const room = r.room()
      expect(room.length).toBeGreaterThan(0)
      const n = Math.min(room.length, bytes.length - at, atOnce)
      room.set(bytes.subarray(at, at + n))
      r.filled(n)
      at += n
    }
  }
  return { frames, read }
}
function sized(body: Uint8Array): Buffer {
  const b = Buffer.alloc(4 + body.length)
  b.writeInt32BE(body.length, 0)
  b.set(body, 4)
  return b
}
const body = (length: number, seed: number): Buffer => Buffer.from(Array.from({ length }, (_, i) => (i * 31 + seed) & 0xff))

test('frames of every size around the block, in pieces of every size', () => {
  const sizes = [4, 5, 59, 60, 61, 64, 65, 4, 4, 300, 10, 128, 5000, 4]
  const bodies = sizes.map((n, i) => body(n, i))
  const stream = Buffer.concat(bodies.map(sized))
  for (const atOnce of [1, 2, 3, 5, 7, 59, 60, 63, 64, 65, 1000, Infinity]) {
    const { frames, read } = reader()
    read(stream, atOnce)
    expect(frames.map((f) => f.bytes.toString('hex'))).toEqual(bodies.map((b) => b.toString('hex')))
    for (const f of frames) f.release()
  }
})

test('a small frame is its own memory, a large one is of the pool and released once', () => {
  const { frames, read } = reader()
  read(Buffer.concat([sized(body(20, 1)), sized(body(200, 2))]))
  const [small, large] = frames
  expect([small?.pooled, large?.pooled]).toEqual([false, true])
  read(Buffer.concat([sized(body(20, 9)), sized(body(200, 9))]))
  expect(small?.bytes).toEqual(body(20, 1))
  expect(large?.bytes).toEqual(body(200, 2))
  large?.release()
  expect(() => large?.release()).toThrow('an answer of 200 bytes was released twice')
})

test('released memory is used again', () => {
  const { frames, read } = reader()
  read(sized(body(200, 1)))
  const memory = frames[0]?.bytes.buffer
  frames[0]?.release()
  read(sized(body(300, 2)))
  expect(frames[1]?.bytes.buffer).toBe(memory)
})

test.each([
  ['beyond the limit', 1001, /an answer of 1001 bytes was announced, and it has 4 to 1000$/],
  ['negative', -1, /an answer of -1 bytes/],
  ['too small for a correlation id', 3, /an answer of 3 bytes/],
  ['a TLS alert', 0x15030300, /bytes of TLS, and this connection is plain; set tls/],
])('a size that is %s is refused before memory is taken', (_, size, message) => {
  const { read } = reader(1000)
  const b = Buffer.alloc(4)
  b.writeInt32BE(size, 0)
  const reading = (): void => read(b)
  expect(reading).toThrow(FrameError)
  expect(() => {
    reader(1000).read(b)
  }).toThrow(message)
})
