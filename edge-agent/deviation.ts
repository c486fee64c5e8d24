// Does what arrives add up to what etcd counts? A second opinion on completeness, coarse and independent of every other check.
// Owns: the share of the store's revisions that show in the range, learned over intervals, and the alarm when it breaks.
// Refuses: ending or repairing anything. In a range that is the whole key space every revision must show: the filter
// explains nothing. In a part of it the share seen so far stands for what the filter explains; a new workload beside the
// range moves it, so this is a reason to look and no verdict.

import { type Revision, revisionDistance } from '#protocol/revision.ts'

export type DeviationOptions = {
  /** The range holds every key. */
  readonly whole: boolean
  readonly everyMs: number
}

/** Counted since some start; `skips` grows when revisions were left out on purpose, and what was counted is void then. */
export type Counted = { readonly proven: Revision; readonly seen: number; readonly skips: number }

export const DEVIATION_LIMIT = 0.3
/** Fewer revisions than this say nothing. */
const LEAST_ADVANCE = 100
/** Intervals before a learned share counts, and those in a row that make an alarm. */
const LEARNING = 3
const INSISTING = 2
const WEIGHT = 0.2

export class Deviation {
  readonly #options: DeviationOptions
  #since: (Counted & { readonly at: number }) | undefined
  #share: number
  #learned = 0
  #insisting = 0
  #ratio = 0

  constructor(options: DeviationOptions) {
    this.#options = options
    this.#share = options.whole ? 1 : 0
  }

  /** Of the newest interval: how far what was seen is from what was to be expected, as a share of the latter. */
  get ratio(): number {
    return this.#ratio
  }
  get alarm(): boolean {
    return this.#insisting >= INSISTING
  }

  /** True when the alarm has just been raised. `now` is monotonic ms. */
  tick(now: number, counted: Counted): boolean {
    const since = this.#since
    if (since === undefined || since.skips !== counted.skips) {
      this.#since = { ...counted, at: now }
      return false
    }
    const advance = revisionDistance(counted.proven, since.proven)
    if (now - since.at < this.#options.everyMs || advance < LEAST_ADVANCE) return false
    this.#since = { ...counted, at: now }
    return this.#judge(advance, counted.seen - since.seen)
  }

  #judge(advance: number, seen: number): boolean {
    const before = this.alarm
    const ready = this.#options.whole || this.#learned >= LEARNING
    const expected = advance * this.#share
    this.#ratio = ready ? Math.abs(seen - expected) / Math.max(1, expected) : 0
    this.#insisting = this.#ratio > DEVIATION_LIMIT ? this.#insisting + 1 : 0
    if (!this.#options.whole) {
      const share = seen / advance
      this.#share = this.#learned === 0 ? share : this.#share + WEIGHT * (share - this.#share)
      this.#learned++
    }
    return this.alarm && !before
  }
}
