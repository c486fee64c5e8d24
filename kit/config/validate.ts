// The raw tree against the schema, and every problem in words an operator can act on.
// Owns: the sentences: field, value (never of a secret, nor the user and password in an address), where it came from, what is wrong, what to write.
// Does not own: reading sources (layers.ts) or printing (load.ts).

import type * as z from 'zod'
import { withoutUserinfo } from '../userinfo.ts'
import type { ConfigDefinition } from './definition.ts'
import { type Gathered, get, isTree } from './layers.ts'
import { nearest } from './nearest.ts'
import { type Field, type FieldKind, FILE_SUFFIX, type Shape, visitSecrets } from './shape.ts'

export type Validated<T> =
  | { readonly ok: true; readonly config: T }
  | { readonly ok: false; readonly problems: readonly string[] }

type Issue = z.core.$ZodIssue

export function validate<S extends z.ZodObject>(
  definition: Pick<ConfigDefinition<S>, 'schema' | 'shape' | 'check'>,
  gathered: Gathered,
  flagOf: (name: string) => string | undefined,
): Validated<z.output<S>> {
  const { schema, shape } = definition
  const result = schema.safeParse(gathered.tree)
  const secrets = secretPaths(schema, gathered.tree)
  const about: About = { shape, gathered, flagOf, secrets }
  const fromSchema = result.success ? [] : result.error.issues.flatMap((issue) => sentences(about, issue))
  const problems = [...gathered.problems, ...fromSchema]
  if (result.success && problems.length === 0) {
    problems.push(...(definition.check?.(result.data) ?? []))
    if (problems.length === 0) return { ok: true, config: result.data }
  }
  return { ok: false, problems: [...new Set(problems)] }
}

interface About {
  readonly shape: Shape
  readonly gathered: Gathered
  readonly flagOf: (name: string) => string | undefined
  readonly secrets: ReadonlySet<string>
}

function secretPaths(schema: z.ZodObject, tree: unknown): ReadonlySet<string> {
  const paths = new Set<string>()
  visitSecrets(schema, tree, (_parent, _key, path) => paths.add(path.join('.')))
  return paths
}

function sentences(about: About, issue: Issue): string[] {
  const path = issue.path.map(String)
  if (issue.code === 'unrecognized_keys') return issue.keys.map((key) => unknownKey(about, path, key))
  const field = about.shape.fields.find((f) => f.path.every((part, i) => part === path[i]))
  const value = get(about.gathered.tree, path)
  const name = path.join('.')
  if (value === undefined && field?.name === name) return [missing(about, field)]
  const shown = about.secrets.has(name) ? '***' : show(value ?? itemAt(about, path))
  const origin = field === undefined ? undefined : about.gathered.origins.get(field.name)
  const where = origin === undefined ? '' : ` (${origin})`
  return [`${name}${shown === '' ? '' : ` = ${shown}`}${where} ${reason(issue)}${advice(field, issue)}`]
}

function unknownKey({ shape, gathered }: About, path: readonly string[], key: string): string {
  const name = [...path, key].join('.')
  const here = shape.objects.get(path.join('.')) ?? []
  const secrets = shape.fields.filter((f) => f.secret && f.path.slice(0, -1).join('.') === path.join('.'))
  const candidates = [...here, ...secrets.map((f) => `${f.path.at(-1) ?? ''}${FILE_SUFFIX}`)]
  const close = nearest(key, candidates)
  if (close !== undefined) return `${name} is not a known field; did you mean ${[...path, close].join('.')}?`
  // The right word in the wrong place.
  const elsewhere = shape.fields.find((f) => f.path.at(-1) === key)
  if (elsewhere !== undefined) return `${name} is not a known field; did you mean ${elsewhere.name}?`
  const place = path.length === 0 ? 'at the top' : `in ${path.join('.')}`
  const kept = candidates.length === 0 ? 'nothing' : candidates.join(', ')
  return `${name} is not a known field${isTree(gathered.tree) ? `; known ${place}: ${kept}` : ''}`
}

function missing({ flagOf }: About, field: Field): string {
  const flag = flagOf(field.name)
  const ways = [`${field.name} in the file`, field.env, ...(flag === undefined ? [] : [flag])]
  const example = field.example === undefined ? '' : `, for example ${field.example}`
  return `${field.name} is required; give ${ways.join(' or ')}${example}`
}

/** Inside lists `get` cannot follow, so the item is looked up here. */
function itemAt({ gathered }: About, path: readonly string[]): unknown {
  return path.reduce<unknown>((at, key) => {
    if (Array.isArray(at)) return at[Number(key)]
    return isTree(at) ? at[key] : undefined
  }, gathered.tree)
}

function reason(issue: Issue): string {
  switch (issue.code) {
    case 'invalid_type':
      return `is not ${article(issue.expected)}`
    case 'invalid_value':
      return 'is not one of the choices'
    case 'too_small':
      return issue.origin === 'string' || issue.origin === 'array'
        ? `needs at least ${issue.minimum}`
        : `is below ${issue.minimum}`
    case 'too_big':
      return issue.origin === 'string' || issue.origin === 'array'
        ? `has more than ${issue.maximum}`
        : `is above ${issue.maximum}`
    case 'invalid_format':
      return 'has the wrong form'
    case 'invalid_union':
      return 'has the wrong form'
    case 'not_multiple_of':
      return `is not a multiple of ${issue.divisor}`
    case 'custom':
    case 'invalid_key':
    case 'invalid_element':
    case 'unrecognized_keys':
      return issue.message
    default: {
      const unknown: never = issue
      return unknown
    }
  }
}

const BY_KIND: Readonly<Record<FieldKind, string>> = {
  text: 'text',
  number: 'a number',
  boolean: 'true or false',
  choice: 'one of the choices',
  list: 'a list, in text separated by commas',
  map: 'pairs such as a=b,c=d',
  duration: 'a duration such as 5s',
  size: 'a size such as 16MiB',
  address: 'host:port',
  structure: 'a structure',
}

function advice(field: Field | undefined, issue: Issue): string {
  if (issue.code === 'invalid_value') return `; write ${issue.values.map(String).join(', ')}`
  if (field === undefined || (field.kind === 'structure' && field.expect === undefined)) return ''
  // A check of the service that spans fields has its own advice in its message.
  if (issue.code === 'custom' && field.expect === undefined) return ''
  const choices = field.choices.length === 0 ? undefined : field.choices.join(', ')
  const example = field.example === undefined ? '' : `, for example ${field.example}`
  return `; write ${field.expect ?? choices ?? BY_KIND[field.kind]}${example}`
}

function article(type: string): string {
  const words: Readonly<Record<string, string>> = {
    string: 'text',
    object: 'a mapping',
    array: 'a list',
    record: 'a mapping',
    int: 'a whole number',
  }
  return words[type] ?? `a ${type}`
}

function show(value: unknown): string {
  if (value === undefined) return ''
  if (isTree(value)) return 'a mapping'
  const text = withoutUserinfo(JSON.stringify(value))
  return text.length > 80 ? `${text.slice(0, 80)}…` : text
}
