import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { goProgram } from './cache.ts'
import { start, type Service } from './service.ts'

const PROGRAM = {
  name: 'versitygw',
  source: 'github.com/versity/versitygw/cmd/versitygw',
  version: 'v1.7.0',
  binary: 'versitygw',
}

/** A real S3 server on a folder: objects are plain files below `folder/<bucket>`, conditions and checksums are honoured. */
export interface Versitygw extends Service {
  readonly accessKey: string
  readonly secretKey: string
  readonly region: string
  /** Where the buckets are folders. */
  readonly folder: string
  makeBucket(name: string): Promise<void>
}

/** Path of the program, built when missing. Throws MissingServiceError. */
export function installVersitygw(): Promise<string> {
  return goProgram(PROGRAM)
}

/**
 * keepAlive false: the connection is closed after each answer, its own default. With it (our default, as real stores do) v1.7.0 answers a
 * conditional PUT of more than 8 KB with 412 before it has read the body, and takes the rest of the body for the next request.
 */
export async function startVersitygw(o: { buckets?: readonly string[]; keepAlive?: boolean } = {}): Promise<Versitygw> {
  const command = await installVersitygw()
  const folder = await mkdtemp(join(tmpdir(), 'hydrant-versitygw-'))
  const makeBucket = async (name: string): Promise<void> => {
    await mkdir(join(folder, name))
  }
  for (const name of o.buckets ?? []) await makeBucket(name)
  const service = await start({
    name: PROGRAM.name,
    command,
    // without --keep-alive it closes the connection after each answer, which no real store does
    args: (port) => ['--port', `127.0.0.1:${port}`, ...(o.keepAlive === false ? [] : ['--keep-alive']), '--quiet', 'posix', folder],
    env: { ROOT_ACCESS_KEY: 'test', ROOT_SECRET_KEY: 'testtest' },
    ready: '/',
  })
  return {
    url: service.url,
    pid: service.pid,
    get logs() {
      return service.logs
    },
    accessKey: 'test',
    secretKey: 'testtest',
    region: 'us-east-1',
    folder,
    makeBucket,
    stop: async () => {
      await service.stop()
      await rm(folder, { recursive: true, force: true })
    },
  }
}
