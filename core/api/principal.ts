import { limits } from '../limits.ts'
import { ApiError } from './errors.ts'

/** An access key of the configuration. */
export interface ApiKey {
  readonly accessKey: string
  readonly secretKey: string
  /** Patterns with `*` and `?` over actions, such as `firehose:PutRecord*`; absent = every action. Case is ignored, as in IAM. */
  readonly allow?: readonly string[]
  /** Patterns over stream names; absent = every stream. */
  readonly streams?: readonly string[]
}

declare const verified: unique symbol
/**
 * Who a request comes from. Only the gate makes one (`authenticate`), and every handler asks for one: a handler cannot be reached
 * around the gate.
 */
export interface Principal {
  readonly [verified]: true
  /** Access key id, or `anonymous` with `auth: none`. */
  readonly id: string
  /** May this principal do the action at all, on some stream? */
  mayAct(action: string): boolean
  /** May it do the action on this stream? */
  may(action: string, stream: string): boolean
}

/** A pattern of literals, `*` (any run) and `?` (one character), compiled once. Linear: no regular expression, no backtracking blow-up. */
export function wildcard(pattern: string): (text: string) => boolean {
  if (!pattern.includes('*') && !pattern.includes('?')) return (text) => text === pattern
  if (pattern.indexOf('*') === pattern.length - 1 && !pattern.includes('?')) {
    const start = pattern.slice(0, -1)
    return (text) => text.startsWith(start)
  }
  return (text) => {
    let p = 0
    let t = 0
    let star = -1
    let mark = 0
    while (t < text.length) {
      const c = pattern[p]
      if (c === '*') {
        star = p++
        mark = t
      } else if (c !== undefined && (c === '?' || c === text[t])) {
        p++
        t++
      } else if (star !== -1) {
        p = star + 1
        t = ++mark
      } else return false
    }
    while (pattern[p] === '*') p++
    return p === pattern.length
  }
}

/** Made by the gate only. */
export function principalOf(key: Pick<ApiKey, 'accessKey' | 'allow' | 'streams'>): Principal {
  const actions = key.allow?.map((p) => wildcard(p.toLowerCase()))
  const streams = key.streams?.map(wildcard)
  const decided = new Map<string, boolean>()
  const mayAct = (action: string): boolean => actions === undefined || actions.some((f) => f(action.toLowerCase()))
  const may = (action: string, stream: string): boolean => {
    if (actions === undefined && streams === undefined) return true
    const id = `${action} ${stream}`
    let answer = decided.get(id)
    if (answer === undefined) {
      answer = mayAct(action) && (streams === undefined || streams.some((f) => f(stream)))
      if (decided.size >= limits.authDecisions) decided.clear()
      decided.set(id, answer)
    }
    return answer
  }
  return { id: key.accessKey, mayAct, may } as Principal
}

export const ANONYMOUS = 'anonymous'

/** What AWS answers to a principal that may not. `resource` is an ARN, or `*` where no stream is known yet. */
export function accessDenied(p: Principal, account: string, action: string, resource: string): ApiError {
  return new ApiError(
    'AccessDeniedException',
    `User: arn:aws:iam::${account}:user/${p.id} is not authorized to perform: ${action} on resource: ${resource}`,
  )
}
