import { execFile, execFileSync } from 'node:child_process'
import { mkdir, readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { assertClean, audit } from '../harness/audit.ts'
import { FirehoseClient, load } from '../harness/client.ts'
import { daemonYaml, type PipelineConfig } from '../harness/config.ts'
import { Home, type Daemon, type Engine } from '../harness/daemon.ts'
import { unpack } from '../harness/framings.ts'
import { runKillCase, type KillCase } from '../harness/killcase.ts'
import { leftovers, readObjects, type FoundObject, type Place } from '../harness/objects.ts'
import { Outcomes } from '../harness/outcomes.ts'
import { seedLine, seedOf } from '../harness/random.ts'
import { requireNode, requireService } from '../services/require.ts'
import type { Versitygw } from '../services/versitygw.ts'

const root = join(import.meta.dirname, '../..')
const what = 'a cut of one version, recovered by another'
const oldest = await requireNode('24.6.0', what)
const otherZstd = await requireNode('23.11.1', what)
const startS3 = await requireService('versitygw', what)
const seed = seedOf()

const module = (code: string): string => `data:text/javascript,${encodeURIComponent(code)}`
/** Lets an older Node past the check in core/main.ts: only its compressor is wanted. */
const disguise = module(`Object.defineProperty(process.versions, 'node', { value: '24.6.0' })`)
/** Of the official Nodes from 22 on, all write the same gzip (level 1-9); one that writes other bytes is made by another hash table. */
const otherGzip = module(`
  import zlib from 'node:zlib'
  import { syncBuiltinESMExports } from 'node:module'
  const { createGzip } = zlib
  Object.defineProperty(zlib, 'createGzip', { value: (o) => createGzip({ ...o, memLevel: 1 }) })
  syncBuiltinESMExports()`)

type Form = 'gzip' | 'zstd'
const LEVEL = 3
/** The same records by the compressor of an engine, as hydrant calls it. */
function packedBy(e: Engine, form: Form, bytes: Uint8Array): Buffer {
  const how =
    form === 'gzip'
      ? `createGzip({ level: ${LEVEL} })`
      : `createZstdCompress({ params: { [z.constants.ZSTD_c_compressionLevel]: ${LEVEL} } })`
  const code = `import * as z from 'node:zlib'; process.stdin.pipe(z.${how}).pipe(process.stdout)`
  const args = [...(e.imports ?? []).flatMap((i) => ['--import', i]), '--input-type=module', '-e', code]
  return execFileSync(e.node ?? process.execPath, args, { input: bytes, maxBuffer: 64 * 2 ** 20 })
}

async function objectsOf(p: Place): Promise<FoundObject[]> {
  const found: FoundObject[] = []
  for await (const o of readObjects(p)) if (o.bytes.length > 1) found.push(o) // one byte: the S3 sink's question what the store can do
  return found
}

const engineOf = (form: Form): Engine =>
  form === 'gzip' ? { node: oldest ?? '', imports: [otherGzip] } : { node: otherZstd ?? '', imports: [disguise] }

type Case = { sink: KillCase['sink']; form: Form; edge: string; stored: boolean }
const CASES: readonly Case[] = (['gzip', 'zstd'] as const).flatMap((form) => [
  { form, sink: 's3', edge: 'object.put.after', stored: true },
  { form, sink: 's3', edge: 'object.part.after', stored: false },
  { form, sink: 'file', edge: 'object.complete.after', stored: true },
  { form, sink: 'file', edge: 'object.part.after', stored: false },
])

describe.skipIf(!oldest || !otherZstd || !startS3)(
  'row 28: killed under one Node, recovered under another that compresses otherwise',
  () => {
    let s3: Versitygw | null = null
    beforeAll(async () => {
      process.stderr.write(`${seedLine(seed, 'integration', 'test/integration/other-versions.test.ts')}\n`)
      s3 = startS3 && (await startS3())
    })
    afterAll(() => s3?.stop())

    test.each(CASES)('$sink, $form: $edge', async ({ sink, form, edge, stored }) => {
      const first = engineOf(form)
      let before: FoundObject[] = []
      const look = async (at: 'between' | 'end', place: Place): Promise<void> => {
        const now = await objectsOf(place)
        if (at === 'between') {
          before = now
          if (!stored) return expect(await leftovers(place), 'something half done').toBeGreaterThan(0)
          const [o] = now
          const content = unpack(o?.bytes ?? Buffer.alloc(0), form)
          expect(content.length, 'an object that the second life will find').toBeGreaterThan(0)
          expect(packedBy(first, form, content).equals(packedBy({}, form, content)), 'both compress alike: nothing is shown').toBe(false)
          return
        }
        // names are the same and what stood stays: of another compressor, and never touched
        for (const o of before) expect(now.find((x) => x.key === o.key)?.bytes).toEqual(o.bytes)
        expect(now.length).toBeGreaterThan(before.length)
      }
      await runKillCase({ edge, sink, form, cut: 'size' }, seed, s3, { level: LEVEL, size: '256KiB', first, look })
    })

    // the way back: a newer Node has died, the oldest goes on
    test.each([
      { sink: 's3', edge: 'object.part.after' },
      { sink: 'file', edge: 'advance.before' },
    ] as const)('$sink, zstd, back to Node 24.6: $edge', async ({ sink, edge }) => {
      await runKillCase({ edge, sink, form: 'zstd', cut: 'size' }, seed, s3, { level: LEVEL, last: { node: oldest ?? '' } })
    })
  },
)

test.skipIf(!oldest)('the demo runs under Node 24.6: all that was sent is delivered', async () => {
  const args = ['-C', 'hydrant-source', '--disable-warning=ExperimentalWarning', join(root, 'core/main.ts'), 'demo']
  const { stdout } = await promisify(execFile)(oldest ?? '', args, { timeout: 60_000 })
  expect(stdout.trim().split('\n').at(-1)).toMatch(/^sent ([1-9]\d*), delivered \1$/)
})

const act = (d: Daemon, action: string, body: object): Promise<Response> =>
  fetch(`${d.adminUrl}/pipelines/events/${action}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  })

describe('row 12: a plugin is upgraded with cuts open', () => {
  let home: Home
  let client: FirehoseClient
  let log: Outcomes
  beforeEach(async () => {
    log = new Outcomes(seed)
    home = await Home.make()
    client = new FirehoseClient({ url: `http://127.0.0.1:${home.ports.api}` })
  })
  afterEach(async () => {
    client.close()
    await home.remove()
  })
  const sinkFile = pathToFileURL(join(root, 'plugins/sink-file/index.ts')).href
  const PACKAGE = 'acme-lake'
  const place = (): Place => ({ kind: 'folder', root: join(home.folder, 'lake') })

  /** The file sink as somebody else's package: `where` is the name of its option, `more` further ones. */
  async function install(version: string, where: string, more = ''): Promise<void> {
    const folder = join(home.folder, 'node_modules', PACKAGE)
    await mkdir(folder, { recursive: true })
    await writeFile(join(folder, 'package.json'), JSON.stringify({ name: PACKAGE, version, type: 'module', exports: './index.js' }))
    const options = `kit.z.strictObject({ ${where}: kit.z.string().meta({ description: 'x' }), ${more} })`
    await writeFile(
      join(folder, 'index.js'),
      `import { mkdirSync } from 'node:fs'
       import file from ${JSON.stringify(sinkFile)}
       export default (kit) => ({
         ...file(kit), name: 'acme', options: ${options}, target: (o) => ({ ${where}: o.${where} }),
         create(o, context) {
           mkdirSync(${JSON.stringify(home.folder)} + '/opened-by-${version}', { recursive: true })
           return file(kit).create({ path: o.${where} }, context)
         },
       })`,
    )
    await configure(version, where)
  }
  async function configure(version: string, where: string): Promise<void> {
    const pipeline: PipelineConfig = {
      name: 'events',
      compression: 'gzip',
      size: '16KiB',
      interval: '100ms',
      sink: { type: 'file', target: '' },
    }
    const config = JSON.parse(daemonYaml({ pipelines: [pipeline] }, home.ports)) as {
      pipelines: { events: { sink: Record<string, unknown> } }
    }
    const { type: _type, path: _path, ...rest } = config.pipelines.events.sink
    const sink = { ...rest, type: PACKAGE, [where]: join(home.folder, 'lake') }
    const events = { ...config.pipelines.events, sink }
    await writeFile(home.configFile, JSON.stringify({ ...config, pipelines: { events }, plugins: [{ package: PACKAGE, version }] }))
  }
  const send = async (firstProducer: number): Promise<unknown> =>
    load(client, { stream: 'events', log, seed, firstProducer, records: 400, batch: 20 })
  /** Cuts are recorded and not advanced over; with `advance` an object is stored. */
  async function die(failpoint: string, firstProducer: number): Promise<void> {
    const d = await home.start({ failpoints: `${failpoint}:kill@1` }).ready()
    await send(firstProducer)
    await d.killed()
  }

  test.each(['cut.after', 'advance.before'])(
    'a new option: what was recorded is delivered once, under the same names (%s)',
    async (edge) => {
      await install('1.0.0', 'path')
      await die(edge, 0)
      const before = await objectsOf(place())
      await install('1.1.0', 'path', `mode: kit.z.string().prefault('fast').meta({ description: 'x' })`)
      const d = await home.start().ready()
      await send(100)
      await d.drained()
      await d.drain()
      expect(await readdir(home.folder)).toContain('opened-by-1.1.0')
      const after = await objectsOf(place())
      for (const o of before) expect(after.find((x) => x.key === o.key)?.bytes).toEqual(o.bytes)
      // its version is in every name: an upgrade is no new spec
      expect(after.filter((o) => !o.key.includes('/events-1-'))).toEqual([])
      assertClean(await audit({ outcomes: log, delivered: [place()], compression: 'gzip' }), edge)
    },
  )

  test('an option that the plugin no longer knows: the lane stops and says so; the former version delivers', async () => {
    await install('1.0.0', 'path')
    await die('cut.after', 200)
    await install('2.0.0', 'folder')
    const d = await home.start().ready()
    const stopped = await d.until((s) => s.some((p) => p.lanes.some((l) => l.state === 'stopped')), 20_000, 'stopped')
    const [lane] = stopped.flatMap((p) => p.lanes)
    expect(lane?.reason).toMatch(
      /^a recorded cut goes to a sink of type acme-lake .* does not take the options: .*"path".* put the former one back/,
    )
    const metrics = await (await fetch(`${d.adminUrl}/metrics`)).text()
    expect(metrics).toContain('hydrant_stopped_lanes_total{pipeline="events",code="NoTransport"} 1')
    await d.stop()
    await install('1.0.0', 'path')
    const again = await home.start().ready()
    // its configuration was in force before, so it is the older one (row 36)
    expect((await act(again, 'apply', { force: true })).status).toBe(200)
    expect((await act(again, 'resume', {})).status).toBe(200)
    await again.drained()
    await again.drain()
    assertClean(await audit({ outcomes: log, delivered: [place()], compression: 'gzip' }), 'put back')
  })
})
