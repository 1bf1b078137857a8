import { createHash, createPrivateKey, X509Certificate } from 'node:crypto'
import { limits } from '../limits.ts'
import { errorMessage } from '../sdk/errors.ts'
import type { Host } from '../sdk/host.ts'
import type { Events } from '../telemetry/events.ts'
import type { FrontDoor } from './server.ts'

export interface CertificateFiles {
  /** Paths of PEM files. */
  readonly cert: string
  readonly key: string
}
export interface CertificateWatch {
  /** Reads the files now, changed or not; what came of it is an event. Never rejects. */
  reload(): Promise<void>
  end(): void
}
export interface CertificateOptions {
  readonly files: CertificateFiles
  readonly setTls: FrontDoor['setTls']
  readonly host: Host
  readonly events: Events
}

interface Pair {
  readonly cert: Buffer
  readonly key: Buffer
  readonly digest: string
}

async function readPair(files: CertificateFiles, host: Host): Promise<Pair> {
  const read = async (path: string): Promise<Buffer> => {
    const stat = await host.fs.stat(path)
    if (!stat) throw new Error(`the file ${path} does not exist`)
    if (stat.size > limits.certificateBytes)
      throw new Error(`the file ${path} has ${stat.size} bytes; the limit is ${limits.certificateBytes}`)
    return Buffer.from(await host.fs.readFile(path))
  }
  const [cert, key] = [await read(files.cert), await read(files.key)]
  return { cert, key, digest: createHash('sha256').update(cert).update('\0').update(key).digest('hex') }
}

const PEM = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g

function parsed<T>(file: string, what: string, parse: () => T): T {
  try {
    return parse()
  } catch (e) {
    throw new Error(`${file} is no ${what} in PEM: ${errorMessage(e)}`, { cause: e })
  }
}

/** When the first certificate of the chain ends, ms since the epoch. Throws where no client could be served with the pair. */
function expiryOf({ cert, key }: Pair, files: CertificateFiles): number {
  const chain = (cert.toString('latin1').match(PEM) ?? []).map((pem) => parsed(files.cert, 'certificate', () => new X509Certificate(pem)))
  const [own] = chain
  if (!own) throw new Error(`${files.cert} holds no PEM certificate`)
  const ownKey = parsed(files.key, 'private key without a passphrase', () => createPrivateKey(key))
  if (!own.checkPrivateKey(ownKey)) throw new Error(`the key ${files.key} does not belong to the certificate ${files.cert}`)
  return Math.min(...chain.map((c) => Date.parse(c.validTo)))
}

/** When the certificate ends, ms since the epoch; rejects in plain words where no client could be served with it. */
export async function certificateExpiry(files: CertificateFiles, host: Host): Promise<number> {
  return expiryOf(await readPair(files, host), files)
}

/**
 * Looks every minute whether the files changed, by content, and gives a new certificate to the front door: new connections see it,
 * open ones live on. One that cannot serve (damaged, key of another, expired) is refused with an event, each minute until the
 * files are mended, and the old one stays. The front door was opened with the same files.
 */
export async function watchCertificates(o: CertificateOptions): Promise<CertificateWatch> {
  const { files, host, events } = o
  let inForce = ''
  let refused = false
  let over = false
  let cancel: (() => void) | null = null
  const look = async (always: boolean): Promise<void> => {
    try {
      const pair = await readPair(files, host)
      const known = pair.digest === inForce
      if (known && !refused && !always) return
      const expiresMs = expiryOf(pair, files)
      const expired = expiresMs <= host.clock.now()
      // the first is what the front door was opened with, unless it changed in between; there is no better one to stay with
      if (!known && expired && inForce !== '') throw new Error(`${files.cert} expired at ${new Date(expiresMs).toISOString()}`)
      if (!known) await o.setTls({ cert: pair.cert, key: pair.key })
      inForce = pair.digest
      refused = false
      events.emit({ type: 'certificate.loaded', file: files.cert, expiresMs, expired, changed: !known })
    } catch (e) {
      refused = true
      events.emit({ type: 'certificate.refused', file: files.cert, message: errorMessage(e) })
    }
  }
  let last: Promise<void> = Promise.resolve()
  const inTurn = (always: boolean): Promise<void> => (last = last.then(() => (over ? undefined : look(always))))
  const again = (): void => {
    if (over) return
    cancel = host.clock.timer(limits.certificateWatchMs, () => void inTurn(false).then(again))
  }
  await inTurn(true)
  again()
  return {
    reload: () => inTurn(true),
    end: () => {
      over = true
      cancel?.()
    },
  }
}
