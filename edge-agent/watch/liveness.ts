// Is the watch still hearing? Deadlines over what has been asked, answered and seen elsewhere.
// Owns: when to ask for progress, when silence is deafness, when a head read elsewhere convicts the stream.
// Refuses: timers and I/O; `now` is a monotonic clock in ms. HTTP/2 keepalive below it finds dead links, not deaf watches.

import { compareRevisions, REVISION_ZERO, type Revision } from '#protocol/revision.ts'

export type LivenessOptions = {
  /** Progress is asked for after this much silence. */
  readonly progressEveryMs: number
  /** A question unanswered this long convicts the stream. */
  readonly deafAfterMs: number
  /** The head is read through another endpoint this often. */
  readonly probeEveryMs: number
  /** The watch must have reached a head read elsewhere within this time. */
  readonly staleAfterMs: number
}

export type LivenessAction = 'none' | 'ask-progress' | 'probe-head' | 'deaf' | 'stale'

export class Liveness {
  readonly #options: LivenessOptions
  #lastHeard: number
  #askedAt: number | undefined
  #lastProbe: number
  #reached: Revision = REVISION_ZERO
  /** The oldest head the watch has not reached yet. */
  #owed: { readonly revision: Revision; readonly since: number } | undefined
  #pausedAt: number | undefined

  constructor(options: LivenessOptions, now: number) {
    this.#options = options
    this.#lastHeard = now
    this.#lastProbe = now
  }

  /** Anything arrived on the stream; `reached` when it says how far the server's watch is. */
  heard(now: number, reached?: Revision): void {
    this.#lastHeard = now
    this.#askedAt = undefined
    if (reached === undefined || compareRevisions(reached, this.#reached) <= 0) return
    this.#reached = reached
    if (this.#owed !== undefined && compareRevisions(reached, this.#owed.revision) >= 0) this.#owed = undefined
  }

  /** A head read through another endpoint. The watch owes it from now on. */
  headSeen(now: number, head: Revision): void {
    if (this.#owed === undefined && compareRevisions(head, this.#reached) > 0)
      this.#owed = { revision: head, since: now }
  }

  /** While we do not read, silence is ours. */
  paused(now: number): void {
    this.#pausedAt ??= now
  }
  resumed(now: number): void {
    if (this.#pausedAt === undefined) return
    const pause = now - this.#pausedAt
    this.#pausedAt = undefined
    this.#lastHeard = now
    this.#askedAt = undefined
    if (this.#owed !== undefined) this.#owed = { ...this.#owed, since: this.#owed.since + pause }
  }

  /** Age of the last sign of life in ms. */
  silence(now: number): number {
    return now - this.#lastHeard
  }

  tick(now: number): LivenessAction {
    if (this.#pausedAt !== undefined) return 'none'
    if (this.#askedAt !== undefined && now - this.#askedAt >= this.#options.deafAfterMs) return 'deaf'
    if (this.#owed !== undefined && now - this.#owed.since >= this.#options.staleAfterMs) return 'stale'
    if (this.#askedAt === undefined && now - this.#lastHeard >= this.#options.progressEveryMs) {
      this.#askedAt = now
      return 'ask-progress'
    }
    if (now - this.#lastProbe >= this.#options.probeEveryMs) {
      this.#lastProbe = now
      return 'probe-head'
    }
    return 'none'
  }
}
