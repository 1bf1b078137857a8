/** The rules of the house (docs/architecture.md), kept by machine. A violation names its file and line: mend the file, not the rule. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { FAIL_POINTS } from '../core/host/failpoints.ts'
import { child, children, dotted, files, json, lineOf, read, root, source, stringOf, walk, type Node, type Source } from './tidy/source.ts'

const all = files()
const sources = all.filter((f) => /\.(?:ts|mjs|js)$/.test(f)).map(source)
const byPath = new Map(sources.map((s) => [s.path, s]))
const generated = ['core/api/shapes.generated.ts']
const core = sources.filter((s) => s.path.startsWith('core/'))
const plugins = sources.filter((s) => s.path.startsWith('plugins/'))
const isTest = (path: string): boolean => path.startsWith('test/') || path.endsWith('.test.ts')
const at = (s: Source, n: Node, what: string): string => `${s.path}:${lineOf(s.text, n.start)} ${what}`

/**
 * What a room may import besides itself. docs/architecture.md shows the same table to people; a test below compares the two.
 * `types:` in front of a room: its types only. Rooms that are not built yet (worker, video, sql) join when they are.
 */
const ROOMS: Readonly<Record<string, readonly string[]>> = {
  main: ['daemon', 'commands', 'config'],
  commands: ['daemon', 'api', 'stream', 'pipeline', 'transform', 'format', 'delivery', 'registry', 'plugin', 'admin', 'config'],
  daemon: ['api', 'stream', 'pipeline', 'transform', 'format', 'delivery', 'registry', 'log', 'plugin', 'admin', 'config'],
  api: ['stream', 'pipeline', 'format', 'registry'],
  stream: ['log', 'registry'],
  pipeline: ['stream', 'transform', 'format', 'delivery', 'registry'],
  transform: [],
  format: [],
  delivery: ['format'],
  registry: ['log'],
  log: [],
  plugin: ['config'],
  admin: ['stream', 'pipeline', 'registry'],
  config: ['format', 'types:plugin', 'types:pipeline', 'types:delivery'],
  sdk: [],
  limits: [],
  telemetry: [],
  host: [],
}
/** Open to every room. */
const SHARED = ['sdk', 'limits', 'telemetry', 'host']

/** core/api/server.ts → api, core/daemon.ts → daemon. */
function roomOf(path: string): string {
  return (path.split('/')[1] ?? '').replace(/\.ts$/, '')
}

describe('rooms', () => {
  test('a room imports only what its row allows', () => {
    const wrong: string[] = []
    for (const s of core.filter((c) => !c.path.startsWith('core/bin/'))) {
      const room = roomOf(s.path)
      const row = ROOMS[room]
      if (!row) wrong.push(`${s.path} stands in a room that the table does not have: ${room}`)
      for (const i of s.imports) {
        if (i.path === null || !row) continue
        const other = roomOf(i.path)
        const allowed = other === room || SHARED.includes(other) || row.includes(other) || (i.typeOnly && row.includes(`types:${other}`))
        if (!i.path.startsWith('core/')) wrong.push(`${s.path}:${i.line} core imports ${i.path}`)
        else if (!allowed) wrong.push(`${s.path}:${i.line} ${room} imports ${i.path}: ${room} may import ${[...row, ...SHARED].join(', ')}`)
      }
    }
    expect(wrong).toEqual([])
  })

  test('docs/architecture.md shows the same table', () => {
    const shown = new Map<string, string[]>()
    for (const [, rooms = '', imports = ''] of read('docs/architecture.md').matchAll(
      /^\| ((?:`[a-z.]+\/?`(?:, )?)+) \|[^|]*\| ([^|]*) \|$/gm,
    )) {
      const names = imports === '–' ? [] : imports.split(', ').map((n) => n.replace(/^types of /, 'types:'))
      for (const [, room = ''] of rooms.matchAll(/`([a-z]+)(?:\.ts|\/)?`/g)) shown.set(room, names)
    }
    expect(Object.fromEntries(shown)).toEqual(ROOMS)
  })

  test('no import cycle, types included', () => {
    const cycles: string[] = []
    const state = new Map<string, 'open' | 'done'>()
    const visit = (path: string, way: readonly string[]): void => {
      if (state.get(path) === 'done') return
      if (state.get(path) === 'open') return void cycles.push([...way.slice(way.indexOf(path)), path].join(' → '))
      state.set(path, 'open')
      for (const i of byPath.get(path)?.imports ?? []) if (i.path !== null && byPath.has(i.path)) visit(i.path, [...way, path])
      state.set(path, 'done')
    }
    for (const s of sources) visit(s.path, [])
    expect(cycles).toEqual([])
  })
})

/** The package of `@scope/name/sub` or `name/sub`. */
function packageOf(specifier: string): string {
  return specifier
    .split('/')
    .slice(0, specifier.startsWith('@') ? 2 : 1)
    .join('/')
}

function dependencies(manifest: string): string[] {
  const m = json(manifest) as { dependencies?: object; optionalDependencies?: object; peerDependencies?: object }
  return Object.keys({ ...m.dependencies, ...m.optionalDependencies, ...m.peerDependencies })
}

describe('packages', () => {
  test('core imports its own dependencies, and a plugin never by name', () => {
    const own = dependencies('core/package.json')
    const wrong = core.flatMap((s) =>
      s.imports
        .filter((i) => i.path === null && !i.specifier.startsWith('node:'))
        // the demo shows the unmodified AWS SDK, which only a clone has: found at run time, core knows its types
        .filter((i) => !(s.path === 'core/commands/demo.ts' && i.specifier === '@aws-sdk/client-firehose' && i.typeOnly))
        .filter((i) => !own.includes(packageOf(i.specifier)) || /^hydrant-|^hydrant(?:\/|$)/.test(i.specifier))
        .map((i) => `${s.path}:${i.line} imports ${i.specifier}`),
    )
    expect(wrong).toEqual([])
  })

  test('the Kafka library is imported in one file, and the Kafka log is loaded by who uses it', () => {
    const wrong: string[] = []
    for (const s of core) {
      for (const i of s.imports) {
        if (i.specifier.startsWith('@platformatic/') && s.path !== 'core/log/kafka/wire.ts')
          wrong.push(`${s.path}:${i.line} imports ${i.specifier}`)
        const enters = i.path?.startsWith('core/log/kafka/') === true && !s.path.startsWith('core/log/kafka/')
        if (enters && !i.typeOnly && !i.dynamic) wrong.push(`${s.path}:${i.line} imports ${i.path}, not by await import`)
      }
    }
    expect(wrong).toEqual([])
  })

  test('a plugin imports types of hydrant/sdk, its own files and its own dependencies', () => {
    const wrong: string[] = []
    for (const s of plugins) {
      const folder = s.path.split('/').slice(0, 2).join('/')
      const own = dependencies(`${folder}/package.json`)
      if (isTest(s.path)) own.push('vitest')
      for (const i of s.imports) {
        const ok =
          i.path !== null
            ? i.path.startsWith(`${folder}/`)
            : i.specifier === 'hydrant/sdk'
              ? i.typeOnly
              : i.specifier === 'hydrant/sdk/testing'
                ? isTest(s.path)
                : i.specifier.startsWith('node:') || own.includes(packageOf(i.specifier))
        if (!ok) wrong.push(`${s.path}:${i.line} imports ${i.specifier}`)
      }
    }
    expect(wrong).toEqual([])
  })

  test('a plugin folder has code, test, README and example config', () => {
    const folders = new Set(all.filter((f) => f.startsWith('plugins/')).map((f) => f.split('/').slice(0, 2).join('/')))
    const missing = [...folders].flatMap((folder) => {
      const inside = all.filter((f) => f.startsWith(`${folder}/`))
      const tests = inside.some((f) => f.endsWith('.test.ts')) ? [] : [`${folder}/*.test.ts`]
      const named = ['index.ts', 'package.json', 'README.md', 'config.example.yaml'].map((f) => `${folder}/${f}`)
      return [...tests, ...named.filter((f) => !inside.includes(f))]
    })
    expect(missing).toEqual([])
  })

  test('docs/dependencies.md has a line for every dependency', () => {
    const documented = read('docs/dependencies.md')
    const missing = all
      .filter((f) => /(?:^|\/)package\.json$/.test(f))
      .flatMap((f) => [...dependencies(f), ...Object.keys((json(f) as { devDependencies?: object }).devDependencies ?? {})])
      .filter((name) => !documented.includes(`\`${name}\``))
    expect(missing).toEqual([])
  })

  test('every package.json pins exact versions', () => {
    const wrong: string[] = []
    for (const path of all.filter((f) => /(?:^|\/)package\.json$/.test(f))) {
      const m = json(path) as Record<string, Record<string, string> | undefined>
      for (const kind of ['dependencies', 'devDependencies', 'optionalDependencies', 'overrides']) {
        for (const [name, version] of Object.entries(m[kind] ?? {})) {
          if (!/^\d+\.\d+\.\d+(?:-[\w.]+)?$/.test(version)) wrong.push(`${path}: ${name} ${version}`)
        }
      }
    }
    expect(wrong).toEqual([])
  })
})

interface Locked {
  readonly resolved?: string
  readonly integrity?: string
  readonly link?: boolean
  readonly optionalDependencies?: Record<string, string>
}

describe('lock file', () => {
  const packages = (json('package-lock.json') as { packages: Record<string, Locked> }).packages

  /** Where node would find `name` when `from` asks for it: its own node_modules, then each one further out. */
  function found(from: string, name: string): boolean {
    for (let place = from; ; place = place.replace(/\/?node_modules\/(?:@[^/]+\/)?[^/]+$|^[^/]+(?:\/[^/]+)?$/, '')) {
      if (packages[`${place === '' ? '' : `${place}/`}node_modules/${name}`]) return true
      if (place === '') return false
    }
  }

  test('every optional dependency has an entry: npm ci fails on another platform without it', () => {
    const missing = Object.entries(packages).flatMap(([from, p]) =>
      Object.keys(p.optionalDependencies ?? {})
        .filter((name) => !found(from, name))
        .map((name) => `${from} → ${name}`),
    )
    expect(missing).toEqual([])
  })

  test('every package is fixed by its integrity and names no address', () => {
    const wrong = Object.entries(packages)
      .filter(([path]) => path.includes('node_modules/'))
      .filter(([, p]) => (p.link === true ? false : p.integrity === undefined || p.resolved !== undefined))
      .map(([path]) => path)
    expect(wrong).toEqual([])
  })
})

/** Clock, random, file system and network enter through host/, so that a seed can replace them. */
const machine = (path: string): boolean =>
  /^core\/(?:host\/|bin\/|log\/(?:embedded\/|kafka\/socket\.ts$)|api\/(?:server|wire\/(?:http2|socket))\.ts$|admin\/)/.test(path) ||
  !/^(?:core|plugins)\//.test(path) ||
  isTest(path)

/** A function of a test file that holds tests, like the one of a `describe`: each of them counts by itself. */
function groupsTests(s: Source, f: Node): boolean {
  const statements = children(child(f, 'body') ?? f, 'body')
  return isTest(s.path) && statements.some((t) => /^(?:test|it|describe)\b/.test(s.text.slice(t.start, t.start + 10)))
}

describe('code', () => {
  test('no file over 500 lines', () => {
    const long = sources
      .filter((s) => !generated.includes(s.path))
      .map((s) => ({ path: s.path, lines: lineOf(s.text, s.text.length) }))
      .filter((s) => s.lines > 500)
    expect(long).toEqual([])
  })

  test('no function over 70 lines', () => {
    const long: string[] = []
    for (const s of sources) {
      walk(s.tree, (n) => {
        if (!/^(?:FunctionDeclaration|FunctionExpression|ArrowFunctionExpression)$/.test(n.type)) return
        const lines = lineOf(s.text, n.end) - lineOf(s.text, n.start) + 1
        if (lines > 70 && !groupsTests(s, n)) long.push(at(s, n, `${lines} lines`))
      })
    }
    expect(long).toEqual([])
  })

  test('no clock, random, file system or network outside the rooms that own them', () => {
    const modules = /^node:(?:fs|net|tls|http|https|http2|dgram)(?:\/|$)/
    const wrong: string[] = []
    // the S3 sink hands its SDK agents that know a spoilt connection: Node's own classes, no call of their own
    const agents = 'plugins/sink-s3/agents.ts'
    for (const s of sources.filter((c) => !machine(c.path))) {
      for (const i of s.imports) {
        if (s.path === agents && /^node:https?$/.test(i.specifier)) continue
        if (modules.test(i.specifier) && !i.typeOnly) wrong.push(`${s.path}:${i.line} imports ${i.specifier}`)
      }
      walk(s.tree, (n) => {
        const name = dotted(n)
        if (name === 'Date.now' || name === 'Math.random' || name === 'performance.now') wrong.push(at(s, n, name))
        if (n.type !== 'NewExpression' || children(n, 'arguments').length > 0) return
        if (child(n, 'callee')?.['name'] === 'Date') wrong.push(at(s, n, 'new Date()'))
      })
    }
    expect(wrong).toEqual([])
  })

  test('no any, no silenced checker, no empty catch', () => {
    const wrong: string[] = []
    for (const s of sources.filter((c) => !generated.includes(c.path))) {
      // a rule of style may be switched off for one line that says why (`-- reason`), a rule about types never
      for (const m of s.text.matchAll(
        /@ts-(?:ignore|expect-error|nocheck)|(?:oxlint|eslint)-disable(?!-next-line (?!typescript)[\w/-]+ -- \w)/g,
      )) {
        if (s.path !== 'test/tidy.test.ts') wrong.push(`${s.path}:${lineOf(s.text, m.index)} ${m[0]}`)
      }
      walk(s.tree, (n) => {
        if (n.type === 'TSAnyKeyword') wrong.push(at(s, n, 'any'))
        if (n.type !== 'CatchClause') return
        const body = child(n, 'body')
        if (body && children(body, 'body').length === 0 && !/\/[/*]/.test(s.text.slice(body.start, body.end))) {
          wrong.push(at(s, n, 'swallows an error and does not say why'))
        }
      })
    }
    expect(wrong).toEqual([])
  })

  test('no test is left out', () => {
    const wrong = sources
      .filter((s) => isTest(s.path) && s.path !== 'test/tidy.test.ts')
      .flatMap((s) =>
        [...s.text.matchAll(/\b(?:test|it|describe)\.(?:only|skip|todo|fails)\b/g)].map(
          (m) => `${s.path}:${lineOf(s.text, m.index)} ${m[0]}`,
        ),
      )
    expect(wrong).toEqual([])
  })

  test('fail points: every name in use exists, and every one that exists is in use', () => {
    const used = new Set<string>()
    const unknown: string[] = []
    const names: readonly string[] = FAIL_POINTS
    for (const s of sources.filter((c) => /^(?:core|plugins)\//.test(c.path) && c.path !== 'core/host/failpoints.ts' && !isTest(c.path))) {
      walk(s.tree, (n, parents) => {
        const text = stringOf(n)
        if (text === null) return
        const point = text.replace(/\.(?:before|after)$/, '')
        if (names.includes(point)) used.add(point)
        const call = parents.at(-1)
        const callee = call?.type === 'CallExpression' ? child(call, 'callee') : null
        const asked = callee !== null && callee !== n && /\bfailpoint$/.test(s.text.slice(callee.start, callee.end))
        if (asked && (point === text || !names.includes(point))) unknown.push(at(s, n, text))
      })
    }
    expect(unknown).toEqual([])
    expect(names.filter((name) => !used.has(name))).toEqual([])
  })
})

describe('documents', () => {
  test('docs/runbook.md says what to do for every code that stops a lane', () => {
    const runbook = read('docs/runbook.md')
    const missing: string[] = []
    for (const s of core) {
      walk(s.tree, (n) => {
        if (n.type !== 'NewExpression' || child(n, 'callee')?.['name'] !== 'LaneStoppedError') return
        walk(children(n, 'arguments')[0] ?? n, (a) => {
          const code = stringOf(a)
          if (code !== null && !runbook.includes(`\`${code}\``)) missing.push(at(s, n, code))
        })
      })
    }
    expect(missing).toEqual([])
  })

  test('docs/runbook.md names only metrics that exist', () => {
    const metrics = core
      .filter((s) => roomOf(s.path) === 'telemetry')
      .map((s) => s.text)
      .join('')
    const named = [...read('docs/runbook.md').matchAll(/`(hydrant_\w+)/g)].map(([, name = '']) => name)
    expect(named.filter((name) => !metrics.includes(`'${name}'`))).toEqual([])
  })

  test('every link leads somewhere', () => {
    const dead = all
      .filter((f) => f.endsWith('.md'))
      .flatMap((f) =>
        [...read(f).matchAll(/\]\((?!https?:|#|mailto:)([^)#\s]+)(?:#[^)]*)?\)/g)]
          .map(([, link = '']) => link)
          .filter((link) => !existsSync(join(root, f, '..', link)))
          .map((link) => `${f} → ${link}`),
      )
    expect(dead).toEqual([])
  })
})

describe('text', () => {
  const texts = all.filter(
    (f) =>
      /(?:\.(?:ts|mjs|js|md|yaml|yml|json|sh)|^hydrant|^Dockerfile|^\.ci\/\w+)$/.test(f) &&
      f !== 'package-lock.json' &&
      !/^test\/.*\.json$/.test(f),
  )
  const hits = (pattern: RegExp, except: readonly string[] = []): string[] =>
    texts
      .filter((f) => !except.includes(f))
      .flatMap((f) => {
        const text = read(f)
        return [...text.matchAll(pattern)].map((m) => `${f}:${lineOf(text, m.index)} ${m[0]}`)
      })

  test('nothing is left for later', () => {
    expect(hits(new RegExp(`\\b(?:${['TO.DO', 'FIX.ME', 'XX.X', 'HA.CK'].join('|').replaceAll('.', '')})\\b`, 'g'))).toEqual([])
  })

  test('no path of a machine, no address of a registry', () => {
    expect(hits(/(?<![\w.})-])\/(?:home|root|Users|work)\/[\w.]+/g, ['test/tidy.test.ts'])).toEqual([])
    expect(
      hits(/https?:\/\/(?:[\w-]+\.)*(?:registry|artifactory|nexus)\.[\w./-]+|registry\.(?:npmjs|yarnpkg)\S*/g, ['test/tidy.test.ts']),
    ).toEqual([])
  })
})
