import { attemptContext, bodyOf, outObject, pluginKit, realHost, recordedLog } from 'hydrant/sdk/testing'
import type { ObjectSink } from 'hydrant/sdk'
import { afterEach, beforeEach, expect, test } from 'vitest'
import plugin from '../../plugins/sink-s3/index.ts'
import { assertClean, audit } from '../harness/audit.ts'
import { FirehoseClient, load } from '../harness/client.ts'
import { Home } from '../harness/daemon.ts'
import { Outcomes } from '../harness/outcomes.ts'
import { seedOf } from '../harness/random.ts'
import { scriptedStore } from '../harness/storecase.ts'
import { startScriptedS3, type S3Operation, type ScriptedS3 } from '../services/scripted-s3.ts'

let store: ScriptedS3
beforeEach(async () => {
  store = await startScriptedS3()
})
afterEach(() => store.stop())

const probes = (): string[] =>
  [...store.objects.keys(), ...[...store.uploads.values()].map((u) => u.key)].filter((k) => k.includes('.hydrant-probe-'))

// small objects ask about PutObject, large ones about CompleteMultipartUpload, by an upload of their own
test.each<[S3Operation, string]>([
  ['delete', '16KiB'],
  ['put', '16KiB'],
  ['part', '6MiB'],
  ['delete', '6MiB'],
])(
  'a daemon that is killed at the %s of its question (objects of %s) leaves nothing when the next one has delivered',
  async (operation, size) => {
    const place = scriptedStore(store)
    const sink = { ...place.sink, options: { part_size: '5MiB' } }
    const home = await Home.make({ pipelines: [{ name: 'events', size, interval: size === '6MiB' ? '2s' : '100ms', sink }] })
    const client = new FirehoseClient({ url: `http://127.0.0.1:${home.ports.api}` })
    const log = new Outcomes(seedOf())
    try {
      // the second put is the one that must be refused; it and the others hang
      store.fail(operation, 'hang', { nth: operation === 'put' ? 2 : 1, times: 100 })
      const d = await home.start().ready()
      const large = { sizes: [1_000_000], records: 7, batch: 3, producers: 1 }
      await load(client, { stream: 'events', log, seed: 1, ...(size === '6MiB' ? large : { records: 100, batch: 20, producers: 1 }) })
      await store.arrived(operation)
      if (operation === 'put') await d.until(() => store.requests.filter((r) => r.operation === 'put').length > 1, 10_000, 'the second put')
      await d.kill()
      expect(probes()).not.toEqual([])
      store.reset()
      await home.finish()
      expect(probes()).toEqual([])
      const r = assertClean(await audit({ outcomes: log, delivered: [place.place], compression: 'none' }), 'killed at a probe')
      expect(r.accepted).toBeGreaterThan(5)
    } finally {
      client.close()
      await home.remove()
    }
  },
)

/** A sink as a new process has it: nothing is known of the store. */
function freshSink(): ObjectSink {
  const s3 = plugin(pluginKit)
  const options = s3.options.parse({ bucket: 'lake', endpoint: store.url, credentials: { access_key: 'test', secret_key: 'testtest' } })
  return s3.create(options, { host: realHost(), log: recordedLog(), pipelineId: 'p', memory: 2 ** 24, baseDir: '.' })
}

test('what a dead process left is removed also where another object of the next one asked first', async () => {
  store.fail('delete', 'hang')
  const end = new AbortController()
  const dead = freshSink().put(outObject('a/1', bodyOf(10)), attemptContext({ signal: end.signal }))
  await store.arrived('delete')
  end.abort(new Error('dead'))
  await expect(dead).rejects.toThrow('dead')
  expect(probes()).toHaveLength(1)
  const sink = freshSink()
  await sink.put(outObject('b/2', bodyOf(10)), attemptContext())
  expect(probes()).toHaveLength(1)
  await sink.put(outObject('a/1', bodyOf(10)), attemptContext({ recovered: true }))
  expect([...store.objects.keys()].toSorted()).toEqual(['lake/a/1', 'lake/b/2'])
  const requests = store.requests.length
  await sink.put(outObject('a/1', bodyOf(10)), attemptContext({ recovered: true, attempt: 2 }))
  expect(store.requests.slice(requests).filter((r) => r.operation === 'delete')).toEqual([])
  await sink.close()
})

test('a question whose answer was lost leaves nothing once the store answers', async () => {
  const sink = freshSink()
  store.fail('put', 'applied-no-answer')
  await expect(sink.put(outObject('a/1', bodyOf(10)), attemptContext())).rejects.toThrow()
  expect(probes()).toHaveLength(1)
  // another key asks and is answered
  expect((await sink.put(outObject('b/2', bodyOf(10)), attemptContext())).existed).toBe(null)
  expect([...store.objects.keys()]).toEqual(['lake/b/2'])
  await sink.close()
})
