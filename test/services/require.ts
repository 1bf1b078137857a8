import { MissingServiceError } from './cache.ts'
import { installToxiproxy, startToxiproxy } from './toxiproxy.ts'
import { installVersitygw, startVersitygw } from './versitygw.ts'

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
  try {
    await SERVICES[name].install()
    return SERVICES[name].start
  } catch (e) {
    if (!(e instanceof MissingServiceError) || process.env['CI']) throw e
    process.stderr.write(`left out: ${what}: ${e.message.split('\n')[0]}\n`)
    return null
  }
}
