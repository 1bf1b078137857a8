import { z } from 'zod'
import { ControlError, type PipelineOperator, type ReplayFrom } from '../pipeline/control.ts'
import { errorMessage } from '../sdk/errors.ts'
import { Refusal } from './gate.ts'

export interface Answer {
  readonly status: number
  readonly contentType: string
  readonly body: string
  readonly allow?: string | undefined
}

const force = z.boolean().default(false)
const shard = z.string().min(1).max(64).optional()
const replayFrom = z.union([
  z.literal('earliest'),
  z.strictObject({ position: z.int().min(0) }),
  z.strictObject({ timestamp: z.iso.datetime({ offset: true }) }),
])
const bodies = {
  pause: z.strictObject({}),
  resume: z.strictObject({}),
  apply: z.strictObject({ force }),
  replay: z.strictObject({ from: replayFrom, shard }),
  release: z.strictObject({ force, shard }),
}
export type OperatorAction = keyof typeof bodies
export const OPERATOR_ACTIONS = Object.keys(bodies) as readonly OperatorAction[]

/** Body of a call, checked as strictly as public input; a wrong one is a Refusal that names the member and what is allowed. */
function parseBody<A extends OperatorAction>(action: A, body: unknown): z.output<(typeof bodies)[A]> {
  const parsed = z.safeParse(bodies[action], body)
  if (parsed.success) return parsed.data as z.output<(typeof bodies)[A]>
  const why = parsed.error.issues.map((i) => {
    if (action === 'replay' && i.path[0] === 'from')
      return 'from: expected "earliest", {"position": n} or {"timestamp": "2026-01-31T00:00:00Z"}'
    return `${i.path.join('.') || 'body'}: ${i.message}`
  })
  throw new Refusal(400, why.join('; '))
}

function positionOf(from: z.output<typeof replayFrom>): ReplayFrom {
  if (from === 'earliest' || 'position' in from) return from
  return { timestampMs: Date.parse(from.timestamp) }
}

async function act(action: OperatorAction, name: string, body: unknown, operator: PipelineOperator): Promise<unknown> {
  if (action === 'pause' || action === 'resume') {
    parseBody(action, body)
    await operator[action](name)
    return { name, paused: action === 'pause' }
  }
  if (action === 'apply') return { name, ...(await operator.apply(name, parseBody(action, body))) }
  if (action === 'replay') {
    const { from, shard: one } = parseBody(action, body)
    return { name, ...(await operator.replay(name, positionOf(from), one === undefined ? {} : { shard: one })) }
  }
  const { force: forced, shard: one } = parseBody(action, body)
  return { name, ...(await operator.release(name, { force: forced, ...(one === undefined ? {} : { shard: one }) })) }
}

const ok = (body: unknown): Answer => ({ status: 200, contentType: 'application/json', body: `${JSON.stringify(body)}\n` })

function nameOf(text: string): string {
  let name = ''
  try {
    name = decodeURIComponent(text)
  } catch {
    // stays '': refused below
  }
  if (!/^[\w.-]{1,64}(:backup)?$/.test(name))
    throw new Refusal(400, `pipeline name ${JSON.stringify(text.slice(0, 80))}: expected 1 to 64 letters, digits, _ . -`)
  return name
}

/** `GET /pipelines`, `POST /pipelines/NAME/ACTION`. Throws Refusal and ControlError; errorAnswer turns them into answers. */
export async function callOperator(
  method: string,
  path: string,
  body: () => Promise<unknown>,
  operator: PipelineOperator | null,
): Promise<Answer> {
  const reading = method === 'GET' || method === 'HEAD'
  const [, first, name, action, ...rest] = path.split('/')
  if (first !== 'pipelines' || rest.length > 0) throw new Refusal(404, `no such path: ${path.slice(0, 200)}`)
  const known = OPERATOR_ACTIONS.find((a) => a === action)
  if (name === undefined ? false : !known)
    throw new Refusal(404, `no such path: ${path.slice(0, 200)}; actions: ${OPERATOR_ACTIONS.join(', ')}`)
  if (name === undefined && !reading) throw new Refusal(405, `${path} takes GET`, 'GET, HEAD')
  if (name !== undefined && method !== 'POST') throw new Refusal(405, `${path.slice(0, 200)} takes POST`, 'POST')
  if (!operator) throw new Refusal(503, 'the daemon is starting')
  if (name === undefined || !known) return ok({ pipelines: await operator.status() })
  return ok(await act(known, nameOf(name), await body(), operator))
}

const STATUS: Readonly<Record<ControlError['code'], number>> = {
  'not-found': 404,
  exists: 409,
  'not-active': 409,
  version: 409,
  'yaml-owned': 409,
  conflict: 409,
  invalid: 400,
}
const fail = (status: number, code: string, message: string, allow?: string): Answer => ({
  status,
  contentType: 'application/json',
  body: `${JSON.stringify({ error: { code, message } })}\n`,
  allow,
})
export function errorAnswer(e: unknown): Answer {
  if (e instanceof Refusal) return fail(e.status, 'refused', e.message, e.allow)
  if (e instanceof ControlError) return fail(STATUS[e.code], e.code, e.message)
  return fail(500, 'internal', errorMessage(e))
}
