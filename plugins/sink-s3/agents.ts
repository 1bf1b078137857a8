import * as http from 'node:http'
import * as https from 'node:https'
import type { Duplex } from 'node:stream'

/**
 * Connections that are not used again: a store that refuses a PUT before it has read the body, and then reads the rest of that body as
 * the next request, would answer the call after next with somebody else's answer (seen with versitygw 1.7 and --keep-alive).
 */
const doubtful = new WeakSet<object>()

/** Called with the SDK's answer to a refused call: its connection is closed once the answer is read. */
export function doubt(response: object): void {
  const body = 'body' in response ? response.body : undefined
  const socket = typeof body === 'object' && body !== null && 'socket' in body ? body.socket : undefined
  if (typeof socket === 'object' && socket !== null) doubtful.add(socket)
}

/** Node's agents ask this before they keep a connection; the typings leave it out of the result. */
class Http extends http.Agent {
  override keepSocketAlive(socket: Duplex): boolean {
    return !doubtful.has(socket) && (super.keepSocketAlive(socket) as unknown as boolean)
  }
}
class Https extends https.Agent {
  override keepSocketAlive(socket: Duplex): boolean {
    return !doubtful.has(socket) && (super.keepSocketAlive(socket) as unknown as boolean)
  }
}

export function httpAgent(maxSockets: number): http.Agent {
  return new Http({ keepAlive: true, maxSockets })
}
export function httpsAgent(maxSockets: number, o: https.AgentOptions): https.Agent {
  return new Https({ ...o, keepAlive: true, maxSockets })
}
