import { spawn } from 'node:child_process'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { SignatureV4 } from '@smithy/signature-v4'
import { createHash, createHmac, type BinaryLike } from 'node:crypto'
import { FirehoseClient, load, put } from './client.ts'
import { Daemon } from './daemon.ts'
import { Outcomes } from './outcomes.ts'
import { makeRecord, parseRecords } from './records.ts'
import { sign } from './sigv4.ts'

type Reply = 'ok' | 'each' | number | 'reset'
let replies: Reply[]
let stored: Buffer[]
let server: Server
let client: FirehoseClient

/** Not hydrant: a server that answers as the test says. */
beforeEach(async () => {
  replies = []
  stored = []
  server = createServer((req, res) => {
    const chunks: Buffer[] = []
    req.on('data', (c: Buffer) => chunks.push(c))
    req.on('end', (): void => {
      const body = JSON.parse(Buffer.concat(chunks).toString()) as { Record?: { Data: string }; Records?: { Data: string }[] }
      const records = body.Records ?? (body.Record ? [body.Record] : [])
      const reply = replies.shift() ?? 'ok'
      if (reply === 'reset') {
        req.socket.destroy()
        return
      }
      if (typeof reply === 'number') {
        res.writeHead(reply).end('{"__type":"X","message":"m"}')
        return
      }
      for (const r of records) stored.push(Buffer.from(r.Data, 'base64'))
      const failed = reply === 'each'
      const RequestResponses = records.map((_, i) =>
        failed && i === 1 ? { ErrorCode: 'ServiceUnavailableException', ErrorMessage: 'Slow down.' } : { RecordId: `r${i}` },
      )
      res.end(JSON.stringify(body.Record ? { RecordId: 'r' } : { FailedPutCount: failed ? 1 : 0, RequestResponses }))
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  client = new FirehoseClient({ url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` })
})
afterEach(async () => {
  client.close()
  server.closeAllConnections()
  await new Promise((resolve) => server.close(resolve))
})

async function outcomeOf(reply: Reply, n = 3): Promise<(string | undefined)[]> {
  const log = new Outcomes(1)
  const ids = log.issue(0, n)
  replies = [reply]
  await put(client, 's', { ids, records: ids.map((id) => makeRecord(id, 5)) }, log)
  return ids.map((id) => log.of(id))
}

describe('the client', () => {
  test('says of every record what the answer says: no more, no less', async () => {
    expect(await outcomeOf('ok')).toEqual(['ok', 'ok', 'ok'])
    expect(await outcomeOf('ok', 1)).toEqual(['ok'])
    expect(await outcomeOf('each')).toEqual(['ok', 'fail', 'ok'])
    expect(await outcomeOf(400)).toEqual(['fail', 'fail', 'fail'])
    expect(await outcomeOf(503)).toEqual(['fail', 'fail', 'fail'])
    expect(await outcomeOf(500)).toEqual(['unknown', 'unknown', 'unknown'])
    expect(await outcomeOf('reset')).toEqual(['unknown', 'unknown', 'unknown'])
  })

  test('a server that is not there has stored nothing', async () => {
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
    expect(await outcomeOf('ok')).toEqual(['fail', 'fail', 'fail'])
    server.listen(0, '127.0.0.1')
  })

  test('the load sends as many as asked, never an id twice, also over refusals', async () => {
    const log = new Outcomes(9)
    replies = ['ok', 503, 'reset', 'ok', 500]
    const r = await load(client, { stream: 's', log, seed: 4, records: 300, batch: 20, producers: 3 })
    expect(r.sent).toBe(300)
    expect(r.refusals).toBe(3)
    const seen = stored.flatMap((b) => [...parseRecords(b)].map((p) => `${p.ok} ${p.id?.producer} ${p.id?.seq}`))
    expect(new Set(seen).size).toBe(seen.length)
    expect(seen.length).toBe(log.count('ok'))
    expect(log.count('ok') + log.count('fail') + log.count('unknown')).toBe(300)
  })
})

class Sha {
  readonly #h
  constructor(key?: BinaryLike) {
    this.#h = key === undefined ? createHash('sha256') : createHmac('sha256', key)
  }
  update(x: string | NodeJS.ArrayBufferView): void {
    this.#h.update(x)
  }
  digest(): Promise<Uint8Array> {
    return Promise.resolve(this.#h.digest())
  }
}

test('our signature equals the one of @smithy/signature-v4', async () => {
  const credentials = { accessKeyId: 'AKID', secretAccessKey: 'secret' }
  const now = new Date('2026-11-22T10:11:12.345Z')
  const headers = { host: '127.0.0.1:4580', 'x-amz-target': 'Firehose_20150804.PutRecord' }
  const query = { 'list-type': '2', prefix: "a b/!'()*" }
  const ours = sign(
    { method: 'POST', path: '/', query, headers, body: '{"a":1}', service: 'firehose', region: 'us-east-1', now },
    { accessKey: 'AKID', secretKey: 'secret' },
  )
  const signer = new SignatureV4({ credentials, region: 'us-east-1', service: 'firehose', sha256: Sha as never })
  const theirs = await signer.sign(
    { method: 'POST', protocol: 'http:', hostname: '127.0.0.1', path: '/', query, headers: { ...headers }, body: '{"a":1}' },
    { signingDate: now },
  )
  expect(ours['authorization']).toBe(theirs.headers['authorization'])
})

const fake = (code: string): Daemon =>
  new Daemon(spawn(process.execPath, ['-e', code], { stdio: ['ignore', 'pipe', 'pipe'] }), { api: 1, admin: 2 })

describe('the driver of a daemon', () => {
  const alive = 'setInterval(() => {}, 1000); console.log(JSON.stringify({msg: "ready", level: 30}))'

  test('ready, then killed by itself, is seen as such', async () => {
    const d = await fake(`${alive}; setTimeout(() => process.kill(process.pid, "SIGKILL"), 20)`).ready()
    await d.killed()
    expect(d.alive).toBe(false)
    expect(d.events()).toEqual([{ msg: 'ready', level: 30 }])
  })

  test('an end of another kind is not taken for a kill, an early end not for ready', async () => {
    await expect(fake('process.exit(3)').killed()).rejects.toThrow('was to die by SIGKILL')
    await expect(fake('console.log("why"); process.exit(3)').ready()).rejects.toThrow(/before it was ready.*"code":3/)
    expect(await fake('').readyOrDead()).toBe(false)
  })

  test('drain wants exit code 0; one that does not end in time is killed', async () => {
    const good = await fake(`process.on("SIGTERM", () => process.exit(0)); ${alive}`).ready()
    await good.drain()
    const bad = await fake(`process.on("SIGTERM", () => process.exit(1)); ${alive}`).ready()
    await expect(bad.drain()).rejects.toThrow('was to drain')
    const deaf = await fake(`process.on("SIGTERM", () => {}); ${alive}`).ready()
    await expect(deaf.stop(100)).rejects.toThrow('not stopped in 100 ms')
    expect(deaf.alive).toBe(false)
  })
})
