// What policy decides on every live change for every class in use: counted, recorded, compared with the shadow bundle.
// Owns: asking once per event and class, apart from delivery, in slices of a few milliseconds so that nobody waits for it.
// Refuses: having a say. Snapshots and catching up decide too and are not recorded: the log is about changes, each once.
// Overflow rule: a revision that left the ring before its turn is counted as missed.

import type { Clock } from '#kit/clock.ts'
import type { BoundCounter, Metrics } from '#kit/metrics.ts'
import type { PolicyClass } from '#policies/engine/types.ts'
import type { DecisionLog } from '#policies/node/decision-log.ts'
import type { ShadowTally } from '#policies/node/shadow-tally.ts'
import type { EnginePolicy } from './delivery/engine-policy.ts'
import { declareUnrecorded } from './policy-metrics.ts'
import { policyEventOf } from './delivery/policy-port.ts'
import type { ClusterSource, RingEvent, Sources } from './delivery/ports.ts'

export type RecorderDeps = {
  readonly sources: Sources
  readonly policy: EnginePolicy
  /** Classes somebody is served under. */
  readonly classes: () => Iterable<PolicyClass>
  readonly log: DecisionLog
  readonly shadow: ShadowTally
  readonly clock: Clock
  readonly metrics: Metrics
  readonly soon: (fn: () => void) => void
}

const SLICE_MS = 3

export class PolicyRecorder implements Disposable {
  readonly #deps: RecorderDeps
  readonly #owned = new DisposableStack()
  readonly #due = new Map<ClusterSource, { next: number; last: number }>()
  readonly #missed: BoundCounter
  #running = false

  constructor(deps: RecorderDeps) {
    this.#deps = deps
    this.#missed = declareUnrecorded(deps.metrics)
    for (const source of deps.sources.list()) this.#follow(source)
    this.#owned.use(deps.sources.onAdded((source) => this.#follow(source)))
  }

  [Symbol.dispose](): void {
    this.#owned.dispose()
    this.#due.clear()
  }

  #follow(source: ClusterSource): void {
    const listening = source.listen((event) => {
      if (event.kind === 'revisions') this.#take(source, event.first, event.last)
      else if (event.kind === 'removed') {
        this.#due.delete(source)
        listening[Symbol.dispose]()
      }
    })
    this.#owned.use(listening)
  }

  #take(source: ClusterSource, first: number, last: number): void {
    const due = this.#due.get(source)
    if (due === undefined) this.#due.set(source, { next: first, last })
    else due.last = last
    if (this.#running) return
    this.#running = true
    this.#deps.soon(this.#run)
  }

  readonly #run = (): void => {
    const { clock, soon, classes } = this.#deps
    const until = clock.monotonic() + SLICE_MS
    const inUse = [...new Set(classes())]
    for (const [source, due] of this.#due) {
      while (due.next <= due.last) {
        if (clock.monotonic() >= until) return soon(this.#run)
        const revision = source.at(due.next++)
        if (revision === undefined) this.#missed.inc()
        else for (const event of revision.events) this.#event(source, event, inUse)
      }
      this.#due.delete(source)
    }
    this.#running = false
  }

  #event(source: ClusterSource, change: RingEvent, inUse: readonly PolicyClass[]): void {
    const event = policyEventOf(change)
    if (event === undefined) return
    const { policy, log, shadow, clock } = this.#deps
    const view = policy.current
    const now = clock.now()
    const { cluster, region } = source
    for (const policyClass of inUse) {
      const decider = view.decider(region, policyClass)
      // To such a class the cluster does not exist.
      if (decider.blind) continue
      const decision = decider.decide(event, now)
      const { bundle, region: to } = policyClass
      log.decided(cluster, decision, change.key, { bundle, to, mode: view.modeOf(policyClass) })
      for (const beside of view.shadowsOf(policyClass)) {
        const other = view.shadowDecider(region, beside)?.decide(event, now)
        if (other === undefined) continue
        const pair = `${bundle.slice(0, 12)} ${(view.bundles.shadow?.revision ?? '').slice(0, 12)}`
        shadow.compare(pair, decision, other, change.key)
      }
    }
  }
}
