/**
 * `npm run bench`: the bars of docs/performance.md, measured. Exit code 1 when one is missed.
 *   --quick             for CI: under four minutes on two cores; fails only where a figure is clearly worse than its bar (report.ts)
 *   --json FILE         also writes every round's figure
 *   --docs              also writes what was found into docs/performance.md
 *   --only puts,drain,backlog,start
 *   --allocations       only prints which functions allocate while a backlog drains
 *   --profile           only writes a CPU profile of such a drain
 */
import { readFile, writeFile } from 'node:fs/promises'
import { cpus } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { pinned } from './child.ts'
import { allocationProfile, cpuProfile, measureBacklog, measureDrains } from './drain.ts'
import { measurePuts } from './puts.ts'
import { fails, markdown, passes, table, type Row } from './report.ts'
import { measureStart } from './start.ts'

const GB = 1e9
const { values } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    json: { type: 'string' },
    only: { type: 'string' },
    allocations: { type: 'boolean', default: false },
    profile: { type: 'boolean', default: false },
    docs: { type: 'boolean', default: false },
  },
})
const { quick } = values

const parts: Readonly<Record<string, () => Promise<Row[]>>> = {
  puts: () =>
    measurePuts(
      quick ? { rounds: 3, batches: 120, singles: 16_000, motoBatches: 30 } : { rounds: 5, batches: 300, singles: 20_000, motoBatches: 60 },
    ),
  drain: () => measureDrains(quick ? { rounds: 3, bytes: 0.4 * GB } : { rounds: 3, bytes: 0.9 * GB }),
  backlog: () => measureBacklog(GB),
  start: () => measureStart(quick ? 3 : 7),
}

async function measure(): Promise<Row[]> {
  const wanted = values.only?.split(',') ?? Object.keys(parts)
  const rows: Row[] = []
  for (const name of wanted) {
    const part = parts[name]
    if (!part) throw new Error(`--only ${name}: expected some of ${Object.keys(parts).join(',')}`)
    const began = performance.now()
    const found = await part()
    rows.push(...found)
    console.log(`${table(found)}\n(${name}: ${((performance.now() - began) / 1000).toFixed(0)} s)\n`)
  }
  return rows
}

const page = join(import.meta.dirname, '../../docs/performance.md')
/** Replaces what stands between the page's marks of that name. */
async function intoDocs(mark: string, text: string): Promise<void> {
  const old = await readFile(page, 'utf8')
  const [open, close] = [`<!-- ${mark} -->`, `<!-- /${mark} -->`]
  const from = old.indexOf(open)
  const to = old.indexOf(close)
  if (from === -1 || to < from) throw new Error(`${page} has no ${open} … ${close}`)
  await writeFile(page, `${old.slice(0, from + open.length)}\n\n${text}\n\n${old.slice(to)}`)
}

const date = new Date().toISOString()
const machine = `${cpus()[0]?.model.trim() ?? 'unknown'}, ${cpus().length} cores, Node ${process.versions.node}, ${process.platform}`
const pinning = pinned ? 'the daemon on a core of its own' : 'nothing pinned'
const command = `npm run bench${quick ? ' -- --quick' : ''}`

async function bench(): Promise<void> {
  const rows = await measure()
  if (values.json !== undefined) {
    const result = { date, quick, pinned, machine, rows: rows.map((r) => ({ ...r, pass: passes(r) })) }
    await writeFile(values.json, `${JSON.stringify(result, null, 2)}\n`)
  }
  if (values.docs) await intoDocs('bench', `\`${command}\`, ${date.slice(0, 10)}, ${machine}, ${pinning}.\n\n${markdown(rows)}`)
  const missed = rows.filter((r) => !passes(r))
  console.log(`${machine}, ${pinning}: ${rows.length - missed.length} bars met, ${missed.length} missed`)
  // a short run tells a regression from noise; whether a bar is met is what the full run says
  const wrong = quick ? rows.filter(fails) : missed
  if (quick && wrong.length < missed.length)
    console.log(
      `not failed for: ${missed
        .filter((r) => !wrong.includes(r))
        .map((r) => r.id)
        .join(', ')}`,
    )
  process.exitCode = wrong.length > 0 ? 1 : 0
}

async function allocations(): Promise<void> {
  const text = await allocationProfile(GB)
  console.log(text)
  if (values.docs) await intoDocs('profile', `\`npm run bench -- --allocations\`, ${date.slice(0, 10)}:\n\n\`\`\`\n${text}\n\`\`\``)
}

if (values.allocations) await allocations()
else if (values.profile) console.log(await cpuProfile(0.4 * GB))
else await bench()
