import type { PluginKit, SinkContext } from 'hydrant/sdk'
import { verdict } from './answers.ts'
import { S3Failure, type LifecycleRule, type S3Api } from './client.ts'
import { probeConditions } from './conditions.ts'
import type { S3Options } from './options.ts'

type Finding = { level: 'ok' | 'warning' | 'error'; message: string }

/** An object must outlive any repetition of its delivery (exactly-once row 13). */
const MIN_AGE_DAYS = 1

/** `hydrant check --probe`: reaches the bucket, proves both conditional writes, reads the lifecycle rules. Leaves nothing behind. */
export async function probeBucket(
  o: S3Options,
  api: S3Api,
  context: SinkContext,
  kit: PluginKit,
  signal: AbortSignal,
): Promise<readonly Finding[]> {
  const explain = (e: unknown): string =>
    e instanceof S3Failure ? verdict(e, o.bucket, '', kit).error.message : e instanceof Error ? e.message : String(e)
  const name = `s3://${o.bucket}`
  try {
    await api.reach(signal)
  } catch (e) {
    return [{ level: 'error', message: explain(e) }]
  }
  const found: Finding[] = [{ level: 'ok', message: `${name} answers` }]
  for (const [kind, what] of [
    ['put', 'PutObject'],
    ['complete', 'CompleteMultipartUpload'],
  ] as const) {
    try {
      const honoured = await probeConditions(kind, '', api, context.log)
      if (honoured) found.push({ level: 'ok', message: `${name}: ${what} with If-None-Match refuses a taken key` })
      else
        found.push({
          level: missing(o),
          message: `${name}: ${what} ignores If-None-Match: exactly once only while one daemon writes each shard`,
        })
    } catch (e) {
      found.push({ level: 'error', message: explain(e) })
    }
  }
  return [...found, ...(await lifecycleFindings(name, api, signal, explain))]
}

/** With `require` the store must have them; `off` knows. */
function missing(o: S3Options): 'warning' | 'error' {
  return o.conditional_writes === 'require' ? 'error' : 'warning'
}

async function lifecycleFindings(name: string, api: S3Api, signal: AbortSignal, explain: (e: unknown) => string): Promise<Finding[]> {
  let rules: readonly LifecycleRule[]
  try {
    rules = await api.lifecycle(signal)
  } catch (e) {
    const status = e instanceof S3Failure ? e.status : undefined
    if (status === 501 || status === 405) return []
    if (status !== 404) return [{ level: 'warning', message: `the lifecycle rules could not be read: ${explain(e)}` }]
    rules = []
  }
  const found: Finding[] = []
  for (const r of rules) {
    const which = `${name}: lifecycle rule "${r.id}" for "${r.prefix}"`
    if (r.expireDate !== undefined)
      found.push({ level: 'warning', message: `${which} removes objects on ${r.expireDate}, whatever their age` })
    if (r.expireDays !== undefined && r.expireDays <= MIN_AGE_DAYS) {
      found.push({ level: 'warning', message: `${which} removes objects after ${r.expireDays} day: keep them longer than a day` })
    }
  }
  if (!rules.some((r) => r.abortUploadsDays !== undefined)) {
    found.push({ level: 'warning', message: `${name}: no lifecycle rule aborts unfinished uploads; one of 7 days keeps the bucket tidy` })
  }
  return found
}
