/**
 * `npm run packs`: compiles core and the plugins and packs them into packs/, as they are published.
 * `--try` then installs the tarballs in an empty folder and asks the installed `hydrant` for its help: what a user without
 * the repository sees. Order matters for nothing: the packages name each other by exact version.
 */
import { spawnSync } from 'node:child_process'
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

/** Installed with the npm on the PATH; run by this Node. */
function tryOut(tarballs: readonly string[]): void {
  const folder = mkdtempSync(join(tmpdir(), 'hydrant-packs-'))
  try {
    writeFileSync(join(folder, 'package.json'), '{"private":true}\n')
    run('npm', ['install', '--ignore-scripts', '--loglevel=error', ...tarballs], folder)
    const installed = join(folder, 'node_modules', 'hydrant')
    const { bin } = JSON.parse(readFileSync(join(installed, 'package.json'), 'utf8')) as { bin: { hydrant: string } }
    const help = run(process.execPath, [join(installed, bin.hydrant), '--help'], folder)
    if (!help.includes('serve')) throw new Error(`hydrant --help of the installed package does not name serve:\n${help}`)
    writeFileSync(join(folder, 'config.yaml'), 'pipelines:\n  clicks: {source: {direct_put: {}}, sink: {type: file, path: ./out}}\n')
    run(process.execPath, [join(installed, bin.hydrant), 'check', '-c', 'config.yaml'], folder)
    for (const f of ['LICENSE', 'NOTICE']) if (!existsSync(join(installed, f))) throw new Error(`the installed package has no ${f}`)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
  console.log('installed in an empty folder: hydrant --help and hydrant check work')
}

const tarballs = pack()
for (const t of tarballs) console.log(t.slice(root.length + 1))
if (process.argv.includes('--try')) tryOut(tarballs)
