// What is known about an event once its match set, its scope and the time are: nearly always everything.
// Owns: deny beats allow, lapsed bases turning into denies, the key transform, and the order conditions are asked in.
// A plan holds from one lapse to the next. Does not own: evaluating conditions and transforms (decider.ts).

import { MAX_MATCH_SETS } from './bounds.ts'
import type { CompiledRule, CompiledSource } from './compiled.ts'
import type { KeyTransform } from './document.ts'
import { keyDescriptor } from './key-transform.ts'
import type { MatchSet } from './key-matcher.ts'
import { Outcome } from './outcome.ts'
import type { Fit } from './scope.ts'
import type { Decision, Op } from './types.ts'
import type { ValueSchema } from './value-schema.ts'

export const DEFAULT_DENY: Decision = Object.freeze({ effect: 'deny', reason: 'default-deny' })
export const KEY_CONFLICT: Decision = Object.freeze({ effect: 'deny', reason: 'key-transform-conflict' })

export type ConditionalDeny = { readonly rule: CompiledRule; readonly decision: Decision; readonly failed: Decision }

export type OpPlan = {
  /** Decided, whatever the value is. */
  readonly constant: Decision | undefined
  readonly denies: readonly ConditionalDeny[]
  /** Allow rules without a condition, and those with one. */
  readonly base: readonly CompiledRule[]
  readonly conditional: readonly CompiledRule[]
  /** Of `base` alone. */
  readonly outcome: Outcome
  /** By which conditional rules match besides. */
  readonly outcomes: Map<string, Outcome>
}

export type Plan = {
  /** Holds for from <= now < until. */
  readonly from: number
  readonly until: number
  /** It holds at any time: nothing in it lapses. */
  readonly timeless: boolean
  /** The rules that allow every put as it is: no condition, schema, transform or key transform has a say. The usual case, kept close. */
  readonly plainPut: readonly string[] | undefined
  readonly put: OpPlan
  readonly delete: OpPlan
  readonly keyTransform: readonly KeyTransform[]
  readonly keyDescriptors: readonly string[]
  readonly quarantines: readonly ValueSchema[]
  readonly withholds: readonly ValueSchema[]
}

/** Plans shared by all scopes of a source that treat a match set alike, so that many classes cost no more memory than few. */
export class PlanTable {
  readonly #plans = new Map<string, Plan>()

  plan(source: CompiledSource, set: MatchSet, fit: Fit, checkSchemas: boolean, now: number): Plan {
    let name = checkSchemas ? 's' : ''
    for (const index of set.rules) {
      const { expires } = source.rules[index] ?? {}
      const bits =
        (fit.allow[index] ?? 0) | ((fit.deny[index] ?? 0) << 1) | (expires !== undefined && expires <= now ? 4 : 0)
      name += `${index}.${bits} `
    }
    let plan = this.#plans.get(name)
    if (plan === undefined) {
      plan = makePlan(source, set, fit, checkSchemas, now)
      if (this.#plans.size >= MAX_MATCH_SETS) this.#plans.clear()
      this.#plans.set(name, plan)
    }
    return plan
  }
}

function makePlan(source: CompiledSource, set: MatchSet, fit: Fit, checkSchemas: boolean, now: number): Plan {
  const rules: CompiledRule[] = []
  const schemas: ValueSchema[] = []
  for (const index of set.rules) {
    const rule = source.rules[index]
    if (rule !== undefined) rules.push(rule)
    else if (checkSchemas) schemas.push(source.schemas[index - source.rules.length] as ValueSchema)
  }
  let from = Number.NEGATIVE_INFINITY
  let until = Number.POSITIVE_INFINITY
  for (const { expires } of rules) {
    if (expires === undefined) continue
    if (expires <= now) from = Math.max(from, expires)
    else until = Math.min(until, expires)
  }
  const keys = keyTransformOf(rules, fit)
  const put = opPlan(rules, fit, 'put', keys === 'conflict', now)
  const settled = put.constant === undefined && put.denies.length === 0 && put.conditional.length === 0
  const untouched = keys.length === 0 && schemas.length === 0 && !put.outcome.touchesValue
  return {
    // What nearly every decision asks comes first, so that it is fetched with the head of the object.
    timeless: from === Number.NEGATIVE_INFINITY && until === Number.POSITIVE_INFINITY,
    plainPut: settled && untouched ? put.outcome.rules : undefined,
    from,
    until,
    put,
    delete: opPlan(rules, fit, 'delete', keys === 'conflict', now),
    keyTransform: keys === 'conflict' ? [] : keys,
    keyDescriptors: keys === 'conflict' ? [] : keys.map(keyDescriptor),
    quarantines: schemas.filter((schema) => schema.onInvalid === 'quarantine'),
    withholds: schemas.filter((schema) => schema.onInvalid === 'withhold'),
  }
}

/**
 * The key as delivered depends on the key and the scope alone, never on the operation, the value or the time: otherwise a delete could
 * name another key than its put. So every allow rule that names the key has its say, whatever its `ops`, `when` and `basis`.
 */
function keyTransformOf(rules: readonly CompiledRule[], fit: Fit): readonly KeyTransform[] | 'conflict' {
  let chosen: readonly KeyTransform[] = []
  let spelling = ''
  for (const rule of rules) {
    if (rule.keyTransform.length === 0 || fit.allow[rule.index] !== 1) continue
    const own = rule.keyTransform.map(keyDescriptor).sort().join(' ')
    if (spelling !== '' && spelling !== own) return 'conflict'
    spelling = own
    chosen = rule.keyTransform
  }
  return chosen
}

function opPlan(rules: readonly CompiledRule[], fit: Fit, op: Op, conflict: boolean, now: number): OpPlan {
  const base: CompiledRule[] = []
  const conditional: CompiledRule[] = []
  const denies: ConditionalDeny[] = []
  let constant: Decision | undefined
  let lapse: Decision | undefined
  for (const rule of rules) {
    if (!rule.ops[op]) continue
    const lapsed = rule.effect === 'allow' && rule.expires !== undefined && rule.expires <= now
    if (rule.effect === 'allow' && !lapsed) {
      if (fit.allow[rule.index] === 1) (rule.when === undefined ? base : conditional).push(rule)
      continue
    }
    const decision: Decision = Object.freeze({
      effect: 'deny',
      rule: rule.id,
      reason: lapsed ? 'basis-expired' : 'deny-rule',
    })
    if (lapsed && fit.allow[rule.index] === 1) lapse ??= decision
    if (fit.deny[rule.index] !== 1) continue
    if (rule.when === undefined) constant ??= decision
    else
      denies.push({
        rule,
        decision,
        failed: Object.freeze({ effect: 'deny', rule: rule.id, reason: 'condition-error' }),
      })
  }
  // Nothing allows it either way; saying that a basis lapsed is what helps whoever looks for the cause.
  if (base.length === 0 && conditional.length === 0) constant ??= lapse ?? DEFAULT_DENY
  else if (conflict) constant ??= KEY_CONFLICT
  return {
    constant,
    denies,
    base,
    conditional,
    outcome: new Outcome(constant === undefined ? base : []),
    outcomes: new Map(),
  }
}
