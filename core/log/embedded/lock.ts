/** Who may use a data folder: one daemon, on a file system that keeps its promises, in the place where it was made. */
import { readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { checkWritable, folderError, makeFolders, networkFileSystem, refusePlatform } from '../../host/folders.ts'
import type { Host } from '../../sdk/host.ts'
import { ConfigError } from '../../sdk/errors.ts'

const LOCK = 'hydrant.lock'
const PID = 'hydrant.pid'

/** Makes the folder, and says in plain words why it cannot be made or written. Rejects with ConfigError. */
export async function useFolder(path: string): Promise<void> {
  refusePlatform()
  try {
    await makeFolders(path)
    await checkWritable(path, [LOCK, PID])
  } catch (e) {
    throw await folderError('log.path', path, e)
  }
}

export async function refuseNetworkFs(path: string, host: Host): Promise<void> {
  const { type } = await host.fs.statfs(path)
  const name = networkFileSystem(type)
  if (name === null) return
  throw new ConfigError(
    'Log.NetworkFileSystem',
    `the data folder ${path} is on ${name}: locks and memory maps do not hold there, and two daemons could write one log. Use a local disk`,
  )
}

/** The kernel's lock on the folder, released when the process ends however it ends. */
export interface FolderLock {
  release(): void
}

/**
 * Takes the folder for this process. SQLite's exclusive lock on an empty file is the way to a kernel file lock without a
 * native package; it also refuses a second open inside one process. The folder is there. Throws, naming the holder's pid.
 */
export function lockFolder(path: string): FolderLock {
  const pidFile = join(path, PID)
  const db = new DatabaseSync(join(path, LOCK))
  try {
    db.exec('PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=MEMORY; BEGIN EXCLUSIVE')
  } catch (e) {
    db.close()
    if ((e as { errcode?: unknown }).errcode !== 5) throw e // 5 = SQLITE_BUSY
    throw new ConfigError('Log.FolderInUse', `the data folder ${path} is in use by ${holder(pidFile)}: one daemon at a time`, { cause: e })
  }
  writeFileSync(pidFile, `${process.pid}\n`)
  return { release: () => db.close() }
}

function holder(pidFile: string): string {
  try {
    const pid = Number(readFileSync(pidFile, 'utf8'))
    return pid === process.pid ? `this process (pid ${pid})` : `another daemon (pid ${pid})`
  } catch (e) {
    return `another daemon (its pid is not known: ${e instanceof Error ? e.message : String(e)})`
  }
}

/**
 * What a copy of the folder does not share with the original: inode and birth time of the control file. The device
 * number is left out, it changes with reboots and when a volume is attached elsewhere.
 */
export function identityOf(file: string): string {
  const s = statSync(file, { bigint: true })
  return `${s.ino}:${s.birthtimeNs}`
}
