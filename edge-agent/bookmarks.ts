// The bookmarks of one term: where the log stands and how old that knowledge is, told at a steady pace.
// Owns: the pace, the state and the age a bookmark tells, and the same facts for whoever asks the status.
// Refuses: deciding what is proven (uplink/session.ts).

import type { RelayStatus } from './relay-status.ts'
import type { HubLog } from './uplink/ports.ts'
import type { LogSession } from './uplink/session.ts'

export type BookmarksDeps = { readonly hub: HubLog; readonly session: LogSession; readonly status: RelayStatus }

export class Bookmarks {
  readonly #deps: BookmarksDeps
  readonly #everyMs: number
  #lastAt = Number.NEGATIVE_INFINITY

  constructor(everyMs: number, deps: BookmarksDeps) {
    this.#everyMs = everyMs
    this.#deps = deps
  }

  /** Call often, with monotonic ms; publishes when the next bookmark is due. */
  tick(now: number): void {
    const { hub, session, status } = this.#deps
    const { acked, proven } = session
    status.position = acked.revision
    status.seq = acked.seq
    status.epoch = session.epoch
    status.newestCompleteBeginSeq = session.newestCompleteBeginSeq
    if (now - this.#lastAt < this.#everyMs) return
    this.#lastAt = now
    const mark = session.mark(status.agentState(now, proven), status.lag(proven))
    if (mark === undefined) return
    const ageMs = status.heldMs(now)
    hub.publishMark(ageMs === 0 ? mark : { ...mark, ageMs })
  }
}
