import { join } from 'node:path'
import type { Host, PluginKit } from 'hydrant/sdk'
import { explain, hasCode } from './errors.ts'
import type { Roots } from './layout.ts'

/** statfs magic numbers of file systems whose link and fsync are not to be relied on. */
const REMOTE: Readonly<Record<number, string>> = {
  0x6969: 'NFS',
  0x517b: 'SMB',
  0xff534d42: 'CIFS',
  0xfe534d42: 'SMB2',
  0x65735546: 'FUSE',
}
const LOW_BYTES = 1024 ** 3

/** Proves that the folder can do what the promise needs: create, sync, link, and refuse a second link. Leaves nothing behind. */
export async function probeFolder(
  roots: Roots,
  host: Host,
  kit: PluginKit,
): Promise<readonly { level: 'ok' | 'warning' | 'error'; message: string }[]> {
  const name = join(roots.temporary, `probe-${Buffer.from(host.random.bytes(8)).toString('hex')}`)
  const found: { level: 'ok' | 'warning' | 'error'; message: string }[] = []
  try {
    await host.fs.mkdir(roots.temporary)
    await host.fs.writeFile(name, new Uint8Array(1))
    await host.fs.link(name, `${name}-linked`)
    const refused = await host.fs.link(name, `${name}-linked`).then(
      () => false,
      (e: unknown) => hasCode(e, 'EEXIST'),
    )
    await host.fs.syncDir(roots.temporary)
    if (refused) found.push({ level: 'ok', message: `${roots.root}: files can be created, synced and linked once` })
    else found.push({ level: 'error', message: `${roots.root}: a second link to a name is not refused: no exactly once here` })
    const { type, freeBytes } = await host.fs.statfs(roots.root)
    const remote = REMOTE[type >>> 0]
    if (remote) found.push({ level: 'warning', message: `${roots.root} is on ${remote}: link and fsync are only as good as its server` })
    if (freeBytes < LOW_BYTES) found.push({ level: 'warning', message: `${roots.root}: ${Math.floor(freeBytes / 1024 ** 2)} MiB are free` })
  } catch (e) {
    const why = explain(e, `probing ${roots.root}`, roots.root, kit, 'unknown')
    found.push({ level: 'error', message: why instanceof Error ? why.message : String(why) })
  } finally {
    await host.fs.remove(name)
    await host.fs.remove(`${name}-linked`)
  }
  return found
}
