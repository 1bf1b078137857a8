import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { createHash } from 'node:crypto'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import {
  attemptContext,
  bodyOf,
  collect,
  optionsTable,
  outObject,
  pluginKit,
  realHost,
  recordedLog,
  registerSinkCases,
  type SinkHarness,
} from 'hydrant/sdk/testing'
import type { AttemptContext, FileSystem, Host, ObjectSink } from 'hydrant/sdk'
import plugin from './index.ts'

const file = plugin(pluginKit)
let root = ''
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'hydrant-sink-file-'))
})
afterEach(async () => {
  await rm(root, { recursive: true, force: true })
})

function hostWith(change: Partial<FileSystem> = {}): Host {
  const real = realHost()
  return { ...real, fs: { ...real.fs, ...change } }
}
function sinkAt(path: string, host: Host = hostWith()): ObjectSink {
  const context = { host, log: recordedLog(), pipelineId: 'p', memory: 8 * 1024 * 1024, baseDir: dirname(path) }
  return file.create(file.options.parse({ path }), context)
}
async function visible(path: string): Promise<string[]> {
  const all = await readdir(path, { recursive: true, withFileTypes: true })
  return all
    .filter((f) => f.isFile())
    .map((f) => join(f.parentPath, f.name).slice(path.length + 1))
    .filter((f) => !f.startsWith('.hydrant'))
    .toSorted()
}
const failing = (code: string, on: 'open' | 'link' | 'mkdir'): Host =>
  hostWith({ [on]: () => Promise.reject(Object.assign(new Error(`${code}: of this test`), { code, syscall: on })) })
const killed = (point: string): AttemptContext =>
  attemptContext({ failpoint: (p) => (p === point ? Promise.reject(new Error('killed')) : Promise.resolve()) })
const hashOf = (key: string): string => createHash('sha256').update(key).digest('hex').slice(0, 32)
const temporaries = (path: string): Promise<string[]> => readdir(join(path, '.hydrant', 'tmp'))

async function harness(): Promise<SinkHarness> {
  const path = await mkdtemp(join(tmpdir(), 'hydrant-sink-file-'))
  const readBack = async (key: string): Promise<Uint8Array | null> => (existsSync(join(path, key)) ? readFile(join(path, key)) : null)
  const { fs } = realHost()
  let readOnly = false
  const link: FileSystem['link'] = (from, to) =>
    readOnly ? Promise.reject(Object.assign(new Error('EROFS'), { code: 'EROFS', syscall: 'link' })) : fs.link(from, to)
  return {
    sink: sinkAt(path, hostWith({ link })),
    refuseWrites: () => Promise.resolve(void (readOnly = true)),
    another: () => sinkAt(path),
    readBack,
    list: () => visible(path),
    strand: async (key) => {
      await mkdir(join(path, '.hydrant', 'tmp'), { recursive: true })
      await writeFile(join(path, '.hydrant', 'tmp', `${hashOf(key)}-${Math.random()}`), 'half')
    },
    stranded: async (key) => (await temporaries(path)).filter((n) => n.startsWith(hashOf(key))).length,
    stop: () => rm(path, { recursive: true, force: true }),
  }
}

describe('conformance', () => {
  registerSinkCases(test, { name: 'file', make: harness, sizes: [0, 1, 1024 * 1024 - 1, 1024 * 1024, 1024 * 1024 + 1, 20_000_000] })
})

const systemError = (code: string, syscall: string): Error => Object.assign(new Error(code), { code, syscall })
const putWith = (change: Partial<FileSystem>): Promise<unknown> =>
  sinkAt(root, hostWith(change)).put(outObject('a/b', bodyOf(10)), attemptContext())

describe('what an error says of the object', () => {
  const real = realHost().fs
  /** The third link gives the object its name. */
  const objectLink = (code: string): FileSystem['link'] => {
    let n = 0
    return (from, to) => (++n === 3 ? Promise.reject(systemError(code, 'link')) : real.link(from, to))
  }
  test('its name was refused: it does not stand there', async () => {
    await expect(putWith({ link: objectLink('EDQUOT') })).rejects.toMatchObject({ code: 'File.DiskFull', applied: 'no' })
    expect(existsSync(join(root, 'a/b'))).toBe(false)
  })
  test('its folder could not be made: it does not stand there', async () => {
    const folder = join(root, 'a')
    const mkdir: FileSystem['mkdir'] = (path) => (path === folder ? Promise.reject(systemError('EACCES', 'mkdir')) : real.mkdir(path))
    await expect(putWith({ mkdir })).rejects.toMatchObject({ code: 'File.AccessDenied', applied: 'no' })
  })
  test('it has its name, and that could not be synced: it may stand there', async () => {
    const syncDir: FileSystem['syncDir'] = (path) =>
      path === join(root, 'a') ? Promise.reject(systemError('ENOSPC', 'fsync')) : real.syncDir(path)
    await expect(putWith({ syncDir })).rejects.toMatchObject({ applied: 'unknown' })
    expect(existsSync(join(root, 'a/b'))).toBe(true)
  })
  test('a disk that fails does not say', async () => {
    await expect(putWith({ link: objectLink('EIO') })).rejects.toMatchObject({ applied: 'unknown' })
  })
})

describe('a crash between any two steps (exactly-once row 35)', () => {
  const points = ['object.part', 'object.create', 'object.complete'].flatMap((p) => [`${p}.before`, `${p}.after`])
  for (const point of points) {
    test(`dies at ${point}: the next life stores it once, under the end that was written down`, async () => {
      const out = outObject('a/b', bodyOf(5000), { end: 50 })
      const died = new Error('killed here')
      const failpoint = (p: string): Promise<void> => (p === point ? Promise.reject(died) : Promise.resolve())
      await expect(sinkAt(root).put(out, attemptContext({ failpoint }))).rejects.toBe(died)

      const next = sinkAt(root)
      const noted = point === 'object.create.after' || point.startsWith('object.complete')
      const linked = point === 'object.complete.after'
      const other = await next.put(outObject('a/b', bodyOf(7000, 2), { end: 70 }), attemptContext({ recovered: true }))
      if (!noted) {
        expect(other.existed).toBe(null)
        expect(await readFile(join(root, 'a/b'))).toEqual(Buffer.from(bodyOf(7000, 2)))
        return
      }
      // the intent binds: the end that was written down is told, and putting that end completes it
      expect(other.existed?.metadata['end']).toBe('50')
      expect(other.existed?.intent).toBe(linked ? undefined : true)
      expect((await next.head('a/b', attemptContext()))?.metadata['end']).toBe(linked ? '50' : undefined)
      const again = await next.put(out, attemptContext({ recovered: true }))
      expect(again.existed?.metadata['end']).toBe(linked ? '50' : undefined)
      expect(await readFile(join(root, 'a/b'))).toEqual(Buffer.from(bodyOf(5000)))
      expect(await temporaries(root)).toEqual([])
    })
  }

  test('what is called existing was synced: the link of a life that died before its sync', async () => {
    await sinkAt(root).put(outObject('a/b', bodyOf(10)), attemptContext())
    const synced: string[] = []
    const host = hostWith({
      syncDir: (path) => {
        synced.push(path)
        return realHost().fs.syncDir(path)
      },
    })
    expect((await sinkAt(root, host).put(outObject('a/b', bodyOf(10)), attemptContext())).existed).not.toBe(null)
    expect(synced).toContain(join(root, 'a'))
  })

  test('order: body synced, sidecar linked and its folder synced, object linked and its folder synced', async () => {
    const steps: string[] = []
    const real = realHost().fs
    const name = (p: string): string =>
      p
        .replace(root, '')
        .replace(/tmp\/.*/, 'tmp/*')
        .replace(/(?<=hydrant\/(?:key-)?)[0-9a-f-]{30,}/, '*')
    const host = hostWith({
      open: async (path, flags) => {
        const h = await real.open(path, flags)
        return { ...h, sync: () => (steps.push(`sync ${name(path)}`), h.sync()) }
      },
      link: (from, to) => (steps.push(`link ${name(from)} ${name(to)}`), real.link(from, to)),
      syncDir: (path) => (steps.push(`syncDir ${name(path)}`), real.syncDir(path)),
      rename: () => Promise.reject(new Error('never renamed')),
    })
    await sinkAt(root, host).put(outObject('a', bodyOf(10)), attemptContext())
    expect(steps).toEqual([
      'sync /.hydrant/tmp/*',
      'link /.hydrant/tmp/* /.hydrant/key-*.json',
      'link /.hydrant/key-*.json /.hydrant/*.json',
      'syncDir /.hydrant',
      'link /.hydrant/tmp/* /a',
      'syncDir ',
    ])
  })

  test.each([1, 2])('the lease ends at effect %i: no sidecar without a lease, no object without a lease', async (nth) => {
    let asked = 0
    const effect = (): Promise<void> => (++asked === nth ? Promise.reject(new Error('lease lost')) : Promise.resolve())
    await expect(sinkAt(root).put(outObject('a', bodyOf(10)), attemptContext({ effect }))).rejects.toThrow('lease lost')
    const own = (await readdir(join(root, '.hydrant'))).filter((n) => n.endsWith('.json'))
    expect([own.length, await visible(root), await temporaries(root)]).toEqual([nth === 1 ? 0 : 2, [], []])
  })

  test('EEXIST although the link was made (NFS replays it): the object is ours', async () => {
    const real = realHost().fs
    const host = hostWith({
      link: async (from, to) => {
        await real.link(from, to)
        throw Object.assign(new Error('EEXIST: replayed'), { code: 'EEXIST', syscall: 'link' })
      },
    })
    const out = outObject('a', bodyOf(10))
    const { existed } = await sinkAt(root, host).put(out, attemptContext())
    expect(existed?.metadata).toEqual(out.metadata)
    expect(await visible(root)).toEqual(['a'])
  })

  test('release: an intent without its object is forgotten, an object never', async () => {
    await expect(sinkAt(root).put(outObject('a', bodyOf(10), { end: 5 }), killed('object.create.after'))).rejects.toThrow('killed')
    const sink = sinkAt(root)
    const other = outObject('a', bodyOf(20), { end: 9 })
    expect((await sink.put(other, attemptContext())).existed).toMatchObject({ intent: true, metadata: { end: '5' } })
    expect(await sink.abortUploads('a', attemptContext())).toBe(1)
    expect((await sink.put(other, attemptContext())).existed).toBe(null)
    expect(await sink.abortUploads('a', attemptContext())).toBe(0)
    expect((await sink.put(other, attemptContext())).existed?.metadata['end']).toBe('9')
  })

  test('release while a former owner is about to link: its object never appears', async () => {
    const failpoint = async (point: string): Promise<void> => {
      if (point === 'object.complete.before') await sinkAt(root).abortUploads('a', attemptContext())
    }
    await expect(sinkAt(root).put(outObject('a', bodyOf(10)), attemptContext({ failpoint }))).rejects.toMatchObject({ code: 'File.ENOENT' })
    expect(await visible(root)).toEqual([])
  })

  test('a crash between the two names of a sidecar', async () => {
    const real = realHost().fs
    let links = 0
    const host = hostWith({ link: (from, to) => (++links === 2 ? Promise.reject(new Error('killed')) : real.link(from, to)) })
    await expect(sinkAt(root, host).put(outObject('a', bodyOf(10), { end: 5 }), attemptContext())).rejects.toThrow('killed')
    expect((await sinkAt(root).put(outObject('a', bodyOf(20), { end: 9 }), attemptContext())).existed?.intent).toBe(true)
    expect((await sinkAt(root).put(outObject('a', bodyOf(10), { end: 5 }), attemptContext())).existed).toBe(null)
    expect((await sinkAt(root).head('a', attemptContext()))?.metadata['end']).toBe('5')
  })

  test('another owner declares its end while this body is being written: that end binds, this body never appears', async () => {
    const failpoint = async (point: string): Promise<void> => {
      if (point !== 'object.part.after') return
      const theirs = sinkAt(root).put(outObject('a', bodyOf(10), { end: 5 }), killed('object.create.after'))
      await expect(theirs).rejects.toThrow('killed')
    }
    const { existed } = await sinkAt(root).put(outObject('a', bodyOf(20), { end: 9 }), attemptContext({ failpoint }))
    expect(existed).toMatchObject({ intent: true, metadata: { end: '5' } })
    expect(await visible(root)).toEqual([])
  })

  test('one name of the sidecar is enough to know an object', async () => {
    const out = outObject('a', bodyOf(10))
    await sinkAt(root).put(out, attemptContext())
    await rm(join(root, '.hydrant', `${out.token}.json`))
    expect((await sinkAt(root).put(out, attemptContext())).existed?.metadata).toEqual(out.metadata)
  })

  test('a file that is not ours is never touched: existed without metadata', async () => {
    await writeFile(join(root, 'a'), 'theirs')
    const { existed } = await sinkAt(root).put(outObject('a', bodyOf(10)), attemptContext())
    expect(existed).toMatchObject({ size: 6, metadata: {} })
    expect(await readFile(join(root, 'a'), 'utf8')).toBe('theirs')
  })

  test('the same token under another key is found where its sidecar says', async () => {
    const first = outObject('old-prefix/a', bodyOf(10), { end: 5 })
    await sinkAt(root).put(first, attemptContext())
    const { existed } = await sinkAt(root).put(outObject('new-prefix/a', bodyOf(10), { token: first.token }), attemptContext())
    expect(existed).toMatchObject({ location: join(root, 'old-prefix/a'), metadata: { end: '5' } })
    expect(await visible(root)).toEqual(['old-prefix/a'])
  })
})

describe('keys', () => {
  const bad = ['', '/etc/passwd', '../up', 'a/../../up', 'a/./b', 'a\0b', 'folder/', '.hydrant/x', '//.hydrant/x', 'C:/x', '..\\up']
  test.each(bad)('%j is refused', async (key) => {
    const sink = sinkAt(join(root, 'inner'))
    await expect(sink.put(outObject(key, bodyOf(1)), attemptContext())).rejects.toThrow(pluginKit.PermanentError)
    await expect(sink.head(key, attemptContext())).rejects.toThrow(pluginKit.PermanentError)
    await expect(collect(sink.read(key, attemptContext()))).rejects.toThrow(pluginKit.PermanentError)
    await expect(sink.abortUploads(key, attemptContext())).rejects.toThrow(pluginKit.PermanentError)
    expect(await visible(root)).toEqual([])
  })

  test('a token that cannot be a file name is refused', async () => {
    const out = outObject('a', bodyOf(1), { token: '../../x' })
    await expect(sinkAt(root).put(out, attemptContext())).rejects.toThrow(/cannot be a file name/)
  })
})

describe('the disk says no', () => {
  test.each([
    ['ENOSPC', 'open', 'RetryableError', 'File.DiskFull'],
    ['EIO', 'open', 'RetryableError', 'File.EIO'],
    ['EACCES', 'mkdir', 'RetryableError', 'File.AccessDenied'],
    ['EROFS', 'mkdir', 'RetryableError', 'File.AccessDenied'],
    ['EPERM', 'link', 'ConfigError', 'File.NoHardLinks'],
    ['EXDEV', 'link', 'ConfigError', 'File.SeveralFileSystems'],
    ['ENAMETOOLONG', 'open', 'PermanentError', 'File.NameTooLong'],
  ] as const)('%s at %s: %s %s', async (code, on, kind, expected) => {
    const put = sinkAt(root, failing(code, on)).put(outObject('a', bodyOf(10)), attemptContext())
    await expect(put).rejects.toThrow(pluginKit[kind])
    await expect(put).rejects.toMatchObject({ code: expected })
    await expect(put).rejects.toThrow(/^writing a: /)
  })

  test('a file where the key needs a folder', async () => {
    const sink = sinkAt(root)
    await sink.put(outObject('n', bodyOf(1)), attemptContext())
    await expect(sink.put(outObject('n/y', bodyOf(1)), attemptContext())).rejects.toMatchObject({ code: 'File.NameTaken' })
    await sink.put(outObject('m/y', bodyOf(1)), attemptContext())
    await expect(sink.put(outObject('m', bodyOf(1)), attemptContext())).rejects.toMatchObject({ code: 'File.NameTaken' })
  })

  test('a failed sync of the body: nothing is visible, nothing is left, a later attempt works', async () => {
    const real = realHost().fs
    let fail = true
    const host = hostWith({
      open: async (path, flags) => {
        const h = await real.open(path, flags)
        const sync = (): Promise<void> =>
          fail ? Promise.reject(Object.assign(new Error('EIO'), { code: 'EIO', syscall: 'fsync' })) : h.sync()
        return { ...h, sync }
      },
    })
    const sink = sinkAt(root, host)
    await expect(sink.put(outObject('a', bodyOf(10)), attemptContext())).rejects.toMatchObject({ code: 'File.EIO' })
    expect([await visible(root), await temporaries(root)]).toEqual([[], []])
    fail = false
    expect((await sink.put(outObject('a', bodyOf(10)), attemptContext({ attempt: 2 }))).existed).toBe(null)
  })

  test('a body of another length than announced', async () => {
    const put = sinkAt(root).put(outObject('a', bodyOf(10), { size: 11 }), attemptContext())
    await expect(put).rejects.toThrow('writing a: the body has 10 bytes, 11 were announced')
    expect(await visible(root)).toEqual([])
  })
})

describe('probe', () => {
  test('a good folder, and nothing is left in it', async () => {
    const found = await sinkAt(root).probe?.(new AbortController().signal)
    expect(found?.[0]).toMatchObject({ level: 'ok' })
    expect(await temporaries(root)).toEqual([])
  })
  test('a network file system and little space are said; a second link that succeeds is an error', async () => {
    const host = hostWith({ statfs: () => Promise.resolve({ type: 0x6969, freeBytes: 5 * 1024 ** 2 }), link: () => Promise.resolve() })
    const found = await sinkAt(root, host).probe?.(new AbortController().signal)
    expect(found?.map((f) => `${f.level} ${f.message.replace(root, 'R')}`)).toEqual([
      'error R: a second link to a name is not refused: no exactly once here',
      'warning R is on NFS: link and fsync are only as good as its server',
      'warning R: 5 MiB are free',
    ])
  })
})

test('the table of options in the README is the schema', async () => {
  const readme = await readFile(join(import.meta.dirname, 'README.md'), 'utf8')
  expect(readme).toContain(`<!-- options -->\n${optionsTable(file.options)}\n<!-- /options -->`)
})
