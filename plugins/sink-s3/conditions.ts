import { createHash } from 'node:crypto'
import type { Logger } from 'hydrant/sdk'
import { S3Failure, type Headers, type S3Api } from './client.ts'

/** Does the store refuse a conditional PutObject, a conditional CompleteMultipartUpload, when the key is taken? */
export interface Support {
  readonly put: boolean
  readonly complete: boolean
}
type Kind = keyof Support
/** Shared by all sinks of this process. */
export interface ConditionMemory {
  /** What has been found out, by bucket. */
  readonly answers: Map<string, Promise<boolean>>
  /** Probe objects of this process. */
  readonly own: Set<string>
}
export const conditionMemory = (): ConditionMemory => ({ answers: new Map(), own: new Set() })

const PROBE_MS = 30_000
const HEADERS: Headers = { contentType: 'application/octet-stream', metadata: {} }

export interface Conditions {
  /**
   * true: writes of this kind carry If-None-Match. Asks a store that is not known once per process and bucket, beside `key`, where
   * the credentials may write.
   */
  use(kind: Kind, key: string, signal: AbortSignal): Promise<boolean>
  /**
   * Probe objects, and whether as uploads too, that an earlier process may have left beside `key`: it died between a probe's PUT and
   * its DELETE. Its cut was recorded by then and not delivered, so that the same key is put again by the next life.
   */
  leftovers(key: string): readonly { readonly name: string; readonly uploads: boolean }[]
}

export function conditions(
  o: { bucket: string; endpoint?: string | undefined; conditional_writes: 'auto' | 'require' | 'off' },
  api: S3Api,
  log: Logger,
  memory: ConditionMemory,
): Conditions {
  const fixed = o.conditional_writes === 'require' ? true : o.conditional_writes === 'off' ? false : o.endpoint === undefined ? true : null
  /** Probe objects of attempts that failed: perhaps stored. Removed when the store answers again. */
  const unsure = new Set<string>()
  const ask = async (kind: Kind, key: string): Promise<boolean> => {
    memory.own.add(probeName(kind, key))
    let supported: boolean
    try {
      supported = await probeConditions(kind, key, api, log)
    } catch (e) {
      unsure.add(probeName(kind, key))
      throw e
    }
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
    use: async (kind, key, signal) => {
      if (fixed !== null) return fixed
      const id = `${o.endpoint ?? ''} ${o.bucket} ${kind}`
      let known = memory.answers.get(id)
      if (!known) {
        known = ask(kind, key)
        memory.answers.set(id, known)
        known.catch(() => memory.answers.delete(id))
      }
      const supported = await orAborted(known, signal)
      for (const name of unsure) {
        unsure.delete(name)
        await removed(name, api, log)
      }
      return supported
    },
    leftovers: (key) => {
      if (fixed !== null) return []
      const all = (['put', 'complete'] as const).map((kind) => ({ name: probeName(kind, key), uploads: kind === 'complete' }))
      return all.filter((l) => !memory.own.has(l.name))
    },
  }
}

/** A function of the key alone: the next life finds what this one leaves. */
function probeName(kind: Kind, key: string): string {
  const folder = key.slice(0, key.lastIndexOf('/') + 1)
  return `${folder}.hydrant-probe-${createHash('sha256').update(`${kind} ${key}`).digest('hex').slice(0, 16)}`
}

/**
 * Writes an object of one byte beside `key`, tries to write it again under a condition, removes it. Not an effect of any cut, so no
 * lease is asked; a readers' listing may show it for a moment. Rejects with S3Failure when the store cannot be asked now.
 */
export async function probeConditions(kind: Kind, key: string, api: S3Api, log: Logger): Promise<boolean> {
  const signal = AbortSignal.timeout(PROBE_MS)
  const name = probeName(kind, key)
  const body = new Uint8Array(1)
  let written = false
  try {
    if (kind === 'put') {
      const first = await outcome(() => api.put(name, body, { ...HEADERS, conditional: true }, signal))
      written = first !== 'unsupported'
      // refused: an earlier process left it, and the store has said all there is to know
      if (first !== 'done') return first === 'refused'
      return (await outcome(() => api.put(name, body, { ...HEADERS, conditional: true }, signal))) === 'refused'
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
