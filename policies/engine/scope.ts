// For whom a decision is made: the hub (egress) or a class of subscribers (deliver), and which rules can speak there at all.
// Owns: regions, audiences and whenSubscriber, resolved once per scope so that no event pays for them.
// At egress audience and whenSubscriber count as true in allow rules and as false in deny rules: what only some may not see must still
// be able to leave for the others.

import type { CompiledDestination, CompiledRule, CompiledSource } from './compiled.ts'
import type { PolicyClass } from './types.ts'

export type Scope =
  | { readonly stage: 'egress'; readonly hub: string }
  | { readonly stage: 'deliver'; readonly cls: PolicyClass }

/** By rule index: 1 when the rule can match as an allow rule, and when it can match as a deny rule. */
export type Fit = { readonly allow: Uint8Array; readonly deny: Uint8Array }

export function fitRules(source: CompiledSource, scope: Scope): Fit {
  const allow = new Uint8Array(source.rules.length)
  const deny = new Uint8Array(source.rules.length)
  for (const rule of source.rules) {
    if (rule.effect === 'allow') allow[rule.index] = fits(rule, scope, false) ? 1 : 0
    // An allow rule whose basis lapsed is a deny rule from then on, so it needs both answers.
    if (rule.effect === 'deny' || rule.expires !== undefined) deny[rule.index] = fits(rule, scope, true) ? 1 : 0
  }
  return { allow, deny }
}

function fits(rule: CompiledRule, scope: Scope, denying: boolean): boolean {
  if (scope.stage === 'egress') {
    if (rule.regions !== undefined && !rule.regions.has(scope.hub)) return false
    return !denying || (rule.audience === undefined && rule.whenSubscriber === undefined)
  }
  if (!reaches(rule, scope.cls)) return false
  if (rule.whenSubscriber === undefined) return true
  const result = scope.cls.conditions[rule.whenSubscriber]
  return result === '1' || (denying && result !== '0')
}

/** Whether a destination (of a rule, a limit, an activity entry) includes a class. */
export function reaches(to: CompiledDestination, cls: PolicyClass): boolean {
  if (to.regions !== undefined && !to.regions.has(cls.region)) return false
  return to.audience === undefined || to.audience.some((audience) => cls.audiences.includes(audience))
}
