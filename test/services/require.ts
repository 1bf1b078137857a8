import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { MissingServiceError } from './cache.ts'
import { startKafka } from './kafka.ts'
import { installKafka, type KafkaVersion } from './kafka-install.ts'
import { installNode, type NodeVersion } from './node.ts'
import { installToxiproxy, startToxiproxy } from './toxiproxy.ts'
import { installVersitygw, startVersitygw } from './versitygw.ts'

const run = promisify(execFile)
const SERVICES = {
  versitygw: { install: installVersitygw, start: startVersitygw },
  toxiproxy: { install: installToxiproxy, start: startToxiproxy },
}
export type ServiceName = keyof typeof SERVICES
export type StartOf<N extends ServiceName> = (typeof SERVICES)[N]['start']

/**
 * The function that starts a service, or null where this machine cannot provide it; one line then says what is left out. Under
 * CI (`CI` is set) a missing service is an error: nothing is skipped there.
 *
 *     const start = await requireService('versitygw', 'the S3 sink against a real S3 server')
 *     describe.skipIf(!start)('…', () => { … })
 */
export async function requireService<N extends ServiceName>(name: N, what: string): Promise<StartOf<N> | null> {
  return available(what, async () => {
    await SERVICES[name].install()
    return SERVICES[name].start
  })
}

/** The same for a program of the system that tests call: its name, or null. */
export function requireProgram(name: string, what: string): Promise<string | null> {
  return available(what, async () => {
    try {
      await run(name, ['version'])
      return name
    } catch (e) {
      if ((e as NodeJS.ErrnoException).code === 'ENOENT') throw new MissingServiceError(name, 'it is not installed')
      return name // it is there, and has another way to say its version
    }
  })
}

/** The same for another Node than the one that runs the tests: the path of its program, or null. */
export function requireNode(version: NodeVersion, what: string): Promise<string | null> {
  return available(what, () => installNode(version))
}

/** The same for real Kafka brokers of a version. */
export function requireKafka(version: KafkaVersion, what: string): Promise<typeof startKafka | null> {
  return available(what, async () => {
    await installKafka(version)
    return startKafka
  })
}

async function available<T>(what: string, get: () => Promise<T>): Promise<T | null> {
  try {
    return await get()
  } catch (e) {
    if (!(e instanceof MissingServiceError) || process.env['CI']) throw e
    process.stderr.write(`left out: ${what}: ${e.message.split('\n')[0]}\n`)
    return null
  }
}
