// All globs of a source region in one trie over segments, so that the cost of a key does not grow with the number of rules.
// Owns: building the trie and walking a key through it without allocating. Does not own: what a hit means (match-set.ts).
// Literal children of all nodes live in one open-addressed table keyed by (node, hash of the segment); hits are verified byte by byte.

import type { Key } from '#protocol/bytes.ts'
import { MAX_KEY_BYTES, MAX_KEY_SEGMENTS } from './bounds.ts'
import { piecesMatch } from './glob.ts'
import type { Glob } from './glob.ts'

type Node = {
  /** Ids of globs that end here. */
  readonly ends: number[]
  /** Ids of globs whose trailing `**` starts here: they match if at least one segment is left. */
  readonly tails: number[]
  readonly patterns: { readonly pieces: readonly string[]; readonly text: string; readonly child: number }[]
  star: number
  /** Where globs with an inner `**` at this place go on, after any number of segments. */
  deep: number
  literals: number
}

const SLASH = 47
const FNV_START = 0x811c9dc5
const FNV_PRIME = 0x01000193

export class GlobIndex {
  readonly #nodes: Node[] = []
  #table: Int32Array
  #mask: number
  #entries = 0
  /** Per literal child: its parent, its segment and its node. */
  readonly #parents: number[] = []
  readonly #texts: string[] = []
  readonly #children: number[] = []

  // Scratch of one walk; a walk is synchronous and never re-enters.
  readonly #starts = new Int32Array(MAX_KEY_SEGMENTS + 1)
  readonly #hashes = new Int32Array(MAX_KEY_SEGMENTS)
  #count = 0
  #key: string = ''
  #hits: number[] = []

  constructor(globs: Iterable<{ readonly glob: Glob; readonly id: number }>) {
    this.#table = new Int32Array(16)
    this.#mask = 15
    this.#node()
    for (const { glob, id } of globs) this.#add(glob, id)
  }

  /**
   * Appends the ids of all globs that match to `hits` (an id may come twice) and returns true;
   * false, with nothing appended, for a key beyond the bounds.
   */
  match(key: Key, hits: number[]): boolean {
    if (!this.#split(key)) return false
    this.#key = key
    this.#hits = hits
    this.#walk(0, 0)
    this.#key = ''
    return true
  }

  #split(key: string): boolean {
    const length = key.length
    if (length > MAX_KEY_BYTES) return false
    let count = 0
    let hash = FNV_START
    this.#starts[0] = 0
    for (let i = 0; i < length; i++) {
      const code = key.charCodeAt(i)
      if (code !== SLASH) {
        hash = Math.imul(hash ^ code, FNV_PRIME)
        continue
      }
      if (count === MAX_KEY_SEGMENTS - 1) return false
      this.#hashes[count++] = hash
      this.#starts[count] = i + 1
      hash = FNV_START
    }
    this.#hashes[count++] = hash
    this.#starts[count] = length + 1
    this.#count = count
    return true
  }

  #walk(at: number, segment: number): void {
    const node = this.#nodes[at] as Node
    if (node.deep !== 0) for (let rest = segment; rest <= this.#count; rest++) this.#walk(node.deep, rest)
    if (segment === this.#count) {
      for (let i = 0; i < node.ends.length; i++) this.#hits.push(node.ends[i] as number)
      return
    }
    for (let i = 0; i < node.tails.length; i++) this.#hits.push(node.tails[i] as number)
    if (node.literals !== 0) {
      const child = this.#find(at, segment)
      if (child !== 0) this.#walk(child, segment + 1)
    }
    if (node.star !== 0) this.#walk(node.star, segment + 1)
    if (node.patterns.length > 0) {
      const start = this.#starts[segment] as number
      const end = (this.#starts[segment + 1] as number) - 1
      for (const pattern of node.patterns) {
        if (piecesMatch(pattern.pieces, this.#key, start, end)) this.#walk(pattern.child, segment + 1)
      }
    }
  }

  #find(parent: number, segment: number): number {
    const start = this.#starts[segment] as number
    const length = (this.#starts[segment + 1] as number) - 1 - start
    let slot = mix(parent, this.#hashes[segment] as number) & this.#mask
    for (;;) {
      const entry = (this.#table[slot] as number) - 1
      if (entry < 0) return 0
      if (this.#parents[entry] === parent) {
        const text = this.#texts[entry] as string
        if (text.length === length && sameBytes(this.#key, start, text)) return this.#children[entry] as number
      }
      slot = (slot + 1) & this.#mask
    }
  }

  #node(): number {
    this.#nodes.push({ ends: [], tails: [], patterns: [], star: 0, deep: 0, literals: 0 })
    return this.#nodes.length - 1
  }

  #add(glob: Glob, id: number): void {
    let at = 0
    for (const [i, segment] of glob.segments.entries()) {
      const node = this.#nodes[at] as Node
      if (segment.kind === 'deep') {
        if (i === glob.segments.length - 1) {
          node.tails.push(id)
          return
        }
        if (node.deep === 0) node.deep = this.#node()
        at = node.deep
      } else if (segment.kind === 'literal') at = this.#literal(at, segment.bytes)
      else if (segment.pieces.length === 2 && segment.pieces[0] === '' && segment.pieces[1] === '') {
        if (node.star === 0) node.star = this.#node()
        at = node.star
      } else {
        const text = segment.pieces.join('*')
        let pattern = node.patterns.find((p) => p.text === text)
        if (pattern === undefined) {
          pattern = { pieces: segment.pieces, text, child: this.#node() }
          node.patterns.push(pattern)
        }
        at = pattern.child
      }
    }
    ;(this.#nodes[at] as Node).ends.push(id)
  }

  #literal(parent: number, text: string): number {
    let slot = this.#slotOf(parent, text)
    const existing = (this.#table[slot] as number) - 1
    if (existing >= 0) return this.#children[existing] as number
    if ((this.#entries + 1) * 2 > this.#table.length) {
      this.#grow()
      slot = this.#slotOf(parent, text)
    }
    const child = this.#node()
    this.#parents.push(parent)
    this.#texts.push(text)
    this.#children.push(child)
    this.#table[slot] = ++this.#entries
    ;(this.#nodes[parent] as Node).literals++
    return child
  }

  /** The slot that holds (parent, text), or the empty one where it belongs. */
  #slotOf(parent: number, text: string): number {
    let slot = mix(parent, hashText(text)) & this.#mask
    for (;;) {
      const entry = (this.#table[slot] as number) - 1
      if (entry < 0 || (this.#parents[entry] === parent && this.#texts[entry] === text)) return slot
      slot = (slot + 1) & this.#mask
    }
  }

  #grow(): void {
    this.#table = new Int32Array(this.#table.length * 2)
    this.#mask = this.#table.length - 1
    for (let entry = 0; entry < this.#entries; entry++) {
      const slot = this.#slotOf(this.#parents[entry] as number, this.#texts[entry] as string)
      this.#table[slot] = entry + 1
    }
  }
}

function hashText(text: string): number {
  let hash = FNV_START
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), FNV_PRIME)
  return hash
}

function mix(parent: number, hash: number): number {
  const x = Math.imul(parent, 0x9e3779b1) ^ hash
  return (x ^ (x >>> 15)) >>> 0
}

function sameBytes(key: string, start: number, text: string): boolean {
  for (let i = 0; i < text.length; i++) if (key.charCodeAt(start + i) !== text.charCodeAt(i)) return false
  return true
}
