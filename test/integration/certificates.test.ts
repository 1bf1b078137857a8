import { once } from 'node:events'
import { Agent, request } from 'node:https'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { connect, type TLSSocket } from 'node:tls'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { selfSigned } from '../api/certificate.ts'
import { daemonYaml } from '../harness/config.ts'
import { Home, type Daemon } from '../harness/daemon.ts'
import { fileStore } from '../harness/stores.ts'

let home: Home
beforeEach(async () => {
  home = await Home.make()
})
afterEach(() => home.remove())

async function write(pair: { cert: Uint8Array; key: Uint8Array }): Promise<void> {
  await writeFile(join(home.folder, 'cert.pem'), pair.cert)
  await writeFile(join(home.folder, 'key.pem'), pair.key)
}
async function start(tls: boolean): Promise<Daemon> {
  const text = daemonYaml({ pipelines: [{ name: 'events', sink: fileStore(home.folder).sink }] }, home.ports)
  const config = JSON.parse(text) as { api: object }
  const api = tls ? { ...config.api, tls: { cert: './cert.pem', key: './key.pem' } } : config.api
  await writeFile(home.configFile, JSON.stringify({ ...config, api }))
  return home.start().ready()
}

/** Whom a new connection meets. */
async function peer(): Promise<string> {
  const s: TLSSocket = connect({ port: home.ports.api, host: '127.0.0.1', rejectUnauthorized: false })
  await once(s, 'secureConnect')
  const { subject } = s.getPeerCertificate()
  s.destroy()
  return String(subject.CN)
}
/** A put through the agent's one connection. */
async function put(agent: Agent): Promise<{ status: number | undefined; reused: boolean }> {
  const headers = { 'x-amz-target': 'Firehose_20150804.PutRecord', 'content-type': 'application/x-amz-json-1.1' }
  const req = request({ agent, port: home.ports.api, host: '127.0.0.1', method: 'POST', headers, rejectUnauthorized: false })
  req.end(JSON.stringify({ DeliveryStreamName: 'events', Record: { Data: 'YQ==' } }))
  const [res] = (await once(req, 'response')) as [{ statusCode: number; resume(): void } & NodeJS.EventEmitter]
  res.resume()
  await once(res, 'end')
  return { status: res.statusCode, reused: req.reusedSocket }
}
/** Asks for a new look and waits for the next line that says what came of it. */
async function hangUp(d: Daemon): Promise<Record<string, unknown>> {
  const told = (): Record<string, unknown>[] => d.events().filter((e) => String(e['event']).startsWith('certificate.'))
  const before = told().length
  d.signal('SIGHUP')
  for (let i = 0; i < 500; i++) {
    const now = told()
    if (now.length > before) return now.at(-1) ?? {}
    await new Promise((r) => void setTimeout(r, 10))
  }
  throw new Error(`nothing was said of the certificate\n${d.output.join('\n')}`)
}
async function metric(d: Daemon, name: string): Promise<number> {
  const text = await (await fetch(`${d.adminUrl}/metrics`)).text()
  return Number(new RegExp(`^${name} (\\S+)$`, 'm').exec(text)?.[1])
}

test('SIGHUP: new connections see the new certificate, open ones live on; a bad one is refused loudly', async () => {
  await write(selfSigned('first'))
  const d = await start(true)
  const agent = new Agent({ keepAlive: true, maxSockets: 1 })
  try {
    expect(await peer()).toBe('first')
    expect(await put(agent)).toEqual({ status: 200, reused: false })

    await write(selfSigned('second'))
    expect(await hangUp(d)).toMatchObject({ level: 'info', event: 'certificate.loaded', changed: true })
    expect(await peer()).toBe('second')
    expect(await put(agent)).toEqual({ status: 200, reused: true })
    expect(await metric(d, 'hydrant_tls_certificate_expiry_timestamp_seconds')).toBe(Date.UTC(2049, 11, 31, 23, 59, 59) / 1000)

    await writeFile(join(home.folder, 'cert.pem'), selfSigned('third').cert)
    const refused = await hangUp(d)
    expect(refused).toMatchObject({ level: 'error', event: 'certificate.refused' })
    expect(refused['msg']).toMatch(/the one before stays in force.*does not belong to the certificate/)
    expect(await metric(d, 'hydrant_tls_certificate_refused')).toBe(1)
    expect(await peer()).toBe('second')
    expect(await put(agent)).toEqual({ status: 200, reused: true })

    await write(selfSigned('fourth', 49))
    await hangUp(d)
    expect(await metric(d, 'hydrant_tls_certificate_refused')).toBe(0)
    expect(await peer()).toBe('fourth')
  } finally {
    agent.destroy()
  }
  expect((await d.stop()).code).toBe(0)
})

test('SIGHUP without TLS drains, as a closed terminal would ask for', async () => {
  const d = await start(false)
  d.signal('SIGHUP')
  expect(await d.ended()).toEqual({ code: 0, signal: null })
})
