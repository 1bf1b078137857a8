/** Programs that tests run against, built once into a cache folder: `HYDRANT_TEST_CACHE`, else the system's cache folder. */
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, open, readFile, rename, rm } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'

const run = promisify(execFile)
const BUILD_MS = 15 * 60_000
const LOOK_MS = 250

export interface GoProgram {
  readonly name: string
  /** Package path for `go install`. */
  readonly source: string
  readonly version: string
  /** What `go install` calls the binary. */
  readonly binary: string
}

/** This machine cannot provide the service: a failure under CI, a skipped test elsewhere. */
export class MissingServiceError extends Error {
  constructor(name: string, why: string) {
    super(`${name} is not available: ${why}`)
    this.name = 'MissingServiceError'
  }
}

export function cacheFolder(): string {
  const { HYDRANT_TEST_CACHE, XDG_CACHE_HOME } = process.env
  if (HYDRANT_TEST_CACHE) return HYDRANT_TEST_CACHE
  const system = process.platform === 'darwin' ? join(homedir(), 'Library', 'Caches') : (XDG_CACHE_HOME ?? join(homedir(), '.cache'))
  return join(system, 'hydrant-test')
}

/** Path of the program; built by `go install` when the cache has none. Several processes may ask at once: one builds. */
export async function goProgram(p: GoProgram): Promise<string> {
  const folder = await cached(`${p.name}-${p.version}`, p.binary, async (scratch) => {
    try {
      await run('go', ['install', `${p.source}@${p.version}`], { env: { ...process.env, GOBIN: scratch }, timeout: BUILD_MS })
    } catch (e) {
      const missing = (e as NodeJS.ErrnoException).code === 'ENOENT'
      const { stderr } = e as { stderr?: string }
      throw new MissingServiceError(
        p.name,
        missing ? 'it is built by `go install`, and there is no go' : `go install said: ${stderr ?? String(e)}`,
      )
    }
  })
  return join(folder, p.binary)
}

/** A folder of the cache that has `file`; `build` fills it when it is not there. Several processes may ask at once: one builds. */
export async function cached(name: string, file: string, build: (scratch: string) => Promise<void>): Promise<string> {
  const folder = join(cacheFolder(), name)
  const path = join(folder, file)
  if (existsSync(path)) return folder
  await mkdir(cacheFolder(), { recursive: true })
  return locked(`${folder}.lock`, async () => {
    if (existsSync(path)) return folder
    const scratch = await mkdtemp(`${folder}.build-`)
    try {
      await build(scratch)
      await rename(scratch, folder)
    } finally {
      await rm(scratch, { recursive: true, force: true })
    }
    return folder
  })
}

/** Holds a lock file with this process's id; one whose process is gone is taken over. */
async function locked<T>(path: string, work: () => Promise<T>): Promise<T> {
  for (let waited = 0; ; waited += LOOK_MS) {
    try {
      const h = await open(path, 'wx')
      await h.writeFile(String(process.pid))
      await h.close()
      break
    } catch (e) {
      if ((e as NodeJS.ErrnoException).code !== 'EEXIST') throw e
      if (waited > BUILD_MS) throw new Error(`waiting for ${path}: held for ${BUILD_MS} ms`, { cause: e })
      if (!(await holderLives(path))) await rm(path, { force: true })
      else await sleep(LOOK_MS)
    }
  }
  try {
    return await work()
  } finally {
    await rm(path, { force: true })
  }
}

async function holderLives(path: string): Promise<boolean> {
  let pid: number
  try {
    pid = Number(await readFile(path, 'utf8'))
  } catch {
    return false // released meanwhile
  }
  if (pid === 0) return true // created, its number not yet written
  try {
    process.kill(pid, 0)
    return true
  } catch (e) {
    return (e as NodeJS.ErrnoException).code === 'EPERM'
  }
}
