import { evaluatePrefix, type ParsedPrefix } from './prefix.ts'

const SAMPLE = { arrivalMs: 0, timeZone: 'UTC', token: '00000000-0000-0000-0000-000000000000', errorOutputType: 'processing-failed' }

/**
 * Why objects of this prefix cannot lie in a folder; null when they can. The file sink says the same of a whole name, once records
 * come. Called when a prefix is set, by the configuration and by the API.
 */
export function folderRefusal(p: ParsedPrefix): string | null {
  const name = `${evaluatePrefix(p, SAMPLE)}object`
  if (name.startsWith('/') || /^[a-zA-Z]:/.test(name)) return 'it is an absolute path'
  if (name.includes('\0')) return 'it has a NUL'
  const steps = name.split(/[/\\]/)
  if (steps.includes('..') || steps.includes('.')) return 'it has a . or .. step'
  if (steps.find((s) => s !== '')?.toLowerCase() === '.hydrant') return '.hydrant belongs to hydrant'
  return null
}
