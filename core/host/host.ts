import * as fsp from 'node:fs/promises'
import { randomFillSync } from 'node:crypto'
import { dirname } from 'node:path'
import type { Clock, FileHandle, FileSystem, Host, Random } from '../sdk/host.ts'
import { makeFolders } from './folders.ts'
import { failpointsFromEnv, type Failpoints } from './failpoints.ts'

const clock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  sleep: (ms, signal) =>
    new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason as Error)
      const onAbort = (): void => {
        clearTimeout(t)
        reject(signal?.reason as Error)
      }
      const t = setTimeout(() => {
        signal?.removeEventListener('abort', onAbort)
        resolve()
      }, ms)
      signal?.addEventListener('abort', onAbort, { once: true })
    }),
  timer: (ms, fn) => {
    const t = setTimeout(fn, ms)
    t.unref()
    return () => clearTimeout(t)
  },
}

const random: Random = {
  bytes: (n) => randomFillSync(new Uint8Array(n)),
  float: () => Math.random(),
}

function handleOf(h: fsp.FileHandle): FileHandle {
  return {
    // node may write less than asked: loop until all is written (reliability.md, a short write once acknowledged)
    write: async (bytes, at) => {
      let done = 0
      while (done < bytes.length) {
        const { bytesWritten } = await h.write(bytes, done, bytes.length - done, at + done)
        if (bytesWritten <= 0) throw new Error(`writing ${bytes.length} bytes at ${at}: wrote ${done}`)
        done += bytesWritten
      }
    },
    read: async (into, at) => (await h.read(into, 0, into.length, at)).bytesRead,
    sync: () => h.sync(),
    close: () => h.close(),
  }
}

const fs: FileSystem = {
  open: async (path, flags) => handleOf(await fsp.open(path, flags)),
  readFile: (path) => fsp.readFile(path),
  writeFile: async (path, bytes) => {
    const h = await fsp.open(path, 'w')
    try {
      await handleOf(h).write(bytes, 0)
      await h.sync()
    } finally {
      await h.close()
    }
  },
  link: (from, to) => fsp.link(from, to),
  rename: (from, to) => fsp.rename(from, to),
  unlink: (path) => fsp.unlink(path),
  // made durable up to the first folder that was there before
  mkdir: async (path) => {
    const first = await makeFolders(path)
    if (first === null) return
    for (let at = path; at.length >= dirname(first).length; at = dirname(at)) {
      await fs.syncDir(at)
      if (at === dirname(at)) break
    }
  },
  syncDir: async (path) => {
    const h = await fsp.open(path, 'r')
    try {
      await h.sync()
    } finally {
      await h.close()
    }
  },
  list: (path) => fsp.readdir(path),
  stat: async (path) => {
    try {
      const s = await fsp.stat(path)
      return { size: s.size, isDirectory: s.isDirectory(), mtimeMs: s.mtimeMs }
    } catch (e) {
      if ((e as NodeJS.ErrnoException).code === 'ENOENT' || (e as NodeJS.ErrnoException).code === 'ENOTDIR') return null
      throw e
    }
  },
  remove: (path) => fsp.rm(path, { recursive: true, force: true }),
  statfs: async (path) => {
    const s = await fsp.statfs(path)
    return { type: s.type, freeBytes: s.bavail * s.bsize }
  },
}

/** The real machine. `failpoints` comes from HYDRANT_FAILPOINTS when not given. */
export function realHost(failpoints: Failpoints = failpointsFromEnv(process.env['HYDRANT_FAILPOINTS'])): Host {
  return { clock, random, fs, failpoint: (p) => failpoints.reach(p) }
}
