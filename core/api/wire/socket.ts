import { Socket, type SocketConstructorOpts } from 'node:net'
import type { Duplex } from 'node:stream'
import { TLSSocket } from 'node:tls'
import { Http1, type Http1Shared, type Pipe } from './http1.ts'

/** Bytes read at once where they may be anything. All connections share the memory: what is read is taken, or copied, before the next read. */
const READ_BYTES = 64 * 1024

/**
 * Serves HTTP/1.1 on connections. Node reads every 64 KiB of a socket into new memory, and that memory drives the garbage collector;
 * `onread` (documented for sockets that connect) lets it read into ours: into one shared block, or, where nothing but a body can come, right into
 * the body. An accepted socket gets it by being made again around its handle. Where that is not possible, bytes are taken as they come: the
 * same, slower. So inside TLS, whose handle calls back into its own kind of socket (a renegotiation would throw there).
 */
export class Http1Door {
  readonly #shared: Http1Shared
  readonly #memory = Buffer.allocUnsafeSlow(READ_BYTES)
  readonly #all = new Map<Duplex, Http1>()

  constructor(shared: Http1Shared) {
    this.#shared = shared
  }

  /** `seen` = what was read of it already. Nobody else may touch the socket afterwards. */
  serve(socket: Socket, seen: Buffer | null): void {
    if (socket.destroyed) return
    const handle = handleOf(socket)
    if (handle === null) this.#byEvents(socket, seen)
    else this.#byMemory(socket, handle, seen)
  }

  #byEvents(socket: Duplex, seen: Buffer | null): void {
    const connection = this.#connection(socket)
    socket.on('data', (bytes: Buffer) => connection.feed(bytes))
    if (seen !== null) connection.feed(seen)
  }

  #byMemory(accepted: Socket, handle: object, seen: Buffer | null): void {
    let connection: Http1 | null = null
    // the block for the next read was chosen after the one before: only then it is known what can come
    let direct: Uint8Array | null = null
    const buffer = (): Uint8Array => {
      direct = connection?.room() ?? null
      return direct ?? this.#memory
    }
    const callback = (bytes: number, from: Uint8Array): boolean => {
      if (connection !== null && !(from === direct && connection.filled(bytes))) connection.feed(from.subarray(0, bytes))
      return true
    }
    const options = { handle, allowHalfOpen: true, readable: true, writable: true, onread: { buffer, callback } }
    const socket = new Socket(options as SocketConstructorOpts)
    // the server counts the socket that it accepted
    socket.once('close', () => accepted.destroy())
    connection = this.#connection(socket)
    socket.resume() // before the first bytes: they may ask for a pause
    if (seen !== null) connection.feed(seen)
  }

  #connection(socket: Duplex): Http1 {
    const connection = new Http1(pipeOf(socket), this.#shared)
    this.#all.set(socket, connection)
    socket.on('error', () => connection.destroy())
    socket.on('end', () => connection.ended())
    socket.on('close', () => {
      this.#all.delete(socket)
      connection.closed()
    })
    return connection
  }

  /** Once a second or more often. */
  sweep(): void {
    for (const connection of this.#all.values()) connection.check()
  }
  destroyAll(): void {
    for (const connection of this.#all.values()) connection.destroy()
  }
}

function pipeOf(socket: Duplex): Pipe {
  return {
    write(what: string | Uint8Array, b?: 'latin1' | (() => void), c?: () => void): void {
      if (typeof b === 'string') socket.write(what, b, c)
      else socket.write(what, b)
    },
    end: () => void socket.end(),
    pause: () => void socket.pause(),
    resume: () => void socket.resume(),
    destroy: () => void socket.destroy(),
  }
}

/** The handle of an accepted socket, taken away from it; null where it cannot be had. */
function handleOf(socket: Socket): object | null {
  if (socket instanceof TLSSocket) return null
  const inside = socket as unknown as { _handle?: { useUserBuffer?: unknown } | null }
  const { _handle: handle } = inside
  if (handle === null || handle === undefined || typeof handle.useUserBuffer !== 'function') return null
  Object.assign(inside, { _handle: null })
  return handle
}
