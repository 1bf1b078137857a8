export interface ListenRule {
  readonly host: string
  readonly auth: 'none' | 'sigv4'
  /** `api.allow_unauthenticated: true`: an open port off loopback is meant. */
  readonly allowUnauthenticated: boolean
}

/** 127.0.0.0/8, ::1, their IPv4-mapped forms and `localhost`. Any other name may resolve to anything, so it is not loopback. */
export function isLoopback(host: string): boolean {
  const h = host
    .toLowerCase()
    .replace(/^\[|\]$/g, '')
    .replace(/^::ffff:/, '')
  return h === 'localhost' || h === '::1' || h === '0:0:0:0:0:0:0:1' || /^127(\.\d{1,3}){3}$/.test(h)
}

/** Why a port may not be opened so, or null: whoever reaches a port that does not authenticate can read, write and delete everything. */
export function checkListen(r: ListenRule): string | null {
  if (r.auth === 'sigv4' || r.allowUnauthenticated || isLoopback(r.host)) return null
  return (
    `listening on ${r.host} without authentication: any other address than loopback needs auth: sigv4 with keys, ` +
    'or allow_unauthenticated: true'
  )
}
