import { once } from 'node:events'
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'

/** A TCP forwarder in the test's process that can be told to be away. */
export interface Forwarder {
  readonly url: string
  /** pass; refuse: connections are reset, open ones too; hang: nothing that arrives is passed on, nothing is answered. */
  mode(m: 'pass' | 'refuse' | 'hang'): void
  close(): Promise<void>
}

export async function forward(upstream: string): Promise<Forwarder> {
  let now: 'pass' | 'refuse' | 'hang' = 'pass'
  const target = Number(new URL(upstream).port)
  const open = new Set<Socket>()
  const server = createServer((client) => {
    if (now === 'refuse') {
      client.resetAndDestroy()
      return
    }
    const store = connect(target, '127.0.0.1')
    for (const [from, to] of [
      [client, store],
      [store, client],
    ] as const) {
      open.add(from)
      from.on('data', (d) => void (now === 'pass' && to.write(d)))
      from.on('error', () => {}) // 'close' follows
      from.on('close', () => {
        open.delete(from)
        // one that hangs stays open whatever the other side does
        if (now !== 'hang' || from === client) to.destroy()
      })
    }
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    mode: (m) => {
      now = m
      if (m === 'hang') return
      for (const s of open) s.resetAndDestroy()
    },
    close: async () => {
      for (const s of open) s.destroy()
      server.close()
      await once(server, 'close')
    },
  }
}
