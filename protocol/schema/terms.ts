// The vocabulary the frame schemas are written in, as JSON Schema (draft 7, which AsyncAPI 3 reads as it is).
// Owns: one constructor per shape the wire uses, and the terms that recur (revision, epoch, key, value).
// Refuses: validation. These are plain data, so that a gateway can serve them and a browser can load them.

export type Schema = { readonly [name: string]: unknown }

export const text = (description: string, more: Schema = {}): Schema => ({ type: 'string', description, ...more })
export const integer = (description: string, more: Schema = {}): Schema => ({ type: 'integer', description, ...more })
export const flag = (description: string): Schema => ({ type: 'boolean', description })
export const constant = (value: string | number | boolean): Schema => ({ const: value })
export const oneOfWords = (words: readonly string[], description: string): Schema => ({ enum: words, description })
export const list = (items: Schema, more: Schema = {}): Schema => ({ type: 'array', items, ...more })
export const either = (...alternatives: readonly Schema[]): Schema => ({ oneOf: alternatives })
export const byCluster = (each: Schema): Schema => ({
  type: 'object',
  propertyNames: { pattern: CLUSTER_PATTERN },
  additionalProperties: each,
})
export const ref = (name: string): Schema => ({ $ref: `#/components/schemas/${name}` })

/** An object with exactly these fields; names that end in "?" are optional. */
export function object(fields: Readonly<Record<string, Schema>>, more: Schema = {}): Schema {
  const names = Object.keys(fields)
  const required = names.filter((name) => !name.endsWith('?'))
  const properties = Object.fromEntries(names.map((name) => [name.replace('?', ''), fields[name]]))
  return {
    type: 'object',
    properties,
    ...(required.length > 0 ? { required } : {}),
    additionalProperties: false,
    ...more,
  }
}

const CLUSTER_PATTERN = '^[a-z0-9-]{1,32}$'
const BASE64 = '^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$'

export const revision = text('Revision of etcd: decimal, 64 bits; never a JSON number.', {
  pattern: '^(?:0|[1-9][0-9]{0,18})$',
})
export const counter = text('Unsigned 64-bit decimal.', { pattern: '^(?:0|[1-9][0-9]{0,19})$' })
export const epoch = text('Lineage of the cluster: a revision means nothing without it.', { pattern: '^[0-9a-f]{16}$' })
export const cluster = text('Id of one etcd cluster.', { pattern: CLUSTER_PATTERN })
export const region = text('Id of a region.', { pattern: CLUSTER_PATTERN })
export const base64 = (description: string): Schema => text(`${description} (standard base64)`, { pattern: BASE64 })
export const cursor = text('Opaque position of one watch; see SPEC.md, section Q.', {
  pattern: '^dw1\\.[A-Za-z0-9_-]+$',
  maxLength: 8192,
})
export const channel = integer('Gateway-wide number of a (class, selector, mode, values).', { minimum: 1 })
export const watchId = text("The client's own name of a watch, unique on its connection.", {
  minLength: 1,
  maxLength: 64,
})
export const milliseconds = (description: string): Schema => integer(`${description}, in milliseconds`, { minimum: 0 })
export const instant = text('RFC 3339, clock of the gateway.', {
  pattern: '^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z$',
})
export const clusterState = oneOfWords(
  ['live', 'idle-proved', 'lagging', 'unreachable', 'resyncing', 'removed'],
  'How a cluster stands. Silence is never one of them.',
)

/** At most one of `names` may be present. */
export const atMostOne = (...names: readonly string[]): Schema => ({
  not: {
    anyOf: names.flatMap((a, i) => names.slice(i + 1).map((b) => ({ required: [a, b] }))),
  },
})
