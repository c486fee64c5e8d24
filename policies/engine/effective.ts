// The rules that can speak in a scope, and what follows from them as a group: hashes, lapses, whether values matter.
// Owns: these derived facts. Does not own: decisions.

import type { CompiledRule, CompiledSource } from './compiled.ts'
import type { Fit } from './scope.ts'
import type { PolicyDeps } from './types.ts'

export function effectiveRules(source: CompiledSource, fit: Fit): readonly CompiledRule[] {
  return source.rules.filter((rule) => fit.allow[rule.index] === 1 || fit.deny[rule.index] === 1)
}

export const rulesReadValues = (rules: readonly CompiledRule[]): boolean =>
  rules.some((rule) => rule.when?.readsValue === true)

/** Which bases have lapsed, as text: one more lapse, another text. */
export function lapsedAt(rules: readonly CompiledRule[], now: number): string {
  return rules
    .filter((rule) => rule.expires !== undefined && rule.expires <= now)
    .map((rule) => rule.id)
    .join(' ')
}

export function nextLapse(rules: readonly CompiledRule[], now: number): number | undefined {
  let next: number | undefined
  for (const { expires } of rules)
    if (expires !== undefined && expires > now && (next === undefined || expires < next)) next = expires
  return next
}

/** One line per HMAC key the rules name, so that a new key under an old name is a policy change. */
export function fingerprints(rules: readonly CompiledRule[], deps: PolicyDeps): readonly string[] {
  const ids = new Set<string>()
  for (const rule of rules) {
    for (const transform of rule.transforms)
      if ('field' in transform && transform.action === 'hmac') ids.add(transform.key)
    for (const transform of rule.keyTransform) ids.add(transform.key)
  }
  return [...ids].sort().map((id) => `${id} ${deps.keyFingerprint(id) ?? 'missing'}`)
}
