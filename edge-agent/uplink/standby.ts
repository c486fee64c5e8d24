// Who appends: leading or standing by, decided by silence alone.
// Owns: the rules of takeover and stepping down, on this agent's own monotonic clock.
// Refuses: being needed for safety. Two leaders are harmless (compare-and-append and the chain rule see to that); this
// only saves their work.

import type { Mark } from '#protocol/log/entry.ts'

export type LeadershipOptions = {
  readonly agentId: string
  readonly configHash: string
  /** Neither bookmark nor entry for this long: the leader is gone. */
  readonly silenceMs: number
  /** After losing a compare-and-append to another agent. */
  readonly stepDownMs: number
}

export type Stand =
  | { readonly kind: 'lead' }
  /** Another agent leads; look again after `waitMs` of silence. */
  | { readonly kind: 'standby'; readonly leader: string; readonly waitMs: number }
  /** A live leader writes under another configuration: this agent, the younger, stays out. */
  | { readonly kind: 'mismatch'; readonly leader: string; readonly waitMs: number }

type Heard = { readonly agentId: string; readonly configHash: string; readonly at: number; readonly stuck: boolean }

export class Leadership {
  readonly #options: LeadershipOptions
  #configHash: string
  #heard: Heard | undefined
  #stuckSince: number | undefined
  #notBefore = Number.NEGATIVE_INFINITY

  constructor(options: LeadershipOptions) {
    this.#options = options
    this.#configHash = options.configHash
  }

  /** After a reload. */
  configure(configHash: string): void {
    this.#configHash = configHash
  }

  /** A bookmark by anyone; our own echo is ignored. */
  heardMark(mark: Mark, now: number): void {
    if (mark.agentId === this.#options.agentId || mark.state === 'standby') return
    // A leader that says it cannot reach etcd keeps its seat only as long as nobody else could do better.
    const stuck = mark.state === 'unreachable' || mark.state === 'refused'
    this.#stuckSince = stuck ? (this.#stuckSince ?? now) : undefined
    this.#heard = { agentId: mark.agentId, configHash: mark.configHash, at: now, stuck }
  }

  /** The log's newest entry is by another agent and was not there before. */
  heardEntry(agentId: string, configHash: string, now: number): void {
    if (agentId === this.#options.agentId) return
    this.#stuckSince = undefined
    this.#heard = { agentId, configHash, at: now, stuck: false }
  }

  /** The log grew while this agent stands by: somebody leads, and what is known of who it is still holds. */
  heardGrowth(now: number): void {
    const { agentId = 'another agent', configHash = this.#configHash } = this.#heard ?? {}
    this.#stuckSince = undefined
    this.#heard = { agentId, configHash, at: now, stuck: false }
  }

  /** A compare-and-append was lost to another agent; `jitter` in [0, 1) spreads the losers. */
  lostTo(agentId: string, configHash: string, now: number, jitter: number): void {
    this.heardEntry(agentId, configHash, now)
    this.#notBefore = now + this.#options.stepDownMs * (1 + jitter / 2)
  }

  stand(now: number): Stand {
    const { silenceMs } = this.#options
    const heard = this.#heard
    const barred = this.#notBefore - now
    if (heard === undefined) {
      return barred > 0 ? { kind: 'standby', leader: '', waitMs: barred } : { kind: 'lead' }
    }
    const quiet = heard.at + silenceMs - now
    const stuckLong = this.#stuckSince !== undefined && now - this.#stuckSince >= silenceMs
    const waitMs = Math.max(barred, stuckLong ? 0 : quiet)
    if (waitMs <= 0) return { kind: 'lead' }
    const mismatch = heard.configHash !== this.#configHash && quiet > 0
    return { kind: mismatch ? 'mismatch' : 'standby', leader: heard.agentId, waitMs }
  }
}
