import { CST, Parser, type YAMLError } from 'yaml'

type Opener = { readonly offset: number; readonly what: string; readonly end: number; readonly closer: string }

/** Every token of the file, in no order. Without recursion: brackets may stand very deep. */
function tokensOf(text: string): CST.Token[] {
  const found: CST.Token[] = []
  const left: object[] = [...new Parser().parse(text)]
  for (let t = left.pop(); t; t = left.pop()) {
    if ('type' in t) found.push(t as CST.Token)
    for (const part of Object.values(t) as unknown[]) if (typeof part === 'object' && part !== null) left.push(part)
  }
  return found
}

/** Each { and [ without its end, and each text in quotes, in the order of the file. */
function openersOf(text: string): Opener[] {
  const found: Opener[] = []
  for (const t of tokensOf(text)) {
    if (t.type === 'flow-collection') {
      const closer = t.start.type === 'flow-map-start' ? '}' : ']'
      const closed = t.end.some((e) => 'source' in e && e.source === closer)
      if (!closed) found.push({ offset: t.start.offset, what: t.start.source, end: Infinity, closer })
    } else if (t.type === 'double-quoted-scalar' || t.type === 'single-quoted-scalar') {
      found.push({ offset: t.offset, what: t.source.slice(0, 1), end: t.offset + t.source.length, closer: 'quote' })
    }
  }
  return found.toSorted((a, b) => a.offset - b.offset)
}

/** Tells what a syntax error of this file leaves open: a bracket or quote without its end; null when the error is another one. */
export function unclosedIn(text: string): (e: YAMLError) => Opener | null {
  let openers: Opener[] | null = null
  return (e) => {
    const [, bracket] = /^Flow (?:map|sequence) .*end with a ([}\]])$/.exec(e.message) ?? []
    const quote = e.message.startsWith('Missing closing')
    if (bracket === undefined && !quote) return null
    const fits = (o: Opener): boolean => (quote ? o.closer === 'quote' && o.end === e.pos[0] : o.closer === bracket && o.offset < e.pos[0])
    openers ??= openersOf(text)
    return openers.findLast(fits) ?? null // the innermost: it is told first
  }
}
