import { relative, resolve, sep } from 'node:path'
import { folderRefusal } from '../format/folder.ts'
import { checkPrefixes, PrefixError, type ParsedPrefix } from '../format/prefix.ts'
import type { Path } from './document.ts'
import type { Reporter } from './issues.ts'
import type { RawSink } from './schema.ts'
import type { ConfigIssue } from './types.ts'

/** What the log keeps in its folder; everything else below it may be used, as the folders of the example file are. */
const OF_THE_LOG = ['control', 'streams', 'spill', 'hydrant.lock', 'hydrant.pid']

/** Objects in the log's own folders would be swept, or stand where the log wants to write. Null when all is well. */
export function folderClash(folder: unknown, baseDir: string, logPath: string): string | null {
  if (typeof folder !== 'string') return null
  const way = relative(resolve(baseDir, logPath), resolve(baseDir, folder))
  const [first = ''] = way.split(sep)
  if (way === '') return `it is the folder of the log (log.path ${logPath}): name another one, or one below it`
  return OF_THE_LOG.includes(first)
    ? `it lies in what the log keeps in log.path ${logPath} (${OF_THE_LOG.join(', ')}): name another folder`
    : null
}

/** Prefixes that a folder cannot take. Faults of the prefixes themselves are told elsewhere. */
export function checkFolderPrefixes(raw: Pick<RawSink, 'prefix' | 'error_prefix'>, path: Path, r: Reporter): ConfigIssue[] {
  let parsed: { prefix: ParsedPrefix; errorPrefix: ParsedPrefix }
  try {
    parsed = checkPrefixes(raw.prefix, raw.error_prefix)
  } catch (e) {
    if (e instanceof PrefixError) return []
    throw e
  }
  const issues: ConfigIssue[] = []
  const look = (key: 'prefix' | 'error_prefix', p: ParsedPrefix): void => {
    if (raw[key] === '') return
    const why = folderRefusal(p)
    if (why !== null)
      issues.push(r.value([...path, key], `objects must stay inside the folder of the sink, and ${why}, got ${r.show([...path, key])}`))
  }
  look('prefix', parsed.prefix)
  look('error_prefix', parsed.errorPrefix)
  return issues
}
