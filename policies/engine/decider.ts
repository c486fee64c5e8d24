// One decision: event in, allow / withhold / deny out. Shared by egress and deliver, which differ only in their scope.
// Owns: asking conditions, unknown previous values (three answers, never a guess), schemas, transforms, and that no error allows.
// Everything that does not depend on the event was settled in plan.ts.

import type { Key } from '#protocol/bytes.ts'
import { MAX_OUTCOMES_PER_PLAN } from './bounds.ts'
import { BytesOut } from './bytes-out.ts'
import type { CompiledRule, CompiledSource } from './compiled.ts'
import type { ValueCondition } from './condition.ts'
import { looksTransformed, transformKey } from './key-transform.ts'
import type { MatchSet } from './key-matcher.ts'
import { Outcome } from './outcome.ts'
import { DEFAULT_DENY } from './plan.ts'
import type { OpPlan, Plan } from './plan.ts'
import { fitRules } from './scope.ts'
import type { Fit, Scope } from './scope.ts'
import type { Decision, DenyReason, PolicyDeps, PolicyEvent, Visibility } from './types.ts'
import type { ValueMemo } from './value-memo.ts'
import type { ValueSchema } from './value-schema.ts'

const deny = (reason: DenyReason): Decision => Object.freeze({ effect: 'deny', reason })
const NONE: readonly string[] = []
const FAILED = deny('error')
const TOO_LONG = deny('key-too-long')
const RESERVED = deny('key-reserved')
const KEY_FAILED = deny('key-transform-failed')
const PREV_UNKNOWN = deny('prev-unknown')

type Answer = 'yes' | 'no' | 'failed' | 'unknown'
type Admitted = { readonly plan: Plan; readonly outcome: Outcome; readonly invalid: ValueSchema | undefined }

export class Decider {
  readonly fit: Fit
  readonly #source: CompiledSource
  readonly #deps: PolicyDeps
  readonly #egress: boolean
  /** Source keys that look like the outcome of a keyTransform must not leave. */
  readonly #checksKeys: boolean
  readonly #plans: (Plan | undefined)[] = []
  readonly #values: ValueMemo
  readonly #out = new BytesOut()

  constructor(source: CompiledSource, scope: Scope, deps: PolicyDeps) {
    this.#source = source
    this.#deps = deps
    this.#egress = scope.stage === 'egress'
    this.fit = fitRules(source, scope)
    this.#values = source.values
    this.#checksKeys = this.#egress && source.transformsKeys
  }

  decide(event: PolicyEvent, now: number): Decision {
    try {
      const set = this.#source.matcher.lookup(event.key)
      if (set === undefined) return TOO_LONG
      const plan = this.#plan(set, now)
      const rules = plan.plainPut
      if (
        rules !== undefined &&
        event.op === 'put' &&
        event.value !== undefined &&
        event.withheld === undefined &&
        !this.#checksKeys
      ) {
        return { effect: 'allow', key: event.key, value: event.value, transforms: NONE, rules }
      }
      const admitted = this.#admit(event, plan)
      return 'effect' in admitted ? admitted : this.#release(event, admitted)
    } catch {
      return FAILED
    }
  }

  visible(event: PolicyEvent, now: number): Visibility {
    try {
      const set = this.#source.matcher.lookup(event.key)
      if (set === undefined) return 'hidden'
      const admitted = this.#admit(event, this.#plan(set, now))
      if ('effect' in admitted) return admitted === PREV_UNKNOWN ? 'unknown' : 'hidden'
      const { keyTransform } = admitted.plan
      if (keyTransform.length === 0) return 'visible'
      return transformKey(event.key, keyTransform, !this.#egress, this.#deps) === undefined ? 'hidden' : 'visible'
    } catch {
      return 'hidden'
    }
  }

  /** Whether the event is in view at all: a denial, or what to do with it. */
  #admit(event: PolicyEvent, plan: Plan): Decision | Admitted {
    const own = event.op === 'put' ? plan.put : plan.delete
    if (own.constant !== undefined) return own.constant
    if (this.#checksKeys && looksTransformed(event.key)) return RESERVED
    let unknown = false
    for (const { rule, decision, failed } of own.denies) {
      const answer = this.#ask(rule, event)
      if (answer === 'yes') return decision
      if (answer === 'failed') return failed
      if (answer === 'unknown') unknown = true
    }
    const outcome = own.conditional.length === 0 ? own.outcome : this.#choose(own, event)
    if (outcome === undefined) return PREV_UNKNOWN
    if (outcome.rules.length === 0) return DEFAULT_DENY
    if (unknown) return PREV_UNKNOWN
    if (plan.quarantines.length > 0) {
      const held = this.#quarantine(plan.quarantines, event)
      if (held !== undefined) return held
    }
    const invalid = event.op === 'put' && event.value !== undefined ? failing(plan.withholds, event.value) : undefined
    return { plan, outcome, invalid }
  }

  /** The outcome of all allow rules that match; one without rules when none does; undefined when it depends on an unknown value. */
  #choose(own: OpPlan, event: PolicyEvent): Outcome | undefined {
    let chosen = ''
    let maybe = false
    const matching: CompiledRule[] = []
    for (const [i, rule] of own.conditional.entries()) {
      const answer = this.#ask(rule, event)
      if (answer === 'yes') {
        chosen += `${i} `
        matching.push(rule)
      } else if (answer === 'unknown') maybe = true
    }
    if (matching.length === 0) return maybe && own.base.length === 0 ? undefined : own.outcome
    let outcome = own.outcomes.get(chosen)
    if (outcome === undefined) {
      outcome = new Outcome([...own.base, ...matching].sort((a, b) => a.index - b.index))
      if (own.outcomes.size < MAX_OUTCOMES_PER_PLAN) own.outcomes.set(chosen, outcome)
    }
    return outcome
  }

  #release(event: PolicyEvent, { plan, outcome, invalid }: Admitted): Decision {
    const { rules } = outcome
    let key: Key | undefined = event.key
    let transforms = outcome.descriptors
    if (plan.keyTransform.length > 0) {
      key = transformKey(event.key, plan.keyTransform, !this.#egress, this.#deps)
      if (key === undefined) return KEY_FAILED
      transforms = event.op === 'put' ? [...plan.keyDescriptors, ...outcome.descriptors] : plan.keyDescriptors
    } else if (event.op === 'delete') transforms = plan.keyDescriptors
    if (event.op === 'delete') return { effect: 'allow', key, transforms, rules }
    if (event.withheld !== undefined)
      return { effect: 'withhold', key, rule: event.withheld, reason: 'egress', transforms, rules }
    if (invalid !== undefined)
      return { effect: 'withhold', key, rule: invalid.id, reason: 'schema-invalid', transforms, rules }
    if (event.value === undefined)
      return { effect: 'withhold', key, rule: rules[0] ?? '', reason: 'error', transforms, rules }
    if (!outcome.touchesValue) return { effect: 'allow', key, value: event.value, transforms, rules }
    const result = this.#transform(outcome, event.value, event.applied)
    if (result.ok) return { effect: 'allow', key, value: result.value, transforms, rules }
    return { effect: 'withhold', key, rule: result.rule, reason: result.reason, transforms, rules }
  }

  #transform(
    outcome: Outcome,
    value: Uint8Array,
    applied: readonly string[] | undefined,
  ): ReturnType<Outcome['apply']> {
    try {
      return outcome.apply(value, applied, this.#deps, this.#out)
    } catch {
      return { ok: false, reason: 'error', rule: outcome.rules[0] ?? '' }
    }
  }

  #quarantine(schemas: readonly ValueSchema[], event: PolicyEvent): Decision | undefined {
    if (event.op === 'delete' && !event.prevKnown) return PREV_UNKNOWN
    const value = event.op === 'put' ? event.value : event.prevValue
    const schema = value === undefined ? undefined : failing(schemas, value)
    return schema === undefined ? undefined : { effect: 'deny', rule: schema.id, reason: 'quarantined' }
  }

  #plan(set: MatchSet, now: number): Plan {
    const known = set.id >= 0 ? this.#plans[set.id] : undefined
    if (known !== undefined && (known.timeless || (known.from <= now && now < known.until))) return known
    const plan = this.#source.plans.plan(this.#source, set, this.fit, this.#egress, now)
    if (set.id >= 0) this.#plans[set.id] = plan
    return plan
  }

  #ask(rule: CompiledRule, event: PolicyEvent): Answer {
    const when = rule.when as ValueCondition
    if (when.readsValue && event.op === 'delete' && !event.prevKnown) return 'unknown'
    try {
      if (event.applied !== undefined) when.readable.check(event.applied, this.#values.of(event))
      return when.evaluate(event.op, event.key, this.#values.of(event)) ? 'yes' : 'no'
    } catch {
      return 'failed'
    }
  }
}

function failing(schemas: readonly ValueSchema[], value: Uint8Array): ValueSchema | undefined {
  for (const schema of schemas) if (!schema.accepts(value)) return schema
  return undefined
}
