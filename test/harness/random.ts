/** A seeded stream of 32-bit numbers (splitmix32): the same seed gives the same test. */
export interface Rng {
  /** [0, 2^32) */
  u32(): number
  /** [0, n) */
  below(n: number): number
  /** [0, 1) */
  float(): number
  pick<T>(of: readonly T[]): T
  shuffle<T>(of: readonly T[]): T[]
}

export function mix32(x: number): number {
  let z = x | 0
  z = Math.imul(z ^ (z >>> 16), 0x21f0aaad)
  z = Math.imul(z ^ (z >>> 15), 0x735a2d97)
  return (z ^ (z >>> 15)) >>> 0
}

export function rng(seed: number): Rng {
  let state = seed | 0
  const u32 = (): number => mix32((state = (state + 0x9e3779b9) | 0))
  const below = (n: number): number => Math.floor((u32() / 2 ** 32) * n)
  return {
    u32,
    below,
    float: () => u32() / 2 ** 32,
    pick: (of) => {
      const found = of[below(of.length)]
      if (found === undefined) throw new RangeError('picking from an empty list')
      return found
    },
    shuffle: (of) => {
      const all = [...of]
      for (let i = all.length - 1; i > 0; i--) {
        const j = below(i + 1)
        const [a, b] = [all[i], all[j]]
        if (a !== undefined && b !== undefined) [all[i], all[j]] = [b, a]
      }
      return all
    },
  }
}

/** HYDRANT_SEED, else a new one; print it (`seedLine`) so that a failure can be run again. */
export function seedOf(env: NodeJS.ProcessEnv = process.env): number {
  const given = env['HYDRANT_SEED']
  if (given === undefined || given === '') return (Date.now() ^ (process.pid << 12)) >>> 0
  if (!/^\d{1,10}$/.test(given)) throw new Error(`HYDRANT_SEED: "${given}" is not a number`)
  return Number(given) >>> 0
}

/** The one command that runs a failed test again. */
export function seedLine(seed: number, project: string, file: string): string {
  return `seed ${seed}; again: HYDRANT_SEED=${seed} npx vitest run --project ${project} ${file}`
}
