// A second bundle beside the live one: how their answers differ, counted per rule, with a bounded list of examples.
// Owns: comparing and counting. Does not own: asking both bundles (agent and gateway do), nor the log. Never keeps a key or a value.

import type { Decision } from './types.ts'

export type Difference = {
  readonly live: Decision['effect']
  readonly shadow: Decision['effect']
  /** The rule that makes the difference: what withholds or denies where the other lets more through, else the first that allows. */
  readonly rule: string
  readonly what: 'effect' | 'key' | 'value' | 'transforms'
}

export function difference(live: Decision, shadow: Decision): Difference | undefined {
  if (live.effect !== shadow.effect)
    return { live: live.effect, shadow: shadow.effect, rule: blame(live, shadow), what: 'effect' }
  if (live.effect === 'deny' || shadow.effect === 'deny') return undefined
  const base = { live: live.effect, shadow: shadow.effect, rule: blame(live, shadow) }
  if (live.key !== shadow.key) return { ...base, what: 'key' }
  if (live.effect === 'allow' && shadow.effect === 'allow' && !sameBytes(live.value, shadow.value))
    return { ...base, what: 'value' }
  return live.transforms.join(' ') === shadow.transforms.join(' ') ? undefined : { ...base, what: 'transforms' }
}

const STRICTNESS = { allow: 0, withhold: 1, deny: 2 } as const

function blame(live: Decision, shadow: Decision): string {
  const stricter = STRICTNESS[shadow.effect] >= STRICTNESS[live.effect] ? shadow : live
  const other = stricter === shadow ? live : shadow
  return ruleOf(stricter) ?? ruleOf(other) ?? 'default-deny'
}

const ruleOf = (decision: Decision): string | undefined =>
  decision.effect === 'allow' ? decision.rules[0] : decision.rule

function sameBytes(a: Uint8Array | undefined, b: Uint8Array | undefined): boolean {
  if (a === b) return true
  if (a === undefined || b === undefined || a.length !== b.length) return false
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false
  return true
}

export type DifferenceCount = Difference & { readonly count: number; readonly examples: readonly string[] }

const MAX_COUNTED = 1024
const MAX_EXAMPLES = 5

/** Differences of one pair of bundles. Beyond the bound new kinds are counted together as `(more)`. */
export class DifferenceTally {
  readonly #counts = new Map<string, { difference: Difference; count: number; examples: string[] }>()
  decisions = 0

  /** `keyHash` names the example; keyed, as in the decision log. */
  add(live: Decision, shadow: Decision, keyHash: () => string): Difference | undefined {
    this.decisions++
    const found = difference(live, shadow)
    if (found === undefined) return undefined
    const full = this.#counts.size >= MAX_COUNTED
    let name = `${found.live} ${found.shadow} ${found.what} ${found.rule}`
    if (full && !this.#counts.has(name)) name = '(more)'
    let entry = this.#counts.get(name)
    if (entry === undefined)
      this.#counts.set(
        name,
        (entry = { difference: name === '(more)' ? { ...found, rule: name } : found, count: 0, examples: [] }),
      )
    entry.count++
    if (entry.examples.length < MAX_EXAMPLES) entry.examples.push(keyHash())
    return found
  }

  list(): readonly DifferenceCount[] {
    return [...this.#counts.values()]
      .map(({ difference: found, count, examples }) => ({ ...found, count, examples: [...examples] }))
      .sort((a, b) => b.count - a.count)
  }
}
