// Only node: imports here: an old Node must get as far as the sentence below.
import module from 'node:module'

const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
if (major < 24 || (major === 24 && minor < 6)) {
  process.stderr.write(`hydrant needs Node.js 24.6 or newer; this is ${process.version}\n`)
  process.exitCode = 1
} else {
  module.enableCompileCache()
  const { run } = await import('./commands/program.ts')
  process.exitCode = await run(process.argv.slice(2))
}
