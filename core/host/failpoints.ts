/**
 * Named fail points (architecture §5): a fault test asks for an action at the N-th time a point is reached.
 * `HYDRANT_FAILPOINTS="cut.after:kill@2;object.put.before:throw@1;verify.after:delay=50@*"`
 * Actions: kill (SIGKILL to this process), throw (a retryable error), hang (never resolves), delay=MS.
 */
export const FAIL_POINTS = [
  'init', 'spec', 'cut', 'decide', 'adopt', 'backup.put', 'reject.put',
  'object.put', 'object.create', 'object.part', 'object.complete', 'verify', 'advance', 'retire',
] as const // prettier-ignore

type Action = { kind: 'kill' | 'throw' | 'hang' } | { kind: 'delay'; ms: number }
interface Rule {
  action: Action
  /** 1 = the first time; 0 = every time. */
  at: number
}

export interface Failpoints {
  reach(point: string): Promise<void>
  /** How often each point was reached: a fault that never happened proved nothing. */
  readonly counts: ReadonlyMap<string, number>
}

const done: Promise<void> = Promise.resolve()

export function failpoints(rules: ReadonlyMap<string, Rule>, kill: () => void): Failpoints {
  const counts = new Map<string, number>()
  return {
    counts,
    reach(point) {
      if (rules.size === 0) return done
      const n = (counts.get(point) ?? 0) + 1
      counts.set(point, n)
      const rule = rules.get(point)
      if (!rule || (rule.at !== 0 && rule.at !== n)) return done
      const { action } = rule
      if (action.kind === 'kill') {
        kill()
        return new Promise(() => {})
      }
      if (action.kind === 'hang') return new Promise(() => {})
      if (action.kind === 'delay') return new Promise((r) => void setTimeout(r, action.ms))
      return Promise.reject(new Error(`fail point ${point}`))
    },
  }
}

export function failpointsFromEnv(text: string | undefined): Failpoints {
  const rules = new Map<string, Rule>()
  for (const part of (text ?? '').split(';')) {
    if (part === '') continue
    const m = /^([a-z.]+):(kill|throw|hang|delay=(\d+))(?:@(\d+|\*))?$/.exec(part)
    if (!m) throw new Error(`HYDRANT_FAILPOINTS: "${part}" is not point:action@count`)
    const [, point = '', name = '', ms, at] = m
    const known: readonly string[] = FAIL_POINTS
    if (!known.includes(point.replace(/\.(before|after)$/, ''))) throw new Error(`HYDRANT_FAILPOINTS: unknown point "${point}"`)
    const action: Action = name.startsWith('delay') ? { kind: 'delay', ms: Number(ms) } : { kind: name as 'kill' | 'throw' | 'hang' }
    rules.set(point, { action, at: at === '*' ? 0 : Number(at ?? 1) })
  }
  return failpoints(rules, () => process.kill(process.pid, 'SIGKILL'))
}
