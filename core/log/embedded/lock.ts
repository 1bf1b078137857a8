/** Who may use a data folder: one daemon, on a file system that keeps its promises, in the place where it was made. */
import { mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import type { Host } from '../../sdk/host.ts'
import { ConfigError } from '../../sdk/errors.ts'

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

export async function refuseNetworkFs(path: string, host: Host): Promise<void> {
  const { type } = await host.fs.statfs(path)
  const name = NETWORK.get(type >>> 0)
  if (name === undefined) return
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
 * native package; it also refuses a second open inside one process. Rejects, naming the holder's pid.
 */
export function lockFolder(path: string): FolderLock {
  mkdirSync(path, { recursive: true })
  const pidFile = join(path, 'hydrant.pid')
  const db = new DatabaseSync(join(path, 'hydrant.lock'))
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
