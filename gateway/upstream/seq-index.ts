// Where in the log a revision lies, sparsely.
// Owns: points (chain states of one epoch) collected while reading, bounded in number.
// Refuses: I/O. For positions before its oldest point, replay.ts searches the log itself.

import type { ChainState } from '#protocol/log/chain.ts'
import type { Epoch } from '#protocol/log/entry.ts'
import { compareRevisions, type Revision } from '#protocol/revision.ts'

const MAX_POINTS = 4096
/** Messages between two points at first; doubles each time the points are thinned out. */
const FIRST_STRIDE = 16

export class SeqIndex {
  #points: ChainState[] = []
  #stride = FIRST_STRIDE
  /** Counts how often everything known became void. */
  generation = 0

  get size(): number {
    return this.#points.length
  }
  get oldest(): ChainState | undefined {
    return this.#points[0]
  }

  /** Offers the chain state after an entry; a state inside a chunk group is no place to start from. */
  note(state: ChainState): void {
    if (state.group !== undefined) return
    const last = this.#points[this.#points.length - 1]
    // Positions of an earlier epoch are never resumed.
    if (last !== undefined && (state.epoch !== last.epoch || state.seq <= last.seq)) this.clear()
    else if (last !== undefined && state.seq < last.seq + this.#stride) return
    this.#points.push(state)
    if (this.#points.length <= MAX_POINTS) return
    this.#points = this.#points.filter((_, i) => i % 2 === 0)
    this.#stride *= 2
  }

  /** The latest known state at or before `revision` whose successor is still stored. */
  find(epoch: Epoch, revision: Revision, firstSeq: number): ChainState | undefined {
    let low = 0
    let high = this.#points.length
    while (low < high) {
      const mid = (low + high) >>> 1
      if (compareRevisions((this.#points[mid] as ChainState).revision, revision) > 0) high = mid
      else low = mid + 1
    }
    const found = this.#points[low - 1]
    return found !== undefined && found.epoch === epoch && found.seq + 1 >= firstSeq ? found : undefined
  }

  clear(): void {
    this.generation++
    this.#points = []
    this.#stride = FIRST_STRIDE
  }
}
