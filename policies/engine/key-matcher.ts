// Which rules a key meets: one walk of the glob index per unknown key, then a bounded memory.
// Owns: match sets, interned, so that a class can remember what it decided for a set instead of for a key.
// Does not own: effects, regions, classes (plan.ts).

import type { Key } from '#protocol/bytes.ts'
import { MAX_MATCH_SETS, MAX_REMEMBERED_KEYS } from './bounds.ts'
import { GlobIndex } from './glob-index.ts'
import type { Glob } from './glob.ts'

/** The rules (ascending indexes) whose `keys` match and whose `except` do not. Interned ones have an id >= 0 and are shared. */
export type MatchSet = { readonly id: number; readonly rules: readonly number[] }

export class KeyMatcher {
  readonly #index: GlobIndex
  readonly #ruleCount: number
  /**
   * What keys met that came more than once, in pairs of slots chosen by the key's hash: a newcomer pushes out the older of the two. Hashes stand
   * in an array of their own, so that a key that is not there costs no look at another key's text; the text decides.
   */
  #hashes = new Int32Array(2)
  #keys: (Key | undefined)[] = [undefined, undefined]
  #found: (MatchSet | undefined)[] = [undefined, undefined]
  #mask = 0
  #newcomers = 1
  /** Hashes of keys that came once. Keeping a key costs more than finding out again, and in a registry most keys never come back. */
  readonly #once = new Int32Array(MAX_REMEMBERED_KEYS)
  readonly #interned = new Map<number, MatchSet[]>()
  /** The commonest sets, found without hashing: no rule, and one rule. */
  readonly #none: MatchSet = { id: 0, rules: [] }
  readonly #singles: (MatchSet | undefined)[]
  #sets = 1

  constructor(rules: readonly { readonly keys: readonly Glob[]; readonly except: readonly Glob[] }[]) {
    const globs: { glob: Glob; id: number }[] = []
    for (const [rule, { keys, except }] of rules.entries()) {
      for (const glob of keys) globs.push({ glob, id: rule })
      for (const glob of except) globs.push({ glob, id: -1 - rule })
    }
    this.#index = new GlobIndex(globs)
    this.#ruleCount = rules.length
    this.#singles = Array.from({ length: rules.length }, () => undefined)
  }

  /** Undefined for a key beyond the bounds, for which no rule may be evaluated. */
  lookup(key: Key): MatchSet | undefined {
    const index = this.#index
    if (!index.read(key)) return undefined
    const { hash } = index
    const slot = hash & this.#mask
    if (this.#hashes[slot] === hash && this.#keys[slot] === key) return this.#found[slot]
    if (this.#hashes[slot + 1] === hash && this.#keys[slot + 1] === key) return this.#found[slot + 1]
    const set = this.#search()
    const first = hash & (MAX_REMEMBERED_KEYS - 1)
    if (this.#once[first] === hash) this.#remember(key, hash, set)
    else this.#once[first] = hash
    return set
  }

  #remember(key: Key, hash: number, set: MatchSet): void {
    if (++this.#newcomers > this.#mask) this.#grow()
    const slot = hash & this.#mask
    this.#hashes[slot + 1] = this.#hashes[slot] as number
    this.#keys[slot + 1] = this.#keys[slot]
    this.#found[slot + 1] = this.#found[slot]
    this.#hashes[slot] = hash
    this.#keys[slot] = key
    this.#found[slot] = set
  }

  /** Twice the room, empty: keys still in use come back by themselves. At full size nothing is thrown away any more. */
  #grow(): void {
    if (this.#keys.length >= MAX_REMEMBERED_KEYS) {
      this.#newcomers = Number.NEGATIVE_INFINITY
      return
    }
    this.#newcomers = 1
    const size = Math.max(1024, this.#keys.length * 4)
    this.#hashes = new Int32Array(size)
    this.#keys = slots(size)
    this.#found = slots(size)
    this.#mask = size - 2
  }

  /** What the key read last meets. */
  #search(): MatchSet {
    const found = this.#index.walk()
    if (found === 0) return this.#none
    const { hits } = this.#index
    const only = hits[0] as number
    if (found === 1 && only >= 0) return (this.#singles[only] ??= this.#intern(hits, 0, 1, only))
    sortStart(hits, found)
    // Exclusions are negative, hence first; what is left is compacted in place.
    let from = 0
    while (from < found && (hits[from] as number) < 0) from++
    let count = 0
    let hash = this.#ruleCount
    let last = -1
    for (let i = from; i < found; i++) {
      const rule = hits[i] as number
      if (rule === last || (from > 0 && excluded(hits, from, rule))) continue
      last = rule
      hits[from + count++] = rule
      hash = (Math.imul(hash, 0x01000193) ^ rule) | 0
    }
    if (count === 0) return this.#none
    const first = hits[from] as number
    if (count === 1) return (this.#singles[first] ??= this.#intern(hits, from, 1, first))
    return this.#intern(hits, from, count, hash)
  }

  /** The set of hits[from, from + count). */
  #intern(hits: Int32Array, from: number, count: number, hash: number): MatchSet {
    let bucket = this.#interned.get(hash)
    if (bucket !== undefined) {
      for (let b = 0; b < bucket.length; b++) {
        const set = bucket[b] as MatchSet
        if (sameRules(set.rules, hits, from, count)) return set
      }
    }
    const rules = Array.from(hits.subarray(from, from + count))
    // Beyond the cap sets are not shared: slower, never wrong.
    if (this.#sets >= MAX_MATCH_SETS) return { id: -1, rules }
    const set: MatchSet = { id: this.#sets++, rules }
    if (bucket === undefined) this.#interned.set(hash, (bucket = []))
    bucket.push(set)
    return set
  }
}

const slots = (length: number): undefined[] => Array.from({ length }, () => undefined)

/** Sorts numbers[0, count) in place; by insertion below the size where a call pays. */
function sortStart(numbers: Int32Array, count: number): void {
  if (count > 24) {
    numbers.subarray(0, count).sort()
    return
  }
  for (let i = 1; i < count; i++) {
    const number = numbers[i] as number
    let at = i
    for (; at > 0 && (numbers[at - 1] as number) > number; at--) numbers[at] = numbers[at - 1] as number
    numbers[at] = number
  }
}

function excluded(hits: Int32Array, count: number, rule: number): boolean {
  for (let i = 0; i < count; i++) if (hits[i] === -1 - rule) return true
  return false
}

function sameRules(rules: readonly number[], hits: Int32Array, from: number, count: number): boolean {
  if (rules.length !== count) return false
  for (let i = 0; i < count; i++) if (rules[i] !== hits[from + i]) return false
  return true
}
