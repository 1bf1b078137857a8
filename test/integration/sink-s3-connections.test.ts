import { describe, expect, test } from 'vitest'
import { attemptContext, outObject, pluginKit, realHost, recordedLog } from 'hydrant/sdk/testing'
import plugin from 'hydrant-sink-s3'
import { requireService } from '../services/require.ts'

const s3 = plugin(pluginKit)

describe('a store that refuses before it has read the body', async () => {
  const start = await requireService('versitygw', 'the S3 sink on a connection that a refused PUT has spoilt')
  test.skipIf(start === null)('its connection is not used again: the calls after it get their own answers', async () => {
    const server = await start!({ buckets: ['lake'], keepAlive: true })
    try {
      const options = s3.options.parse({
        bucket: 'lake',
        endpoint: server.url,
        credentials: { access_key: 'test', secret_key: 'testtest' },
      })
      const sink = s3.create(options, { host: realHost(), log: recordedLog(), pipelineId: 'p', memory: 1 << 24, baseDir: '.' })
      for (const size of [100, 8_000, 14_000, 20_000, 100_000, 1_000_000]) {
        const o = outObject(`taken/${size}`, Buffer.alloc(size, 0x61))
        expect((await sink.put(o, attemptContext({}))).existed).toBeNull()
        for (let again = 0; again < 3; again++) {
          const { existed } = await sink.put(o, attemptContext({}))
          expect(existed).toMatchObject({ size })
        }
        expect(await sink.head(`absent/${size}`, attemptContext({}))).toBeNull()
      }
      await sink.close()
    } finally {
      await server.stop()
    }
  })
})
