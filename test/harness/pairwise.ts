import { rng } from './random.ts'

/** Factor → its values. */
export type Factors<C extends Record<string, string>> = { readonly [K in keyof C]: readonly C[K][] }

/**
 * Cases in which every possible combination of `strength` factors' values occurs (a covering array, greedily built; the seed breaks
 * ties). `valid` takes out combinations that cannot exist; those that no valid case can hold are left out.
 * HYDRANT_MATRIX=full gives the whole product instead.
 */
export function cover<C extends Record<string, string>>(
  factors: Factors<C>,
  strength: number,
  seed: number,
  valid: (c: C) => boolean = () => true,
): C[] {
  const names = Object.keys(factors) as (keyof C & string)[]
  const all = rng(seed).shuffle(product(factors, names).filter(valid))
  if (process.env['HYDRANT_MATRIX'] === 'full') return all
  const groups = subsets(names, Math.min(strength, names.length))
  const keysOf = (c: C): string[] => groups.map((g) => g.map((n) => `${n}=${c[n]}`).join(' '))
  const open = new Set(all.flatMap(keysOf))
  const chosen: C[] = []
  while (open.size > 0) {
    let best: C | undefined
    let most = 0
    for (const c of all) {
      const gain = keysOf(c).filter((k) => open.has(k)).length
      if (gain > most) [best, most] = [c, gain]
      if (gain === groups.length) break
    }
    if (!best) break
    for (const k of keysOf(best)) open.delete(k)
    chosen.push(best)
  }
  return chosen
}

function product<C extends Record<string, string>>(factors: Factors<C>, names: readonly (keyof C & string)[]): C[] {
  let all: Partial<C>[] = [{}]
  for (const n of names) all = all.flatMap((c) => factors[n].map((v): Partial<C> => ({ ...c, [n]: v })))
  return all as C[]
}

function subsets<T>(of: readonly T[], size: number): T[][] {
  if (size === 0) return [[]]
  return of.flatMap((x, i) => subsets(of.slice(i + 1), size - 1).map((rest) => [x, ...rest]))
}
