/** Other Nodes than the one that runs the tests: nodejs.org's binaries as npm has them, each by version and digest. */
import { execFile } from 'node:child_process'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { cached, MissingServiceError } from './cache.ts'

const run = promisify(execFile)
const INSTALL_MS = 10 * 60_000

/** Subresource integrity of the package, by platform. Those that are not here have no package of that version. */
const NODES = {
  /** The oldest that hydrant runs on. */
  '24.6.0': {
    'linux-x64': 'sha512-yeWAXhUE8+/blmuoPRYXP022qkWqGQcAspe9tXUhAFJL2JzF7E6XQqHQbAwmuoZ22W9UpYnkTVaY6ECuJFuS9A==',
  },
  /** Too old for hydrant, but the newest with another zstd (1.5.6) than today's. */
  '23.11.1': {
    'linux-x64': 'sha512-V431A2mpCVlCoEQcoQ+HzPSzBs4xPo0rtvDxroSEdS8XWcF9PGff1oV2MZ9GXwPe9/E3CZLA0DwG8ZVfo9rNkw==',
  },
} as const satisfies Record<string, Readonly<Record<string, string>>>
export type NodeVersion = keyof typeof NODES

/** Path of the program, installed when missing. Throws MissingServiceError. */
export async function installNode(version: NodeVersion): Promise<string> {
  const platform = `${process.platform}-${process.arch}`
  const integrity = (NODES[version] as Readonly<Record<string, string>>)[platform]
  if (integrity === undefined) throw new MissingServiceError(`Node ${version}`, `npm has no package of it for ${platform}`)
  const name = `node-${platform}`
  const program = join('node_modules', name, 'bin', 'node')
  const folder = await cached(`node-${version}`, program, async (scratch) => {
    // npm compares what it gets with the digest of the lock file
    const dependencies = { [name]: version }
    const packages = { '': { dependencies }, [`node_modules/${name}`]: { version, integrity } }
    await writeFile(join(scratch, 'package.json'), JSON.stringify({ private: true, dependencies }))
    await writeFile(join(scratch, 'package-lock.json'), JSON.stringify({ lockfileVersion: 3, packages }))
    try {
      await run('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'], { cwd: scratch, timeout: INSTALL_MS })
    } catch (e) {
      const { stderr } = e as { stderr?: string }
      throw new MissingServiceError(`Node ${version}`, `npm ci said: ${stderr || String(e)}`)
    }
  })
  return join(folder, program)
}
