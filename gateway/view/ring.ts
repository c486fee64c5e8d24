// The recent revisions of one cluster: readers are cursors into it.
// Owns: dense indices that are never reused, the two bounds (bytes, count), and finding a revision's place.
// Refuses: readers. The oldest revisions are trimmed when a bound is reached, whoever still wanted them: a reader left behind
// goes to the log. The newest revision stays whatever its size.

import { compareRevisions, type Revision } from '#protocol/revision.ts'
import type { RingRevision } from '../delivery/ports.ts'

export type RingBounds = { readonly bytes: number; readonly revisions: number }

/** A power of two, so that an index finds its slot by masking. */
const emptySlots = (length: number): (RingRevision | undefined)[] =>
  Array.from<RingRevision | undefined>({ length }).fill(undefined)

export class Ring {
  readonly #bounds: RingBounds
  #slots: (RingRevision | undefined)[] = emptySlots(64)
  #first = 0
  #next = 0
  #bytes = 0
  /** Everything after this revision (in the current continuity) is here. */
  #floor: Revision

  constructor(bounds: RingBounds, floor: Revision) {
    this.#bounds = bounds
    this.#floor = floor
  }

  get nextIndex(): number {
    return this.#next
  }
  get firstIndex(): number {
    return this.#first
  }
  get bytes(): number {
    return this.#bytes
  }
  get floor(): Revision {
    return this.#floor
  }

  at(index: number): RingRevision | undefined {
    if (index < this.#first || index >= this.#next) return undefined
    return this.#slots[index & (this.#slots.length - 1)]
  }

  push(revision: RingRevision): void {
    if (this.#next - this.#first === this.#slots.length) this.#grow()
    this.#slots[this.#next & (this.#slots.length - 1)] = revision
    this.#next++
    this.#bytes += revision.bytes
  }

  /** Back within the bounds. Apart from {@link push}, so that revisions of one entry are all there when they are told of. */
  trim(): void {
    while (
      this.#next - this.#first > 1 &&
      (this.#bytes > this.#bounds.bytes || this.#next - this.#first > this.#bounds.revisions)
    ) {
      this.#trimOldest()
    }
  }

  /**
   * Ends the continuity: nothing before is reachable. One index is left out, so that no index means both "the end of the
   * old" and "the start of the new".
   */
  reset(floor: Revision): void {
    this.#slots = emptySlots(64)
    this.#first = ++this.#next
    this.#bytes = 0
    this.#floor = floor
  }

  /** Index of the first revision after `position`, or undefined when revisions after it were trimmed. */
  after(position: Revision): number | undefined {
    if (compareRevisions(position, this.#floor) < 0) return undefined
    let low = this.#first
    let high = this.#next
    while (low < high) {
      const mid = (low + high) >>> 1
      const here = this.at(mid) as RingRevision
      if (compareRevisions(here.revision, position) <= 0) low = mid + 1
      else high = mid
    }
    return low
  }

  #trimOldest(): void {
    const at = this.#first & (this.#slots.length - 1)
    const oldest = this.#slots[at] as RingRevision
    this.#slots[at] = undefined
    this.#first++
    this.#bytes -= oldest.bytes
    this.#floor = oldest.revision
  }

  #grow(): void {
    const old = this.#slots
    const wider = emptySlots(old.length * 2)
    for (let i = this.#first; i < this.#next; i++) wider[i & (wider.length - 1)] = old[i & (old.length - 1)]
    this.#slots = wider
  }
}
