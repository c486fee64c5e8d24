// The policy engine behind delivery's port.
// Owns: one view of the bundles in force (the stable one, and a canary for some subscribers) with its deciders kept, which classes
// there are, and the moment at which the next legal basis lapses. Refuses: loading bundles (gateway/policies.ts) and deciding anything.

import type { Clock } from '#kit/clock.ts'
import type { Region } from '#protocol/subjects.ts'
import { type Canary, chooseBundle } from '#policies/engine/canary.ts'
import { classify, releaseClass } from '#policies/engine/classes.ts'
import { deliver } from '#policies/engine/deliver.ts'
import type { DeliverDecider, PolicyBundle, PolicyClass, Subscriber } from '#policies/engine/types.ts'
import type { PolicySource, PolicyView } from './policy-port.ts'

export type Bundles = {
  readonly stable: PolicyBundle
  /** Serves the subscribers that `rollout` picks; the same ones on every gateway. */
  readonly canary?: { readonly bundle: PolicyBundle; readonly rollout: Omit<Canary, 'salt'> } | undefined
  /** Asked beside the one that serves, and never enforced. */
  readonly shadow?: PolicyBundle | undefined
}

export type EngineView = PolicyView & {
  readonly bundles: Bundles
  /** Every class made under these bundles and not given up. */
  readonly classes: ReadonlySet<PolicyClass>
  /** Which bundle serves a class. */
  modeOf(policyClass: PolicyClass): 'enforce' | 'canary'
  /** Under the shadow bundle the same subscribers may fall apart differently: every class of its that was seen beside this one. */
  shadowsOf(policyClass: PolicyClass): Iterable<PolicyClass>
  shadowDecider(source: Region, shadowClass: PolicyClass): DeliverDecider | undefined
}

export type ClassHooks = {
  /** Classes somebody is served under; the others give their place up when the cap is reached. */
  readonly inUse: () => Iterable<PolicyClass>
  /** A class that was not there before. */
  readonly onNew: () => void
}

export function viewOf(given: Bundles, hooks: ClassHooks): EngineView {
  const { stable } = given
  // A canary that equals the stable bundle is none.
  const canary = given.canary?.bundle.revision === stable.revision ? undefined : given.canary
  const shadow = given.shadow ?? stable.shadow
  const deciders = new WeakMap<PolicyClass, Map<Region, DeliverDecider>>()
  const shadows = new WeakMap<PolicyClass, Set<PolicyClass>>()
  const classes = new Set<PolicyClass>()
  const classIn = (bundle: PolicyBundle, subscriber: Subscriber): PolicyClass | undefined => {
    let made = classify(bundle, subscriber)
    if ('refused' in made) {
      const inUse = new Set(hooks.inUse())
      for (const idle of classes) {
        if (inUse.has(idle)) continue
        classes.delete(idle)
        releaseClass(idle.bundle === stable.revision ? stable : (canary?.bundle ?? stable), idle)
      }
      made = classify(bundle, subscriber)
      if ('refused' in made) return undefined
    }
    if (!classes.has(made)) {
      classes.add(made)
      hooks.onNew()
    }
    return made
  }
  const kept = (bundle: PolicyBundle, source: Region, policyClass: PolicyClass): DeliverDecider => {
    let known = deciders.get(policyClass)
    if (known === undefined) deciders.set(policyClass, (known = new Map()))
    let decider = known.get(source)
    if (decider === undefined) known.set(source, (decider = deliver(bundle, source, policyClass)))
    return decider
  }
  const serving = (policyClass: PolicyClass): PolicyBundle =>
    canary !== undefined && policyClass.bundle === canary.bundle.revision ? canary.bundle : stable
  return {
    revision: stable.revision,
    bundles: { ...given, canary, shadow },
    classes,
    regions: [
      ...new Set([...stable.regions, ...(canary?.bundle.regions ?? [])]),
    ].sort() as unknown as readonly Region[],
    classOf(subscriber) {
      const bundle = canary !== undefined && isCanary(subscriber, canary, stable) ? canary.bundle : stable
      const made = classIn(bundle, subscriber)
      if (made !== undefined && shadow !== undefined) noteShadow(shadows, made, shadow, subscriber)
      return made
    },
    decider: (source, policyClass) => kept(serving(policyClass), source, policyClass),
    modeOf: (policyClass) => (serving(policyClass) === stable ? 'enforce' : 'canary'),
    shadowsOf: (policyClass) => shadows.get(policyClass) ?? [],
    shadowDecider: (source, shadowClass) => (shadow === undefined ? undefined : kept(shadow, source, shadowClass)),
  }
}

/** Salted with the candidate's revision: another rollout picks other subscribers, every gateway the same ones. */
function isCanary(subscriber: Subscriber, canary: NonNullable<Bundles['canary']>, stable: PolicyBundle): boolean {
  const { deps } = stable.compiled
  return (
    chooseBundle(subscriber, { ...canary.rollout, salt: canary.bundle.revision }, (bytes) => deps.sha256(bytes)) ===
    'canary'
  )
}

function noteShadow(
  shadows: WeakMap<PolicyClass, Set<PolicyClass>>,
  live: PolicyClass,
  shadow: PolicyBundle,
  subscriber: Subscriber,
): void {
  const beside = classify(shadow, subscriber)
  if ('refused' in beside) return
  const known = shadows.get(live)
  if (known === undefined) shadows.set(live, new Set([beside]))
  else known.add(beside)
}

/** The wall clock may jump, so nothing is slept through for longer than this. */
const LOOK_MS = 30_000

/** Holds the bundles in force; `replace` swaps them, and lapsing bases count as changes too. */
export class EnginePolicy implements PolicySource, Disposable {
  current: EngineView
  readonly #clock: Clock
  readonly #listeners = new Set<() => void>()
  readonly #hooks: ClassHooks
  #timer: Disposable | undefined
  #lapse: number | undefined

  constructor(bundles: PolicyBundle | Bundles, clock: Clock, inUse: () => Iterable<PolicyClass>) {
    this.#hooks = { inUse, onNew: () => this.#watchExpiry() }
    this.current = viewOf(asBundles(bundles), this.#hooks)
    this.#clock = clock
  }

  get bundle(): PolicyBundle {
    return this.current.bundles.stable
  }

  onChange(listener: () => void): Disposable {
    this.#listeners.add(listener)
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) }
  }

  replace(bundles: PolicyBundle | Bundles): void {
    this.current = viewOf(asBundles(bundles), this.#hooks)
    this.#changed()
  }

  [Symbol.dispose](): void {
    this.#timer?.[Symbol.dispose]()
  }

  /** Sets the timer for the next lapse of a basis that some class depends on. */
  #watchExpiry(): void {
    this.#timer?.[Symbol.dispose]()
    this.#timer = undefined
    const now = this.#clock.now()
    let next: number | undefined
    for (const policyClass of this.current.classes) {
      for (const region of this.current.regions) {
        const at = this.current.decider(region, policyClass).nextExpiry(now)
        if (at !== undefined && (next === undefined || at < next)) next = at
      }
    }
    this.#lapse = next
    if (next !== undefined) this.#timer = this.#clock.setTimeout(() => this.#look(), Math.min(next - now + 1, LOOK_MS))
  }

  #look(): void {
    if (this.#lapse !== undefined && this.#clock.now() >= this.#lapse) this.#changed()
    else this.#watchExpiry()
  }

  #changed(): void {
    for (const listener of this.#listeners) listener()
    this.#watchExpiry()
  }
}

const asBundles = (bundles: PolicyBundle | Bundles): Bundles => ('stable' in bundles ? bundles : { stable: bundles })
