import { join, resolve } from 'node:path'
import type { AttemptContext, FileSystem, ObjectSink, OutObject, PluginKit, SinkContext, Stored } from 'hydrant/sdk'
import { explain, hasCode, isSystemError } from './errors.ts'
import { placesOf, rootsOf, sidecarOf, type Places, type Roots } from './layout.ts'
import { probeFolder } from './probe.ts'

const READ_BYTES = 1024 * 1024

/** What is written down about an object before it appears. */
interface Sidecar {
  readonly v: 1
  readonly key: string
  readonly token: string
  readonly metadata: Readonly<Record<string, string>>
  readonly content_type: string
  readonly content_encoding?: string
}
type Answer = { location: string; existed: Stored | null }

/**
 * Objects as files, exactly once by `link`: it creates a name or says EEXIST, never overwrites, and a linked file is whole and
 * synced. Used by core/delivery; calls for different keys run at the same time.
 */
export class FileSink implements ObjectSink {
  readonly #roots: Roots
  readonly #fs: FileSystem
  readonly #context: SinkContext
  readonly #kit: PluginKit
  readonly #running = new Set<Promise<unknown>>()
  #closed = false

  constructor(path: string, context: SinkContext, kit: PluginKit) {
    this.#roots = rootsOf(resolve(context.baseDir, path))
    this.#fs = context.host.fs
    this.#context = context
    this.#kit = kit
  }

  put(o: OutObject, c: AttemptContext): Promise<Answer> {
    const asked = { link: false }
    return this.#guard(`writing ${o.key}`, c, () => this.#put(o, c, asked), asked)
  }

  /** null while only the sidecar stands: an intent is not an object. */
  head(key: string, c: AttemptContext): Promise<Stored | null> {
    return this.#guard(`looking for ${key}`, c, async () => {
      const p = this.#places(key)
      const size = await this.#sizeOf(p)
      if (size === null) return null
      return { location: p.object, size, metadata: (await this.#sidecar(p.byKey))?.metadata ?? {} }
    })
  }

  async *read(key: string, c: AttemptContext): AsyncGenerator<Uint8Array> {
    const p = this.#places(key)
    const what = `reading ${key}`
    const file = await this.#guard(what, c, () => this.#fs.open(p.object, 'r'))
    try {
      for (let at = 0; ;) {
        const into = new Uint8Array(READ_BYTES)
        const n = await this.#guard(what, c, () => file.read(into, at))
        if (n === 0) return
        at += n
        yield into.subarray(0, n)
      }
    } finally {
      await file.close()
    }
  }

  /**
   * Removes the temporary files of this key, and its intent if no object came of it. Only the lease holder calls it, when the key's
   * cut is given up or released. In this order: without its temporary file a former owner can no longer link the object.
   */
  abortUploads(key: string, c: AttemptContext): Promise<number> {
    return this.#guard(`removing unfinished files of ${key}`, c, async () => {
      const p = this.#places(key)
      const removed = await this.#sweep(p)
      const noted = await this.#sidecar(p.byKey)
      if (!noted || (await this.#sizeOf(p)) !== null) return removed
      await this.#discard(this.#sidecarPath(noted.token))
      await this.#discard(p.byKey)
      await this.#fs.syncDir(this.#roots.own)
      return removed + 1
    })
  }

  probe(): Promise<readonly { level: 'ok' | 'warning' | 'error'; message: string }[]> {
    return probeFolder(this.#roots, this.#context.host, this.#kit)
  }

  /** Waits for the calls that run; core has aborted them or lets them finish. */
  async close(): Promise<void> {
    this.#closed = true
    await Promise.allSettled(this.#running)
  }

  async #put(o: OutObject, c: AttemptContext, asked: { link: boolean }): Promise<Answer> {
    const p = this.#places(o.key)
    const sidecar = this.#sidecarPath(o.token)
    await this.#fs.mkdir(this.#roots.temporary)
    if (c.recovered) await this.#sweep(p)
    const standing = await this.#standing(o, p, sidecar, c)
    if (standing !== 'free' && standing !== 'mine') return { location: p.object, existed: standing }
    const temporary = join(this.#roots.temporary, `${p.mark}${this.#unique()}`)
    try {
      await c.failpoint('object.part.before')
      await this.#write(temporary, o, c)
      await c.failpoint('object.part.after')
      const other = await this.#declare(o, p, sidecar, c)
      if (other) return { location: p.object, existed: other }
      return { location: p.object, existed: await this.#appear(temporary, o, p, sidecar, c, asked) }
    } finally {
      await this.#discard(temporary)
    }
  }

  /**
   * What the folder says before anything is written: 'free' = neither sidecar nor object, 'mine' = my own intent without its object, else what
   * stands there. A token's object is looked for where its sidecar says: another spec may have given it another key.
   */
  async #standing(o: OutObject, p: Places, sidecar: string, c: AttemptContext): Promise<Stored | 'free' | 'mine'> {
    const noted = (await this.#sidecar(sidecar)) ?? (await this.#sidecar(p.byKey))
    const at = noted ? this.#places(noted.key) : p
    const size = await this.#sizeOf(at)
    if (size === null) {
      if (!noted) return 'free'
      return same(noted, o) ? 'mine' : { location: at.object, size: 0, metadata: noted.metadata, intent: true }
    }
    await c.failpoint('verify.before')
    // an earlier life may have died between its link and its sync: what is called there must be durable
    await this.#fs.syncDir(at.folder)
    await c.failpoint('verify.after')
    return { location: at.object, size, metadata: noted?.metadata ?? {} }
  }

  /** The body under a temporary name, whole and synced. */
  async #write(temporary: string, o: OutObject, c: AttemptContext): Promise<void> {
    const file = await this.#fs.open(temporary, 'wx')
    try {
      let at = 0
      for await (const piece of this.#kit.untilAborted(o.open(), c.signal)) {
        await file.write(piece, at)
        at += piece.length
      }
      if (at !== o.size) {
        throw new this.#kit.PermanentError('File.BodySize', `writing ${o.key}: the body has ${at} bytes, ${o.size} were announced`)
      }
      await file.sync()
    } finally {
      await file.close()
    }
    c.signal.throwIfAborted()
  }

  /**
   * Links and syncs the sidecar under its two names. Resolves with another attempt's intent if that one was first and differs. The
   * name by key comes first, so that whoever finds the other can find this one too.
   */
  async #declare(o: OutObject, p: Places, sidecar: string, c: AttemptContext): Promise<Stored | null> {
    await c.effect()
    await c.failpoint('object.create.before')
    const temporary = join(this.#roots.temporary, `${p.mark}${this.#unique()}`)
    try {
      await this.#fs.writeFile(temporary, new TextEncoder().encode(`${JSON.stringify(sidecarFor(o))}\n`))
      await this.#linkNew(temporary, p.byKey)
      await this.#linkNew(p.byKey, sidecar)
    } finally {
      await this.#discard(temporary)
    }
    for (const path of [p.byKey, sidecar]) {
      const noted = await this.#sidecar(path)
      if (noted && same(noted, o)) continue
      const standing = await this.#standing(o, p, path, c)
      if (typeof standing !== 'string') return standing
      throw new this.#kit.RetryableError('File.Vanished', `writing ${o.key}: its sidecar was removed meanwhile`)
    }
    await this.#fs.syncDir(this.#roots.own)
    await c.failpoint('object.create.after')
    return null
  }

  /** Gives the body its name. Resolves with what stands there if the name was taken, null if this call created it. */
  async #appear(
    temporary: string,
    o: OutObject,
    p: Places,
    sidecar: string,
    c: AttemptContext,
    asked: { link: boolean },
  ): Promise<Stored | null> {
    await this.#fs.mkdir(p.folder)
    await c.effect()
    await c.failpoint('object.complete.before')
    c.signal.throwIfAborted()
    asked.link = true
    let created: boolean
    try {
      created = await this.#linkNew(temporary, p.object)
    } catch (e) {
      // a refused link has made no name; a disk that fails does not say
      asked.link = !isSystemError(e) || e.code === 'EIO'
      throw e
    }
    await c.failpoint('object.complete.after')
    await this.#fs.syncDir(p.folder)
    if (created) return null
    const standing = await this.#standing(o, p, sidecar, c)
    if (typeof standing !== 'string') return standing
    if ((await this.#fs.stat(p.object))?.isDirectory === true) {
      throw new this.#kit.PermanentError('File.NameTaken', `writing ${o.key}: a folder stands where the file belongs`)
    }
    throw new this.#kit.RetryableError('File.Vanished', `writing ${o.key}: the name was taken, then nothing was there`)
  }

  /** false if the name exists. */
  async #linkNew(from: string, to: string): Promise<boolean> {
    try {
      await this.#fs.link(from, to)
      return true
    } catch (e) {
      if (hasCode(e, 'EEXIST')) return false
      throw e
    }
  }

  async #sidecar(path: string): Promise<Sidecar | null> {
    try {
      return JSON.parse(new TextDecoder().decode(await this.#fs.readFile(path))) as Sidecar
    } catch (e) {
      if (hasCode(e, 'ENOENT')) return null
      if (e instanceof SyntaxError) throw new this.#kit.PermanentError('File.BadSidecar', `reading ${path}: not JSON`, { cause: e })
      throw e
    }
  }

  /** Size of the object, null if there is none. */
  async #sizeOf(p: Places): Promise<number | null> {
    const s = await this.#fs.stat(p.object)
    if (s?.isDirectory !== true) return s?.size ?? null
    return null
  }

  async #sweep(p: Places): Promise<number> {
    let names: string[]
    try {
      names = await this.#fs.list(this.#roots.temporary)
    } catch (e) {
      if (hasCode(e, 'ENOENT')) return 0
      throw e
    }
    const mine = names.filter((n) => n.startsWith(p.mark))
    for (const name of mine) await this.#discard(join(this.#roots.temporary, name))
    return mine.length
  }

  async #discard(path: string): Promise<void> {
    try {
      await this.#fs.unlink(path)
    } catch (e) {
      if (!hasCode(e, 'ENOENT')) throw e
    }
  }

  #places(key: string): Places {
    return placesOf(this.#roots, key, this.#kit.PermanentError)
  }

  #sidecarPath(token: string): string {
    return sidecarOf(this.#roots, token, this.#kit.PermanentError)
  }

  #unique(): string {
    return Buffer.from(this.#context.host.random.bytes(8)).toString('hex')
  }

  /** `asked`: of a put: has the object been asked for its name? Before that nothing of it can stand. */
  async #guard<T>(what: string, c: AttemptContext, work: () => Promise<T>, asked = { link: true }): Promise<T> {
    if (this.#closed) throw new this.#kit.RetryableError('File.Closed', `${what}: the sink is closed`)
    c.signal.throwIfAborted()
    const running = work()
    this.#running.add(running)
    try {
      return await running
    } catch (e) {
      throw explain(e, what, this.#roots.root, this.#kit, asked.link ? 'unknown' : 'no')
    } finally {
      this.#running.delete(running)
    }
  }
}

function sidecarFor(o: OutObject): Sidecar {
  return {
    v: 1,
    key: o.key,
    token: o.token,
    metadata: o.metadata,
    content_type: o.contentType,
    ...(o.contentEncoding === undefined ? {} : { content_encoding: o.contentEncoding }),
  }
}

/** The same intent: key and all metadata equal. */
function same(noted: Sidecar, o: OutObject): boolean {
  const names = Object.keys(noted.metadata)
  return noted.key === o.key && names.length === Object.keys(o.metadata).length && names.every((n) => noted.metadata[n] === o.metadata[n])
}
