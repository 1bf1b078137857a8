/** The invariants of docs/exactly-once.md §2, asserted always: a broken one stops the lane before it can do harm. */
export type InvariantName =
  | 'I1' | 'I2' | 'I3' | 'I4' | 'I5' | 'I6' | 'I7' | 'I8' | 'I9' | 'I10' | 'I11' | 'I12' | 'I13' | 'I14' | 'I15' | 'I15b' | 'I16' | 'I17' // prettier-ignore

export class InvariantError extends Error {
  readonly invariant: InvariantName
  constructor(name: InvariantName, detail: string) {
    super(`invariant ${name} broken: ${detail}`)
    this.name = 'InvariantError'
    this.invariant = name
  }
}

export function invariant(name: InvariantName, holds: boolean, detail: string | (() => string)): asserts holds {
  if (!holds) throw new InvariantError(name, typeof detail === 'string' ? detail : detail())
}
