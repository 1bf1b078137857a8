/** Where the network enters the Kafka log: one TCP or TLS connection that reads into memory of its user. A test brings its own Dial. */
import { connect as connectTcp, isIP, type OnReadOpts, type Socket as NetSocket } from 'node:net'
import { connect as connectTls, type ConnectionOptions } from 'node:tls'

/** PEM texts. There is no way to leave the broker's certificate unchecked. */
export interface Tls {
  /** Authorities that may have signed the broker's certificate; default: those of Node. */
  readonly ca?: string
  /** This client's certificate and key, where the broker asks for one. */
  readonly cert?: string
  readonly key?: string
  readonly passphrase?: string
  /** The name in the broker's certificate; default: the host that is connected to. */
  readonly serverName?: string
}
export interface Target {
  readonly host: string
  readonly port: number
  /** null = plain TCP. With TLS a connection is encrypted or fails. */
  readonly tls: Tls | null
}
export interface SocketEvents {
  /** Connected, and with TLS the broker's certificate is checked. */
  opened(): void
  /** Where the next bytes go; asked after each `filled`. Never empty. */
  room(): Uint8Array
  /** So many bytes came into what `room` gave last. */
  filled(bytes: number): void
  /** Once, the last event: the other side closed (null), destroy() was called (null), or an error of Node with its `code`. */
  closed(error: Error | null): void
}
export interface Socket {
  /** In one go; the parts may not change until they are sent. */
  write(parts: readonly Uint8Array[]): void
  destroy(): void
}
export type Dial = (to: Target, on: SocketEvents) => Socket

/** The real network. */
export const dial: Dial = (to, on) => {
  const onread: OnReadOpts = {
    buffer: () => on.room(),
    callback: (bytes) => {
      on.filled(bytes)
      return true
    },
  }
  const { host, port } = to
  let socket: NetSocket
  if (to.tls === null) socket = connectTcp({ host, port, onread }, () => on.opened())
  else {
    const { serverName, ...tls } = to.tls
    const name = serverName ?? host
    const servername = isIP(name) === 0 ? { servername: name } : {} // an address is not sent, only checked
    const options: ConnectionOptions & { onread: OnReadOpts } = { ...tls, ...servername, host, port, minVersion: 'TLSv1.2', onread }
    socket = connectTls(options, () => on.opened())
  }
  socket.setNoDelay(true)
  let error: Error | null = null
  socket.on('error', (e) => void (error = e))
  socket.on('close', () => on.closed(error))
  return {
    write: (parts) => {
      socket.cork()
      for (const part of parts) socket.write(part)
      socket.uncork()
    },
    destroy: () => void socket.destroy(),
  }
}
