import { chmod, mkdir, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { goProgram, MissingServiceError } from './cache.ts'
import { requireService } from './require.ts'

const program = { name: 'thing', source: 'example.test/thing', version: 'v1.0.0', binary: 'thing' }
let folder = ''
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hydrant-cache-'))
  vi.stubEnv('HYDRANT_TEST_CACHE', join(folder, 'cache'))
})
afterEach(async () => {
  vi.unstubAllEnvs()
  await rm(folder, { recursive: true, force: true })
})

/** A `go` that notes its calls, then does `script`. */
async function fakeGo(script: string): Promise<() => Promise<string[]>> {
  const bin = join(folder, 'bin')
  await mkdir(bin)
  await writeFile(join(bin, 'go'), `#!/bin/sh\necho "$@" >> '${folder}/calls'\n${script}\n`)
  await chmod(join(bin, 'go'), 0o755)
  vi.stubEnv('PATH', `${bin}:/usr/bin:/bin`)
  return async () => (await readFile(join(folder, 'calls'), 'utf8')).trim().split('\n')
}

test('several ask at once: one builds; later the cache answers', async () => {
  const calls = await fakeGo('touch "$GOBIN/thing"')
  const paths = await Promise.all([goProgram(program), goProgram(program), goProgram(program)])
  expect(new Set(paths)).toEqual(new Set([join(folder, 'cache', 'thing-v1.0.0', 'thing')]))
  await goProgram(program)
  expect(await calls()).toEqual(['install example.test/thing@v1.0.0'])
  expect(await readdir(join(folder, 'cache'))).toEqual(['thing-v1.0.0'])
})

test('a lock whose process is gone is taken over', async () => {
  await fakeGo('touch "$GOBIN/thing"')
  await mkdir(join(folder, 'cache'))
  await writeFile(join(folder, 'cache', 'thing-v1.0.0.lock'), '999999999')
  await goProgram(program)
})

test('a build that fails is told in its own words and leaves nothing', async () => {
  await fakeGo('echo no such module >&2; exit 1')
  await expect(goProgram(program)).rejects.toThrow(/thing is not available: go install said: no such module/)
  expect(await readdir(join(folder, 'cache'))).toEqual([])
})

test('no go: skipped with one line on a workstation, an error under CI', async () => {
  vi.stubEnv('PATH', folder)
  await expect(goProgram(program)).rejects.toThrow(MissingServiceError)
  const said: string[] = []
  const write = vi.spyOn(process.stderr, 'write').mockImplementation((line) => said.push(String(line)) > 0)
  try {
    vi.stubEnv('CI', '')
    expect(await requireService('toxiproxy', 'lost answers')).toBe(null)
    expect(said).toEqual(['left out: lost answers: toxiproxy is not available: it is built by `go install`, and there is no go\n'])
    vi.stubEnv('CI', 'true')
    await expect(requireService('toxiproxy', 'lost answers')).rejects.toThrow(MissingServiceError)
  } finally {
    write.mockRestore()
  }
})
