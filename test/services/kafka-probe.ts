/** The smallest question that tells whether a broker is there for clients, by hand: readiness must not depend on the client under test. */
import { connect } from 'node:net'

const ANSWER_MS = 1_000
const METADATA = 3
const CORRELATION = 7

/** Ids of the brokers that the one at this port of 127.0.0.1 knows as alive; null when it does not answer. */
export function knownBrokers(port: number): Promise<number[] | null> {
  return new Promise((resolve) => {
    const socket = connect({ port, host: '127.0.0.1' })
    const parts: Buffer[] = []
    const end = (ids: number[] | null): void => {
      socket.destroy()
      resolve(ids)
    }
    socket.setTimeout(ANSWER_MS, () => end(null))
    socket.on('error', () => end(null)) // not up yet
    socket.on('close', () => end(null))
    socket.on('data', (part: Buffer) => {
      parts.push(part)
      const all = Buffer.concat(parts)
      if (all.length >= 4 && all.length >= 4 + all.readInt32BE(0)) end(brokersOf(all.subarray(4)))
    })
    socket.write(question())
  })
}

/** Metadata v1 about no topic at all. */
function question(): Buffer {
  const b = Buffer.alloc(4 + 2 + 2 + 4 + 2 + 4)
  b.writeInt32BE(b.length - 4, 0)
  b.writeInt16BE(METADATA, 4)
  b.writeInt16BE(1, 6)
  b.writeInt32BE(CORRELATION, 8)
  b.writeInt16BE(-1, 12) // no client id
  return b
}

function brokersOf(answer: Buffer): number[] | null {
  if (answer.readInt32BE(0) !== CORRELATION) return null
  const ids: number[] = []
  let at = 8
  for (let left = answer.readInt32BE(4); left > 0; left--) {
    ids.push(answer.readInt32BE(at))
    at += 4
    at += 2 + answer.readInt16BE(at) // host
    at += 4 // port
    at += 2 + Math.max(answer.readInt16BE(at), 0) // rack
  }
  return ids
}
