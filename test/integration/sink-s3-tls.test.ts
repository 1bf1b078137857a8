import { execFile } from 'node:child_process'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { createServer, type AddressInfo, type Server } from 'node:net'
import { once } from 'node:events'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { attemptContext, bodyOf, outObject, pluginKit, realHost, recordedLog } from 'hydrant/sdk/testing'
import type { ObjectSink } from 'hydrant/sdk'
import plugin from 'hydrant-sink-s3'
import { requireProgram } from '../services/require.ts'
import { startScriptedS3, type ScriptedS3 } from '../services/scripted-s3.ts'

const run = promisify(execFile)
const s3 = plugin(pluginKit)
let folder = ''
let store: ScriptedS3

function sinkOn(endpoint: string, tls?: object): ObjectSink {
  const credentials = { access_key: 'test', secret_key: 'testtest' }
  const options = s3.options.parse({ bucket: 'lake', endpoint, credentials, conditional_writes: 'require', ...(tls ? { tls } : {}) })
  return s3.create(options, { host: realHost(), log: recordedLog(), pipelineId: 'p', memory: 8 * 1024 * 1024, baseDir: folder })
}
async function put(sink: ObjectSink, key: string): Promise<unknown> {
  try {
    return await sink.put(outObject(key, bodyOf(100)), attemptContext())
  } finally {
    await sink.close()
  }
}

const openssl = await requireProgram('openssl', 'the S3 sink over TLS')

describe.skipIf(!openssl)('TLS', () => {
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'hydrant-tls-'))
    const at = (name: string): string => join(folder, name)
    // an authority, and a certificate for 127.0.0.1 that it signed
    await run('openssl', [
      'req',
      '-x509',
      '-newkey',
      'rsa:2048',
      '-nodes',
      '-days',
      '2',
      '-subj',
      '/CN=test-ca',
      '-keyout',
      at('ca.key'),
      '-out',
      at('ca.pem'),
    ])
    await run('openssl', [
      'req',
      '-newkey',
      'rsa:2048',
      '-nodes',
      '-subj',
      '/CN=store',
      '-keyout',
      at('store.key'),
      '-out',
      at('store.csr'),
    ])
    await writeFile(at('san'), 'subjectAltName=IP:127.0.0.1')
    const signing = ['-CA', at('ca.pem'), '-CAkey', at('ca.key'), '-CAcreateserial', '-days', '2', '-extfile', at('san')]
    await run('openssl', ['x509', '-req', '-in', at('store.csr'), ...signing, '-out', at('store.pem')])
    const tls = { cert: await readFile(at('store.pem'), 'utf8'), key: await readFile(at('store.key'), 'utf8') }
    store = await startScriptedS3({ tls })
  })
  afterAll(async () => {
    await store.stop()
    await rm(folder, { recursive: true, force: true })
  })

  test('a certificate of an unknown authority is refused, clearly, and nothing is sent', async () => {
    const refused = put(sinkOn(store.url), 'a')
    await expect(refused).rejects.toMatchObject({ code: expect.stringMatching(/CERT|UNABLE_TO/) as string })
    await expect(refused).rejects.toThrow(pluginKit.RetryableError)
    await expect(refused).rejects.toThrow(/^put s3:\/\/lake\/a: (?!.*not known)/)
    expect(store.requests).toEqual([])
  })

  test('tls.ca, relative to the configuration file, makes it known', async () => {
    expect(await put(sinkOn(store.url, { ca: 'ca.pem' }), 'b')).toEqual({ location: 's3://lake/b', existed: null })
  })

  test('tls.insecure_skip_verify accepts it', async () => {
    expect(await put(sinkOn(store.url, { insecure_skip_verify: true }), 'c')).toEqual({ location: 's3://lake/c', existed: null })
  })

  test('a tls.ca that cannot be read is said', async () => {
    await expect(put(sinkOn(store.url, { ca: 'missing.pem' }), 'd')).rejects.toThrow(/ENOENT.*missing\.pem/)
  })

  test('https to a plain port: no fallback, no byte of the body in clear', async () => {
    const seen: Buffer[] = []
    const plain: Server = createServer((socket) => {
      socket.on('data', (b: Buffer) => {
        seen.push(b)
        socket.end('HTTP/1.1 400 Bad Request\r\n\r\n')
      })
      socket.on('error', () => {}) // the client hangs up
    })
    plain.listen(0, '127.0.0.1')
    await once(plain, 'listening')
    const { port } = plain.address() as AddressInfo
    await expect(put(sinkOn(`https://127.0.0.1:${port}`), 'e')).rejects.toThrow(pluginKit.RetryableError)
    const sent = Buffer.concat(seen)
    expect(sent[0]).toBe(0x16) // a TLS handshake
    expect(sent.includes('PUT')).toBe(false)
    plain.close()
  })
})
