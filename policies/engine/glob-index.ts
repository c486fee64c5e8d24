// All globs of a source region in one trie over segments, so that the cost of a key hardly grows with the number of rules.
// Owns: packing the trie and walking a key through it without allocating. Does not own: what a hit means (key-matcher.ts).
// A large index is bound by memory, not by instructions, hence the packing: eight numbers per node and per literal child, the first bytes of
// a segment and a sole glob below it among the latter. Literal children of all nodes share one open-addressed table keyed by
// (node, hash of the segment); a hash only finds a candidate, the bytes decide, or a crafted key could pass for an allowed one.

import type { Key } from '#protocol/bytes.ts'
import { MAX_KEY_BYTES, MAX_KEY_SEGMENTS } from './bounds.ts'
import { piecesMatch } from './glob.ts'
import type { Glob } from './glob.ts'
import { buildTrie } from './glob-trie.ts'
import type { Pattern, TrieNode } from './glob-trie.ts'

const SLASH = 47
const FNV_START = 0x811c9dc5
const FNV_PRIME = 0x01000193
/** Another one, so that the same segments in another order have another hash. */
const WHOLE_PRIME = 0x85ebca6b

// Fields of a node.
const NODE = 8
const STAR = 0
const DEEP = 1
const LITERALS = 2
const ENDS = 3
const ENDS_STOP = 4
const TAILS = 5
const TAILS_STOP = 6
const PATTERNS = 7

// Fields of a literal child.
const LINK = 8
const PARENT = 0
const HASH = 1
const CHILD = 2
const BYTES = 3
const LENGTH = 4
/** The first four bytes of the segment, and the next four. */
const HEAD = 5
const NEXT = 6
/** The id of the one glob with a trailing `**` here when there is nothing else below, so that the child need not be looked at; or NONE. */
const SOLE = 7
const NONE = -0x8000_0000

export class GlobIndex {
  readonly #nodes: Int32Array
  readonly #ids: Int32Array
  readonly #links: Int32Array
  readonly #bytes: Uint8Array
  /** Slot to link number + 1; 0 is empty. Never more than half full. */
  readonly #table: Int32Array
  readonly #patterns: readonly (readonly Pattern[])[]

  /** Ids found by the last `walk`; an id may come twice. Valid until the next one. */
  hits = new Int32Array(64)
  /** Of the key read last: equal keys have equal hashes. */
  hash = 0

  // Scratch of one key; reading and walking are synchronous and never re-enter.
  readonly #starts = new Int32Array(MAX_KEY_SEGMENTS + 1)
  readonly #hashes = new Int32Array(MAX_KEY_SEGMENTS)
  #count = 0
  #key = ''
  #found = 0

  constructor(globs: Iterable<{ readonly glob: Glob; readonly id: number }>) {
    const trie = buildTrie(globs)
    const nodes = new Int32Array(NODE * trie.length)
    const ids: number[] = []
    const patterns: (readonly Pattern[])[] = [[]]
    const links: number[] = []
    const texts: string[] = []
    let length = 0
    for (const [at, node] of trie.entries()) {
      const start = ids.length
      for (const id of node.ends) ids.push(id)
      const ends = ids.length
      for (const id of node.tails) ids.push(id)
      const own = node.patterns.size === 0 ? 0 : patterns.push([...node.patterns.values()]) - 1
      nodes.set([node.star, node.deep, node.literals.size, start, ends, ends, ids.length, own], NODE * at)
      for (const [text, child] of node.literals) {
        const sole = soleTail(trie[child] as TrieNode)
        links.push(at, hashText(text), child, length, text.length, fourBytes(text, 0), fourBytes(text, 4), sole)
        texts.push(text)
        length += text.length
      }
    }
    this.#nodes = nodes
    this.#ids = Int32Array.from(ids)
    this.#patterns = patterns
    this.#links = Int32Array.from(links)
    this.#bytes = new Uint8Array(length)
    let at = 0
    for (const text of texts) for (let i = 0; i < text.length; i++) this.#bytes[at++] = text.charCodeAt(i)
    this.#table = tableOf(this.#links)
  }

  /** Takes a key for `hash` and `walk`; false for one beyond the bounds. The only pass over all of its bytes. */
  read(key: Key): boolean {
    const length = key.length
    if (length > MAX_KEY_BYTES) return false
    const starts = this.#starts
    const hashes = this.#hashes
    let count = 0
    let hash = FNV_START
    let whole = length
    for (let i = 0; i < length; i++) {
      const code = key.charCodeAt(i)
      if (code !== SLASH) {
        hash = Math.imul(hash ^ code, FNV_PRIME)
        continue
      }
      if (count === MAX_KEY_SEGMENTS - 1) return false
      hashes[count++] = hash
      starts[count] = i + 1
      whole = Math.imul(whole ^ hash, WHOLE_PRIME)
      hash = FNV_START
    }
    hashes[count++] = hash
    starts[count] = length + 1
    whole = Math.imul(whole ^ hash, WHOLE_PRIME)
    whole = Math.imul(whole ^ (whole >>> 15), 0x2c1b3c6d)
    this.hash = whole ^ (whole >>> 13)
    this.#count = count
    this.#key = key
    return true
  }

  /** Fills `hits` with the ids of all globs that match the key read last; how many. */
  walk(): number {
    this.#found = 0
    this.#walk(0, 0)
    return this.#found
  }

  #walk(at: number, segment: number): void {
    const nodes = this.#nodes
    const node = NODE * at
    const deep = nodes[node + DEEP] as number
    if (deep !== 0) for (let rest = segment; rest <= this.#count; rest++) this.#walk(deep, rest)
    if (segment === this.#count) {
      this.#report(nodes[node + ENDS] as number, nodes[node + ENDS_STOP] as number)
      return
    }
    this.#report(nodes[node + TAILS] as number, nodes[node + TAILS_STOP] as number)
    if (nodes[node + LITERALS] !== 0) {
      const link = this.#find(at, segment)
      if (link >= 0) {
        const sole = this.#links[link + SOLE] as number
        if (sole === NONE) this.#walk(this.#links[link + CHILD] as number, segment + 1)
        else if (segment + 1 < this.#count) this.#hit(sole)
      }
    }
    const star = nodes[node + STAR] as number
    if (star !== 0) this.#walk(star, segment + 1)
    const patterns = nodes[node + PATTERNS] as number
    if (patterns !== 0) {
      const start = this.#starts[segment] as number
      const end = (this.#starts[segment + 1] as number) - 1
      for (const pattern of this.#patterns[patterns] as readonly Pattern[]) {
        if (piecesMatch(pattern.pieces, this.#key, start, end)) this.#walk(pattern.child, segment + 1)
      }
    }
  }

  #report(start: number, stop: number): void {
    for (let i = start; i < stop; i++) this.#hit(this.#ids[i] as number)
  }

  #hit(id: number): void {
    if (this.#found === this.hits.length) {
      const grown = new Int32Array(2 * this.hits.length)
      grown.set(this.hits)
      this.hits = grown
    }
    this.hits[this.#found++] = id
  }

  /** Where the link to the literal child of a node for a segment of the key stands, or -1. */
  #find(parent: number, segment: number): number {
    const start = this.#starts[segment] as number
    const length = (this.#starts[segment + 1] as number) - 1 - start
    const hash = this.#hashes[segment] as number
    const links = this.#links
    const table = this.#table
    const mask = table.length - 1
    let slot = mix(parent, hash) & mask
    for (;;) {
      const link = LINK * ((table[slot] as number) - 1)
      if (link < 0) return -1
      if (links[link + HASH] === hash && links[link + PARENT] === parent && links[link + LENGTH] === length) {
        if (this.#same(start, length, link)) return link
      }
      slot = (slot + 1) & mask
    }
  }

  #same(start: number, length: number, link: number): boolean {
    const key = this.#key
    const links = this.#links
    let head = 0
    let next = 0
    for (let i = 0; i < length && i < 4; i++) head |= key.charCodeAt(start + i) << (8 * i)
    for (let i = 4; i < length && i < 8; i++) next |= key.charCodeAt(start + i) << (8 * i)
    if (links[link + HEAD] !== head || links[link + NEXT] !== next) return false
    const at = links[link + BYTES] as number
    for (let i = 8; i < length; i++) if (key.charCodeAt(start + i) !== this.#bytes[at + i]) return false
    return true
  }
}

/** Bytes [from, from + 4) of a segment as one number. */
function fourBytes(text: string, from: number): number {
  let four = 0
  for (let i = from; i < text.length && i < from + 4; i++) four |= text.charCodeAt(i) << (8 * (i - from))
  return four
}

function soleTail({ ends, tails, literals, patterns, star, deep }: TrieNode): number {
  const [id] = tails
  const sole = tails.length === 1 && ends.length + literals.size + patterns.size + star + deep === 0
  return sole && id !== undefined ? id : NONE
}

function tableOf(links: Int32Array): Int32Array {
  const count = links.length / LINK
  let size = 16
  while (size < 2 * count) size *= 2
  const table = new Int32Array(size)
  for (let link = 0; link < count; link++) {
    let slot = mix(links[LINK * link + PARENT] as number, links[LINK * link + HASH] as number) & (size - 1)
    while (table[slot] !== 0) slot = (slot + 1) & (size - 1)
    table[slot] = link + 1
  }
  return table
}

function hashText(text: string): number {
  let hash = FNV_START
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), FNV_PRIME)
  return hash | 0
}

function mix(parent: number, hash: number): number {
  const x = Math.imul(parent, 0x9e3779b1) ^ hash
  return (x ^ (x >>> 15)) >>> 0
}
