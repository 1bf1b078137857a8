/** `npm run simulate -- --seeds N [--from S] [--seed S]`: the lane on virtual time under random faults; a failure prints the seed that replays it. */
import { parseArgs } from 'node:util'
import { runSeed } from '../test/simulation/random.ts'

const { values } = parseArgs({
  options: { seeds: { type: 'string', default: '1000' }, from: { type: 'string', default: '1' }, seed: { type: 'string' } },
})
const from = Number(values.seed ?? values.from)
const to = values.seed ? from : from + Number(values.seeds) - 1
const total = new Map<string, number>()
for (let seed = from; seed <= to; seed++) {
  for (const loseNotes of [false, true]) {
    try {
      for (const [k, n] of await runSeed(seed, { loseNotes })) total.set(k, (total.get(k) ?? 0) + n)
    } catch (e) {
      process.stderr.write(`${e instanceof Error ? (e.stack ?? e.message) : String(e)}\nreplay: npm run simulate -- --seed ${seed}\n`)
      process.exit(1)
    }
  }
  if (seed % 100 === 0) process.stdout.write(`${seed - from + 1} seeds\n`)
}
process.stdout.write(
  `${to - from + 1} seeds, each with and without lost notes: 0 lost, 0 doubled; met: ${JSON.stringify(Object.fromEntries(total))}\n`,
)
