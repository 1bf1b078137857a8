import type { IncomingMessage } from 'node:http'

/** An answer other than 200 that is the caller's fault. */
export class Refusal extends Error {
  readonly status: number
  readonly allow: string | undefined
  constructor(status: number, message: string, allow?: string) {
    super(message)
    this.name = 'Refusal'
    this.status = status
    this.allow = allow
  }
}

function isLoopback(address: string | undefined): boolean {
  const a = (address ?? '').replace(/^::ffff:/, '')
  return a === '::1' || /^127(\.\d{1,3}){3}$/.test(a)
}

/** host of `host:port`, without brackets, lower case. */
function hostName(header: string): string {
  const m = /^(?:\[([0-9a-f:.]+)\]|([^:[\]]+))(?::\d{1,5})?$/i.exec(header)
  return (m?.[1] ?? m?.[2] ?? '').toLowerCase()
}

/**
 * Admin calls have no password; what protects them is that they come from this machine and not from a browser: the peer is
 * loopback, no proxy forwarded it, Host is a loopback name or the listen address (a rebound DNS name is neither), no Origin and
 * no cross-site fetch (security.md: the 2021 chain through a developer's browser). Throws Refusal.
 */
export function checkOperatorRequest(req: IncomingMessage, listenHost: string): void {
  const { headers } = req
  if (!isLoopback(req.socket.remoteAddress))
    throw new Refusal(403, 'admin calls are answered to this machine only: call from the host of the daemon')
  const forwarded = ['forwarded', 'x-forwarded-for', 'x-forwarded-host', 'x-real-ip', 'via'].find((h) => headers[h] !== undefined)
  if (forwarded) throw new Refusal(403, `admin calls are not taken through a proxy (${forwarded})`)
  const hosts = req.rawHeaders.filter((h, i) => i % 2 === 0 && h.toLowerCase() === 'host').length
  const host = hostName(headers.host ?? '')
  if (hosts !== 1 || !(host === 'localhost' || isLoopback(host) || host === listenHost.toLowerCase())) {
    throw new Refusal(403, `Host ${JSON.stringify(headers.host ?? '')} is not this daemon: use localhost or 127.0.0.1`)
  }
  const site = headers['sec-fetch-site']
  if (headers.origin !== undefined || (site !== undefined && site !== 'none'))
    throw new Refusal(403, 'admin calls are not taken from web pages')
  if (req.method === 'POST' && (headers['content-type'] ?? '').split(';')[0]?.trim().toLowerCase() !== 'application/json') {
    throw new Refusal(415, 'a POST needs content-type: application/json')
  }
}
