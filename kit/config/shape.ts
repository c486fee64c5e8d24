// What a zod schema says about its fields, flattened: path, kind, default, help, secret or not.
// Owns: reading a schema. The loader, the printer and the reference all work from this one list.
// Does not own: validating values, which zod does.

import type * as z from 'zod'
import type { FieldMeta } from './fields.ts'

export type FieldKind =
  | 'text'
  | 'number'
  | 'boolean'
  | 'choice'
  | 'list'
  | 'map'
  | 'duration'
  | 'size'
  | 'address'
  | 'structure'

export interface Field {
  /** `['nats', 'servers']`; joined by dots it is the name used in messages. */
  readonly path: readonly string[]
  readonly name: string
  /** `DELTAWATCH_NATS_SERVERS` */
  readonly env: string
  readonly kind: FieldKind
  /** Kind of the items of a list or the values of a map. */
  readonly itemKind?: FieldKind
  readonly choices: readonly string[]
  readonly secret: boolean
  readonly required: boolean
  /** Undefined when there is none. */
  readonly defaultValue: unknown
  readonly description: string
  readonly expect?: string
  readonly example?: string
}

export interface Shape {
  readonly fields: readonly Field[]
  /** Valid keys of each object, by its dotted path ('' is the top). */
  readonly objects: ReadonlyMap<string, readonly string[]>
  /** Objects that always exist; a file that leaves one out means an empty one. Optional ones stay absent. */
  readonly sections: readonly (readonly string[])[]
}

export const ENV_PREFIX = 'DELTAWATCH_'
export const FILE_SUFFIX = 'File'

export function readShape(schema: z.ZodObject): Shape {
  const fields: Field[] = []
  const objects = new Map<string, readonly string[]>()
  const sections: (readonly string[])[] = []
  walk(schema.shape, [], { fields, objects, sections })
  const clash = firstDuplicate(fields.map((f) => f.env))
  if (clash !== undefined)
    throw new RangeError(`two configuration fields share the environment name ${clash}; rename one`)
  return { fields, objects, sections }
}

/** `nats.pingInterval` -> `DELTAWATCH_NATS_PING_INTERVAL` */
export function envName(path: readonly string[]): string {
  return ENV_PREFIX + path.map((part) => part.replaceAll(/([a-z0-9])([A-Z])/g, '$1_$2').toUpperCase()).join('_')
}

type Def = z.core.$ZodTypes['_zod']['def']

interface Peeled {
  readonly inner: Def
  readonly optional: boolean
  readonly defaultValue: unknown
  readonly meta: FieldMeta & { readonly description?: string }
}

function walk(
  shape: Readonly<Record<string, z.core.$ZodType>>,
  path: readonly string[],
  into: { fields: Field[]; objects: Map<string, readonly string[]>; sections: (readonly string[])[] },
): void {
  into.objects.set(path.join('.'), Object.keys(shape))
  for (const [key, schema] of Object.entries(shape)) {
    const peeled = peel(schema)
    const at = [...path, key]
    if (peeled.inner.type === 'object') {
      if (!peeled.optional) into.sections.push(at)
      walk(peeled.inner.shape, at, into)
      continue
    }
    const items = itemSchema(peeled.inner)
    const { description = '', expect, example, secret } = peeled.meta
    into.fields.push({
      path: at,
      name: at.join('.'),
      env: envName(at),
      kind: kindOf(peeled),
      ...(items === undefined ? {} : { itemKind: kindOf(peel(items)) }),
      choices: choicesOf(items === undefined ? peeled.inner : peel(items).inner),
      secret: secret === true,
      required: !peeled.optional,
      defaultValue: peeled.defaultValue,
      description,
      ...(expect === undefined ? {} : { expect }),
      ...(example === undefined ? {} : { example }),
    })
  }
}

/** Calls `visit` for every place in `value` where the schema has a secret, lists and maps of objects included. */
export function visitSecrets(
  schema: z.core.$ZodType,
  value: unknown,
  visit: (parent: Record<string, unknown>, key: string, path: readonly string[]) => void,
  path: readonly string[] = [],
): void {
  const { inner } = peel(schema)
  if (inner.type === 'pipe') return visitSecrets(inner.in, value, visit, path)
  if (typeof value !== 'object' || value === null) return
  const record = value as Record<string, unknown>
  if (inner.type === 'object') {
    for (const [key, child] of Object.entries(inner.shape)) {
      if (peel(child).meta.secret === true) visit(record, key, [...path, key])
      else visitSecrets(child, record[key], visit, [...path, key])
    }
    return
  }
  const items = itemSchema(inner)
  if (items === undefined) return
  for (const [key, item] of Object.entries(record)) visitSecrets(items, item, visit, [...path, key])
}

function defOf(schema: z.core.$ZodType): Def {
  return (schema as z.ZodType).def as Def
}

/** Takes off optional, default and the like. Metadata of outer layers wins over that of inner ones. */
function peel(schema: z.core.$ZodType): Peeled {
  let current = schema
  let optional = false
  let defaultValue: unknown
  let meta: Peeled['meta'] = {}
  for (;;) {
    meta = { ...((current as z.ZodType).meta() as Peeled['meta'] | undefined), ...meta }
    const def = defOf(current)
    switch (def.type) {
      case 'default':
      case 'prefault':
        defaultValue ??= def.defaultValue
        optional = true
        break
      case 'optional':
        optional = true
        break
      case 'nullable':
      case 'readonly':
        break
      default:
        return { inner: def, optional, defaultValue, meta }
    }
    current = def.innerType
  }
}

function kindOf({ inner, meta }: Peeled): FieldKind {
  if (meta.kind !== undefined) return meta.kind
  switch (inner.type) {
    case 'string':
    case 'template_literal':
      return 'text'
    case 'number':
      return 'number'
    case 'boolean':
      return 'boolean'
    case 'enum':
    case 'literal':
      return 'choice'
    case 'array':
      return isScalar(kindOf(peel(inner.element))) ? 'list' : 'structure'
    case 'record':
      return isScalar(kindOf(peel(inner.valueType))) ? 'map' : 'structure'
    case 'pipe':
      // A transform: what it takes in decides how text is read.
      return kindOf(peel(inner.in))
    default:
      return 'structure'
  }
}

function isScalar(kind: FieldKind): boolean {
  return kind !== 'structure' && kind !== 'list' && kind !== 'map'
}

function itemSchema(def: Def): z.core.$ZodType | undefined {
  if (def.type === 'array') return def.element
  return def.type === 'record' ? def.valueType : undefined
}

function choicesOf(def: Def): readonly string[] {
  if (def.type === 'enum') return Object.values(def.entries).map(String)
  return def.type === 'literal' ? def.values.map(String) : []
}

function firstDuplicate(names: readonly string[]): string | undefined {
  return names.find((name, i) => names.indexOf(name) !== i)
}
