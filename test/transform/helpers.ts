import { asWorkBatch, batchOf, sliceBatch, type RecordBatch, valueOf } from '../../core/sdk/batch.ts'
import { runStages, type StagesResult } from '../../core/transform/chain.ts'
import type { Stage } from '../../core/transform/types.ts'

export const context = { signal: new AbortController().signal, replay: false }

/** A batch that counts how often it was released; every record has a key. */
export function source(values: readonly (string | Uint8Array | null)[]): RecordBatch & { released: number } {
  const batch = batchOf(
    values.map((v, i) => ({
      value: typeof v === 'string' ? Buffer.from(v) : v,
      key: i % 3 === 0 ? null : Buffer.from(`key-${i}`),
      position: 100 + i * 2,
      arrivalMs: 1000 + i,
    })),
  )
  const counted = {
    ...batch,
    released: 0,
    release: () => {
      counted.released++
    },
  }
  return counted
}

export function texts(b: RecordBatch): (string | null)[] {
  return Array.from({ length: b.count }, (_, i) => {
    const v = valueOf(b, i)
    return v === null ? null : Buffer.from(v).toString()
  })
}

/** Everything a later step may look at, as one line a record. */
export function lines(r: StagesResult, base = 0): string[] {
  const { batch } = r
  const out = Array.from({ length: batch.count }, (_, i) => {
    const key = batch.keyEnd[i] === 0xffff_ffff ? null : Buffer.from(batch.bytes.subarray(batch.keyStart[i], batch.keyEnd[i])).toString()
    const value = texts(batch)[i]
    const where = [(batch.origin[i] ?? 0) + base, batch.sub[i], batch.position[i], batch.arrivalMs[i]]
    return JSON.stringify([...where, key, value])
  })
  for (const j of r.rejected) out.push(JSON.stringify({ ...j, origin: j.origin + base, raw: Buffer.from(r.rawOf(j)).toString('base64') }))
  return out
}

/** The same records in batches of other sizes must give the same outcome. */
export async function inBatchesOf(per: number, stages: readonly Stage[], whole: RecordBatch): Promise<string[]> {
  const out: string[] = []
  for (let at = 0; at < whole.count; at += per) {
    const part = sliceBatch(whole, at, Math.min(whole.count, at + per))
    out.push(...lines(await runStages(stages, part, context), at))
  }
  return out.toSorted()
}

export const work = (values: readonly (string | Uint8Array | null)[]) => asWorkBatch(source(values))
