// The three places a value can come from - file, environment, flags - read into one raw tree, the later over the earlier.
// Owns: precedence, where each value came from, secrets kept in files, and environment names that are not fields.
// Does not own: checking values against the schema (validate.ts).

import { parseDocument } from 'yaml'
import type * as z from 'zod'
import { errorCode, errorMessage } from '../errors.ts'
import { nearest } from './nearest.ts'
import { ENV_PREFIX, type Field, FILE_SUFFIX, type Shape, visitSecrets } from './shape.ts'
import { fromText } from './text.ts'

export type Tree = { [key: string]: unknown }

export interface Sources {
  readonly file?: string | undefined
  readonly env: Readonly<Record<string, string | undefined>>
  /** Texts by field name; for a secret by its file variant, such as `nats.tokenFile`. */
  readonly flags: ReadonlyMap<string, { readonly flag: string; readonly texts: readonly string[] }>
  readonly readFile: (path: string) => string
}

export interface Gathered {
  readonly tree: Tree
  /** Field name -> `file gw.yaml`, `DELTAWATCH_LISTEN`, `--listen`. Absent: the default. */
  readonly origins: ReadonlyMap<string, string>
  readonly problems: readonly string[]
  readonly warnings: readonly string[]
}

// Read by the tools that fetch, start and guard etcd, nats-server and k6; and the name of the file itself.
const FOREIGN_ENV = /^DELTAWATCH_(CONFIG|ETCD|ETCDCTL|NATS_SERVER|K6|TOOL_.*|RELEASE_.*|LIFELINE_.*|TEST_.*)$/
const MAX_FILE_BYTES = 4 * 1024 * 1024

export function gather(schema: z.ZodObject, shape: Shape, sources: Sources): Gathered {
  const work: Work = { schema, shape, sources, tree: {}, origins: new Map(), problems: [], warnings: [] }
  if (sources.file !== undefined) addFile(work, sources.file)
  addEnvironment(work)
  addFlags(work)
  for (const section of shape.sections) if (get(work.tree, section) === undefined) put(work.tree, section, {})
  return work
}

interface Work {
  readonly schema: z.ZodObject
  readonly shape: Shape
  readonly sources: Sources
  tree: Tree
  readonly origins: Map<string, string>
  readonly problems: string[]
  readonly warnings: string[]
}

function addFile(work: Work, path: string): void {
  const parsed = parseFile(work, path)
  if (parsed === undefined) return
  work.tree = parsed
  const origin = `file ${path}`
  visitSecrets(work.schema, parsed, (parent, key, at) => fileSecret(work, parent, key, at, origin))
  for (const field of work.shape.fields) {
    if (get(work.tree, field.path) !== undefined) work.origins.set(field.name, origin)
  }
}

function parseFile(work: Work, path: string): Tree | undefined {
  try {
    const text = work.sources.readFile(path)
    if (text.length > MAX_FILE_BYTES) throw new RangeError(`larger than ${MAX_FILE_BYTES} bytes`)
    const document = parseDocument(text, { uniqueKeys: true, prettyErrors: true, strict: true })
    const [fault] = document.errors
    if (fault !== undefined) {
      const line = fault.linePos?.[0].line
      const why = fault.message.split(/ at line |\n/)[0]
      work.problems.push(`${path}${line === undefined ? '' : `:${line}`}: not valid YAML: ${why}`)
      return undefined
    }
    // The bound on aliases keeps a small file from unfolding into gigabytes.
    const value: unknown = document.toJS({ maxAliasCount: 100 }) ?? {}
    if (isTree(value)) return value
    work.problems.push(`${path}: the file must hold a mapping of fields, such as \`listen: 127.0.0.1:7400\``)
  } catch (e) {
    const missing = errorCode(e) === 'ENOENT'
    work.problems.push(
      missing ? `${path}: no such file; check --config` : `${path}: cannot be read: ${errorMessage(e)}`,
    )
  }
  return undefined
}

/** `tokenFile: /run/secrets/token` beside where `token` would stand. */
function fileSecret(work: Work, parent: Tree, key: string, at: readonly string[], origin: string): void {
  const path = parent[key + FILE_SUFFIX]
  if (path === undefined) return
  delete parent[key + FILE_SUFFIX]
  const name = at.join('.')
  if (parent[key] !== undefined) {
    work.problems.push(`${name} and ${name}${FILE_SUFFIX} are both given (${origin}); keep one`)
  } else if (typeof path !== 'string') {
    work.problems.push(
      `${name}${FILE_SUFFIX} (${origin}) is not a path; write the path of a file that holds the secret`,
    )
  } else {
    const text = readSecret(work, path, name + FILE_SUFFIX)
    if (text !== undefined) parent[key] = text
  }
}

function addEnvironment(work: Work): void {
  const known = new Map<string, Field>()
  for (const field of work.shape.fields) {
    known.set(field.env, field)
    if (field.secret) known.set(`${field.env}_FILE`, field)
  }
  for (const [name, text] of Object.entries(work.sources.env)) {
    // An empty variable means "not set": compose files and shells cannot always leave one out.
    if (!name.startsWith(ENV_PREFIX) || text === undefined || text === '') continue
    const field = known.get(name)
    if (field !== undefined) addVariable(work, field, name, text)
    else if (!FOREIGN_ENV.test(name)) strangeVariable(work, name, known)
  }
}

function addVariable(work: Work, field: Field, name: string, text: string): void {
  if (name === field.env) return set(work, field, fromText(field, [text]), name)
  if ((work.sources.env[field.env] ?? '') !== '') {
    work.problems.push(`${field.env} and ${name} are both set; keep one`)
    return
  }
  setSecret(work, field, text, name, name)
}

/** A near miss is a typing error and refused. Anything else is another program's (Kubernetes makes such names) and mentioned. */
function strangeVariable(work: Work, name: string, known: ReadonlyMap<string, Field>): void {
  const meant = nearest(
    name.slice(ENV_PREFIX.length),
    [...known.keys()].map((env) => env.slice(ENV_PREFIX.length)),
  )
  if (meant === undefined) work.warnings.push(`${name} is set but is not a field of this service; ignored`)
  else work.problems.push(`${name} is not a known variable; did you mean ${ENV_PREFIX}${meant}?`)
}

function addFlags(work: Work): void {
  for (const [name, { flag, texts }] of work.sources.flags) {
    const field = work.shape.fields.find((f) => f.name === name)
    if (field !== undefined) {
      set(work, field, fromText(field, texts), flag)
      continue
    }
    const secret = work.shape.fields.find((f) => f.secret && `${f.name}${FILE_SUFFIX}` === name)
    if (secret !== undefined) setSecret(work, secret, texts.at(-1) ?? '', name, flag)
  }
}

function setSecret(work: Work, field: Field, path: string, name: string, origin: string): void {
  const text = readSecret(work, path, name)
  if (text !== undefined) set(work, field, text, `${origin} ${path}`)
}

function readSecret(work: Work, path: string, name: string): string | undefined {
  try {
    return work.sources.readFile(path).replace(/\r?\n$/, '')
  } catch (e) {
    work.problems.push(`${name} = ${path}: cannot be read (${errorCode(e)}); write the path of a readable file`)
    return undefined
  }
}

function set(work: Work, field: Field, value: unknown, origin: string): void {
  put(work.tree, field.path, value)
  work.origins.set(field.name, origin)
}

export function get(tree: Tree, path: readonly string[]): unknown {
  return path.reduce<unknown>((at, key) => (isTree(at) ? at[key] : undefined), tree)
}

function put(tree: Tree, path: readonly string[], value: unknown): void {
  const [key, ...rest] = path
  if (key === undefined) return
  if (rest.length === 0) {
    tree[key] = value
    return
  }
  // A scalar where a section belongs stays, so that the schema can name it; there is nothing to merge into.
  const next = tree[key] ?? {}
  if (!isTree(next)) return
  tree[key] = next
  put(next, rest, value)
}

export function isTree(value: unknown): value is Tree {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
