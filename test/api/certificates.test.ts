import { mkdtemp, rm, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { watchCertificates, type CertificateWatch } from '../../core/api/certificates.ts'
import type { TlsFiles } from '../../core/api/server.ts'
import { limits } from '../../core/limits.ts'
import type { Host } from '../../core/sdk/host.ts'
import type { HydrantEvent } from '../../core/telemetry/events.ts'
import { selfSigned } from './certificate.ts'
import { StillHost } from './wire.ts'

const END_2049 = Date.UTC(2049, 11, 31, 23, 59, 59)
let folder: string
let still: StillHost
let given: TlsFiles[]
let events: HydrantEvent[]
let watch: CertificateWatch
let seen = Promise.withResolvers<void>()
const files = (): { cert: string; key: string } => ({ cert: join(folder, 'cert.pem'), key: join(folder, 'key.pem') })
async function write(pair: { cert: Uint8Array; key: Uint8Array }): Promise<void> {
  await writeFile(files().cert, pair.cert)
  await writeFile(files().key, pair.key)
}
const first = selfSigned('first')
const setTls = async (t: TlsFiles): Promise<void> => void given.push(t)
const host = (): Host => ({ ...still.host, clock: { ...still.host.clock, now: () => Date.UTC(2026, 0, 1) } })
const bus = {
  emit: (e: HydrantEvent): void => {
    events.push(e)
    seen.resolve()
  },
}

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hydrant-certificates-'))
  still = new StillHost()
  given = []
  events = []
  await write(first)
  watch = await watchCertificates({ files: files(), setTls, host: host(), events: bus })
})
afterEach(async () => {
  watch.end()
  await rm(folder, { recursive: true })
})

/** A minute passes; resolves with what was said. */
async function minute(): Promise<HydrantEvent | undefined> {
  await new Promise(setImmediate) // the look before has set its timer
  seen = Promise.withResolvers()
  still.advance(limits.certificateWatchMs)
  await seen.promise
  return events.at(-1)
}

test('the first look says when it ends, and gives what is there: the files may have changed since the port was opened', () => {
  expect(events).toEqual([{ type: 'certificate.loaded', file: files().cert, expiresMs: END_2049, expired: false, changed: true }])
  expect(given.splice(0)).toEqual([{ cert: first.cert, key: first.key }])
})

test('an expired one is taken at the start only, and said; a first look that fails leaves the next to give it', async () => {
  watch.end()
  const start = async (): Promise<CertificateWatch> => watchCertificates({ files: files(), setTls, host: host(), events: bus })
  await write(selfSigned('late', 25))
  watch = await start()
  expect(events.at(-1)).toMatchObject({ type: 'certificate.loaded', expired: true })
  watch.end()
  await rm(files().key)
  given = []
  watch = await start()
  expect(events.at(-1)).toMatchObject({ type: 'certificate.refused' })
  await write(first)
  await watch.reload()
  expect(given).toEqual([{ cert: first.cert, key: first.key }])
})

test('files that changed are taken within a minute, by content: the same time stamps do not hide it', async () => {
  const old = new Date(2020, 0, 1)
  const second = selfSigned('second')
  await write(second)
  for (const f of Object.values(files())) await utimes(f, old, old)
  expect(await minute()).toMatchObject({ type: 'certificate.loaded', changed: true })
  expect(given).toEqual([first, second])
})

test('files that did not change are left alone; asked for, it says so', async () => {
  still.advance(3 * limits.certificateWatchMs)
  await watch.reload()
  expect(given).toEqual([first])
  expect(events.slice(1)).toEqual([{ type: 'certificate.loaded', file: files().cert, expiresMs: END_2049, expired: false, changed: false }])
})

const other = selfSigned('other')
const BAD: [string, () => Promise<void>, RegExp][] = [
  ['the key of another', () => writeFile(files().cert, other.cert), /the key .*key\.pem does not belong to the certificate .*cert\.pem/],
  ['no certificate', () => writeFile(files().cert, 'x'), /cert\.pem holds no PEM certificate/],
  [
    'a damaged one',
    () => writeFile(files().cert, first.cert.toString().split('\n').toSpliced(2, 1).join('\n')),
    /cert\.pem is no certificate in PEM: /,
  ],
  ['a key that is none', () => writeFile(files().key, 'x'), /key\.pem is no private key without a passphrase in PEM: /],
  ['a file that is gone', () => rm(files().key), /the file .*key\.pem does not exist/],
  ['a huge file', () => writeFile(files().cert, Buffer.alloc(limits.certificateBytes + 1)), /has 1048577 bytes; the limit is 1048576/],
  ['one that has expired', () => write(selfSigned('late', 25)), /cert\.pem expired at 2025-12-31T23:59:59.000Z/],
]
test.each(BAD)('%s: refused every minute until it is mended, the old one stays', async (_, spoil, why) => {
  await spoil()
  for (let i = 0; i < 2; i++) {
    const said = await minute()
    expect(said).toMatchObject({ type: 'certificate.refused', file: files().cert })
    expect(said).toHaveProperty('message')
    expect(said && 'message' in said ? said.message : '').toMatch(why)
  }
  expect(given).toEqual([first])
  await write(first)
  expect(await minute()).toMatchObject({ type: 'certificate.loaded', changed: false })
  expect(given).toEqual([first])
})

test('a front door that does not take it is told like a bad file, and asked again', async () => {
  watch.end()
  let takes = true
  watch = await watchCertificates({
    files: files(),
    setTls: () => (takes ? Promise.resolve() : Promise.reject(new Error('no'))),
    host: still.host,
    events: { emit: (e) => void events.push(e) },
  })
  takes = false
  await write(selfSigned('second'))
  await watch.reload()
  expect(events.at(-1)).toMatchObject({ type: 'certificate.refused', message: 'no' })
  takes = true
  await watch.reload()
  expect(events.at(-1)).toMatchObject({ type: 'certificate.loaded', changed: true })
})

test('after the end nothing is read', async () => {
  watch.end()
  await rm(files().cert)
  still.advance(5 * limits.certificateWatchMs)
  await watch.reload()
  expect(events.length).toBe(1)
})
