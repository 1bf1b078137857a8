import { describe, expect, test } from 'vitest'
import { ApiError } from '../../core/api/errors.ts'
import { parsePut, readPut } from '../../core/api/firehose/put.ts'
import { base64Problem, decodedLength } from '../../core/api/json/base64.ts'
import { scanPut, type PutInput } from '../../core/api/json/put-scan.ts'
import { limits } from '../../core/limits.ts'
import { NONE, valueOf } from '../../core/sdk/batch.ts'

type Kind = 'record' | 'batch'
const bytesOf = (text: string | Uint8Array): Uint8Array<ArrayBuffer> => Uint8Array.from(Buffer.from(text as string))
const batchBody = (...data: string[]): string => JSON.stringify({ DeliveryStreamName: 'orders', Records: data.map((Data) => ({ Data })) })
const b64 = (s: string | Uint8Array): string => Buffer.from(s as string).toString('base64')

/** Everything that a put carries, comparable. */
function plain(p: PutInput): object {
  const { batch } = p
  const values = Array.from({ length: batch.count }, (_, i) => Buffer.from(valueOf(batch, i) ?? []).toString('hex'))
  const keys = Array.from({ length: batch.count }, (_, i) => batch.keyEnd[i] === NONE)
  return { name: p.name, count: batch.count, values, keys: new Set(keys), lengths: [batch.valueStart.length, batch.position.length] }
}
function outcome(f: () => PutInput): object {
  try {
    return plain(f())
  } catch (e) {
    if (!(e instanceof ApiError)) throw e
    return { code: e.code, message: e.message }
  }
}

/** mulberry32: the same bodies on every run. */
function seeded(seed: number): () => number {
  let a = seed
  return () => {
    a = (a + 0x6d2b79f5) | 0
    let t = Math.imul(a ^ (a >>> 15), 1 | a)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296
  }
}

const SPICE = [
  '"', '\\', '{', '}', '[', ']', ',', ':', ' ', '\n', '\t', '=', '==', '-', '_', '/', '\\/', '\\u0041', 'null', 'true', '0', 'é', '\u0000',
  '\x80', '"Data"', '"Data":"QQ=="', '"Records"', '"Record"', '"DeliveryStreamName":"x"', '"Extra":[1,{"Data":"QQ=="}]', 'QR==', 'QQ=', 'A',
] // prettier-ignore

function mutate(body: Buffer, random: () => number): Buffer {
  let out = body
  for (let n = Math.floor(random() * 3); n >= 0; n--) {
    const at = Math.floor(random() * (out.length + 1))
    const cut = random() < 0.5 ? 0 : Math.floor(random() * 4)
    const insert = random() < 0.3 ? '' : (SPICE[Math.floor(random() * SPICE.length)] ?? '')
    out = Buffer.concat([out.subarray(0, at), Buffer.from(insert, random() < 0.5 ? 'latin1' : 'utf8'), out.subarray(at + cut)])
  }
  return out
}

function randomBody(kind: Kind, random: () => number): string {
  const space = (): string => (random() < 0.15 ? ' \n\t\r'.slice(0, Math.floor(random() * 4)) : '')
  const record = (): string => {
    const data = Buffer.from(Array.from({ length: Math.floor(random() * 9) }, () => Math.floor(random() * 256)))
    return `{${space()}"Data"${space()}:${space()}"${b64(data)}"${space()}}`
  }
  const many = Array.from({ length: 1 + Math.floor(random() * 4) }, record).join(`${space()},${space()}`)
  const records = kind === 'batch' ? `"Records"${space()}:${space()}[${space()}${many}${space()}]` : `"Record":${space()}${record()}`
  const name = `"DeliveryStreamName":${space()}"orders-1_a.b"`
  const members = random() < 0.5 ? `${name}${space()},${space()}${records}` : `${records},${name}`
  return `${space()}{${space()}${members}${space()}}${space()}`
}

describe.each(['record', 'batch'] as const)('%s: the scan and JSON.parse agree', (kind) => {
  test('on 20,000 mutated bodies, and a refused body is left as it was', () => {
    const random = seeded(kind === 'record' ? 1 : 2)
    let scanned = 0
    let refused = 0
    for (let i = 0; i < 20_000; i++) {
      const whole = Buffer.from(randomBody(kind, random))
      const body = i % 4 === 0 ? whole : mutate(whole, random)
      const given = bytesOf(body)
      const byHand = scanPut(given, kind)
      if (byHand === null) {
        refused++
        expect(Buffer.from(given).equals(body)).toBe(true)
        continue
      }
      scanned++
      expect(plain(byHand), body.toString('latin1')).toEqual(outcome(() => parsePut(bytesOf(body), kind)))
    }
    // a fuzz that only ever saw one of the two proved nothing
    expect(scanned).toBeGreaterThan(5_000)
    expect(refused).toBeGreaterThan(5_000)
  })
  test('every whole body goes by hand', () => {
    const random = seeded(3)
    for (let i = 0; i < 500; i++) expect(scanPut(bytesOf(randomBody(kind, random)), kind)).not.toBeNull()
  })
})

/** Records of all sizes around the parts in which the scan reads a body, and bodies of several parts. */
function largeBody(random: () => number): string {
  const records: string[] = []
  for (let bytes = 0; bytes < 300_000;) {
    const n = [9, 700, 49_152, 49_149 + Math.floor(random() * 9), 120_000][Math.floor(random() * 5)] ?? 0
    const space = random() < 0.2 ? ' '.repeat(Math.floor(random() * 70_000)) : ''
    const data = Buffer.alloc(n, String(random()))
    records.push(`${space}{"Data":"${b64(data)}"}`)
    bytes += n + space.length
  }
  const name = '"DeliveryStreamName":"orders"'
  return random() < 0.5 ? `{${name},"Records":[${records.join(',')}]}` : `{"Records":[${records.join(',')}],${name}}`
}
test('bodies of several parts: the scan and JSON.parse agree, and a refused body is left as it was', () => {
  const random = seeded(9)
  let refused = 0
  for (let i = 0; i < 90; i++) {
    const whole = Buffer.from(largeBody(random))
    // mostly near the end, where many parts have been overwritten
    const at = random() < 0.7 ? whole.length - Math.floor(random() * 200_000) : Math.floor(random() * whole.length)
    const body = i % 3 === 0 ? whole : Buffer.concat([whole.subarray(0, at), mutate(whole.subarray(at), random)])
    const given = bytesOf(body)
    const byHand = scanPut(given, 'batch')
    if (byHand === null) {
      refused++
      expect(Buffer.compare(given, body)).toBe(0)
    }
    if (i % 3 === 0) expect(byHand).not.toBeNull()
    if (byHand !== null) expect(plain(byHand)).toEqual(outcome(() => parsePut(bytesOf(body), 'batch')))
  }
  expect(refused).toBeGreaterThan(20)
})

test('large random records come back byte for byte, from the memory of the body', () => {
  const random = seeded(4)
  const records = Array.from({ length: 500 }, (_, i) => Buffer.from(Array.from({ length: i % 97 }, () => Math.floor(random() * 256))))
  const body = bytesOf(JSON.stringify({ DeliveryStreamName: 's', Records: records.map((r) => ({ Data: b64(r) })) }))
  const put = scanPut(body, 'batch')
  expect(put?.batch.bytes.buffer).toBe(body.buffer)
  expect(put && (plain(put) as { values: string[] }).values).toEqual(records.map((r) => r.toString('hex')))
})

const refusedAs = (body: string, kind: Kind = 'batch'): object => outcome(() => readPut(bytesOf(body), kind))
describe('bounds', () => {
  test('500 records pass, 501 and none do not', () => {
    expect(refusedAs(batchBody(...Array.from({ length: 500 }, () => 'QQ==')))).toMatchObject({ count: 500 })
    const long = "1 validation error detected: Value at 'records' failed to satisfy constraint: Member must have length"
    expect(refusedAs(batchBody(...Array.from({ length: 501 }, () => 'QQ==')))).toEqual({
      code: 'ValidationException',
      message: `${long} less than or equal to 500`,
    })
    expect(refusedAs(batchBody())).toEqual({ code: 'ValidationException', message: `${long} greater than or equal to 1` })
  })
  test('a record of 1,024,000 bytes passes, one more does not', () => {
    const most = b64(new Uint8Array(limits.recordBytes))
    expect(scanPut(bytesOf(JSON.stringify({ DeliveryStreamName: 's', Record: { Data: most } })), 'record')?.batch.valueEnd[0]).toBe(
      1_024_000,
    )
    const over = b64(new Uint8Array(limits.recordBytes + 1))
    expect(refusedAs(JSON.stringify({ DeliveryStreamName: 's', Record: { Data: over } }), 'record')).toEqual({
      code: 'ValidationException',
      message:
        "1 validation error detected: Value at 'record.data' failed to satisfy constraint: Member must have length less than or equal to 1024000",
    })
    expect(refusedAs(batchBody('QQ==', over))).toMatchObject({ message: expect.stringContaining("'records.2.member.data'") as string })
  })
  test('4 MiB decoded passes, one byte more does not', () => {
    const mib = b64(new Uint8Array(1_000_000))
    const rest = limits.putBatchBytes - 4_000_000
    expect(scanPut(bytesOf(batchBody(mib, mib, mib, mib, b64(new Uint8Array(rest)))), 'batch')).not.toBeNull()
    expect(refusedAs(batchBody(mib, mib, mib, mib, b64(new Uint8Array(rest + 1))))).toEqual({
      code: 'InvalidArgumentException',
      message: 'Records size exceeds 4 MB limit',
    })
  })
})

describe('base64 is judged as AWS does, though Node would decode it', () => {
  test.each([
    ['QQ', 'Base64 encoded length is expected a multiple of 4 bytes but found: 2'],
    ['Q-==', "Invalid Base64 character: '-'"],
    ['__A=', "Invalid Base64 character: '_'"],
    ['QQ= ', "Invalid Base64 character: '='"],
    ['QQ\n=', "Invalid Base64 character: '\n'"],
    ['====', "Invalid Base64 character: '='"],
    ['QR==', 'Invalid last non-pad Base64 character dectected'],
    ['QUF=', 'Invalid last non-pad Base64 character dectected'],
  ])('%j', (data, problem) => {
    expect(base64Problem(data)).toBe(problem)
    expect(outcome(() => readPut(bytesOf(batchBody('QQ==', data)), 'batch'))).toEqual({
      code: 'SerializationException',
      message: `'${data}' can not be converted to a Blob: ${problem}`,
    })
  })
  test('decodedLength agrees with Node on every good text', () => {
    for (let n = 0; n < 300; n++) {
      const t = Buffer.from(b64(new Uint8Array(n).fill(n)))
      expect(decodedLength(t.length, t.at(-3) ?? 0, t.at(-2) ?? 0, t.at(-1) ?? 0)).toBe(n)
      expect(base64Problem(t.toString())).toBeNull()
    }
  })
  test('an escaped slash, as PHP writes it, is taken on the other path', () => {
    const body = String.raw`{"DeliveryStreamName":"s","Record":{"Data":"\/\/8="}}`
    expect(scanPut(bytesOf(body), 'record')).toBeNull()
    expect(outcome(() => readPut(bytesOf(body), 'record'))).toMatchObject({ values: ['ffff'] })
  })
})
