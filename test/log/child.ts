/**
 * A process of its own for the tests that kill or starve one: `node child.ts MODE FOLDER`.
 * hold: opens the folder and says so. write: appends for ever from eight writers, saying what was acknowledged.
 * faults: appends between faults that a library loaded before libc answers with (see faults.test.ts). fill: appends until the
 * disk is full, trims, appends again. cut: reads everything.
 */
import { createWriteStream, rmSync, writeFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { realHost } from '../../core/host/host.ts'
import { openEmbeddedLog } from '../../core/log/embedded/index.ts'
import { batchOf } from '../../core/sdk/batch.ts'
import { AppendError } from '../../core/sdk/log.ts'

const [mode = '', path = '', armed = ''] = process.argv.slice(2)
const say = (what: unknown): void => void writeSync(1, `${JSON.stringify(what)}\n`)
const never = new AbortController().signal
const log = await openEmbeddedLog({ path, host: realHost(), events: { emit: (e) => say({ event: e.type }) }, freeDiskBytes: 0 })
const topic = (await log.describeTopic('t')) ?? (await log.createTopic('t', { partitions: 4 }))

async function write(writer: number): Promise<never> {
  const out = createWriteStream('', { fd: 1, autoClose: false })
  for (let n = 0; ; n++) {
    const count = 1 + ((writer * 13 + n * 7) % 40)
    const names = Array.from({ length: count }, (_, i) => `${log.bootEpoch}.${writer}.${n}.${i}:${'x'.repeat((i * 37) % 900)}`)
    const batch = batchOf(names.map((s) => ({ value: Buffer.from(s) })))
    const { baseOffset } = await log.append(topic, writer % 4, batch, { signal: never })
    out.write(`${JSON.stringify({ p: writer % 4, baseOffset, count, id: `${log.bootEpoch}.${writer}.${n}` })}\n`)
  }
}

async function put(what: string, bytes = 5_000): Promise<void> {
  try {
    const { baseOffset } = await log.append(topic, 0, batchOf([{ value: new Uint8Array(bytes) }]), { signal: never })
    say({ what, baseOffset })
  } catch (e) {
    if (!(e instanceof AppendError)) throw e
    say({ what, code: e.code, stored: e.stored, retriable: e.retriable })
  }
}
const arm = (fault: string): void => writeFileSync(join(armed, fault), '')
const disarm = (fault: string): void => rmSync(join(armed, fault))

async function faults(): Promise<void> {
  await put('before')
  arm('enospc')
  await put('full')
  disarm('enospc')
  await put('room again')
  arm('eio')
  await Promise.all([put('flush fails'), put('flush fails')])
  disarm('eio')
  await put('after')
  say({ health: log.health().ok, stable: (await log.bounds(topic, 0)).stable })
  await log.close()
}

async function cut(): Promise<void> {
  const { stable } = await log.bounds(topic, 0)
  for (let at = 0; at < stable;) {
    const r = await log.read(topic, 0, at, { maxBytes: 1, maxWaitMs: 0, signal: never })
    say({ read: at })
    at = r.next
  }
}

say({ open: process.pid, boot: log.bootEpoch })
if (mode === 'hold') setInterval(() => {}, 60_000)
if (mode === 'write') await Promise.all(Array.from({ length: 8 }, (_, w) => write(w)))
if (mode === 'faults') await faults()
if (mode === 'cut') await cut().catch((e: unknown) => say({ error: String(e) }))
if (mode === 'fill') {
  for (let i = 0; i < 200; i++) await put(`${i}`, 100_000 + i * 1_000)
  await log.trimBefore(topic, 0, 10)
  for (let i = 0; i < 5; i++) await put('after the trim', 160_000)
  await log.close()
}
