// The rules of the house that a machine can hold: who may import whom, what may be used where, how files look.
// Owns: the rules and their exceptions, each with its reason. Every function takes files and returns sentences.
// Does not own: finding files (source-tree.ts) or failing a build (test/unit/architecture.test.ts).

import { dirname } from 'node:path/posix'
import type { Import, SourceFile } from './source-tree.ts'

/** For each part, what it may import besides itself. The longest matching prefix decides. */
interface Part {
  readonly may: readonly string[]
  /** Relative `./x.ts` imports only: browsers, k6 and bundlers load these files without an imports map. */
  readonly relativeOnly?: boolean
  /** Node's modules and npm packages. */
  readonly packages: 'none' | 'any' | readonly string[]
}

const SERVICE: Part = { may: ['protocol/', 'policies/', 'kit/'], packages: 'any' }

export const PARTS: Readonly<Record<string, Part>> = {
  'protocol/': { may: [], relativeOnly: true, packages: 'none' },
  'policies/engine/': { may: ['protocol/'], packages: ['zod', '@marcbachmann/cel-js', 'ajv'] },
  'policies/': { may: ['policies/engine/', 'protocol/', 'kit/'], packages: 'any' },
  'kit/': { may: ['protocol/', 'package.json'], packages: 'any' },
  'client/': { may: ['protocol/'], relativeOnly: true, packages: 'none' },
  // The command line checks the configuration of both services, so it knows their schemas and nothing else of them.
  'client/cli/': {
    may: ['client/', 'protocol/', 'kit/', 'policies/', 'edge-agent/config.ts', 'gateway/config.ts'],
    packages: 'any',
  },
  'edge-agent/': SERVICE,
  'gateway/': SERVICE,
  // Loaded by browsers: a subscriber like any other.
  'gateway/console/': { may: ['protocol/', 'client/'], packages: 'any' },
  'deploy/': {
    may: ['protocol/', 'policies/', 'kit/', 'client/', 'edge-agent/config.ts', 'gateway/config.ts'],
    packages: 'any',
  },
  // Writes the reference pages from the declarations of both services.
  'deploy/tasks/docs.ts': { may: [''], packages: 'any' },
  'loadtest/': { may: ['protocol/'], relativeOnly: true, packages: ['k6'] },
  'loadtest/bench/': { may: [''], packages: 'any' },
  'loadtest/report/': { may: [''], packages: 'any' },
  // Starts the parts and the load generator, and judges what came out.
  'loadtest/smoke.ts': { may: [''], packages: 'any' },
  'test/': { may: [''], packages: 'any' },
}

/**
 * For each stage of a service's road, the stages it may import. In the gateway imports meet at delivery: sources push
 * revisions forward to it, sessions pull from it with their cursors, and it knows neither. In the agent they go forward.
 */
export const ROADS: Readonly<Record<string, Readonly<Record<string, readonly string[]>>>> = {
  'gateway/': { upstream: ['view', 'delivery'], view: ['delivery'], delivery: [], session: ['delivery'] },
  'edge-agent/': {
    watch: ['lineage', 'egress', 'uplink'],
    lineage: ['egress', 'uplink'],
    egress: ['uplink'],
    uplink: [],
  },
}

/** Shapes that a whole road speaks in. Their types may be imported from every stage of it; they hold no code. */
const VOCABULARY: ReadonlySet<string> = new Set(['edge-agent/egress/change.ts'])

export function arrowViolations(files: readonly SourceFile[]): string[] {
  return files.flatMap((file) => {
    const [prefix, part] = partOf(file.path)
    if (part === undefined) return [`${file.path}: belongs to no known part`]
    return file.imports.flatMap((one) => {
      const why =
        one.path === undefined ? refusePackage(part, one.specifier) : refusePath(part, prefix, one.path, one.specifier)
      return why === undefined ? [] : [`${file.path}: ${why}`]
    })
  })
}

function partOf(path: string): readonly [string, Part | undefined] {
  const prefix = Object.keys(PARTS)
    .filter((one) => path.startsWith(one))
    .reduce((longest, one) => (one.length > longest.length ? one : longest), '')
  return [prefix, PARTS[prefix]]
}

function refusePackage({ packages }: Part, specifier: string): string | undefined {
  if (packages === 'any') return undefined
  const allowed = packages !== 'none' && packages.some((name) => specifier === name || specifier.startsWith(`${name}/`))
  return allowed ? undefined : `may not import the package ${specifier}`
}

function refusePath(part: Part, own: string, path: string, specifier: string): string | undefined {
  if (part.relativeOnly === true && !specifier.startsWith('.')) return `must import ${specifier} by a relative path`
  if (own === partOf(path)[0]) return undefined
  return part.may.some((allowed) => path.startsWith(allowed)) ? undefined : `may not import ${path}`
}

export function roadViolations(files: readonly SourceFile[]): string[] {
  return files.flatMap((file) =>
    file.imports.flatMap(({ path, typeOnly }) => {
      if (path === undefined || !isAgainstRoad(file.path, path) || (typeOnly && VOCABULARY.has(path))) return []
      return [`${file.path} -> ${path}: against the road; declare a port where it is used`]
    }),
  )
}

function isAgainstRoad(from: string, to: string): boolean {
  return Object.entries(ROADS).some(([service, stages]) => {
    if (!from.startsWith(service) || !to.startsWith(service)) return false
    const [own = '', other = ''] = [from, to].map((path) => path.slice(service.length).split('/')[0])
    // Folders beside the road (auth, admin) and the assembly in the service's own folder are free.
    return own !== other && other in stages && stages[own]?.includes(other) === false
  })
}

/** Cycles of code; a cycle of types alone cannot fail at start. Each is reported once, from its first file by name. */
export function cycles(files: readonly SourceFile[]): string[] {
  const byPath = new Map(files.map((file) => [file.path, file]))
  const next = (path: string): string[] =>
    byPath.get(path)?.imports.flatMap((one) => (isCode(one) ? [one.path] : [])) ?? []
  const found = new Set<string>()
  const done = new Set<string>()
  const visit = (path: string, trail: readonly string[]): void => {
    const at = trail.indexOf(path)
    if (at >= 0) {
      const ring = trail.slice(at)
      const first = ring.indexOf([...ring].sort()[0] ?? '')
      found.add([...ring.slice(first), ...ring.slice(0, first), ring[first]].join(' -> '))
      return
    }
    if (done.has(path)) return
    for (const to of next(path)) visit(to, [...trail, path])
    done.add(path)
  }
  for (const { path } of files) visit(path, [])
  return [...found]
}

function isCode(one: Import): one is Import & { readonly path: string } {
  return !one.typeOnly && one.path !== undefined
}

export function missingTargets(files: readonly SourceFile[], exists: (path: string) => boolean): string[] {
  return files.flatMap((file) =>
    file.imports.flatMap(({ path, specifier }) =>
      path === undefined || exists(path) ? [] : [`${file.path}: ${specifier} does not exist`],
    ),
  )
}

interface Ban {
  readonly pattern: RegExp
  readonly except: RegExp
  readonly why: string
}

const BANS: readonly Ban[] = [
  {
    pattern: /\bprocess\.env\b/,
    except: /^(kit\/config\/process\.ts|deploy\/|loadtest\/|test\/)/,
    why: 'only kit/config reads the environment',
  },
  {
    pattern: /\bprocess\.exit\(/,
    except: /^(kit\/(service|config\/process)\.ts|client\/cli\/|deploy\/|loadtest\/|test\/)/,
    why: 'kit/service.ts ends a service',
  },
  {
    pattern: /\b(Date\.now|Math\.random)\(|\bnew Date\(\)/,
    except: /^(kit\/(clock|random|logger)\.ts|client\/|deploy\/|loadtest\/|test\/|gateway\/console\/)/,
    why: 'time and randomness come in as arguments',
  },
  { pattern: /^\s*(enum|namespace)\s/m, except: /^$/, why: 'not erasable syntax' },
  {
    pattern: /\b(TODO|FIXME|XXX)\b/,
    except: /^test\/(support\/architecture|unit\/architecture\.test)\.ts$/,
    why: 'finish it or write it down in docs',
  },
]
/** What browsers, Node and k6 do not all have. */
const PLATFORM =
  /(?<![.\w$'"`])(process|Buffer|URL|URLSearchParams|TextDecoder|atob|btoa|fetch|console|performance|crypto|globalThis|window|setTimeout|setInterval|queueMicrotask|structuredClone|AbortController|AbortSignal)\b(?!['"`:?])/

export function bannedUse(files: readonly SourceFile[]): string[] {
  return files.flatMap((file) => {
    const found = BANS.flatMap(({ pattern, except, why }) => {
      // A reminder left behind stands in a comment, everything else in code.
      const match = except.test(file.path)
        ? null
        : pattern.exec(pattern.source.includes('TODO') ? file.text : file.code)
      return match === null ? [] : [`${file.path}: ${match[0].trim()}: ${why}`]
    })
    const platform = file.path.startsWith('protocol/') ? PLATFORM.exec(file.code) : null
    return platform === null
      ? found
      : [...found, `${file.path}: ${platform[1]}: not every platform of protocol/ has it`]
  })
}

/** etcd3's Watcher resumes at a revision it has not fully delivered and loses events; the raw stream is used instead. */
export function etcdWatcherUse(files: readonly SourceFile[]): string[] {
  return files.flatMap((file) => {
    if (file.path.startsWith('test/') || !file.imports.some(({ specifier }) => specifier === 'etcd3')) return []
    const match = /\b(Watcher|WatchBuilder)\b|(?<!\bwatchClient)\.watch\(/.exec(file.code)
    return match === null ? [] : [`${file.path}: ${match[0]}: use the raw watch stream (watchClient.watch)`]
  })
}

const MAX_LINES = 400
/** Characters of the opening comment: one honest sentence. */
const MIN_HEADER = 40
const EMPTY_NAMES: ReadonlySet<string> = new Set(['utils', 'util', 'helpers', 'helper', 'common', 'misc', 'shared'])

export function formViolations(files: readonly SourceFile[]): string[] {
  return files.flatMap(({ path, text }) => {
    const found: string[] = []
    const lines = text.split('\n').length - 1
    if (lines > MAX_LINES)
      found.push(`${path}: ${lines} lines, more than ${MAX_LINES}; give its second concern a file of its own`)
    if (
      dirname(path)
        .split('/')
        .some((name) => EMPTY_NAMES.has(name))
    )
      found.push(`${path}: the folder's name says nothing`)
    if (/(^|\/)index\.\w+$/.test(path)) found.push(`${path}: no barrels; import the file that owns the name`)
    if (openingComment(text).length < MIN_HEADER) found.push(`${path}: opens without saying what it owns`)
    return found
  })
}

function openingComment(text: string): string {
  return /^(?:#!.*\n)?((?:\/\/.*\n)+|\/\*[\s\S]*?\*\/)/.exec(text)?.[1] ?? ''
}
