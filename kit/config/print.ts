// A configuration written out again: as a file that would produce it, with the origin of each value beside it.
// Owns: `--print-config` and its promise that no secret appears in it.

import { Document, isScalar, visit } from 'yaml'
import type * as z from 'zod'
import { withoutUserinfo } from '../userinfo.ts'
import type { ConfigDefinition } from './definition.ts'
import { formatAddress, formatDuration, formatSize } from './fields.ts'
import { type Field, visitSecrets } from './shape.ts'
import { get, isTree, type Tree } from './layers.ts'

export const REDACTED = '***'

export function printConfig<S extends z.ZodObject>(
  definition: ConfigDefinition<S>,
  config: z.output<S>,
  origins: ReadonlyMap<string, string>,
): string {
  const tree = redact(definition.schema, config)
  for (const field of definition.shape.fields) {
    const value = get(tree, field.path)
    if (value !== undefined) replace(tree, field.path, formatValue(field, value))
  }
  const document = new Document(tree)
  comment(document, definition.shape.fields, origins)
  return document.toString({ lineWidth: 0 })
}

/** A copy in which every secret is `***`, also the user and password in an address. */
export function redact(schema: z.ZodObject, config: unknown): Tree {
  const copy = structuredClone(config) as Tree
  visitSecrets(schema, copy, (parent, key) => {
    if (parent[key] !== undefined) parent[key] = REDACTED
  })
  return plainAddresses(copy) as Tree
}

function plainAddresses(value: unknown): unknown {
  if (typeof value === 'string') return value.includes('://') ? withoutUserinfo(value) : value
  if (Array.isArray(value)) return value.map(plainAddresses)
  if (!isTree(value)) return value
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, plainAddresses(item)]))
}

/** The text form a file would use. */
export function formatValue(field: Pick<Field, 'kind'>, value: unknown): unknown {
  if (field.kind === 'duration' && typeof value === 'number') return formatDuration(value)
  if (field.kind === 'size' && typeof value === 'number') return formatSize(value)
  if (
    field.kind === 'address' &&
    isTree(value) &&
    typeof value['host'] === 'string' &&
    typeof value['port'] === 'number'
  ) {
    return formatAddress({ host: value['host'], port: value['port'] })
  }
  return value
}

function replace(tree: Tree, path: readonly string[], value: unknown): void {
  const parent = get(tree, path.slice(0, -1))
  const key = path.at(-1)
  if (isTree(parent) && key !== undefined) parent[key] = value
}

function comment(document: Document, fields: readonly Field[], origins: ReadonlyMap<string, string>): void {
  const wanted = new Map(fields.map((f) => [f.name, origins.get(f.name) ?? 'default']))
  visit(document, {
    Pair(_key, pair, ancestors) {
      const keys = [...ancestors, pair].flatMap((node) =>
        typeof node === 'object' && 'key' in node && isScalar(node.key) ? [String(node.key.value)] : [],
      )
      const origin = wanted.get(keys.join('.'))
      if (origin === undefined) return undefined
      if (isScalar(pair.value)) pair.value.comment = ` ${origin}`
      else if (isScalar(pair.key)) pair.key.commentBefore = ` ${origin}`
      return visit.SKIP
    },
  })
}
