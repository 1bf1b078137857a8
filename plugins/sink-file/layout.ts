/**
 * Where things stand in the folder, and what a crash leaves behind.
 *
 *     <root>/<key>                          the object: linked whole, never renamed over, never rewritten
 *     <root>/.hydrant/key-<hash>.json       the sidecar: key, token, metadata, content type and encoding; linked and synced
 *                                           before the object, it alone is the intent (exactly-once row 35)
 *     <root>/.hydrant/<token>.json          the same file: finds the object of a token whose key has changed since
 *     <root>/.hydrant/tmp/<hash>-<random>   bodies and sidecars being written; removed by the owner of the key
 *
 * A crash leaves: a temporary file · a sidecar without its second name · a sidecar without its object · an object whose
 * temporary name is still there. Each is completed or removed by the next attempt.
 */
import { createHash } from 'node:crypto'
import { join, posix } from 'node:path'
import type { PermanentError } from 'hydrant/sdk'

export interface Places {
  readonly object: string
  readonly folder: string
  readonly byKey: string
  /** Prefix of the temporary names of this key, inside `temporary`. */
  readonly mark: string
}
export interface Roots {
  readonly root: string
  readonly own: string
  readonly temporary: string
}
export const OWN_FOLDER = '.hydrant'

export function rootsOf(root: string): Roots {
  return { root, own: join(root, OWN_FOLDER), temporary: join(root, OWN_FOLDER, 'tmp') }
}

/** Throws PermanentError for a key that would leave the root or enter hydrant's own folder. */
export function placesOf(r: Roots, key: string, Permanent: typeof PermanentError): Places {
  const why = refusal(key)
  if (why) throw new Permanent('File.InvalidKey', `the key ${JSON.stringify(key.slice(0, 200))} ${why}`)
  const object = join(r.root, key)
  return { object, folder: join(object, '..'), byKey: join(r.own, `key-${hashOf(key)}.json`), mark: `${hashOf(key)}-` }
}

/** The sidecar of a token: a UUID, so that it can be a file name. */
export function sidecarOf(r: Roots, token: string, Permanent: typeof PermanentError): string {
  if (!/^[0-9a-zA-Z-]{1,64}$/.test(token)) {
    throw new Permanent('File.InvalidToken', `the token ${JSON.stringify(token.slice(0, 80))} cannot be a file name`)
  }
  return join(r.own, `${token}.json`)
}

function hashOf(key: string): string {
  return createHash('sha256').update(key).digest('hex').slice(0, 32)
}

function refusal(key: string): string | null {
  if (key === '') return 'is empty'
  if (key.includes('\0')) return 'contains a NUL'
  if (posix.isAbsolute(key) || /^[a-zA-Z]:/.test(key)) return 'is an absolute path'
  if (key.endsWith('/')) return 'ends in /, which is a folder'
  const steps = key.split(/[/\\]/)
  if (steps.includes('..') || steps.includes('.')) return 'contains a . or .. step'
  if (steps.find((s) => s !== '')?.toLowerCase() === OWN_FOLDER) return `lies in ${OWN_FOLDER}, which belongs to hydrant`
  return null
}
