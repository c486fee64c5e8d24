// What was received and not yet taken by the consumer of one watch.
// Owns: order, the weight of what waits, and whether the watch should rest. Refuses: deciding what resting means.
// Overflow rule: it never drops. Above `limit` it says `full` and the watch stops asking the gateway; it holds at most
// `limit` plus what was already on the way, and takes up again below a quarter of it.

import type { Folded } from './telling.ts'

/** Weight of a change beyond its frames' text, so that many tiny ones are bounded too. */
const OVERHEAD = 64

export class ChangeQueue {
  readonly #limit: number
  #items: Folded[] = []
  #head = 0
  #weight = 0

  /** `limit` in characters of frames. */
  constructor(limit: number) {
    this.#limit = limit
  }

  get weight(): number {
    return this.#weight
  }
  get length(): number {
    return this.#items.length - this.#head
  }
  get full(): boolean {
    return this.#weight > this.#limit
  }
  /** True once enough was taken to ask the gateway for more. */
  get slack(): boolean {
    return this.#weight * 4 <= this.#limit
  }

  push(item: Folded): void {
    this.#items.push(item)
    this.#weight += item.size + OVERHEAD
  }

  shift(): Folded | undefined {
    const item = this.#items[this.#head]
    if (item === undefined) return undefined
    this.#weight -= item.size + OVERHEAD
    this.#head += 1
    // Moving the rest only once half is consumed keeps shift() at constant cost on average.
    if (this.#head * 2 >= this.#items.length) {
      this.#items = this.#items.slice(this.#head)
      this.#head = 0
    }
    return item
  }

  clear(): void {
    this.#items = []
    this.#head = 0
    this.#weight = 0
  }
}
