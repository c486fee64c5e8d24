// Is the watch still hearing? Deadlines over what has been asked, answered and seen elsewhere.
// Owns: when to ask for progress, when silence is deafness, when a head read elsewhere convicts the stream.
// Refuses: timers and I/O; `now` is a monotonic clock in ms. HTTP/2 keepalive below it finds dead links, not deaf watches.
// A watch that catches up is judged by patience: etcd answers no question of it, and reads far between two responses.

import { compareRevisions, REVISION_ZERO, type Revision } from '#protocol/revision.ts'

export type LivenessOptions = {
  /** Progress is asked for after this much silence. */
  readonly progressEveryMs: number
  /** A question unanswered this long convicts the stream. */
  readonly deafAfterMs: number
  /** The head is read through another endpoint this often. */
  readonly probeEveryMs: number
  /** The watch must come nearer to a head read elsewhere within this time. */
  readonly staleAfterMs: number
}

export type LivenessAction = 'none' | 'ask-progress' | 'probe-head' | 'deaf' | 'stale'

/** While catching up, deadlines are this many times longer. */
const PATIENCE = 4

export class Liveness {
  readonly #options: LivenessOptions
  #lastHeard: number
  #askedAt: number | undefined
  #lastProbe: number
  #reached: Revision = REVISION_ZERO
  /** A head the watch has not reached, and when it last came nearer. */
  #owed: { readonly revision: Revision; readonly since: number } | undefined
  #pausedAt: number | undefined
  /** It has been level with etcd's head since it was created or resumed. */
  #level = false

  constructor(options: LivenessOptions, now: number) {
    this.#options = options
    this.#lastHeard = now
    this.#lastProbe = now
  }

  get isLevel(): boolean {
    return this.#level
  }

  /** Something arrived on the stream; `reached`: how far the server's watch is; `level`: that is etcd's head. */
  heard(now: number, reached: Revision, level: boolean): void {
    this.#lastHeard = now
    this.#askedAt = undefined
    if (level) this.#level = true
    if (compareRevisions(reached, this.#reached) <= 0) return
    this.#reached = reached
    if (this.#owed === undefined) return
    const settled = compareRevisions(reached, this.#owed.revision) >= 0
    this.#owed = settled ? undefined : { ...this.#owed, since: now }
  }

  /** Bytes of a message that is not complete yet: life, and no answer. */
  arriving(now: number): void {
    this.#lastHeard = now
    if (this.#askedAt !== undefined) this.#askedAt = now
    if (this.#owed !== undefined) this.#owed = { ...this.#owed, since: now }
  }

  /** For so long we did not listen: every deadline moves by it. */
  excuse(ms: number): void {
    this.#lastHeard += ms
    if (this.#askedAt !== undefined) this.#askedAt += ms
    if (this.#owed !== undefined) this.#owed = { ...this.#owed, since: this.#owed.since + ms }
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
    this.#pausedAt = undefined
    this.#lastHeard = now
    this.#askedAt = undefined
    this.#level = false
    if (this.#owed !== undefined) this.#owed = { ...this.#owed, since: now }
  }

  /** Milliseconds since the last sign of life. */
  silence(now: number): number {
    return now - this.#lastHeard
  }

  tick(now: number): LivenessAction {
    if (this.#pausedAt !== undefined) return 'none'
    const patience = this.#level ? 1 : PATIENCE
    const { deafAfterMs, staleAfterMs, progressEveryMs, probeEveryMs } = this.#options
    if (this.#askedAt !== undefined && now - this.#askedAt >= deafAfterMs * patience) return 'deaf'
    if (this.#owed !== undefined && now - this.#owed.since >= staleAfterMs * patience) return 'stale'
    if (this.#askedAt === undefined && now - this.#lastHeard >= progressEveryMs) {
      this.#askedAt = now
      return 'ask-progress'
    }
    if (now - this.#lastProbe >= probeEveryMs) {
      this.#lastProbe = now
      return 'probe-head'
    }
    return 'none'
  }
}
