import { isUtf8 } from 'node:buffer'
import { gunzip } from 'node:zlib'
import { limits } from '../limits.ts'
import { NONE, type Rejection, type RejectionStage, type WorkBatch } from '../sdk/batch.ts'
import { errorCode } from '../sdk/errors.ts'
import { ValueBuilder } from './builder.ts'
import type { Stage, StageResult } from './types.ts'

/** Records of a batch decompressed at once: the most that bombs can hold is this times limits.decompressedRecordBytes. */
const AT_ONCE = 4
/** Name of the stage that makes more bytes than it gets. */
export const DECOMPRESS = 'decompress'
const nothing: Uint8Array = new Uint8Array(0)

type Refusal = { readonly code: string; readonly message: string }

function refuse(b: WorkBatch, i: number, stage: RejectionStage, { code, message }: Refusal): Rejection {
  return { origin: b.origin[i] ?? 0, sub: b.sub[i] ?? 0, stage, code, message, attempts: 1 }
}

/** The value of record i, a null one as empty. */
function valueAt(b: WorkBatch, i: number): Uint8Array {
  const end = b.valueEnd[i] ?? NONE
  return end === NONE ? nothing : b.bytes.subarray(b.valueStart[i] ?? 0, end)
}

function gunzipped(value: Uint8Array): Promise<Uint8Array | Refusal> {
  const max = limits.decompressedRecordBytes
  if (value.length === 0) return Promise.resolve({ code: 'Decompression.MalformedGzip', message: 'the record is empty' })
  return new Promise((resolve) => {
    gunzip(value, { maxOutputLength: max }, (e: NodeJS.ErrnoException | null, out) => {
      if (!e) return resolve(out)
      if (e.code === 'ERR_BUFFER_TOO_LARGE') {
        const message = `the record of ${value.length} bytes has more than ${max} bytes when decompressed`
        return resolve({ code: 'Decompression.TooLarge', message })
      }
      resolve({ code: 'Decompression.MalformedGzip', message: `the record of ${value.length} bytes is not gzip: ${errorCode(e)}` })
    })
  })
}

/** Gunzips every record, in the libuv pool (firehose.md §4.4). A record that is not gzip, or is too large, is rejected. */
export function decompressStage(): Stage {
  return {
    name: DECOMPRESS,
    splits: false,
    async apply(b, c): Promise<StageResult> {
      const out = new ValueBuilder(b)
      const rejected: Rejection[] = []
      for (let i = 0; i < b.count; i += AT_ONCE) {
        c.signal.throwIfAborted()
        const some = Array.from({ length: Math.min(AT_ONCE, b.count - i) }, (_, k) => gunzipped(valueAt(b, i + k)))
        for (const [k, done] of (await Promise.all(some)).entries()) {
          if (done instanceof Uint8Array) out.push(i + k, done)
          else rejected.push(refuse(b, i + k, 'decompress', done))
        }
      }
      return { batch: out.done(), rejected, dropped: [] }
    },
    close: () => Promise.resolve(),
  }
}

/**
 * Replaces a CloudWatch Logs envelope by its messages, each followed by a newline, as one record; a control message becomes an empty
 * record, which is passed on (firehose.md §4.4). What is no envelope is rejected.
 */
export function extractMessagesStage(): Stage {
  return {
    name: 'extract-messages',
    splits: false,
    async apply(b): Promise<StageResult> {
      const out = new ValueBuilder(b)
      const rejected: Rejection[] = []
      for (let i = 0; i < b.count; i++) {
        const done = messagesOf(valueAt(b, i))
        if (done instanceof Uint8Array) out.push(i, done)
        else rejected.push(refuse(b, i, 'transform', done))
      }
      return { batch: out.done(), rejected, dropped: [] }
    },
    close: () => Promise.resolve(),
  }
}

const wrong = (what: string): Refusal => ({
  code: 'CloudWatchLogProcessing.MalformedEnvelope',
  message: `not a CloudWatch Logs record: ${what}`,
})

// texts of errors are our own: V8's differ between versions, quote the payload, and would end up in an object that must not differ
function messagesOf(value: Uint8Array): Uint8Array | Refusal {
  const malformed: Refusal = { code: 'CloudWatchLogProcessing.MalformedJson', message: `the record of ${value.length} bytes is not JSON` }
  if (!isUtf8(value)) return malformed
  let envelope: unknown
  try {
    envelope = JSON.parse(Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString())
  } catch (e) {
    if (e instanceof SyntaxError) return malformed
    throw e
  }
  const { messageType, logEvents } = (envelope ?? {}) as { messageType?: unknown; logEvents?: unknown }
  if (messageType === 'CONTROL_MESSAGE') return nothing
  if (messageType !== 'DATA_MESSAGE') return wrong('messageType is neither DATA_MESSAGE nor CONTROL_MESSAGE')
  if (!Array.isArray(logEvents)) return wrong('logEvents is not a list')
  let text = ''
  for (const [i, event] of (logEvents as readonly unknown[]).entries()) {
    const message = (event as { message?: unknown } | null)?.message
    if (typeof message !== 'string') return wrong(`logEvents[${i}] has no message`)
    text += `${message}\n`
  }
  return Buffer.from(text)
}
