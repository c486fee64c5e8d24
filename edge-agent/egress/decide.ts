// Region policy at the edge: what of a revision may leave, and how.
// Owns: turning changes into log events by the decisions of the policy engine, LEAVE included, and saying when a
// decision would be a guess. Refuses: policy semantics (policies/engine), I/O, a clock (`now` comes in).
// Fails closed: whatever goes wrong with one change, that change does not leave.

import type { Key } from '#protocol/bytes.ts'
import type { LogEvent, RevisionRecord, SnapshotRecord } from '#protocol/log/entry.ts'
import { REVISION_ZERO } from '#protocol/revision.ts'
import { ABSENT, transition } from '#policies/engine/transition.ts'
import type { Decision, EgressDecider, PolicyEvent } from '#policies/engine/types.ts'
import type { Observe } from './policy.ts'
import type { Change, ChangedRevision, HeldKey } from './change.ts'

export type Filter = { readonly prefixes: readonly Key[] }

export type Outcome =
  | { readonly kind: 'record'; readonly record: RevisionRecord }
  /** Nothing of it may be seen; the position still moves past it. */
  | { readonly kind: 'hidden' }
  /** The outcome depends on a previous value etcd no longer has: take a checkpoint. */
  | { readonly kind: 'unknown-previous' }

export type EgressCounts = {
  allowed: number
  withheld: number
  denied: number
  left: number
  /** Inside the range, outside every prefix: cost decode and network for nothing. */
  filtered: number
  failed: number
}

const EMPTY = new Uint8Array(0)
const FAILED: Decision = { effect: 'deny', reason: 'error' }

export class Egress {
  readonly #decider: EgressDecider
  readonly #prefixes: readonly Key[]
  readonly #observe: Observe | undefined
  readonly counts: EgressCounts = { allowed: 0, withheld: 0, denied: 0, left: 0, filtered: 0, failed: 0 }

  constructor(decider: EgressDecider, filter: Filter, observe?: Observe) {
    this.#decider = decider
    this.#observe = observe
    this.#prefixes = filter.prefixes
  }

  get needsPrevValue(): boolean {
    return this.#decider.needsPrevValue
  }

  revision(source: ChangedRevision, now: number): Outcome {
    const events: LogEvent[] = []
    for (const change of source.changes) {
      if (!this.#wanted(change.key)) {
        this.counts.filtered++
        continue
      }
      const event = this.#change(change, now)
      if (event === 'unknown-previous') return { kind: 'unknown-previous' }
      if (event !== undefined) events.push(event)
    }
    return events.length === 0 ? { kind: 'hidden' } : { kind: 'record', record: { revision: source.revision, events } }
  }

  /** One key of a checkpoint; undefined when it may not leave. */
  item(held: HeldKey, now: number): SnapshotRecord | undefined {
    if (!this.#wanted(held.key)) return undefined
    const decision = this.#decide({ op: 'put', key: held.key, value: held.value, prevKnown: true }, now)
    if (decision.effect === 'deny') return undefined
    const { modRevision, createRevision, version, lease } = held
    return { key: decision.key, ...shown(decision, held.value), modRevision, createRevision, version, lease }
  }

  #wanted(key: Key): boolean {
    return this.#prefixes.length === 0 || this.#prefixes.some((prefix) => key.startsWith(prefix))
  }

  #change(change: Change, now: number): LogEvent | 'unknown-previous' | undefined {
    const created = change.version === '1'
    const event: PolicyEvent = {
      op: change.op,
      key: change.key,
      ...(change.op === 'put' ? { value: change.value } : {}),
      ...(change.prevValue === undefined ? {} : { prevValue: change.prevValue }),
      prevKnown: created || change.prevValue !== undefined || !this.#decider.needsPrevValue,
    }
    const decision = this.#decide(event, now)
    this.#observe?.(event, decision, now)
    if (decision.effect !== 'deny') {
      this.counts[decision.effect === 'allow' ? 'allowed' : 'withheld']++
      const { createRevision, version, lease } = change
      return { op: change.op, key: decision.key, ...shown(decision, change.value), createRevision, version, lease }
    }
    this.counts.denied++
    const before = created ? ABSENT : this.#before(change, event, now)
    switch (transition(before, decision, change.op)) {
      case 'leave':
        // Only a decision that let the previous put out says so, and under which name.
        if (typeof before !== 'object' || before.effect === 'deny') return undefined
        this.counts.left++
        return { op: 'leave', key: before.key, value: EMPTY, createRevision: REVISION_ZERO, version: '0', lease: '0' }
      case 'unknown-needs-checkpoint':
        return 'unknown-previous'
      case 'put':
      case 'delete':
      case 'nothing':
        return undefined
      default:
        return undefined
    }
  }

  /** What had been decided on the previous put; undefined when its value is needed and not to be had. */
  #before(change: Change, event: PolicyEvent, now: number): Decision | undefined {
    if (!event.prevKnown) return undefined
    const { key, prevValue } = change
    const previous: PolicyEvent = {
      op: 'put',
      key,
      ...(prevValue === undefined ? {} : { value: prevValue }),
      prevKnown: true,
    }
    return this.#decide(previous, now)
  }

  /** What the engine fails on is denied, so that a key in view leaves instead of keeping its old value. */
  #decide(event: PolicyEvent, now: number): Decision {
    try {
      return this.#decider.decide(event, now)
    } catch {
      this.counts.failed++
      return FAILED
    }
  }
}

type Shown = Pick<LogEvent, 'value' | 'withheld' | 'transforms'>

function shown(decision: Exclude<Decision, { effect: 'deny' }>, original: Uint8Array): Shown {
  const transforms = decision.transforms.length === 0 ? {} : { transforms: decision.transforms }
  if (decision.effect === 'withhold') return { value: EMPTY, withheld: decision.rule, ...transforms }
  // A decision about a delete carries no value, and neither does the original.
  return { value: decision.value ?? original, ...transforms }
}
