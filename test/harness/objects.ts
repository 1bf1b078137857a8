import { Agent, request, type IncomingHttpHeaders } from 'node:http'
import { readdir, readFile } from 'node:fs/promises'
import { join, relative, sep } from 'node:path'
import { queryText, sign, type Credentials } from './sigv4.ts'

/** One object as it lies in the store. */
export interface FoundObject {
  readonly key: string
  readonly bytes: Uint8Array
  /** x-amz-meta-*, or what the sidecar says; keys lower case. null: none found. */
  readonly metadata: Readonly<Record<string, string>> | null
}
/** Where a pipeline's objects are read back from. */
export type Place =
  | { readonly kind: 'folder'; readonly root: string; readonly prefix?: string }
  | { readonly kind: 's3'; readonly url: string; readonly bucket: string; readonly prefix?: string; readonly credentials: Credentials }

export async function* readObjects(p: Place): AsyncGenerator<FoundObject> {
  if (p.kind === 'folder') yield* readFolder(p.root, p.prefix ?? '')
  else yield* readBucket(p)
}

/** The file sink's own folder: sidecars and temps, never objects. */
const SIDE = '.hydrant'

async function* readFolder(root: string, prefix: string): AsyncGenerator<FoundObject> {
  const all = await readdir(root, { recursive: true, withFileTypes: true }).catch((e: NodeJS.ErrnoException) => {
    if (e.code === 'ENOENT') return []
    throw e
  })
  const files = all.filter((f) => f.isFile()).map((f) => relative(root, join(f.parentPath, f.name)).split(sep).join('/'))
  const objects = files.filter((f) => !f.split('/').includes(SIDE)).toSorted()
  const sidecars = await readSidecars(root, files)
  for (const key of objects)
    if (key.startsWith(prefix)) yield { key, bytes: await readFile(join(root, key)), metadata: sidecars.get(key) ?? null }
}

/** Sidecars by the key that they name. */
async function readSidecars(root: string, files: readonly string[]): Promise<Map<string, Record<string, string>>> {
  const found = new Map<string, Record<string, string>>()
  for (const f of files) {
    const parts = f.split('/')
    const name = parts.at(-1) ?? ''
    if (parts.at(-2) !== SIDE || !name.endsWith('.json')) continue
    const side = JSON.parse(await readFile(join(root, f), 'utf8')) as { key?: string; metadata?: Record<string, string> }
    if (side.key !== undefined) found.set(side.key, side.metadata ?? {})
  }
  return found
}

interface Bucket {
  readonly url: string
  readonly bucket: string
  readonly prefix?: string
  readonly credentials: Credentials
}

export interface S3Answer {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  /** As stored: nothing decompresses on the way. */
  readonly bytes: Uint8Array
}
const agent = new Agent({ keepAlive: true, maxSockets: 4 })

/** One plain signed S3 request; every status is an answer. */
export function s3(
  p: Bucket,
  method: string,
  key: string,
  o: { query?: Record<string, string>; body?: Uint8Array; headers?: Record<string, string> } = {},
): Promise<S3Answer> {
  const path = '/' + [p.bucket, ...(key === '' ? [] : key.split('/'))].map((x) => encodeURIComponent(x)).join('/')
  const { host, hostname, port } = new URL(p.url)
  const body = o.body ?? new Uint8Array()
  const query = queryText(o.query ?? {})
  const headers = sign(
    {
      method,
      path,
      query: o.query ?? {},
      headers: { host, ...o.headers },
      body,
      service: 's3',
      region: 'us-east-1',
      now: new Date(),
    },
    p.credentials,
  )
  return new Promise((resolve, reject) => {
    const req = request({
      agent,
      host: hostname,
      port,
      method,
      path: query === '' ? path : `${path}?${query}`,
      headers: { ...headers, 'content-length': body.length },
    })
    req.on('error', reject)
    req.on('response', (res) => {
      const chunks: Buffer[] = []
      res.on('data', (c: Buffer) => chunks.push(c))
      res.on('error', reject)
      res.on('end', () => resolve({ status: res.statusCode ?? 0, headers: res.headers, bytes: Buffer.concat(chunks) }))
    })
    req.end(body)
  })
}

async function mustS3(answer: Promise<S3Answer>, what: string): Promise<S3Answer> {
  const r = await answer
  if (r.status !== 200) throw new Error(`${what}: ${r.status} ${textOf(r).slice(0, 300)}`)
  return r
}
const textOf = (r: S3Answer): string => Buffer.from(r.bytes).toString()

const xmlText = (x: string): string =>
  x.replaceAll('&lt;', '<').replaceAll('&gt;', '>').replaceAll('&quot;', '"').replaceAll('&#39;', "'").replaceAll('&amp;', '&')
const tags = (xml: string, name: string): string[] =>
  [...xml.matchAll(new RegExp(`<${name}>([^<]*)</${name}>`, 'g'))].map((m) => xmlText(m[1] ?? ''))

async function listKeys(p: Bucket): Promise<string[]> {
  const keys: string[] = []
  for (let token: string | undefined; ;) {
    const query = { 'list-type': '2', prefix: p.prefix ?? '', ...(token === undefined ? {} : { 'continuation-token': token }) }
    const xml = textOf(await mustS3(s3(p, 'GET', '', { query }), `listing ${p.bucket}`))
    keys.push(...tags(xml, 'Key'))
    token = tags(xml, 'NextContinuationToken')[0]
    if (token === undefined) return keys
  }
}

/** What a crash left behind and nobody needs any more: temporary files of the file sink, unfinished uploads of S3. */
export async function leftovers(p: Place): Promise<number> {
  if (p.kind === 's3') return (await openUploads(p)).length
  return (await readdir(join(p.root, SIDE, 'tmp')).catch(() => [])).length
}

/** Uploads begun and neither completed nor aborted. */
async function openUploads(p: Bucket): Promise<string[]> {
  const xml = textOf(await mustS3(s3(p, 'GET', '', { query: { uploads: '' } }), `listing uploads of ${p.bucket}`))
  return tags(xml, 'UploadId')
}

async function* readBucket(p: Bucket): AsyncGenerator<FoundObject> {
  for (const key of await listKeys(p)) {
    const r = await mustS3(s3(p, 'GET', key), `reading ${key}`)
    yield { key, bytes: r.bytes, metadata: metadataOf(r) }
  }
}

function metadataOf(r: S3Answer): Record<string, string> | null {
  const meta = 'x-amz-meta-'
  const all = Object.entries(r.headers).filter(([k]) => k.startsWith(meta))
  return all.length === 0 ? null : Object.fromEntries(all.map(([k, v]) => [k.slice(meta.length), String(v)]))
}
