import { resolve } from 'node:path'
import type { Host } from '../sdk/host.ts'
import { limits } from '../limits.ts'
import type { Path } from './document.ts'

export interface Resolved {
  readonly value: unknown
  /** What must not be printed → what is printed in its place: the reference as written. */
  readonly hidden: ReadonlyMap<string, string>
  /** Values at these paths (joined by \0) came from a reference. */
  readonly referenced: ReadonlyMap<string, string>
  readonly errors: readonly { path: Path; message: string }[]
}
interface Context {
  readonly baseDir: string
  readonly env: Readonly<Record<string, string | undefined>>
  readonly host: Host
}

export function pathKey(path: Path): string {
  return path.join('\0')
}
// $${…} is a literal ${…}
const REFERENCE = /(\$?)\$\{([^}]*)\}/g

async function lookUp(reference: string, c: Context): Promise<{ text: string } | { error: string }> {
  const colon = reference.indexOf(':')
  const scheme = colon < 0 ? '' : reference.slice(0, colon)
  const name = reference.slice(colon + 1)
  if (colon >= 0 && name.trim() === '' && (scheme === 'env' || scheme === 'file')) {
    const what =
      scheme === 'env'
        ? 'the name of an environment variable is missing: write ${env:NAME}'
        : 'the path of a file is missing: write ${file:/path}'
    return { error: `\${${reference}}: ${what}` }
  }
  if (scheme === 'env') {
    const text = c.env[name]
    return text === undefined ? { error: `the environment variable ${name} is not set` } : { text }
  }
  if (scheme === 'file') {
    const path = resolve(c.baseDir, name)
    try {
      const stat = await c.host.fs.stat(path)
      if (!stat) return { error: `the file ${path} does not exist` }
      if (stat.size > limits.configSecretBytes)
        return { error: `the file ${path} has ${stat.size} bytes; the limit is ${limits.configSecretBytes}` }
      // editors and `kubectl create secret` leave one newline at the end
      return { text: new TextDecoder('utf-8', { fatal: true }).decode(await c.host.fs.readFile(path)).replace(/\r?\n$/, '') }
    } catch (e) {
      const code = (e as { code?: unknown }).code
      return { error: `reading the file ${path}: ${typeof code === 'string' ? code : 'not UTF-8 text'}` }
    }
  }
  const hint = colon < 0 && /^\w+$/.test(reference) ? `\${env:${reference}}` : '${env:NAME} or ${file:/path}'
  return { error: `unknown reference \${${reference}}: write ${hint}, or $\${…} for the literal text` }
}

/** Replaces `${env:NAME}` and `${file:/path}` in every text of the value. Keys are left alone. Reads each file once. */
export async function resolveReferences(value: unknown, c: Context): Promise<Resolved> {
  const hidden = new Map<string, string>()
  const referenced = new Map<string, string>()
  const errors: { path: Path; message: string }[] = []
  const known = new Map<string, Promise<{ text: string } | { error: string }>>()

  const inText = async (text: string, path: Path): Promise<string> => {
    let out = ''
    let at = 0
    for (const m of text.matchAll(REFERENCE)) {
      out += text.slice(at, m.index)
      at = m.index + m[0].length
      const [, escaped, reference = ''] = m
      if (escaped) {
        out += m[0].slice(1)
        continue
      }
      const asked = known.get(reference) ?? lookUp(reference, c)
      known.set(reference, asked)
      const answer = await asked
      if ('error' in answer) errors.push({ path, message: answer.error })
      else {
        out += answer.text
        if (answer.text !== '') hidden.set(answer.text, m[0])
        referenced.set(pathKey(path), text)
      }
    }
    return out + text.slice(at)
  }
  const walk = async (v: unknown, path: Path): Promise<unknown> => {
    if (typeof v === 'string') return v.includes('${') ? inText(v, path) : v
    if (Array.isArray(v)) {
      const out: unknown[] = []
      for (const [i, item] of v.entries()) out.push(await walk(item, [...path, i]))
      return out
    }
    if (typeof v === 'object' && v !== null) {
      const out: [string, unknown][] = []
      for (const [key, item] of Object.entries(v)) out.push([key, await walk(item, [...path, key])])
      return Object.fromEntries(out)
    }
    return v
  }
  return { value: await walk(value, []), hidden, referenced, errors }
}
