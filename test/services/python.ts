/** A Python with the AWS clients that the tests run unmodified: boto3 and the AWS CLI v1, pinned, in a virtual environment of the test cache. */
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { cacheFolder, MissingServiceError } from './cache.ts'

const run = promisify(execFile)
const PACKAGES = ['boto3==1.44.5', 'awscli==1.46.3'] as const
const INSTALL_MS = 10 * 60_000

/** Path of the interpreter; run modules with `-m` (the environment is moved into place, so its scripts do not start). Throws MissingServiceError. */
export async function installPython(): Promise<string> {
  const folder = join(cacheFolder(), `python-${PACKAGES.join('-').replaceAll('==', '-')}`)
  const python = join(folder, 'bin', 'python')
  if (existsSync(python)) return python
  await mkdir(cacheFolder(), { recursive: true })
  const scratch = await mkdtemp(`${folder}.build-`)
  try {
    await run('python3', ['-m', 'venv', scratch], { timeout: INSTALL_MS })
    await run(join(scratch, 'bin', 'python'), ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', ...PACKAGES], {
      timeout: INSTALL_MS,
    })
    await rename(scratch, folder).catch((e: NodeJS.ErrnoException) => {
      if (!existsSync(python)) throw e // else another process was first
    })
  } catch (e) {
    const { stderr } = e as { stderr?: string }
    throw new MissingServiceError('python with boto3 and awscli', stderr || String(e))
  } finally {
    await rm(scratch, { recursive: true, force: true })
  }
  return python
}

/** null where this machine cannot provide it, said in one line; under CI an error. */
export async function requirePython(what: string): Promise<string | null> {
  try {
    return await installPython()
  } catch (e) {
    if (!(e instanceof MissingServiceError) || process.env['CI']) throw e
    process.stderr.write(`left out: ${what}: ${e.message.split('\n')[0]}\n`)
    return null
  }
}
