// The trie of globs while it is being built, one object per node. glob-index.ts packs it.
// Owns: where each kind of segment leads. Node 0 is the root; 0 also stands for "none", as the root is nobody's child.

import { MAX_PATTERNS_PER_NODE } from './bounds.ts'
import type { Glob } from './glob.ts'

export type Pattern = { readonly pieces: readonly string[]; readonly child: number }

/** `id` is the glob that was one too many. */
export class TooManyPatterns extends Error {
  readonly id: number
  constructor(id: number) {
    super(`more than ${MAX_PATTERNS_PER_NODE} different patterns with * at one place`)
    this.id = id
  }
}

export type TrieNode = {
  /** Ids of globs that end here. */
  readonly ends: number[]
  /** Ids of globs whose trailing `**` starts here: they match if at least one segment is left. */
  readonly tails: number[]
  readonly literals: Map<string, number>
  /** By spelling. All of them are tried for every key that comes by, which is why their number is bounded. */
  readonly patterns: Map<string, Pattern>
  star: number
  /** Where globs with an inner `**` at this place go on, after any number of segments. */
  deep: number
}

export function buildTrie(globs: Iterable<{ readonly glob: Glob; readonly id: number }>): readonly TrieNode[] {
  const nodes: TrieNode[] = []
  const add = (): number =>
    nodes.push({ ends: [], tails: [], literals: new Map(), patterns: new Map(), star: 0, deep: 0 }) - 1
  add()
  for (const { glob, id } of globs) {
    let node = nodes[0] as TrieNode
    let tail = false
    for (const [i, segment] of glob.segments.entries()) {
      let next: number
      if (segment.kind === 'deep') {
        tail = i === glob.segments.length - 1
        if (tail) break
        next = node.deep ||= add()
      } else if (segment.kind === 'literal') {
        next = node.literals.get(segment.bytes) ?? add()
        node.literals.set(segment.bytes, next)
      } else if (segment.pieces.length === 2 && segment.pieces.every((piece) => piece === '')) {
        next = node.star ||= add()
      } else {
        const text = segment.pieces.join('*')
        let pattern = node.patterns.get(text)
        if (pattern === undefined) {
          if (node.patterns.size >= MAX_PATTERNS_PER_NODE) throw new TooManyPatterns(id)
          pattern = { pieces: segment.pieces, child: add() }
          node.patterns.set(text, pattern)
        }
        next = pattern.child
      }
      node = nodes[next] as TrieNode
    }
    ;(tail ? node.tails : node.ends).push(id)
  }
  return nodes
}
