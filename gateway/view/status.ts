// What a cluster's state is called, from facts and the time.
// Owns: the one place where "live" is decided; silence becomes lagging, then unreachable, never "no change" (I9).
// Refuses: gathering the facts, and timers.

import type { ClusterState } from '#protocol/frames.ts'
import type { AgentState } from '#protocol/log/entry.ts'

export type StatusFacts = {
  readonly removed: boolean
  /** The way to the log: `blocked` when it says something this gateway must not guess at. */
  readonly log: 'open' | 'down' | 'blocked'
  /** A checkpoint has to be read before delivery goes on. */
  readonly resyncing: boolean
  /** More entries are known to wait in the log. */
  readonly behind: boolean
  /** Monotonic ms. Last proof that nothing is missing; last valid entry or bookmark of any kind; last event. */
  readonly provenAt: number | undefined
  readonly heardAt: number
  readonly eventAt: number | undefined
  /** What the leading agent said last. */
  readonly agent: AgentState | undefined
}
export type StatusLimits = {
  /** Without proof for this long: lagging. */
  readonly lagAfterMs: number
  /** Without proof for this long: unreachable. */
  readonly unreachableAfterMs: number
  /** Proven, but without events for this long: idle-proved. */
  readonly idleAfterMs: number
}
export const DEFAULT_STATUS_LIMITS: StatusLimits = {
  lagAfterMs: 5_000,
  unreachableAfterMs: 15_000,
  idleAfterMs: 15_000,
}

export function clusterState(facts: StatusFacts, limits: StatusLimits, now: number): ClusterState {
  if (facts.removed) return 'removed'
  if (facts.log !== 'open') return 'unreachable'
  if (now - facts.heardAt > limits.unreachableAfterMs) return 'unreachable'
  if (facts.agent === 'unreachable' || facts.agent === 'refused') return 'unreachable'
  if (facts.resyncing || facts.agent === 'resyncing') return 'resyncing'
  const age = facts.provenAt === undefined ? Number.POSITIVE_INFINITY : now - facts.provenAt
  // It speaks, and says itself that it has not come further: a hook may hold it for long.
  if (facts.agent === 'lagging' && facts.provenAt !== undefined) return 'lagging'
  if (age > limits.unreachableAfterMs) return 'unreachable'
  if (age > limits.lagAfterMs || facts.behind) return 'lagging'
  if (facts.agent === 'hub-too-small') return 'lagging'
  const quiet = facts.eventAt === undefined || now - facts.eventAt > limits.idleAfterMs
  return quiet ? 'idle-proved' : 'live'
}
