import { createRequire } from 'node:module'
import { Command, CommanderError } from 'commander'
import { errorKind, errorMessage } from '../sdk/errors.ts'
import { standard, type Output } from './output.ts'

/** Wrong usage, as in most tools; 1 is everything else that went wrong. */
const USAGE = 2

function version(): string {
  return (createRequire(import.meta.url)('hydrant/package.json') as { version: string }).version
}
const examples = (...lines: string[]): string => `\nExamples:\n${lines.map((l) => `  ${l}`).join('\n')}\n`

type Done = (code: number) => void

function addServe(program: Command, done: Done): void {
  program
    .command('serve')
    .description('run the daemon')
    .requiredOption('-c, --config <file>', 'configuration file (YAML)')
    .option('--restored', 'the log folder came from a backup: give its streams new ids, so that no position is used twice', false)
    .option('--hint', 'print the command that sends a first record', false)
    .addHelpText('after', examples('hydrant serve -c config.yaml', 'HYDRANT_LOG_LEVEL=debug hydrant serve -c config.yaml'))
    .action(async (o: { config: string; restored: boolean; hint: boolean }) => {
      const { runServe } = await import('./serve.ts')
      done(await runServe(o))
    })
  program
    .command('demo')
    .description('start a daemon in a temporary folder, send it real records, show what arrived')
    .addHelpText('after', examples('hydrant demo'))
    .action(async () => {
      const { runDemo } = await import('./demo.ts')
      done(await runDemo())
    })
}

function addConfig(program: Command, output: Output, done: Done): void {
  program
    .command('check')
    .description('check a configuration file; exit code 1 if anything is wrong with it')
    .requiredOption('-c, --config <file>', 'configuration file (YAML)')
    .option('--json', 'print JSON', false)
    .option('--probe', 'also reach every sink, try the folder of the log, and say what endangers the promise', false)
    .addHelpText('after', examples('hydrant check -c config.yaml', 'hydrant check -c config.yaml --probe --json'))
    .action(async (o: { config: string; json: boolean; probe: boolean }) => {
      const { runCheck } = await import('./check.ts')
      done(await runCheck(o, output))
    })
  const config = program
    .command('config')
    .description('about the configuration file')
    .addHelpText('after', examples('hydrant config schema > hydrant.schema.json'))
  config
    .command('schema')
    .description('print the JSON Schema of the configuration file, for editors')
    .addHelpText('after', examples('hydrant config schema > hydrant.schema.json'))
    .action(async () => {
      const { runConfigSchema } = await import('./check.ts')
      done(await runConfigSchema(output))
    })
}

interface PipelineOptions {
  admin?: string
  config?: string
  json: boolean
  force?: boolean
  shard?: string
  from?: string
}
const named = (c: Command): Command => c.argument('<name>', 'pipeline or delivery stream')

function addPipelines(program: Command, output: Output, done: Done): void {
  const pipelines = program
    .command('pipelines')
    .description('look at the pipelines of a running daemon, and act on them')
    .addHelpText('after', examples('hydrant pipelines list', 'hydrant pipelines pause events'))
  const add = (name: string, description: string, shape: (c: Command) => Command, ...lines: string[]): void => {
    const command = pipelines.command(name).description(description)
    shape(command)
      .option('--admin <url>', 'admin address of the daemon (default: http://127.0.0.1:4581)')
      .option('-c, --config <file>', 'take the admin address from this configuration file')
      .option('--json', 'print JSON', false)
      .addHelpText('after', examples(...lines.map((l) => `hydrant pipelines ${l}`)))
      .action(async () => {
        const { runPipelines } = await import('./pipelines.ts')
        done(await runPipelines(name, command.args[0], command.opts<PipelineOptions>(), output))
      })
  }
  add('list', 'show every pipeline and its lanes', (c) => c, 'list', 'list --json')
  add('pause', 'stop after the open batches; the position is kept', named, 'pause events')
  add('resume', 'go on from the kept position', named, 'resume events')
  add(
    'apply',
    "put the running file's definition in force",
    (c) => named(c).option('--force', 'also one that is older than what is in force', false),
    'apply events',
    'apply events --force',
  )
  add(
    'replay',
    'deliver again from a position, a time or the start, under new object names',
    (c) =>
      named(c)
        .requiredOption('--from <where>', 'earliest, a position, or a time such as 2026-01-31T00:00:00Z')
        .option('--shard <shard>', 'this shard only'),
    'replay events --from earliest',
    'replay events --from 2026-01-31T00:00:00Z --shard shardId-000000000000',
  )
  add(
    'release',
    'forget recorded batches of which no effect exists, so that a changed sink can take them',
    (c) =>
      named(c)
        .option('--force', 'also where that cannot be proved: what was stored already is delivered twice', false)
        .option('--shard <shard>', 'this shard only'),
    'release events',
    'release events --force',
  )
}

function build(output: Output, done: Done): Command {
  const program = new Command('hydrant')
    .description('A self-hosted Amazon Kinesis and Data Firehose: records put through the AWS API reach their sink exactly once')
    .version(version(), '-V, --version')
    .addHelpText(
      'after',
      examples('hydrant demo', 'hydrant check -c config.yaml', 'hydrant serve -c config.yaml', 'hydrant pipelines list'),
    )
  addServe(program, done)
  addConfig(program, output, done)
  addPipelines(program, output, done)
  const each = (c: Command, name: string): void => {
    c.exitOverride().configureOutput({ writeOut: (t) => output.out(t), writeErr: (t) => output.err(t) })
    c.showHelpAfterError(`(${name} --help says more)`)
    for (const sub of c.commands) each(sub, `${name} ${sub.name()}`)
  }
  each(program, 'hydrant')
  return program
}

/** Runs one command line; resolves with the exit code: 0 done, 1 went wrong, 2 wrong usage. Prints what went wrong, never a stack. */
export async function run(args: readonly string[], output: Output = standard): Promise<number> {
  let code = 0
  const program = build(output, (c) => (code = c))
  const alone = args.length === 0 ? program : args.length === 1 ? program.commands.find((c) => c.name() === args[0]) : undefined
  if (alone !== undefined && alone.commands.length > 0) {
    alone.outputHelp()
    return 0
  }
  try {
    await program.parseAsync([...args], { from: 'user' })
    return code
  } catch (e) {
    if (e instanceof CommanderError) return e.exitCode === 0 ? 0 : USAGE
    output.err(`hydrant: ${errorMessage(e)}\n`)
    // a fault of ours, not of the configuration or a remote: whoever reports it needs the place
    if (errorKind(e) === undefined && process.env['HYDRANT_LOG_LEVEL'] === 'debug' && e instanceof Error) output.err(`${e.stack ?? ''}\n`)
    return 1
  }
}
