// YAML from files nobody vouches for, to plain values.
// Owns: refusing what YAML offers beyond data (anchors, aliases, tags, directives, explicit keys, several documents), duplicate and
// non-text keys, and nesting. The token scan comes first because it is linear, and the parser behind it is not on hostile input.

import { CST, isMap, isScalar, isSeq, Lexer, parseAllDocuments } from 'yaml'
import { MAX_DOCUMENT_BYTES } from '../engine/bounds.ts'
import type { Result } from '../engine/types.ts'

const MAX_NESTING = 32
const MAX_INDENT = 128
const MAX_TOKENS = 2_000_000

export function parseYaml(text: string): Result<unknown, string> {
  if (text.length > MAX_DOCUMENT_BYTES) return { ok: false, error: `is larger than ${MAX_DOCUMENT_BYTES} bytes` }
  const refusal = scan(text)
  if (refusal !== undefined) return { ok: false, error: refusal }
  try {
    // merge is off, so that "<<" is an unknown field like any other; the core schema leaves dates as text.
    const documents = parseAllDocuments(text, {
      version: '1.2',
      schema: 'core',
      strict: true,
      stringKeys: true,
      uniqueKeys: false,
      merge: false,
      logLevel: 'error',
      prettyErrors: false,
    })
    if (!Array.isArray(documents) || documents.length !== 1)
      return { ok: false, error: 'must hold exactly one document' }
    const [document] = documents
    const trouble = document?.errors[0] ?? document?.warnings[0]
    if (document === undefined || trouble !== undefined) {
      return {
        ok: false,
        error: trouble === undefined ? 'holds nothing' : `${firstLine(trouble)}, line ${lineOf(text, trouble.pos[0])}`,
      }
    }
    const twice = repeatedKey(document.contents)
    if (twice !== undefined)
      return { ok: false, error: `has the key ${JSON.stringify(twice.slice(0, 64))} twice in one map` }
    return { ok: true, value: document.toJS({ maxAliasCount: 0 }) as unknown }
  } catch (e) {
    return { ok: false, error: firstLine(e) }
  }
}

const REFUSED: Readonly<Partial<Record<string, string>>> = {
  alias: 'uses an alias (*name); write the value out',
  anchor: 'uses an anchor (&name); write the value out',
  tag: 'uses a tag (!name)',
  'directive-line': 'uses a directive (%name)',
  'explicit-key-ind': 'uses an explicit key (?)',
}

/** The library's own check compares every key with every other, which takes minutes on a large map. Nesting is bounded by now. */
function repeatedKey(node: unknown): string | undefined {
  if (isSeq(node)) {
    for (const item of node.items) {
      const found = repeatedKey(item)
      if (found !== undefined) return found
    }
  } else if (isMap(node)) {
    const names = new Set<string>()
    for (const { key, value } of node.items) {
      const name = String(isScalar(key) ? key.value : key)
      if (names.has(name)) return name
      names.add(name)
      const found = repeatedKey(value)
      if (found !== undefined) return found
    }
  }
  return undefined
}

/** What the lexer puts before plain and block scalars, whose text may start with any sign. */
const SCALAR = '\u001f'

function scan(text: string): string | undefined {
  let line = 1
  let flow = 0
  let dashes = 0
  let tokens = 0
  let documents = 0
  let scalar = false
  for (const token of new Lexer().lex(text)) {
    if (++tokens > MAX_TOKENS) return `has more than ${MAX_TOKENS} tokens`
    const type = scalar ? 'scalar' : CST.tokenType(token)
    scalar = token === SCALAR
    const refused = type === null ? undefined : REFUSED[type]
    if (refused !== undefined) return `${refused}, line ${line}`
    switch (type) {
      case 'newline':
        line++
        dashes = 0
        break
      case 'space':
        if (token.length > MAX_INDENT) return `is indented by more than ${MAX_INDENT}, line ${line}`
        break
      case 'seq-item-ind':
        if (++dashes > MAX_NESTING) return `nests deeper than ${MAX_NESTING}, line ${line}`
        break
      case 'flow-map-start':
      case 'flow-seq-start':
        if (++flow > MAX_NESTING) return `nests deeper than ${MAX_NESTING}, line ${line}`
        break
      case 'flow-map-end':
      case 'flow-seq-end':
        flow--
        break
      case 'doc-start':
        if (++documents > 1) return 'must hold exactly one document'
        break
      default:
        // A scalar over several lines.
        for (let i = token.indexOf('\n'); i >= 0; i = token.indexOf('\n', i + 1)) line++
    }
  }
  return undefined
}

function lineOf(text: string, at: number): number {
  let line = 1
  for (let i = text.indexOf('\n'); i >= 0 && i < at; i = text.indexOf('\n', i + 1)) line++
  return line
}

function firstLine(e: unknown): string {
  const text = e instanceof Error ? e.message : 'cannot be read as YAML'
  return (text.split('\n')[0] ?? '').slice(0, 200)
}
