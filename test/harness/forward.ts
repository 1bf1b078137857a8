import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'
import { freePort } from './daemon.ts'

/** pass; reset: connections are reset, open ones too; refuse: nobody listens (ECONNREFUSED); hang: nothing that arrives is passed on, nothing is answered. */
export type ForwardMode = 'pass' | 'reset' | 'refuse' | 'hang'
/** A TCP forwarder in the test's process that can be told to be away. */
export interface Forwarder {
  readonly url: string
  mode(m: ForwardMode): void
  close(): Promise<void>
}

export async function forward(upstream: string): Promise<Forwarder> {
  let now: ForwardMode = 'pass'
  const target = Number(new URL(upstream).port)
  const port = await freePort()
  const open = new Set<Socket>()
  const server = createServer((client) => {
    if (now === 'reset') {
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
  server.listen(port, '127.0.0.1')
  await once(server, 'listening')
  return {
    url: `http://127.0.0.1:${port}`,
    mode: (m) => {
      if (m === 'refuse' && now !== m) server.close()
      if (m !== 'refuse' && now === 'refuse') server.listen(port, '127.0.0.1')
      now = m
      if (m === 'hang') return
      for (const s of open) s.resetAndDestroy()
    },
    close: async () => {
      for (const s of open) s.destroy()
      if (!server.listening) return
      server.close()
      await once(server, 'close')
    },
  }
}
