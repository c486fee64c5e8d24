// Pages of the state, as it is now or as it was before a ring revision.
// Owns: merging the index with what the ring undoes, and remembering that undoing between the pages of one snapshot.
// Refuses: reaching beyond the ring: a page pinned before its oldest revision is no longer to be had.
// Bound: the undoing of at most eight snapshots is kept, each no larger than the ring itself.

import type { Key } from '#protocol/bytes.ts'
import type { KeyRange } from '#protocol/decode.ts'
import type { StateEntry } from '../delivery/ports.ts'
import type { Ring } from './ring.ts'
import type { StateIndex } from './state-index.ts'

const MAX_KEPT = 8

/** What the keys changed since `from` held before it. */
type Undo = {
  readonly from: number
  through: number
  readonly priors: Map<Key, StateEntry | undefined>
  sorted: readonly Key[] | undefined
}

export class StateScanner {
  readonly #ring: Ring
  #kept: Undo[] = []

  constructor(ring: Ring) {
    this.#ring = ring
  }

  scan(
    index: StateIndex,
    range: KeyRange,
    after: Key | undefined,
    limit: number,
    undoTo: number | undefined,
  ): readonly StateEntry[] | undefined {
    // `key + NUL` is the first key after `key`.
    const next = after === undefined ? range.from : (`${after}\0` as Key)
    const from = next < range.from ? range.from : next
    const page: StateEntry[] = []
    if (undoTo === undefined || undoTo === this.#ring.nextIndex) {
      if (limit <= 0) return page
      for (const { entry } of index.walk(from, range.to)) if (page.push(entry) >= limit) break
      return page
    }
    const undo = this.#undo(undoTo)
    if (undo === undefined) return undefined
    const { priors } = undo
    const changed = (undo.sorted ??= [...priors.keys()].sort((a, b) => (a < b ? -1 : 1)))
    let c = lowerBound(changed, from)
    const walk = index.walk(from, range.to)
    let held = walk.next()
    while (page.length < limit) {
      const key = changed[c]
      const undone = key !== undefined && (range.to === undefined || key < range.to) ? key : undefined
      const slot = held.done === true ? undefined : held.value
      if (undone !== undefined && (slot === undefined || undone <= slot.key)) {
        const prior = priors.get(undone)
        if (prior !== undefined) page.push(prior)
        if (slot?.key === undone) held = walk.next()
        c++
      } else if (slot !== undefined) {
        page.push(slot.entry)
        held = walk.next()
      } else break
    }
    return page
  }

  #undo(from: number): Undo | undefined {
    const ring = this.#ring
    if (from < ring.firstIndex || from > ring.nextIndex) return undefined
    this.#kept = this.#kept.filter((undo) => undo.from >= ring.firstIndex)
    let undo = this.#kept.find((kept) => kept.from === from)
    if (undo === undefined) {
      undo = { from, through: from, priors: new Map(), sorted: undefined }
      if (this.#kept.push(undo) > MAX_KEPT) this.#kept.shift()
    }
    for (; undo.through < ring.nextIndex; undo.through++) {
      for (const { key, prior } of ring.at(undo.through)?.events ?? []) {
        if (undo.priors.has(key)) continue
        undo.priors.set(key, prior)
        undo.sorted = undefined
      }
    }
    return undo
  }
}

const lowerBound = (keys: readonly Key[], key: Key): number => {
  let low = 0
  let high = keys.length
  while (low < high) {
    const mid = (low + high) >>> 1
    if ((keys[mid] as Key) < key) low = mid + 1
    else high = mid
  }
  return low
}
