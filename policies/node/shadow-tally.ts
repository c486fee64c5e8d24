// A second bundle beside the live one: its differences counted per rule and listed in the log, never enforced.
// Owns: the counter, the tally of the present pair of bundles and how often it is told.
// Refuses: asking the bundles (agent and gateway do, each for its own stage).

import type { Clock } from '#kit/clock.ts'
import type { Logger } from '#kit/logger.ts'
import type { BoundCounter, Family, Metrics } from '#kit/metrics.ts'
import type { Key } from '#protocol/bytes.ts'
import { type DifferenceCount, DifferenceTally } from '../engine/shadow.ts'
import type { Decision } from '../engine/types.ts'
import { declareShadowMetrics } from './policy-metrics.ts'

export type ShadowTallyDeps = {
  readonly stage: 'egress' | 'deliver'
  readonly logger: Logger
  readonly clock: Clock
  readonly metrics: Metrics
  readonly keyHash: (key: Key) => string
}

const TELL_MS = 10_000
const LISTED = 20

export class ShadowTally {
  readonly #deps: ShadowTallyDeps
  readonly #differences: Family<'stage' | 'live' | 'shadow' | 'what' | 'rule', BoundCounter>
  #tally = new DifferenceTally()
  #pair = ''
  #told = 0
  #toldAt = Number.NEGATIVE_INFINITY

  constructor(deps: ShadowTallyDeps) {
    this.#deps = deps
    this.#differences = declareShadowMetrics(deps.metrics)
  }

  /** `pair` names both bundles: a tally is about one pair. */
  compare(pair: string, live: Decision, shadow: Decision, key: Key): void {
    if (pair !== this.#pair) {
      this.#pair = pair
      this.#tally = new DifferenceTally()
      this.#told = 0
    }
    const { stage, keyHash } = this.#deps
    const found = this.#tally.add(live, shadow, () => keyHash(key))
    if (found === undefined) return
    this.#differences.with({ stage, live: found.live, shadow: found.shadow, what: found.what, rule: found.rule }).inc()
    this.#told++
    const now = this.#deps.clock.monotonic()
    if (now - this.#toldAt < TELL_MS) return
    this.#toldAt = now
    this.#deps.logger.info('shadow policy differs', {
      stage,
      pair,
      decisions: this.#tally.decisions,
      differences: this.#told,
      rules: this.list()
        .slice(0, LISTED)
        .map(({ live: from, shadow: to, what, rule, count }) => `${rule}: ${from} -> ${to} (${what}) x${count}`),
    })
  }

  list(): readonly DifferenceCount[] {
    return this.#tally.list()
  }
}
