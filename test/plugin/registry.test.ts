import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { loadConfig } from '../../core/config/load.ts'
import { realHost } from '../../core/host/host.ts'
import { pluginKit } from '../../core/plugin/kit.ts'
import { pluginRegistry } from '../../core/plugin/registry.ts'

const GOOD = `({ z }) => ({ name: 'acme', kind: 'object', guarantee: 'at-least-once', ordered: false, summary: 'test',
  options: z.strictObject({ where: z.string().meta({ description: 'x' }) }), target: (o) => ({ where: o.where }),
  limits: () => ({ maxBytes: 1, maxRecords: 1, concurrency: 1, unit: 'batch' }), create: () => ({}) })`
let dir = ''
const host = realHost()

function install(name: string, code: string, manifest: object = {}): void {
  const folder = join(dir, 'node_modules', name)
  mkdirSync(folder, { recursive: true })
  writeFileSync(
    join(folder, 'package.json'),
    JSON.stringify({ name, version: '1.4.2', type: 'module', exports: './index.js', ...manifest }),
  )
  writeFileSync(join(folder, 'index.js'), code)
}
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'hydrant-plugins-'))
  install('@acme/good', `export default ${GOOD}`)
  install('import-only', `export default ${GOOD}`, { exports: { '.': { import: './index.js' } } })
  install('no-default', 'export const x = 1')
  install('no-function', 'export default {}')
  install('throws', `throw new Error('at import')`)
  install('factory-throws', `export default () => { throw new Error('in the factory') }`)
  install('wrong-kind', `export default (kit) => ({ ...(${GOOD})(kit), kind: 'queue' })`)
  install('no-create', `export default (kit) => ({ ...(${GOOD})(kit), create: undefined })`)
  install('no-schema', `export default (kit) => ({ ...(${GOOD})(kit), options: {} })`)
})
afterAll(() => rmSync(dir, { recursive: true, force: true }))

const registryOf = (...packages: string[]) => {
  const registry = pluginRegistry({ baseDir: dir, host, kit: pluginKit })
  registry.declare(packages.map((p) => ({ package: p, version: '1.4.2' })))
  return registry
}

const load = (sink: string) => {
  const text = `plugins: [{package: "@acme/good", version: 1.4.2}]\npipelines: {p: {source: {direct_put: {}}, sink: ${sink}}}`
  return loadConfig({ file: join(dir, 'c.yaml'), text, env: {}, host, plugins: registryOf() })
}

describe('the plugin registry', () => {
  test('loads the built-in sinks without any declaration', async () => {
    const registry = registryOf()
    expect(await registry.resolve('file')).toMatchObject({ package: 'hydrant-sink-file', plugin: { name: 'file', kind: 'object' } })
    expect((await registry.resolve('s3')).plugin.name).toBe('s3')
    expect(await registry.resolve('file')).toBe(await registry.resolve('file'))
  })
  test('loads a declared package from the folder of the configuration', async () => {
    const registry = registryOf('@acme/good', 'import-only')
    expect(await registry.resolve('@acme/good')).toMatchObject({ type: '@acme/good', version: '1.4.2', plugin: { name: 'acme' } })
    expect(await registry.resolve('import-only')).toMatchObject({ plugin: { name: 'acme' } })
  })
  test.each([
    ['throws', /plugin throws: loading .*index\.js: at import/],
    ['no-default', /the default export of .* is not a function/],
    ['no-function', /the default export of .* is not a function/],
    ['factory-throws', /its factory threw: in the factory/],
    ['wrong-kind', /not a sink plugin: kind is "queue"; allowed: object, record, load/],
    ['no-create', /not a sink plugin: create is not a function/],
    ['no-schema', /not a sink plugin: options is not a zod schema/],
    ['not-installed', /plugin not-installed: not found from .* nor from hydrant; run: npm install not-installed@1\.4\.2/],
  ])('says what is wrong with %s', async (name, message) => {
    await expect(registryOf(name).resolve(name)).rejects.toThrow(message)
  })
  test('refuses a package that nobody declared, and guesses what was meant', async () => {
    await expect(registryOf().resolve('@acme/good')).rejects.toThrow(
      'unknown sink type "@acme/good"; allowed: file, s3; an npm package must be declared under plugins: with its version',
    )
    await expect(registryOf().resolve('fiel')).rejects.toThrow('(did you mean "file"?)')
    await expect(registryOf().resolve('toString')).rejects.toThrow('unknown sink type')
  })
  test('refuses another version than the declared one before any of its code runs', async () => {
    const registry = pluginRegistry({ baseDir: dir, host, kit: pluginKit })
    registry.declare([{ package: 'throws', version: '2.0.0' }])
    await expect(registry.resolve('throws')).rejects.toThrow(/version 2\.0\.0 is declared under plugins, 1\.4\.2 is installed in /)
  })
  test('another version than the declared one is told at the version, also when nothing uses it', async () => {
    const text = 'plugins:\n  - {package: "@acme/good", version: 2.0.0}\n'
    const registry = pluginRegistry({ baseDir: dir, host, kit: pluginKit })
    expect(await loadConfig({ file: join(dir, 'c.yaml'), text, env: {}, host, plugins: registry })).toMatchObject({
      errors: [{ line: 2, path: 'plugins.0.version', message: expect.stringContaining('1.4.2 is installed') as string }],
    })
  })
  test('a sink of a package is checked by the schema of that package', async () => {
    expect(await load('{type: "@acme/good", where: here}')).toMatchObject({
      config: { pipelines: [{ sink: { type: '@acme/good', options: { where: 'here' } } }] },
    })
    expect(await load('{type: "@acme/good", were: here}')).toMatchObject({
      errors: [
        { line: 2, path: 'pipelines.p.sink.where' },
        { line: 2, path: 'pipelines.p.sink.were' },
      ],
    })
  })
})
