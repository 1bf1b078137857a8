import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { requireService } from '../services/require.ts'
import type { Versitygw } from '../services/versitygw.ts'
import { EDGES, needsS3, reachable, runKillCase, type KillCase } from './killcase.ts'
import { cover } from './pairwise.ts'
import { seedLine, seedOf } from './random.ts'

const name = (c: KillCase): string => `${c.edge} ${c.sink} ${c.form} ${c.cut}`

/** kill -9 at every fail point, before and after, × sink × form × cut; `strength`-wise. */
export function killSuite(o: { strength: number; project: string; file: string }): void {
  const seed = seedOf()
  const factors = { edge: EDGES, sink: ['s3', 'file'], form: ['none', 'gzip'], cut: ['size', 'interval'] } as const
  const cases = cover<KillCase>(factors, o.strength, seed, reachable)
  const only = process.env['HYDRANT_CASE']

  describe(`kill -9 at every step, ${o.strength}-wise: ${cases.length} cases`, async () => {
    const start = await requireService('versitygw', 'kill -9 with the S3 sink')
    let s3: Versitygw | null = null
    beforeAll(async () => {
      process.stderr.write(`${seedLine(seed, o.project, o.file)} (one case: HYDRANT_CASE="edge sink form cut")\n`)
      s3 = start && (await start({ keepAlive: true }))
    })
    afterAll(() => s3?.stop())

    test('every edge of every fail point is among the cases', () => {
      expect(new Set(cases.map((c) => c.edge))).toEqual(new Set(EDGES))
    })

    // each case has its own folder, ports and bucket
    for (const c of cases) {
      const skip = (needsS3(c) && !start) || (only !== undefined && only !== name(c))
      test(name(c), { concurrent: true, skip }, async () => {
        await runKillCase(c, seed, s3)
      })
    }
  })
}
