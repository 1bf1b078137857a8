/** What the tidy test reads: the files of the repository, their imports, their syntax trees. */
import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'
import { parseAst } from 'vitest/node'

export const root = normalize(join(import.meta.dirname, '..', '..'))

export interface Node {
  readonly type: string
  readonly start: number
  readonly end: number
  readonly [key: string]: unknown
}
export interface Import {
  /** As written. */
  readonly specifier: string
  /** Repository path of a relative import. */
  readonly path: string | null
  readonly typeOnly: boolean
  readonly dynamic: boolean
  readonly line: number
}
export interface Source {
  readonly path: string
  readonly text: string
  readonly tree: Node
  readonly imports: readonly Import[]
}

/** Every file that is committed or about to be: nothing that .gitignore names. */
export function files(): string[] {
  const listed = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard', '-z'], { cwd: root, encoding: 'utf8' })
  return listed.split('\0').filter((f) => f !== '' && existsSync(join(root, f)))
}

export function read(path: string): string {
  return readFileSync(join(root, path), 'utf8')
}

export function json(path: string): Record<string, unknown> {
  return JSON.parse(read(path)) as Record<string, unknown>
}

export function lineOf(text: string, at: number): number {
  let line = 1
  for (let i = text.indexOf('\n'); i !== -1 && i < at; i = text.indexOf('\n', i + 1)) line++
  return line
}

function isNode(v: unknown): v is Node {
  return typeof v === 'object' && v !== null && typeof (v as { type?: unknown }).type === 'string'
}

/** Depth first; `parents` is the way down, nearest last. */
export function walk(node: Node, visit: (n: Node, parents: readonly Node[]) => void, parents: Node[] = []): void {
  visit(node, parents)
  parents.push(node)
  for (const value of Object.values(node)) {
    if (Array.isArray(value)) {
      for (const v of value) if (isNode(v)) walk(v, visit, parents)
    } else if (isNode(value)) walk(value, visit, parents)
  }
  parents.pop()
}

export function child(n: Node, key: string): Node | null {
  const v = n[key]
  return isNode(v) ? v : null
}

export function children(n: Node, key: string): readonly Node[] {
  const v = n[key]
  return Array.isArray(v) ? v.filter(isNode) : []
}

/** The text of a string literal or of a template without holes. */
export function stringOf(n: Node | null): string | null {
  if (n?.type === 'Literal' && typeof n['value'] === 'string') return n['value']
  if (n?.type === 'TemplateLiteral' && children(n, 'expressions').length === 0) {
    const value = children(n, 'quasis')[0]?.['value'] as { cooked?: string } | undefined
    return value?.cooked ?? null
  }
  return null
}

/** `Date.now` of a member expression of plain names, else null. */
export function dotted(n: Node): string | null {
  if (n.type !== 'MemberExpression' || n['computed'] === true) return null
  const object = child(n, 'object')
  const property = child(n, 'property')
  return object?.type === 'Identifier' && property?.type === 'Identifier' ? `${String(object['name'])}.${String(property['name'])}` : null
}

const typeOnly = (n: Node): boolean => n['importKind'] === 'type' || n['exportKind'] === 'type'

/** `import type {…}`, `export type {…}`, or every name of the list marked `type`. */
function importsTypes(n: Node): boolean {
  if (typeOnly(n)) return true
  const names = children(n, 'specifiers')
  return names.length > 0 && names.every(typeOnly)
}

function importsOf(path: string, text: string, tree: Node): Import[] {
  const found: Import[] = []
  walk(tree, (n) => {
    const declared = /^(?:ImportDeclaration|ExportNamedDeclaration|ExportAllDeclaration|ImportExpression)$/.test(n.type)
    const specifier = stringOf(declared || n.type === 'TSImportType' ? child(n, 'source') : null)
    if (specifier === null) return
    found.push({
      specifier,
      path: specifier.startsWith('.') ? normalize(join(dirname(path), specifier)) : null,
      typeOnly: n.type === 'TSImportType' || importsTypes(n),
      dynamic: n.type === 'ImportExpression',
      line: lineOf(text, n.start),
    })
  })
  return found
}

export function source(path: string): Source {
  const text = read(path)
  const tree = parseAst(text, { lang: path.endsWith('.ts') ? 'ts' : 'js' }, path) as unknown as Node
  return { path, text, tree, imports: importsOf(path, text, tree) }
}
