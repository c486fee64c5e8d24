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
   * What recent keys met, in pairs of slots chosen by a hash of the key: a newcomer pushes out the older of the two. A Map would cost five times
   * as much per new key, and most keys of a registry are new.
   */
  #keys: (Key | undefined)[] = []
  #found: (MatchSet | undefined)[] = []
  #mask = 0
  #newcomers = 1
  readonly #interned = new Map<number, MatchSet[]>()
  /** The commonest sets, found without hashing: no rule, and one rule. */
  readonly #none: MatchSet = { id: 0, rules: [] }
  readonly #singles: (MatchSet | undefined)[]
  #sets = 1
  readonly #hits: number[] = []

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
    if (this.#newcomers > this.#mask) this.#grow()
    const keys = this.#keys
    const found = this.#found
    const slot = slotOf(key) & this.#mask
    if (keys[slot] === key) return found[slot]
    if (keys[slot + 1] === key) return found[slot + 1]
    const set = this.#search(key)
    if (set === undefined) return undefined
    this.#newcomers++
    keys[slot + 1] = keys[slot]
    found[slot + 1] = found[slot]
    keys[slot] = key
    found[slot] = set
    return set
  }

  /** Twice the room, empty: keys still in use come back by themselves. At full size nothing is thrown away any more. */
  #grow(): void {
    this.#newcomers = 0
    if (this.#keys.length >= MAX_REMEMBERED_KEYS) {
      this.#newcomers = Number.NEGATIVE_INFINITY
      return
    }
    const size = Math.max(1024, this.#keys.length * 4)
    this.#keys = slots(size)
    this.#found = slots(size)
    this.#mask = size - 2
  }

  #search(key: Key): MatchSet | undefined {
    const hits = this.#hits
    hits.length = 0
    if (!this.#index.match(key, hits)) return undefined
    if (hits.length === 0) return this.#none
    const only = hits[0] as number
    if (hits.length === 1 && only >= 0) return (this.#singles[only] ??= this.#intern(hits, 0, 1, only))
    hits.sort(ascending)
    // Exclusions are negative, hence first; what is left is compacted in place.
    let from = 0
    while (from < hits.length && (hits[from] as number) < 0) from++
    let count = 0
    let hash = this.#ruleCount
    let last = -1
    for (let i = from; i < hits.length; i++) {
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
  #intern(hits: readonly number[], from: number, count: number, hash: number): MatchSet {
    let bucket = this.#interned.get(hash)
    if (bucket !== undefined) {
      for (let b = 0; b < bucket.length; b++) {
        const set = bucket[b] as MatchSet
        if (sameRules(set.rules, hits, from, count)) return set
      }
    }
    const rules = hits.slice(from, from + count)
    // Beyond the cap sets are not shared: slower, never wrong.
    if (this.#sets >= MAX_MATCH_SETS) return { id: -1, rules }
    const set: MatchSet = { id: this.#sets++, rules }
    if (bucket === undefined) this.#interned.set(hash, (bucket = []))
    bucket.push(set)
    return set
  }
}

/** Longer keys are told apart by their end and length; what collides costs a walk, nothing else. */
function slotOf(key: string): number {
  let hash = key.length
  for (let i = Math.max(0, key.length - 64); i < key.length; i++) hash = Math.imul(hash ^ key.charCodeAt(i), 0x01000193)
  hash = Math.imul(hash ^ (hash >>> 15), 0x2c1b3c6d)
  return hash ^ (hash >>> 13)
}

const slots = (length: number): undefined[] => Array.from({ length }, () => undefined)

const ascending = (a: number, b: number): number => a - b

function excluded(hits: readonly number[], count: number, rule: number): boolean {
  for (let i = 0; i < count; i++) if (hits[i] === -1 - rule) return true
  return false
}

function sameRules(rules: readonly number[], hits: readonly number[], from: number, count: number): boolean {
  if (rules.length !== count) return false
  for (let i = 0; i < count; i++) if (rules[i] !== hits[from + i]) return false
  return true
}
