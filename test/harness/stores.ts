import { join } from 'node:path'
import type { Versitygw } from '../services/versitygw.ts'
import type { SinkConfig } from './config.ts'
import type { Place } from './objects.ts'

/** A fresh place for one pipeline: how hydrant is told of it, and how the audit reads it. */
export interface Store {
  readonly sink: SinkConfig
  readonly place: Place
}

let count = 0

/** `via`: the endpoint that hydrant gets, when it is not the server itself (a proxy in between). */
export async function s3Store(server: Versitygw, via?: string): Promise<Store> {
  const bucket = `b${process.pid}-${++count}`
  await server.makeBucket(bucket)
  const credentials = { accessKey: server.accessKey, secretKey: server.secretKey }
  return {
    sink: { type: 's3', target: bucket, endpoint: via ?? server.url, credentials },
    place: { kind: 's3', url: server.url, bucket, credentials },
  }
}

export function fileStore(folder: string): Store {
  const root = join(folder, `store-${++count}`)
  return { sink: { type: 'file', target: root }, place: { kind: 'folder', root } }
}
