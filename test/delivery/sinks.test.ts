import { expect, test } from 'vitest'
import { z } from 'zod'
import { SinkPool } from '../../core/delivery/sinks.ts'
import type { SinkSpec } from '../../core/delivery/types.ts'
import { realHost } from '../../core/host/host.ts'
import type { AnySinkPlugin, ObjectSink } from '../../core/sdk/sink.ts'
import type { HydrantEvent } from '../../core/telemetry/events.ts'

const quiet = { debug() {}, info() {}, warn() {}, error() {} }
const plugin: AnySinkPlugin<unknown> = {
  name: 'x',
  kind: 'object',
  guarantee: 'exactly-once',
  ordered: false,
  summary: 'test',
  options: z.strictObject({ names: z.record(z.string(), z.string()), endpoint: z.string().optional() }),
  target: (o) => (o as { names: Record<string, string> }).names,
  limits: () => ({ maxBytes: 1, maxRecords: 1, concurrency: 1, unit: 'batch' }),
  create: () => ({ close: async () => {} }) as unknown as ObjectSink,
}

function pool(): { pool: SinkPool; events: HydrantEvent[] } {
  const events: HydrantEvent[] = []
  const o = {
    host: realHost(),
    events: { emit: (e: HydrantEvent) => void events.push(e) },
    log: quiet,
    baseDir: '/',
    plugin: async () => plugin,
  }
  return { events, pool: new SinkPool({ ...o, bucket: () => ({ type: 'x', options: {} }) }) }
}
const spec = (names: Record<string, string>, endpoint?: string): SinkSpec => ({
  type: 'x',
  options: { names, ...(endpoint === undefined ? {} : { endpoint }) },
  prefix: '',
  errorPrefix: '',
  fileExtension: '',
  timeZone: 'UTC',
  retry: { durationMs: null, baseMs: 1, maxMs: 1 },
  timeoutMs: 1,
  concurrency: 1,
})

test.each([
  ['one name', spec({ bucket: 'lake' }), { endpoint: '', target: 'lake' }],
  ['an endpoint', spec({ bucket: 'lake' }, 'http://127.0.0.1:7070'), { endpoint: 'http://127.0.0.1:7070', target: 'lake' }],
  ['its path stays, what is secret does not', spec({ b: 'l' }, 'https://a:secret@h/p?key=s'), { endpoint: 'https://h/p', target: 'l' }],
  ['several names, in order', spec({ index: 'i', cluster: 'c' }), { endpoint: '', target: 'cluster=c,index=i' }],
])('a target is told in words: %s', async (_, s, place) => {
  const { pool: p, events } = pool()
  const { breaker } = await p.open(s, 'id')
  breaker.failed()
  expect(events).toEqual([
    { type: 'target.opened', sink: 'x', ...place },
    { type: 'breaker.changed', sink: 'x', ...place, open: true },
  ])
})

test('two pipelines share the breaker of a target; another endpoint has its own', async () => {
  const { pool: p, events } = pool()
  const [a, b, c] = [
    await p.open(spec({ b: 'l' }), '1'),
    await p.open(spec({ b: 'l' }), '2'),
    await p.open(spec({ b: 'l' }, 'http://h'), '3'),
  ]
  expect(a.breaker).toBe(b.breaker)
  expect(c.breaker).not.toBe(a.breaker)
  expect(events.filter((e) => e.type === 'target.opened').length).toBe(2)
})

test('options that the plugin does not take are told by name', async () => {
  const { pool: p } = pool()
  await expect(p.open({ ...spec({}), options: { names: { a: 1 }, other: 2 } }, '1')).rejects.toMatchObject({
    code: 'SinkOptions',
    message: expect.stringMatching(/^sink x: its plugin does not take the options: names\.a: .*; Unrecognized key: "other"$/) as string,
  })
})
