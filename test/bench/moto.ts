/** moto_server, the AWS stand-in of the Python world: the peer of the put path. Pinned, in a virtual environment of the test cache. */
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { FirehoseClient } from '../harness/client.ts'
import { freePort } from '../harness/daemon.ts'
import { cacheFolder, MissingServiceError } from '../services/cache.ts'
import { end, spawnOn } from './child.ts'
import { KEY, STREAM } from './daemon.ts'
import type { ChildProcess } from 'node:child_process'

const PACKAGE = 'moto[server,firehose,s3]==5.2.5'
const run = promisify(execFile)
const INSTALL_MS = 5 * 60_000
const START_MS = 30_000

/** Path of a Python that has moto. Throws MissingServiceError. */
export async function installMoto(): Promise<string> {
  const folder = join(cacheFolder(), PACKAGE.replaceAll(/[^\w.]+/g, '-'))
  const python = join(folder, 'bin', 'python')
  if (existsSync(python)) return python
  await mkdir(cacheFolder(), { recursive: true })
  const scratch = await mkdtemp(`${folder}.build-`)
  try {
    await run('python3', ['-m', 'venv', scratch], { timeout: INSTALL_MS })
    const pip = ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', PACKAGE]
    await run(join(scratch, 'bin', 'python'), pip, { timeout: INSTALL_MS })
    await rename(scratch, folder).catch((e: NodeJS.ErrnoException) => {
      if (!existsSync(python)) throw e // else another process was first
    })
  } catch (e) {
    const { stderr } = e as { stderr?: string }
    throw new MissingServiceError('moto', stderr || String(e))
  } finally {
    await rm(scratch, { recursive: true, force: true })
  }
  return python
}

export interface Moto {
  readonly port: number
  readonly pid: number
  stop(): Promise<void>
}

/** Started with a bucket and the delivery stream of the bench. null where it cannot be had: said by the caller; under CI an error. */
export async function startMoto(): Promise<Moto | null> {
  let python: string
  try {
    python = await installMoto()
  } catch (e) {
    if (!(e instanceof MissingServiceError) || process.env['CI']) throw e
    process.stderr.write(`left out: moto: ${e.message.split('\n')[0]}\n`)
    return null
  }
  const port = await freePort()
  const child = spawnOn(python, ['-m', 'moto.server', '-H', '127.0.0.1', '-p', String(port)], { core: 'measured' })
  child.stdout?.resume()
  child.stderr?.resume() // a line a request
  await answering(child, `http://127.0.0.1:${port}/moto-api/`)
  const bucket = await fetch(`http://127.0.0.1:${port}/bench`, { method: 'PUT' })
  if (!bucket.ok) throw new Error(`moto: creating a bucket: ${bucket.status} ${await bucket.text()}`)
  const client = new FirehoseClient({ url: `http://127.0.0.1:${port}`, credentials: KEY })
  await client.must('CreateDeliveryStream', {
    DeliveryStreamName: STREAM,
    DeliveryStreamType: 'DirectPut',
    ExtendedS3DestinationConfiguration: { RoleARN: 'arn:aws:iam::000000000000:role/bench', BucketARN: 'arn:aws:s3:::bench' },
  })
  client.close()
  return { port, pid: child.pid ?? 0, stop: () => end(child) }
}

async function answering(child: ChildProcess, url: string): Promise<void> {
  const deadline = performance.now() + START_MS
  for (;;) {
    try {
      const r = await fetch(url, { signal: AbortSignal.timeout(1_000) })
      await r.arrayBuffer()
      return
    } catch (e) {
      if (child.exitCode !== null || performance.now() > deadline) throw new Error('moto does not answer', { cause: e })
      await new Promise((r) => void setTimeout(r, 50))
    }
  }
}
