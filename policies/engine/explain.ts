// Why a decision came out as it did: every rule whose keys match, and the first thing that kept it from speaking, or that it spoke.
// Owns: the explanation, made by asking each rule again, slowly. The decision itself still comes from the decider.

import type { CompiledRule } from './compiled.ts'
import { MAX_CONDITION_VALUE_BYTES } from './bounds.ts'
import { globMatches } from './glob.ts'
import { decodeJson } from './json-decode.ts'
import type { Scope } from './scope.ts'
import type { PolicyBundle, PolicyEvent } from './types.ts'

export type RuleVerdict =
  | 'allows'
  | 'denies'
  | 'denies: its basis has lapsed'
  | 'denies: its condition failed to evaluate'
  | 'no: except'
  | 'no: operation'
  | 'no: region'
  | 'no: audience'
  | 'no: only some subscribers, so not at egress'
  | 'no: whenSubscriber is false'
  | 'no: whenSubscriber failed to evaluate'
  | 'no: when is false'
  | 'no: when failed to evaluate'
  | 'unknown: the previous value is not known'

export type RuleExplanation = {
  readonly rule: string
  readonly effect: 'allow' | 'deny'
  readonly file: string
  readonly verdict: RuleVerdict
}

export function explainRules(
  bundle: PolicyBundle,
  sourceRegion: string,
  scope: Scope,
  event: PolicyEvent,
  now: number,
): readonly RuleExplanation[] {
  const source = bundle.compiled.sources.get(sourceRegion)
  return (source?.rules ?? [])
    .filter((rule) => rule.keys.some((glob) => globMatches(glob, event.key)))
    .map((rule) => ({
      rule: rule.id,
      effect: rule.effect,
      file: rule.file,
      verdict: verdictOf(rule, scope, event, now),
    }))
}

function verdictOf(rule: CompiledRule, scope: Scope, event: PolicyEvent, now: number): RuleVerdict {
  if (rule.except.some((glob) => globMatches(glob, event.key))) return 'no: except'
  if (!rule.ops[event.op]) return 'no: operation'
  const to = scope.stage === 'egress' ? scope.hub : scope.cls.region
  if (rule.regions !== undefined && !rule.regions.has(to)) return 'no: region'
  const lapsed = rule.effect === 'allow' && rule.expires !== undefined && rule.expires <= now
  const denying = rule.effect === 'deny' || lapsed
  if (scope.stage === 'egress') {
    if (denying && (rule.audience !== undefined || rule.whenSubscriber !== undefined))
      return 'no: only some subscribers, so not at egress'
  } else {
    if (rule.audience !== undefined && !rule.audience.some((audience) => scope.cls.audiences.includes(audience)))
      return 'no: audience'
    const result = rule.whenSubscriber === undefined ? '1' : scope.cls.conditions[rule.whenSubscriber]
    if (result === '0') return 'no: whenSubscriber is false'
    if (result !== '1' && !denying) return 'no: whenSubscriber failed to evaluate'
    if (result !== '1') return 'denies: its condition failed to evaluate'
  }
  const yes = lapsed ? 'denies: its basis has lapsed' : denying ? 'denies' : 'allows'
  if (rule.when === undefined) return yes
  if (rule.when.readsValue && event.op === 'delete' && !event.prevKnown)
    return 'unknown: the previous value is not known'
  try {
    if (event.applied !== undefined) rule.when.readable.check(event.applied, () => valueOf(event))
    return rule.when.evaluate(event.op, event.key, () => valueOf(event)) ? yes : 'no: when is false'
  } catch {
    return denying ? 'denies: its condition failed to evaluate' : 'no: when failed to evaluate'
  }
}

function valueOf(event: PolicyEvent): unknown {
  const bytes = event.op === 'put' ? event.value : event.prevValue
  if (bytes === undefined) throw new Error('there is no value to look at')
  return decodeJson(bytes, MAX_CONDITION_VALUE_BYTES)
}
