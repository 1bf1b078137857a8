/**
 * `npm run mutations [-- --only I5]`: drops each invariant of docs/exactly-once.md §2 in turn, in a copy of the sources, and runs the
 * tests that must notice. Prints a table; exits 1 when one stays green. An invariant is dropped with its assertion *and* the code that
 * keeps it, where the two are apart: what must go red is the behaviour.
 */
import { execFile } from 'node:child_process'
import { cp, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs, promisify } from 'node:util'

interface Edit {
  readonly file: string
  readonly from: string | RegExp
  readonly to: string
}
interface Mutation {
  readonly invariant: string
  readonly what: string
  readonly edits: readonly Edit[]
}

const PIPELINE = 'core/pipeline/pipeline.ts'
const BOOK = 'core/pipeline/book.ts'
const DELIVER = 'core/pipeline/deliver.ts'
/** Takes the assertions of one invariant away. */
const silence = (file: string, name: string): Edit => ({
  file,
  from: new RegExp(`invariant\\(\\s*'${name}',`, 'g'),
  to: `void ([] as unknown[]).push('${name}', `,
})

const MUTATIONS: readonly Mutation[] = [
  {
    invariant: 'I1',
    what: 'effects start without waiting for the commit of their cut',
    edits: [
      {
        file: PIPELINE,
        from: "await this.#commits.save()\n        await host.failpoint('cut.after')",
        to: "void this.#commits.save()\n        await host.failpoint('cut.after')",
      },
      silence(DELIVER, 'I1'),
    ],
  },
  { invariant: 'I2', what: 'an acknowledgement out of order is taken', edits: [silence(BOOK, 'I2')] },
  { invariant: 'I3', what: 'a state is serialized for a lease that has ended', edits: [silence('core/pipeline/commits.ts', 'I3')] },
  { invariant: 'I4', what: 'a cut may leave a hole or end beyond the log', edits: [silence(BOOK, 'I4')] },
  {
    invariant: 'I5',
    what: 'the position moves over cuts that are not confirmed',
    edits: [{ file: BOOK, from: 'first?.confirmed; first = this.cuts[0]', to: 'first; first = this.cuts[0]' }],
  },
  {
    invariant: 'I6',
    what: 'a recorded cut is cut again at another end after a crash',
    edits: [{ file: BOOK, from: 'this.cuts = note.cuts.map(', to: 'this.cuts = note.cuts.slice(0, 0).map(' }, silence(BOOK, 'I6')],
  },
  {
    invariant: 'I7',
    what: 'a stage may lose a record',
    edits: [
      {
        file: 'core/transform/chain.ts',
        from: 'if (batch.count + rejected.length + dropped.length !== entered) {',
        to: 'if (batch.count < 0) {',
      },
      silence('core/pipeline/encode.ts', 'I7'),
    ],
  },
  {
    invariant: 'I8',
    what: '"already there" is always success',
    edits: [{ file: DELIVER, from: "m['token'] === object.token &&", to: "m['never'] === undefined ||" }],
  },
  { invariant: 'I9', what: 'a note of any length is sent', edits: [silence(BOOK, 'I9')] },
  {
    invariant: 'I10',
    what: 'a missing position defaults to the start',
    edits: [{ file: 'core/pipeline/recover.ts', from: 'if (start.initialised && !x.unguarded)', to: 'if (start.position < 0)' }],
  },
  { invariant: 'I11', what: 'records beyond the durable end are taken', edits: [silence('core/pipeline/fill.ts', 'I11')] },
  {
    invariant: 'I12',
    what: 'a note of another topic is gone on from',
    edits: [
      { file: 'core/pipeline/recover.ts', from: 'if (note.topicId !== lane.topicId)', to: "if (note.topicId === '')" },
      silence(DELIVER, 'I12'),
    ],
  },
  {
    invariant: 'I13',
    what: 'a spec is not written before a note names it',
    edits: [
      { file: 'core/registry/registry.ts', from: "await this.#meta.put(`spec/${hash}`, spec, 'any')", to: 'await Promise.resolve(spec)' },
    ],
  },
  {
    invariant: 'I14',
    what: 'an ordered sink gets several cuts at once',
    edits: [
      { file: 'core/pipeline/lanes.ts', from: 'return ordered ? 1 : most', to: 'return ordered ? most : most' },
      { file: 'core/delivery/attempts.ts', from: 'await this.#s.turn()', to: 'await Promise.resolve()' },
    ],
  },
  {
    invariant: 'I15',
    what: 'effects go on after the lease has ended',
    edits: [
      {
        file: 'core/delivery/attempts.ts',
        from: 'if (!this.#s.lease.live()) throw new',
        to: 'if (this.#s.lease.id === this.#s.pipeline) throw new',
      },
    ],
  },
  {
    invariant: 'I15b',
    what: 'first effects do not wait for their turn',
    edits: [{ file: 'core/delivery/attempts.ts', from: 'await this.#s.turn()', to: 'await Promise.resolve()' }],
  },
  {
    invariant: 'I16',
    what: 'names hold the end of the cut',
    edits: [
      {
        file: DELIVER,
        from: "shard: lane.shard, start: j.cut.start }, '', index)",
        to: 'shard: lane.shard, start: j.cut.start }, String(j.cut.end), index)',
      },
    ],
  },
  {
    invariant: 'I17',
    what: 'a cut is given up without proof that nothing of it stands',
    edits: [{ file: DELIVER, from: 'anchor && doubt.any ? await learn(', to: 'anchor && !plan ? await learn(' }, silence(DELIVER, 'I17')],
  },
  {
    invariant: 'I17',
    what: 'what got no answer counts as over at once',
    edits: [{ file: 'core/pipeline/doubt.ts', from: 'endedAt + this.#lifeMs', to: 'endedAt' }],
  },
]

const TESTS = ['test/simulation', 'test/pipeline', 'test/delivery']
const run = promisify(execFile)

async function copy(root: string): Promise<string> {
  const to = await mkdtemp(join(tmpdir(), 'hydrant-mutation-'))
  for (const part of ['core', 'plugins', 'test', 'package.json', 'vitest.config.ts', 'tsconfig.json']) {
    await cp(join(root, part), join(to, part), {
      recursive: true,
      filter: (f) => !/\/(node_modules|dist)(\/|$)/.test(f.slice(root.length)),
    })
  }
  await symlink(join(root, 'node_modules'), join(to, 'node_modules'))
  return to
}

async function apply(folder: string, edits: readonly Edit[]): Promise<() => Promise<void>> {
  const before = new Map<string, string>()
  for (const { file, from, to } of edits) {
    const path = join(folder, file)
    const text = await readFile(path, 'utf8')
    if (!before.has(path)) before.set(path, text)
    const changed = text.replace(from, to)
    if (changed === text) throw new Error(`${file} has no ${String(from)}: the mutation must be written anew`)
    await writeFile(path, changed)
  }
  return async () => {
    for (const [path, text] of before) await writeFile(path, text)
  }
}

/** The names of the tests that failed; empty = all green. */
async function red(folder: string): Promise<string[]> {
  const args = ['run', '--project', 'unit', ...TESTS, '--bail', '1', '--no-file-parallelism', '--no-color']
  try {
    await run(process.execPath, [join(folder, 'node_modules/vitest/vitest.mjs'), ...args], {
      cwd: folder,
      timeout: 180_000,
      maxBuffer: 1 << 26,
    })
    return []
  } catch (e) {
    const { stdout = '', stderr = '' } = e as { stdout?: string; stderr?: string }
    const failed = [...`${stdout}\n${stderr}`.matchAll(/^.*FAIL.*?\.test\.ts > (.*)$/gm)].map((m) => m[1] ?? '')
    if (failed.length === 0) process.stderr.write(`${stdout}\n${stderr}`)
    return failed.length > 0 ? failed : ['(the run itself failed)']
  }
}

const { values } = parseArgs({ options: { only: { type: 'string' }, quick: { type: 'boolean', default: false } } })
const root = join(import.meta.dirname, '..')
const folder = await copy(root)
let green = 0
try {
  if ((await red(folder)).length > 0) throw new Error('the tests are red without a mutation')
  for (const m of MUTATIONS.filter((x) => values.only === undefined || x.invariant === values.only)) {
    const undo = await apply(folder, m.edits)
    const failed = await red(folder)
    await undo()
    const noticed = failed.length > 0 && failed[0] !== '(the run itself failed)'
    if (!noticed) green++
    process.stdout.write(`${m.invariant.padEnd(5)} ${noticed ? 'red  ' : 'GREEN'}  ${m.what.padEnd(62)} ${failed[0]?.slice(0, 90) ?? ''}\n`)
  }
} finally {
  await rm(folder, { recursive: true, force: true })
}
process.stdout.write(green === 0 ? 'every dropped invariant turned the suite red\n' : `${green} dropped invariants were not noticed\n`)
process.exit(green === 0 ? 0 : 1)
