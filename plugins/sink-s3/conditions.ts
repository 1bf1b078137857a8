import type { Host, Logger } from 'hydrant/sdk'
import { S3Failure, type Headers, type S3Api } from './client.ts'

/** Does the store refuse a conditional PutObject, a conditional CompleteMultipartUpload, when the key is taken? */
export interface Support {
  readonly put: boolean
  readonly complete: boolean
}
type Kind = keyof Support
/** What has been found out, by bucket; shared by all sinks of this process. */
export type ConditionMemory = Map<string, Promise<boolean>>
export const conditionMemory = (): ConditionMemory => new Map()

const PROBE_MS = 30_000
const HEADERS: Headers = { contentType: 'application/octet-stream', metadata: {} }

export interface Conditions {
  /**
   * true: writes of this kind carry If-None-Match. Asks a store that is not known once per process and bucket, beside `key`, where
   * the credentials may write.
   */
  use(kind: Kind, key: string, signal: AbortSignal): Promise<boolean>
}

export function conditions(
  o: { bucket: string; endpoint?: string | undefined; conditional_writes: 'auto' | 'require' | 'off' },
  api: S3Api,
  host: Host,
  log: Logger,
  memory: ConditionMemory,
): Conditions {
  const fixed = o.conditional_writes === 'require' ? true : o.conditional_writes === 'off' ? false : o.endpoint === undefined ? true : null
  const ask = async (kind: Kind, key: string): Promise<boolean> => {
    const supported = await probeConditions(kind, key, api, host, log)
    if (!supported) {
      const what = kind === 'put' ? 'PutObject' : 'CompleteMultipartUpload'
      log.warn(
        { bucket: o.bucket, endpoint: o.endpoint },
        `the store does not honour If-None-Match on ${what}: objects are looked for first, and are exactly once only while one daemon writes each shard`,
      )
    }
    return supported
  }
  return {
    use: (kind, key, signal) => {
      if (fixed !== null) return Promise.resolve(fixed)
      const id = `${o.endpoint ?? ''} ${o.bucket} ${kind}`
      let known = memory.get(id)
      if (!known) {
        known = ask(kind, key)
        memory.set(id, known)
        known.catch(() => memory.delete(id))
      }
      return orAborted(known, signal)
    },
  }
}

/**
 * Writes an object of one byte beside `key`, tries to write it again under a condition, removes it. Not an effect of any cut, so no
 * lease is asked; a readers' listing may show it for a moment. Rejects with S3Failure when the store cannot be asked now.
 */
export async function probeConditions(kind: Kind, key: string, api: S3Api, host: Host, log: Logger): Promise<boolean> {
  const signal = AbortSignal.timeout(PROBE_MS)
  const folder = key.slice(0, key.lastIndexOf('/') + 1)
  const name = `${folder}.hydrant-probe-${Buffer.from(host.random.bytes(8)).toString('hex')}`
  const body = new Uint8Array(1)
  let written = false
  try {
    if (kind === 'put') {
      const first = await outcome(() => api.put(name, body, { ...HEADERS, conditional: true }, signal))
      written = first !== 'unsupported'
      return written && (await outcome(() => api.put(name, body, { ...HEADERS, conditional: true }, signal))) === 'refused'
    }
    await api.put(name, body, { ...HEADERS, conditional: false }, signal)
    written = true
    const { uploadId } = await api.create(name, { ...HEADERS, checksum: false }, signal)
    const upload = { key: name, uploadId }
    const part = await api.part(upload, 1, body, undefined, signal)
    const second = await outcome(() => api.complete(upload, [part], { conditional: true }, signal))
    if (second !== 'done') await api.abort(upload, signal)
    return second === 'refused'
  } finally {
    if (written) await removed(name, api, log)
  }
}

async function outcome(request: () => Promise<unknown>): Promise<'done' | 'refused' | 'unsupported'> {
  try {
    await request()
    return 'done'
  } catch (e) {
    if (!(e instanceof S3Failure)) throw e
    if (e.status === 412) return 'refused'
    if (e.status === 501 || e.code === 'NotImplemented') return 'unsupported'
    throw e
  }
}

/** An object of one byte that stays is untidy, not wrong: it is said and delivery goes on. */
async function removed(name: string, api: S3Api, log: Logger): Promise<void> {
  try {
    await api.remove(name, AbortSignal.timeout(PROBE_MS))
  } catch (e) {
    log.warn({ key: name }, `the probe object could not be removed (${e instanceof Error ? e.message : String(e)}); delete it by hand`)
  }
}

/** Stops waiting, with the signal's reason, when the attempt ends; the work itself goes on for the others. */
function orAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const stop = (): void => reject(signal.reason as Error)
    if (signal.aborted) return stop()
    signal.addEventListener('abort', stop, { once: true })
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', stop))
  })
}
