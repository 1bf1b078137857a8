/**
 * `npm run packs`: compiles core and the plugins and packs them into packs/, as they are published.
 * `--try` then installs the tarballs in an empty folder and lets the installed `hydrant` show its help, check a file, serve it
 * and stop: what a user without the repository has.
 */
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'

const root = dirname(import.meta.dirname)
const packs = join(root, 'packs')
const packages = ['core', ...readdirSync(join(root, 'plugins')).map((p) => `plugins/${p}`)]

function run(command: string, args: readonly string[], cwd: string): string {
  const { status, stdout, stderr, error } = spawnSync(command, args, { cwd, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
  if (error) throw new Error(`${command} ${args.join(' ')}: ${error.message}`, { cause: error })
  if (status !== 0) throw new Error(`${command} ${args.join(' ')}: exit ${status}\n${stdout}${stderr}`)
  return stdout
}

function pack(): string[] {
  for (const p of packages) rmSync(join(root, p, 'dist'), { recursive: true, force: true })
  run(join(root, 'node_modules', '.bin', 'tsc'), ['-b', 'tsconfig.build.json', '--force'], root)
  rmSync(packs, { recursive: true, force: true })
  mkdirSync(packs)
  // npm puts the licence of a package's own folder into its tarball
  const notices = packages.flatMap((p) => ['LICENSE', 'NOTICE'].map((f) => ({ from: join(root, f), to: join(root, p, f) })))
  for (const n of notices) copyFileSync(n.from, n.to)
  try {
    run('npm', ['pack', '--workspaces', '--silent', '--pack-destination', packs], root)
  } finally {
    for (const n of notices) rmSync(n.to)
  }
  return readdirSync(packs).map((f) => join(packs, f))
}

const CONFIG = `
api: {listen: "127.0.0.1:0"}
admin: {listen: "127.0.0.1:0"}
limits: {free_disk: 1MiB}
pipelines:
  clicks: {source: {direct_put: {}}, sink: {type: file, path: ./out}}
`

/** Until the daemon says that it is ready; then it must stop by SIGTERM with exit code 0. */
async function serve(bin: string, folder: string): Promise<void> {
  const daemon = spawn(process.execPath, [bin, 'serve', '-c', 'config.yaml'], { cwd: folder, stdio: ['ignore', 'pipe', 'pipe'] })
  const limit = setTimeout(() => daemon.kill('SIGKILL'), 30_000)
  let said = ''
  for (const stream of [daemon.stdout, daemon.stderr]) {
    stream.on('data', (chunk: Buffer) => {
      const before = said
      said += chunk.toString()
      // once: a second signal means at once
      if (said.includes('"ready"') && !before.includes('"ready"')) daemon.kill('SIGTERM')
    })
  }
  const [code] = (await once(daemon, 'close')) as [number | null]
  clearTimeout(limit)
  if (code !== 0) throw new Error(`hydrant serve of the installed package ended with ${code}:\n${said}`)
}

/** Installed with the npm on the PATH; run by this Node. */
async function tryOut(tarballs: readonly string[]): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'hydrant-packs-'))
  try {
    writeFileSync(join(folder, 'package.json'), '{"private":true}\n')
    run('npm', ['install', '--ignore-scripts', '--loglevel=error', ...tarballs], folder)
    const installed = join(folder, 'node_modules', 'hydrant')
    for (const f of ['LICENSE', 'NOTICE']) if (!existsSync(join(installed, f))) throw new Error(`the installed package has no ${f}`)
    const manifest = JSON.parse(readFileSync(join(installed, 'package.json'), 'utf8')) as { bin: { hydrant: string } }
    const bin = join(installed, manifest.bin.hydrant)
    const help = run(process.execPath, [bin, '--help'], folder)
    if (!help.includes('serve')) throw new Error(`hydrant --help of the installed package does not name serve:\n${help}`)
    writeFileSync(join(folder, 'config.yaml'), CONFIG)
    run(process.execPath, [bin, 'check', '-c', 'config.yaml'], folder)
    await serve(bin, folder)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
  console.log('installed in an empty folder: hydrant --help, check and serve work')
}

const tarballs = pack()
for (const t of tarballs) console.log(t.slice(root.length + 1))
if (process.argv.includes('--try')) await tryOut(tarballs)
