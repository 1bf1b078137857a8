import { pino } from 'pino'
import type { Logger } from '../sdk/sink.ts'

export const LOG_LEVELS = ['debug', 'info', 'warn', 'error', 'silent'] as const
export type LogLevel = (typeof LOG_LEVELS)[number]

const SECRET = /(secret|password|passwd|token$|credential|private_?key|passphrase|authorization|signature)/i
const LONGEST = 1_000
const DEEPEST = 4

/** What may stand in a log line: no bytes (a record may be in them), no secret, nothing long or deep. */
function clean(v: unknown, depth: number): unknown {
  if (typeof v === 'string') return v.length > LONGEST ? `${v.slice(0, LONGEST)}… (${v.length} characters)` : v
  if (typeof v === 'bigint') return String(v)
  if (typeof v !== 'object' || v === null) return v
  if (ArrayBuffer.isView(v) || v instanceof ArrayBuffer) return `(${v.byteLength} bytes)`
  if (v instanceof Error) {
    const { code } = v as { code?: unknown }
    return { name: v.name, ...(typeof code === 'string' ? { code } : {}), message: clean(v.message, 0), stack: clean(v.stack, 0) }
  }
  if (v instanceof Date) return v
  if (depth >= DEEPEST) return Array.isArray(v) ? '(a list)' : '(an object)'
  if (Array.isArray(v)) return v.slice(0, 100).map((x) => clean(x, depth + 1))
  return Object.fromEntries(Object.entries(v).map(([k, x]) => [k, SECRET.test(k) ? '(secret)' : clean(x, depth + 1)]))
}

/** The level that HYDRANT_LOG_LEVEL asks for; info when it is not set. Throws for any other word. */
export function logLevel(text: string | undefined): LogLevel {
  const level = LOG_LEVELS.find((l) => l === (text ?? 'info'))
  if (!level) throw new Error(`HYDRANT_LOG_LEVEL: ${JSON.stringify(text)} is not allowed; allowed: ${LOG_LEVELS.join(', ')}`)
  return level
}

/** One JSON object a line: level, time (ms), fields, msg. Default stream: standard error, so that a command's output stays its own. */
export function createLogger(o: { level: LogLevel; now?: () => number; write?: (line: string) => void }): Logger {
  const { write, now } = o
  const options = {
    level: o.level,
    base: null,
    formatters: {
      level: (label: string) => ({ level: label }),
      log: (fields: object) => clean(fields, 0) as Record<string, unknown>,
    },
    ...(now ? { timestamp: () => `,"time":${now()}` } : {}),
  }
  return pino(options, write ? { write } : pino.destination({ fd: 2, sync: true }))
}
