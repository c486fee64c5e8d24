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
  /** Two generations: when the young one is full it becomes the old one, and the old one is forgotten. */
  #young = new Map<Key, MatchSet>()
  #old = new Map<Key, MatchSet>()
  readonly #interned = new Map<number, MatchSet[]>()
  #sets = 0
  readonly #hits: number[] = []
  readonly #excluded = new Set<number>()

  constructor(rules: readonly { readonly keys: readonly Glob[]; readonly except: readonly Glob[] }[]) {
    const globs: { glob: Glob; id: number }[] = []
    for (const [rule, { keys, except }] of rules.entries()) {
      for (const glob of keys) globs.push({ glob, id: rule })
      for (const glob of except) globs.push({ glob, id: -1 - rule })
    }
    this.#index = new GlobIndex(globs)
    this.#ruleCount = rules.length
  }

  /** Undefined for a key beyond the bounds, for which no rule may be evaluated. */
  lookup(key: Key): MatchSet | undefined {
    const known = this.#young.get(key)
    if (known !== undefined) return known
    let found = this.#old.get(key)
    if (found === undefined) {
      found = this.#search(key)
      if (found === undefined) return undefined
    }
    if (this.#young.size >= MAX_REMEMBERED_KEYS / 2) {
      this.#old = this.#young
      this.#young = new Map()
    }
    this.#young.set(key, found)
    return found
  }

  #search(key: Key): MatchSet | undefined {
    const hits = this.#hits
    hits.length = 0
    if (!this.#index.match(key, hits)) return undefined
    if (hits.length > 1) hits.sort((a, b) => a - b)
    // Exclusions are negative, hence first.
    this.#excluded.clear()
    let from = 0
    while (from < hits.length && (hits[from] as number) < 0) this.#excluded.add(-1 - (hits[from++] as number))
    const rules: number[] = []
    let hash = this.#ruleCount
    for (let i = from; i < hits.length; i++) {
      const rule = hits[i] as number
      if (rule === rules.at(-1) || this.#excluded.has(rule)) continue
      rules.push(rule)
      hash = (Math.imul(hash, 0x01000193) ^ rule) | 0
    }
    return this.#intern(rules, hash)
  }

  #intern(rules: readonly number[], hash: number): MatchSet {
    let bucket = this.#interned.get(hash)
    const existing = bucket?.find((set) => sameRules(set.rules, rules))
    if (existing !== undefined) return existing
    // Beyond the cap sets are not shared: slower, never wrong.
    if (this.#sets >= MAX_MATCH_SETS) return { id: -1, rules }
    const set: MatchSet = { id: this.#sets++, rules }
    if (bucket === undefined) this.#interned.set(hash, (bucket = []))
    bucket.push(set)
    return set
  }
}

function sameRules(a: readonly number[], b: readonly number[]): boolean {
  if (a.length !== b.length) return false
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false
  return true
}
