/** What a command prints to; tests give their own. */
export interface Output {
  readonly out: (text: string) => void
  readonly err: (text: string) => void
}
export const standard: Output = {
  out: (text) => void process.stdout.write(text),
  err: (text) => void process.stderr.write(text),
}
