// The policy engine behind delivery's port.
// Owns: one view per compiled bundle with its deciders kept, and the moment at which the next legal basis lapses.
// Refuses: loading bundles (policies/node does) and deciding anything itself.

import type { Clock } from '#kit/clock.ts'
import type { Region } from '#protocol/subjects.ts'
import { classify } from '#policies/engine/classes.ts'
import { deliver } from '#policies/engine/deliver.ts'
import type { DeliverDecider, PolicyBundle, PolicyClass } from '#policies/engine/types.ts'
import type { PolicySource, PolicyView } from './policy-port.ts'

export function viewOf(bundle: PolicyBundle): PolicyView {
  const deciders = new WeakMap<PolicyClass, Map<Region, DeliverDecider>>()
  return {
    revision: bundle.revision,
    regions: [...bundle.regions].sort() as unknown as readonly Region[],
    classOf(subscriber) {
      const made = classify(bundle, subscriber)
      return 'refused' in made ? undefined : made
    },
    decider(source, policyClass) {
      let known = deciders.get(policyClass)
      if (known === undefined) deciders.set(policyClass, (known = new Map()))
      let decider = known.get(source)
      if (decider === undefined) known.set(source, (decider = deliver(bundle, source, policyClass)))
      return decider
    },
  }
}

/** Holds the current bundle; `replace` swaps it, and lapsing bases count as changes too. */
export class EnginePolicy implements PolicySource, Disposable {
  current: PolicyView
  bundle: PolicyBundle
  readonly #clock: Clock
  readonly #listeners = new Set<() => void>()
  /** Classes in use, to know whose basis lapses next. */
  readonly #classes: () => Iterable<PolicyClass>
  #timer: Disposable | undefined

  constructor(bundle: PolicyBundle, clock: Clock, classes: () => Iterable<PolicyClass>) {
    this.bundle = bundle
    this.current = viewOf(bundle)
    this.#clock = clock
    this.#classes = classes
  }

  onChange(listener: () => void): Disposable {
    this.#listeners.add(listener)
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) }
  }

  replace(bundle: PolicyBundle): void {
    if (bundle.revision === this.bundle.revision) return
    this.bundle = bundle
    this.current = viewOf(bundle)
    this.#changed()
  }

  /** Sets the timer for the next lapse; call it when classes came into use. */
  watchExpiry(): void {
    this.#timer?.[Symbol.dispose]()
    const now = this.#clock.now()
    let next: number | undefined
    for (const policyClass of this.#classes()) {
      for (const region of this.current.regions) {
        const at = this.current.decider(region, policyClass).nextExpiry(now)
        if (at !== undefined && (next === undefined || at < next)) next = at
      }
    }
    this.#timer = next === undefined ? undefined : this.#clock.setTimeout(() => this.#changed(), next - now + 1)
  }

  [Symbol.dispose](): void {
    this.#timer?.[Symbol.dispose]()
  }

  #changed(): void {
    for (const listener of this.#listeners) listener()
    this.watchExpiry()
  }
}
