import { isAlias, isCollection, isMap, isScalar, isSeq, LineCounter, parseDocument, visit } from 'yaml'
import type { Document, Node, YAMLError } from 'yaml'
import type { ConfigIssue } from './types.ts'
import { unclosedIn } from './unclosed.ts'

export type Path = readonly (string | number)[]

/** A parsed file that knows where each of its values stands. */
export interface ConfigDocument {
  /** Plain JavaScript; null for an empty file. */
  readonly value: unknown
  /** An issue at the value of `path`, or at its nearest ancestor that exists. */
  atValue(path: Path, message: string): ConfigIssue
  /** An issue at the key itself (unknown keys). */
  atKey(path: Path, key: string, message: string): ConfigIssue
}

// The library's own messages may quote the text around the error, and that text may be a secret: these do not.
const SYNTAX: Readonly<Partial<Record<YAMLError['code'], string>>> = {
  BAD_ALIAS: 'a value that starts with * is a YAML alias, and no anchor of that name comes before it: put the text in quotes',
  BAD_DQ_ESCAPE: 'unknown escape in a text in double quotes: use single quotes for a literal backslash',
  BAD_INDENT: 'wrong indentation',
  BAD_SCALAR_START: 'a text cannot start with this character: put it in quotes',
  BLOCK_AS_IMPLICIT_KEY: 'a mapping cannot be written inside another one on the same line',
  BLOCK_IN_FLOW: 'indented lists and mappings cannot stand inside {…} or […]',
  DUPLICATE_KEY: 'this key stands twice in the same mapping',
  MISSING_CHAR: 'a character is missing here (a closing quote or bracket, a colon, a space after a colon)',
  MULTILINE_IMPLICIT_KEY: 'a key must stand on one line: is a colon missing?',
  MULTIPLE_DOCS: 'the file holds more than one YAML document (---): one is allowed',
  NON_STRING_KEY: 'a key must be a text',
  RESOURCE_EXHAUSTION: 'too deep, or too many aliases',
  TAB_AS_INDENT: 'tabs cannot indent YAML: use spaces',
  TAG_RESOLVE_FAILED: 'unknown YAML tag: a value that starts with ! must be in quotes',
  UNEXPECTED_TOKEN: 'unexpected text here: is a quote or a bracket missing before it?',
}

function follow(node: unknown, doc: Document): unknown {
  return isAlias(node) ? node.resolve(doc) : node
}
function pairOf(node: unknown, key: string | number): { key: unknown; value: unknown } | null {
  if (isMap(node)) {
    for (const item of node.items) if (isScalar(item.key) && String(item.key.value) === String(key)) return item
  }
  if (isSeq(node) && typeof key === 'number' && node.items[key] !== undefined) return { key: null, value: node.items[key] }
  return null
}
function startOf(node: unknown): number | null {
  const range = (node as Node | null | undefined)?.range
  return range ? range[0] : null
}

/** Where the value of a path begins: the value, its key when the value is empty, or the nearest ancestor. */
function offsetOf(doc: Document, path: Path): number {
  let node: unknown = doc.contents
  let at = startOf(node) ?? 0
  for (const key of path) {
    const pair = pairOf(follow(node, doc), key)
    if (!pair) break
    const value = startOf(pair.value)
    const empty = isScalar(pair.value) && pair.value.value === null && pair.value.source === ''
    at = (empty ? startOf(pair.key) : value) ?? startOf(pair.key) ?? at
    node = pair.value
  }
  return at
}

/** Parses YAML 1.2 (one document, at most 100 aliases). Syntax errors come back as issues, in our own words. */
export function parseConfigDocument(text: string): { document: ConfigDocument } | { errors: ConfigIssue[] } {
  const lines = new LineCounter()
  const doc = parseDocument(text, { lineCounter: lines, prettyErrors: false, stringKeys: false })
  const issue = (offset: number, path: Path, message: string): ConfigIssue => {
    const { line, col } = lines.linePos(offset)
    return { line: Math.max(line, 1), column: Math.max(col, 1), path: path.join('.'), message }
  }
  const unclosed = unclosedIn(text)
  const said = (e: YAMLError): string => {
    const open = unclosed(e)
    if (!open) return SYNTAX[e.code] ?? e.code.toLowerCase().replaceAll('_', ' ')
    const { line, col } = lines.linePos(open.offset)
    return `the ${open.what} at ${line}:${col} has no closing ${open.closer === 'quote' ? 'quote' : open.closer} before this`
  }
  // one slip often makes a row of errors: the first of a line says it
  const seen = new Set<number>()
  const errors = [...doc.errors, ...doc.warnings]
    .filter((e) => {
      const { line } = lines.linePos(e.pos[0])
      return !seen.has(line) && seen.add(line)
    })
    .map((e) => issue(e.pos[0], [], `not valid YAML: ${said(e)}`))
  // an alias without its anchor is found only when values are made, and told without a place
  visit(doc, {
    // parsers and schemas skip this name in silence: what is below it would be ignored
    Pair(_key, pair) {
      if (isScalar(pair.key) && pair.key.value === '__proto__')
        errors.push(issue(startOf(pair.key) ?? 0, [], 'the name __proto__ cannot be used'))
    },
    Alias(_key, node) {
      if (errors.length === 0 && !node.resolve(doc)) errors.push(issue(startOf(node) ?? 0, [], `not valid YAML: ${SYNTAX.BAD_ALIAS ?? ''}`))
    },
  })
  if (errors.length > 0) return { errors }
  let value: unknown
  try {
    value = doc.toJS({ maxAliasCount: 100 })
  } catch {
    return { errors: [issue(0, [], 'not valid YAML: too many aliases, or aliases that contain themselves')] }
  }
  const document: ConfigDocument = {
    value,
    atValue: (path, message) => issue(offsetOf(doc, path), path, message),
    atKey: (path, key, message) => {
      let node: unknown = doc.contents
      for (const step of path) node = pairOf(follow(node, doc), step)?.value
      const pair = isCollection(follow(node, doc)) ? pairOf(follow(node, doc), key) : null
      return issue(startOf(pair?.key) ?? offsetOf(doc, path), [...path, key], message)
    },
  }
  return { document }
}
