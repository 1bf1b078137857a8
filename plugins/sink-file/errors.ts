import type { Applied, PluginKit } from 'hydrant/sdk'

interface SystemError extends Error {
  readonly code: string
  readonly syscall?: string
}
export function isSystemError(e: unknown): e is SystemError {
  return e instanceof Error && typeof (e as Partial<SystemError>).code === 'string' && /^E[A-Z0-9]+$/.test((e as SystemError).code)
}
export function hasCode(e: unknown, ...codes: readonly string[]): boolean {
  return isSystemError(e) && codes.includes(e.code)
}

/**
 * The answer table of a file system. Whatever an operator can mend while the lane waits (full disk, missing right, dying
 * disk) is retryable: the records stay in the log. What no waiting mends is permanent. Foreign errors pass unchanged.
 * `applied`: whether the object may stand nevertheless.
 */
export function explain(e: unknown, what: string, root: string, kit: PluginKit, applied: Applied): unknown {
  if (!isSystemError(e)) return e
  const known = { cause: e, applied }
  const say = (text: string): string => `${what}: ${text} (${e.code})`
  switch (e.code) {
    case 'ENOSPC':
    case 'EDQUOT':
      return new kit.RetryableError(
        'File.DiskFull',
        say(`no space left below ${root}; delivery goes on by itself once there is some`),
        known,
      )
    case 'EACCES':
    case 'EROFS':
      return new kit.RetryableError('File.AccessDenied', say(`this user may not read and create files below ${root}`), known)
    case 'EPERM':
    case 'ENOTSUP':
    case 'EMLINK':
      if (e.syscall !== 'link') return new kit.RetryableError('File.AccessDenied', say(`not permitted below ${root}`), known)
      return new kit.ConfigError('File.NoHardLinks', say(`${root} must be on a file system with hard links`), known)
    case 'EXDEV':
      return new kit.ConfigError('File.SeveralFileSystems', say(`everything below ${root} must be on one file system`), known)
    case 'ENAMETOOLONG':
      return new kit.PermanentError('File.NameTooLong', say('the file system takes at most 255 bytes a path step'), known)
    case 'ENOTDIR':
    case 'EEXIST':
    case 'EISDIR':
    case 'ELOOP':
      return new kit.PermanentError(
        'File.NameTaken',
        say('a file stands where a folder is needed, or a folder where the file belongs'),
        known,
      )
    default:
      return new kit.RetryableError(`File.${e.code}`, say(e.message), known)
  }
}
