import { createHash } from 'node:crypto'
import { limits } from '../limits.ts'
import { compileTimestamp, type TimestampFormat, TimestampPatternError, type ZonedTime, zonedTime } from './timestamp.ts'

export type PrefixKind = 'prefix' | 'error_prefix'

/** A prefix that cannot be used. `awsMessage` is what Firehose answers (firehose.md §1.7), `message` says more. */
export class PrefixError extends Error {
  readonly awsMessage: string
  constructor(awsMessage: string, detail?: string) {
    super(detail === undefined ? awsMessage : `${awsMessage}: ${detail}`)
    this.name = 'PrefixError'
    this.awsMessage = awsMessage
  }
}

type Part =
  | { readonly type: 'text'; readonly text: string }
  | { readonly type: 'timestamp'; readonly format: TimestampFormat }
  | { readonly type: 'random-string' }
  | { readonly type: 'error-output-type' }

export interface ParsedPrefix {
  readonly kind: PrefixKind
  /** As written. */
  readonly text: string
  readonly parts: readonly Part[]
  readonly hasExpressions: boolean
  /** Patterns that are legal and seldom meant: YYYY, DD. For `hydrant check`. */
  readonly warnings: readonly string[]
}

export interface PrefixContext {
  /** Arrival of the object's first record, by position. */
  readonly arrivalMs: number
  /** IANA name. */
  readonly timeZone: string
  /** The object's uuid: random strings come from it. */
  readonly token: string
  /** Needed for an error prefix: what errorOutputType() says. */
  readonly errorOutputType?: string
}

const awsName: Readonly<Record<PrefixKind, string>> = { prefix: 'Prefix', error_prefix: 'ErrorOutputPrefix' }
const defaultDate = compileTimestamp('yyyy/MM/dd/HH/')
const nameDate = compileTimestamp('yyyy-MM-dd-HH-mm-ss')

/** Parses one prefix and checks what can be checked without the other. Throws PrefixError. */
export function parsePrefix(text: string, kind: PrefixKind): ParsedPrefix {
  if (text.length > limits.prefixChars) {
    throw new PrefixError(`Length of ${awsName[kind]} cannot be greater than ${limits.prefixChars}`, `it has ${text.length} characters`)
  }
  const parts: Part[] = []
  const warnings: string[] = []
  let at = 0
  for (let open = text.indexOf('!{'); open >= 0; open = text.indexOf('!{', at)) {
    if (open > at) parts.push({ type: 'text', text: text.slice(at, open) })
    const close = text.indexOf('}', open)
    if (close < 0) throw new PrefixError('Invalid expression usage', `"${text.slice(open)}" has no closing brace`)
    parts.push(expression(text.slice(open + 2, close), kind, warnings))
    at = close + 1
  }
  if (at < text.length) parts.push({ type: 'text', text: text.slice(at) })
  const parsed: ParsedPrefix = { kind, text, parts, hasExpressions: parts.some((p) => p.type !== 'text'), warnings }
  evaluatePrefix(parsed, longest)
  return parsed
}

/** An instant, a zone and an error type with long names, so that a prefix that may get too long is refused when it is set. */
const longest: PrefixContext = {
  arrivalMs: Date.UTC(2018, 8, 26, 22, 22, 22, 222),
  timeZone: 'Asia/Kathmandu',
  token: '00000000-0000-0000-0000-000000000000',
  errorOutputType: 'format-conversion-failed',
}

function expression(body: string, kind: PrefixKind, warnings: string[]): Part {
  const colon = body.indexOf(':')
  if (colon < 0 || body.includes('!{')) throw new PrefixError('Invalid expression usage', `"!{${body}}" is not !{namespace:value}`)
  const namespace = body.slice(0, colon)
  const value = body.slice(colon + 1)
  switch (namespace) {
    case 'timestamp':
      return timestamp(value, kind, warnings)
    case 'firehose':
      return firehose(value, kind)
    case 'partitionKeyFromQuery':
    case 'partitionKeyFromLambda':
      if (kind === 'error_prefix') {
        throw new PrefixError('ErrorOutputPrefix cannot contain partition key namespaces', `it has "!{${body}}"`)
      }
      throw new PrefixError('Dynamic partitioning is not available yet in hydrant', `the prefix has "!{${body}}"`)
    default:
      throw new PrefixError(
        `Namespace to the left of colon (${namespace}) is an invalid keyword!`,
        'the namespaces are timestamp and firehose',
      )
  }
}

function timestamp(pattern: string, kind: PrefixKind, warnings: string[]): Part {
  if (pattern === '') throw new PrefixError('Invalid expression usage', 'the timestamp pattern is empty')
  try {
    const format = compileTimestamp(pattern)
    const bare = pattern.replaceAll(/'[^']*'/g, '')
    if (bare.includes('Y')) warnings.push(`"${pattern}": Y is the year of the week, wrong around New Year; yyyy is the calendar year`)
    if (/(?<!D)DD?(?!D)/.test(bare)) warnings.push(`"${pattern}": D is the day of the year; dd is the day of the month`)
    return { type: 'timestamp', format }
  } catch (e) {
    if (!(e instanceof TimestampPatternError)) throw e
    if (e.kind === 'syntax') throw new PrefixError('Invalid expression usage', e.message)
    throw new PrefixError(`Invalid conversion character used in the value of the expression in ${awsName[kind]}`, e.message)
  }
}

function firehose(value: string, kind: PrefixKind): Part {
  if (value === 'random-string') return { type: 'random-string' }
  if (value !== 'error-output-type') throw new PrefixError('Invalid expression usage', `"!{firehose:${value}}" is not known`)
  if (kind === 'prefix') throw new PrefixError('Prefix must not contain any occurrence of !{firehose:error-output-type}')
  return { type: 'error-output-type' }
}

/**
 * Parses both prefixes of a destination and checks what they say about each other. The error prefix that comes back is the one in
 * force: without one of its own, failed records of a static prefix go below that prefix. Throws PrefixError.
 */
export function checkPrefixes(prefix: string, errorPrefix: string): { readonly prefix: ParsedPrefix; readonly errorPrefix: ParsedPrefix } {
  const p = parsePrefix(prefix, 'prefix')
  const e = parsePrefix(errorPrefix, 'error_prefix')
  if (p.hasExpressions && errorPrefix === '') {
    throw new PrefixError('ErrorOutputPrefix cannot be null or empty when Prefix contains expressions')
  }
  if (e.hasExpressions && !e.parts.some((part) => part.type === 'error-output-type')) {
    throw new PrefixError('ErrorOutputPrefix must contain !{firehose:error-output-type} when it contains expressions')
  }
  return { prefix: p, errorPrefix: errorPrefix === '' ? parsePrefix(prefix, 'error_prefix') : e }
}

/**
 * The prefix of one object. Without expressions the date is appended, to an error prefix after the error type; with expressions
 * nothing is (firehose.md §3.1, §3.2). A function of its arguments alone. Throws PrefixError above 512 characters.
 */
export function evaluatePrefix(p: ParsedPrefix, c: PrefixContext): string {
  const { errorOutputType } = c
  if (p.kind === 'error_prefix' && errorOutputType === undefined) throw new Error('evaluating an error prefix: no error output type given')
  const time = timeOf(c)
  const type = errorOutputType ?? ''
  const out = p.hasExpressions
    ? p.parts.map((part, i) => evaluate(part, i, time, c.token, type)).join('')
    : p.text + (p.kind === 'error_prefix' ? `${type}/` : '') + defaultDate(time)
  if (out.length > limits.evaluatedPrefixChars) {
    const limit = `Length of evaluated ${p.kind === 'prefix' ? 'prefix' : 'ErrorOutputPrefix'} cannot be greater than ${limits.evaluatedPrefixChars}`
    throw new PrefixError(limit, `it has ${out.length} characters`)
  }
  return out
}

/** A record without a time (Kafka's -1) counts as of the epoch. */
function timeOf(c: { readonly arrivalMs: number; readonly timeZone: string }): ZonedTime {
  return zonedTime(Math.max(0, c.arrivalMs), c.timeZone)
}

function evaluate(part: Part, index: number, time: ZonedTime, token: string, errorOutputType: string): string {
  switch (part.type) {
    case 'text':
      return part.text
    case 'timestamp':
      return part.format(time)
    case 'error-output-type':
      return errorOutputType
    case 'random-string':
      return randomString(token, index)
    default:
      return part satisfies never
  }
}

const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789'

/** 11 characters that look random and are not: a replay must find the same name. `instance` sets those of one prefix apart. */
function randomString(token: string, instance: number): string {
  const hash = createHash('sha256').update(`${token}/${instance}`).digest()
  return Array.from({ length: 11 }, (_, i) => alphabet[hash.readUInt16BE(i * 2) % alphabet.length]).join('')
}

/** `<stream>-<version>-yyyy-MM-dd-HH-mm-ss-<token><extension>`: what stands behind the prefix (firehose.md §3.1). */
export function objectName(o: {
  readonly streamName: string
  readonly versionId: string
  readonly arrivalMs: number
  readonly timeZone: string
  readonly token: string
  readonly extension: string
}): string {
  return `${o.streamName}-${o.versionId}-${nameDate(timeOf(o))}-${o.token}${o.extension}`
}
