import * as fsp from 'node:fs/promises'
import { constants } from 'node:fs'
import { dirname, join } from 'node:path'
import { ConfigError, errorCode, errorMessage } from '../sdk/errors.ts'

/**
 * Makes a folder and what is missing above it. Resolves with the topmost folder that it made, null when all were there. Rejects with
 * Node's error. Not fs.mkdir's own `recursive`: that one never ends where a folder is there and takes none, such as /proc.
 */
export async function makeFolders(path: string): Promise<string | null> {
  try {
    await fsp.mkdir(path)
    return path
  } catch (e) {
    if (await isFolder(path)) return null
    const above = dirname(path)
    if (errorCode(e) !== 'ENOENT' || above === path) throw e
    const first = await makeFolders(above)
    try {
      await fsp.mkdir(path)
      return first ?? path
    } catch (again) {
      if (await isFolder(path)) return first // another process was faster
      throw again
    }
  }
}

async function isFolder(path: string): Promise<boolean> {
  const found = await fsp.stat(path).catch(() => null) // why it cannot be looked at is what mkdir said already
  return found?.isDirectory() ?? false
}

/** Rejects with Node's error when this user may not create files in the folder, or not use one of `files` that is there already. */
export async function checkWritable(path: string, files: readonly string[] = []): Promise<void> {
  await fsp.access(path, constants.R_OK | constants.W_OK | constants.X_OK)
  for (const name of files) {
    try {
      await fsp.access(join(path, name), constants.R_OK | constants.W_OK)
    } catch (e) {
      if (errorCode(e) !== 'ENOENT') throw e
    }
  }
}

/**
 * Windows cannot sync a folder, so that a name made there may be lost with the power: the promise would not hold. Throws ConfigError.
 */
export function refusePlatform(platform: NodeJS.Platform = process.platform): void {
  if (platform !== 'win32') return
  throw new ConfigError(
    'Platform',
    'hydrant keeps its log on Linux and macOS only: Windows cannot make the names of new files durable. Use WSL 2 or the container image',
  )
}

/** Why the folder that `key` of the configuration names cannot be used, for a Node error of the two functions above. */
export async function folderError(key: string, path: string, e: unknown): Promise<ConfigError> {
  const user = process.getuid === undefined ? 'this user' : `user ${process.getuid()}`
  const code = errorCode(e)
  const at = (e as { path?: unknown } | null)?.path
  const where = typeof at === 'string' && at !== path ? `at ${at}` : 'there'
  const say = (text: string): ConfigError => new ConfigError('Folder', `${key} ${path}: ${text}`, { cause: e })
  switch (code) {
    case 'EACCES':
    case 'EPERM':
      return say(`${user} may not create files ${where} (${code}): make it writable, or name another folder`)
    case 'EROFS':
      return say(`the file system is read-only (${code}): make it writable, or name another folder`)
    case 'EEXIST':
    case 'ENOTDIR':
      return say(`${(await fileOn(path)) ?? path} is a file, not a folder (${code}): name a folder`)
    case 'ENOENT':
      return say(`no folder can be made there (${code}): name another one`)
    case 'ENOSPC':
    case 'EDQUOT':
      return say(`no space is left to make it (${code})`)
    default:
      return say(`making it and creating files there: ${errorMessage(e)}`)
  }
}

/** The step of a path that is there and no folder. */
async function fileOn(path: string): Promise<string | null> {
  for (let at = path; ; at = dirname(at)) {
    const found = await fsp.stat(at).catch(() => null) // below a file: the step above it tells
    if (found) return found.isDirectory() ? null : at
    if (at === dirname(at)) return null
  }
}

/** Proves that files can be created in a folder, and leaves none behind that was not there. Rejects with ConfigError. */
export async function tryFolder(key: string, path: string, files: readonly string[] = []): Promise<{ type: number; freeBytes: number }> {
  refusePlatform()
  let first: string | null = null
  try {
    first = await makeFolders(path)
    await checkWritable(path, files)
    const { type, bavail, bsize } = await fsp.statfs(path)
    return { type, freeBytes: bavail * bsize }
  } catch (e) {
    throw await folderError(key, path, e)
  } finally {
    // rmdir takes empty folders only
    if (first !== null) for (let at = path; at.length >= first.length; at = dirname(at)) await fsp.rmdir(at)
  }
}

/** statfs types (statfs(2), linux/magic.h) of file systems where locks, mmap or fsync are not those of one machine. */
const NETWORK: ReadonlyMap<number, string> = new Map([
  [0x6969, 'NFS'],
  [0x517b, 'SMB'],
  [0xff534d42, 'CIFS'],
  [0xfe534d42, 'SMB2'],
  [0x65735546, 'FUSE'],
  [0x00c36400, 'CephFS'],
  [0x5346414f, 'AFS'],
  [0x6b414653, 'AFS'],
  [0x73757245, 'Coda'],
  [0x01021997, '9p'],
  [0x786f4256, 'VirtualBox shared folder'],
  [0x0bd00bd0, 'Lustre'],
  [0x47504653, 'GPFS'],
  [0x7461636f, 'OCFS2'],
  [0x01161970, 'GFS2'],
  [0x19830326, 'BeeGFS'],
])
/** The name of a network file system by its statfs type, null for a local one. */
export function networkFileSystem(type: number): string | null {
  return NETWORK.get(type >>> 0) ?? null
}
