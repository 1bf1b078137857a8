import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { MissingServiceError } from './cache.ts'
import { requireKafka } from './require.ts'

let folder = ''
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hydrant-kafka-'))
  vi.stubEnv('HYDRANT_TEST_CACHE', join(folder, 'cache'))
  vi.stubEnv('PATH', folder)
  vi.stubEnv('CI', '')
})
afterEach(async () => {
  vi.unstubAllEnvs()
  vi.restoreAllMocks()
  await rm(folder, { recursive: true, force: true })
})
async function program(name: string, script: string): Promise<void> {
  await writeFile(join(folder, name), `#!/bin/sh\n${script}\n`)
  await chmod(join(folder, name), 0o755)
}
async function leftOut(): Promise<string> {
  const said = vi.spyOn(process.stderr, 'write').mockReturnValue(true)
  expect(await requireKafka('4.1.1', 'what is tested')).toBeNull()
  return String(said.mock.calls[0]?.[0])
}

test('without Java: left out, and said why; under CI a failure', async () => {
  expect(await leftOut()).toBe('left out: what is tested: Kafka 4.1.1 is not available: it runs on Java, and there is no java\n')
  vi.stubEnv('CI', 'true')
  await expect(requireKafka('4.1.1', 'what is tested')).rejects.toThrow(MissingServiceError)
})

test('an old Java', async () => {
  await program('java', `echo 'openjdk version "11.0.2" 2019-01-15' >&2`)
  expect(await leftOut()).toMatch(/it runs on Java 17 or newer, and this one is 11/)
})

test('no Maven; a Maven that cannot reach its repository', async () => {
  await program('java', `echo 'openjdk version "17.0.2"' >&2`)
  expect(await leftOut()).toMatch(/its jars are fetched by Maven, and there is no mvn/)
  vi.restoreAllMocks()
  await program('mvn', 'echo "Unknown host"; exit 1')
  expect(await leftOut()).toMatch(/mvn said: Unknown host/)
})

test('other jars than those of the digest are an error, never a service that is left out', async () => {
  await program('java', `echo 'openjdk version "17.0.2"' >&2`)
  await program('mvn', '/bin/mkdir libs; echo other > libs/kafka_2.13-4.1.1.jar')
  await expect(requireKafka('4.1.1', 'what is tested')).rejects.toThrow(/the digest of its jars is [0-9a-f]{64}, not /)
})
