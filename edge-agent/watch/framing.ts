// In pieces or whole: how the responses of the next watch shall come.
// Owns: the choice between etcd's fragments and undivided responses, and the point where neither can be had.
// Refuses: streams and time. Pieces are the rule: they bound memory while a watch catches up. But etcd cuts them in time
// quadratic in the number of events (100,000 deletes of one range keep it busy for minutes, the stream silent), while
// the same revision comes whole in seconds. So a watch that fell silent is followed by one that asks for whole responses,
// which are bounded by a limit on what is received; one refused as too large is followed by pieces again.

import type { FeedEnd } from './feed.ts'

/** Twice in a row too large, with a silent watch in pieces between: it can be had in no way. */
const STRIKES = 2

export class Framing {
  #pieces = true
  #strikes = 0

  get pieces(): boolean {
    return this.#pieces
  }

  /** A watch ended; `advanced`: it had delivered something. True when the revision it stands before cannot be taken in. */
  ended(end: FeedEnd, advanced: boolean): boolean {
    if (advanced) this.#strikes = 0
    if (end.kind === 'deaf' || end.kind === 'stale') this.#pieces = !this.#pieces
    if (end.kind !== 'failed' || end.failure.kind !== 'too-large') return false
    this.#pieces = !this.#pieces
    this.#strikes++
    if (this.#strikes < STRIKES) return false
    this.#strikes = 0
    return true
  }
}
