// JSON Schema for values, by key pattern, checked when data leaves.
// Owns: the subset of JSON Schema that is offered. A closed list of keywords, no `pattern` or `format` (regular expressions), no
// `uniqueItems` (quadratic), references only inside the document, without cycles and without blowing up when written out.
// Refuses at load time everything else; a value that fails is withheld or quarantined, never a crash.

import { Ajv2020 } from 'ajv/dist/2020.js'
import { MAX_TRANSFORM_VALUE_BYTES } from './bounds.ts'
import type { Glob } from './glob.ts'
import { decodeJson } from './json-decode.ts'
import type { Result } from './types.ts'

export type ValueSchema = {
  /** `schema:<path>`: stands where a rule id stands. */
  readonly id: string
  readonly digest: string
  readonly keys: readonly Glob[]
  readonly onInvalid: 'withhold' | 'quarantine'
  readonly accepts: (value: Uint8Array) => boolean
}

const VALUES = new Set([
  'type',
  'required',
  'const',
  'enum',
  'minimum',
  'maximum',
  'exclusiveMinimum',
  'exclusiveMaximum',
  'multipleOf',
])
const COUNTS = new Set(['minLength', 'maxLength', 'minItems', 'maxItems', 'minProperties', 'maxProperties'])
const NOTES = new Set([
  '$schema',
  '$id',
  '$comment',
  'title',
  'description',
  'default',
  'examples',
  'deprecated',
  'readOnly',
  'writeOnly',
])
const ONE = new Set(['additionalProperties', 'items', 'not', 'if', 'then', 'else', 'contains', 'propertyNames'])
const LIST = new Set(['allOf', 'anyOf', 'oneOf', 'prefixItems'])
const NAMED = new Set(['properties', '$defs', 'definitions', 'dependentSchemas'])
const MAX_WRITTEN_OUT = 5000
const MAX_DEPTH = 64

type Node = Readonly<Record<string, unknown>>
const isNode = (x: unknown): x is Node => typeof x === 'object' && x !== null && !Array.isArray(x)

/** A validator over value bytes, or a sentence saying what in the schema is refused. */
export function compileSchema(schema: unknown): Result<(value: Uint8Array) => boolean, string> {
  const refusal = inspect(schema)
  if (refusal !== undefined) return { ok: false, error: refusal }
  try {
    // References were checked above; ajv must not go looking for a meta schema by the document's own word.
    const { $schema: _dialect, $id: _id, ...body } = isNode(schema) ? schema : {}
    const ajv = new Ajv2020({
      strict: true,
      strictTypes: false,
      strictTuples: false,
      strictRequired: false,
      validateFormats: false,
      allErrors: false,
      logger: false,
      unicodeRegExp: false,
    })
    const validate = ajv.compile(typeof schema === 'boolean' ? schema : body)
    return {
      ok: true,
      value: (value) => {
        try {
          return validate(decodeJson(value, MAX_TRANSFORM_VALUE_BYTES))
        } catch {
          return false
        }
      },
    }
  } catch (e) {
    return { ok: false, error: (e instanceof Error ? e.message : String(e)).slice(0, 200) }
  }
}

function inspect(root: unknown): string | undefined {
  let written = 0
  const visit = (schema: unknown, at: string, depth: number, open: readonly string[]): string | undefined => {
    if (typeof schema === 'boolean') return undefined
    if (!isNode(schema)) return `${at} must be an object or a boolean`
    if (++written > MAX_WRITTEN_OUT)
      return `is larger than ${MAX_WRITTEN_OUT} parts once its references are written out`
    if (depth > MAX_DEPTH) return `${at} is nested deeper than ${MAX_DEPTH}`
    for (const [keyword, part] of Object.entries(schema)) {
      const where = `${at}/${keyword}`
      let refusal: string | undefined
      if (keyword === '$ref') {
        if (typeof part !== 'string' || !part.startsWith('#/')) return `${where} must point inside the document (#/…)`
        if (open.includes(part)) return `${where} makes a cycle through ${part}`
        const target = resolve(root, part)
        refusal = target === undefined ? `${where} points to nothing` : visit(target, part, depth + 1, [...open, part])
      } else if (ONE.has(keyword)) refusal = visit(part, where, depth + 1, open)
      else if (LIST.has(keyword)) {
        if (!Array.isArray(part)) return `${where} must be a list`
        for (const [i, item] of part.entries()) refusal ??= visit(item, `${where}/${i}`, depth + 1, open)
      } else if (NAMED.has(keyword)) {
        if (!isNode(part)) return `${where} must be an object`
        for (const [name, item] of Object.entries(part)) refusal ??= visit(item, `${where}/${name}`, depth + 1, open)
      } else if (!VALUES.has(keyword) && !COUNTS.has(keyword) && !NOTES.has(keyword)) {
        const regex = keyword === 'pattern' || keyword === 'patternProperties' || keyword === 'format'
        return `${where} is refused${regex ? ': a regular expression can take seconds on a short text' : ''}`
      }
      if (refusal !== undefined) return refusal
    }
    return undefined
  }
  return visit(root, '#', 0, [])
}

function resolve(root: unknown, pointer: string): unknown {
  let at: unknown = root
  for (const part of pointer.slice(2).split('/')) {
    const name = part.replaceAll('~1', '/').replaceAll('~0', '~')
    if (!isNode(at) || !Object.hasOwn(at, name)) return undefined
    at = at[name]
  }
  return at
}
