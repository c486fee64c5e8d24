// The window of appends in flight: which place and which predecessor each one claims, and what is known to be stored.
// Owns: expected sequences, the entry chain, the newest acknowledged base, the bounds of the window.
// Refuses: I/O and recovery. A window ends at the first thing that did not go as claimed; the tail is then read again.

import type { Base, EntryId } from '#protocol/log/entry.ts'
import type { Revision } from '#protocol/revision.ts'

export type WindowStart = {
  /** The stream's last sequence; void entries may lie between the last valid entry and it. */
  readonly lastSeq: number
  /** The last valid entry, or genesis standing at `lastSeq`: what the next entry continues. */
  readonly head: Base
  /** The newest valid entry outside a chunk group: what entries name as their base. */
  readonly base: Base
}

export type Claim = {
  readonly expectedSeq: number
  readonly prevEntryId: EntryId
  /** Position of the log before this entry. */
  readonly prevRevision: Revision
  readonly base: Base
}

export type Sent = {
  readonly entryId: EntryId
  /** Position of the log after this entry. */
  readonly revision: Revision
  readonly bytes: number
  /** Monotonic ms. */
  readonly sentAt: number
  /** False inside a chunk group: a reader that starts there would miss its beginning. */
  readonly restable: boolean
}

export type AckVerdict =
  | { readonly kind: 'advanced'; readonly entries: number }
  /** Out of turn; kept until its predecessors are acknowledged. */
  | { readonly kind: 'early' }
  | { readonly kind: 'impossible'; readonly detail: string }

type InFlight = Sent & { readonly seq: number; acked: boolean }

export type WindowLimits = { readonly maxInFlight: number; readonly maxBytes: number }

export class AppendWindow {
  readonly #limits: WindowLimits
  readonly #inFlight: InFlight[] = []
  #bytes = 0
  #headSeq: number
  #headId: EntryId
  #headRevision: Revision
  #base: Base
  #acked: Base

  constructor(start: WindowStart, limits: WindowLimits) {
    this.#limits = limits
    this.#headSeq = start.lastSeq
    this.#headId = start.head.entryId
    this.#headRevision = start.head.revision
    this.#base = start.base
    this.#acked = start.head
  }

  get inFlight(): number {
    return this.#inFlight.length
  }
  get bytesInFlight(): number {
    return this.#bytes
  }
  /** Position after everything sent. */
  get headRevision(): Revision {
    return this.#headRevision
  }
  /** Last sequence once everything sent is stored. */
  get headSeq(): number {
    return this.#headSeq
  }
  /** The newest entry known to be stored and valid, chunk groups counted entry by entry. */
  get acked(): Base {
    return this.#acked
  }

  /** One entry always fits, however large: else nothing could move. */
  hasRoom(bytes: number): boolean {
    if (this.#inFlight.length === 0) return true
    return this.#inFlight.length < this.#limits.maxInFlight && this.#bytes + bytes <= this.#limits.maxBytes
  }

  /** What the next entry must claim. Follow with `sent` before claiming again. */
  claim(): Claim {
    return {
      expectedSeq: this.#headSeq,
      prevEntryId: this.#headId,
      prevRevision: this.#headRevision,
      base: this.#base,
    }
  }

  sent(entry: Sent): void {
    this.#headSeq++
    this.#headId = entry.entryId
    this.#headRevision = entry.revision
    this.#bytes += entry.bytes
    this.#inFlight.push({ ...entry, seq: this.#headSeq, acked: false })
  }

  /** The hub stored `entryId` at `seq`. */
  stored(entryId: EntryId, seq: number): AckVerdict {
    const index = this.#inFlight.findIndex((one) => one.entryId === entryId)
    const entry = this.#inFlight[index]
    if (entry === undefined) return { kind: 'impossible', detail: 'an entry was acknowledged that is not in flight' }
    if (entry.seq !== seq) {
      return { kind: 'impossible', detail: `an entry expected at ${entry.seq} was stored at ${seq}` }
    }
    entry.acked = true
    if (index > 0) return { kind: 'early' }
    let entries = 0
    for (let first = this.#inFlight[0]; first?.acked === true; first = this.#inFlight[0]) {
      this.#inFlight.shift()
      this.#bytes -= first.bytes
      entries++
      this.#acked = { seq: first.seq, entryId: first.entryId, revision: first.revision }
      if (first.restable) this.#base = this.#acked
    }
    return { kind: 'advanced', entries }
  }

  /** When the oldest append in flight was sent, to notice a hub that went silent. */
  oldestSentAt(): number | undefined {
    return this.#inFlight[0]?.sentAt
  }
}
