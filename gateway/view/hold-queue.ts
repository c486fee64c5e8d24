// Live revisions that arrive while a checkpoint holds delivery.
// Owns: copies of them in order, within a byte bound.
// Refuses: applying them. Overflow rule: the oldest leave the queue and are folded into the checkpoint, so subscribers get
// their effect with the resync and not as revisions of their own.

import type { RevisionRecord } from '#protocol/log/entry.ts'
import { compareRevisions, type Revision } from '#protocol/revision.ts'
import { SlabWriter } from './slab.ts'

export type Arrival = { readonly arrivedAt: number; readonly agentAtMs: number }
export type HeldRevision = { readonly record: RevisionRecord; readonly arrival: Arrival; readonly bytes: number }

const EVENT_OVERHEAD = 240

export class HoldQueue {
  readonly #maxBytes: number
  readonly #values = new SlabWriter()
  #held: HeldRevision[] = []
  #bytes = 0

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes
  }

  get bytes(): number {
    return this.#bytes
  }
  get length(): number {
    return this.#held.length
  }

  /** Returns the revisions that no longer fit, oldest first. */
  push(record: RevisionRecord, arrival: Arrival): RevisionRecord[] {
    let bytes = 0
    const events = record.events.map((event) => {
      bytes += EVENT_OVERHEAD + event.key.length + event.value.length
      return { ...event, value: this.#values.copy(event.value) }
    })
    this.#held.push({ record: { revision: record.revision, events }, arrival, bytes })
    this.#bytes += bytes
    let over = 0
    while (this.#bytes > this.#maxBytes && over < this.#held.length) {
      this.#bytes -= (this.#held[over++] as HeldRevision).bytes
    }
    return over === 0 ? [] : this.#held.splice(0, over).map((held) => held.record)
  }

  /** Takes out everything up to and including `revision`. */
  takeThrough(revision: Revision): RevisionRecord[] {
    const later = this.#held.findIndex((held) => compareRevisions(held.record.revision, revision) > 0)
    const taken = this.#held.splice(0, later < 0 ? this.#held.length : later)
    for (const held of taken) this.#bytes -= held.bytes
    return taken.map((held) => held.record)
  }

  takeAll(): HeldRevision[] {
    const all = this.#held
    this.#held = []
    this.#bytes = 0
    return all
  }
}
