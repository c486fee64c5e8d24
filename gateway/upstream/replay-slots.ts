// How many replays of one log may be under way at once, and whose turn it is.
// Owns: the slots, who holds one, and taking one back from a reader that does not pull.
// Refuses: reading (replay.ts) and memory of the log (segments.ts).
// Overflow rule: beyond `maxWorking` the slot of whoever has rested longest is taken back, once that is `restMs`; it asks
// again when it pulls. Where nobody rests, or beyond `maxOpen` in all, a newcomer is refused and comes again.

import type { Clock } from '#kit/clock.ts'

export type SlotBounds = {
  /** Replays that hold a slot. */
  readonly maxWorking: number
  /** Those, and the ones a slot was taken back from: each has an encoded chunk in memory. */
  readonly maxOpen: number
  /** A reader that has not pulled for so long may lose its slot. */
  readonly restMs: number
}

export interface Slot extends Disposable {
  /** The reader was given a revision and has not asked for the next. */
  rest(): void
  /** It asks again. False: its slot was taken back and there is no other. */
  resume(): boolean
}

export class ReplaySlots {
  readonly #clock: Clock
  readonly #bounds: SlotBounds
  readonly #working = new Set<Held>()
  #open = 0

  constructor(clock: Clock, bounds: SlotBounds) {
    this.#clock = clock
    this.#bounds = bounds
  }

  get working(): number {
    return this.#working.size
  }
  get open(): number {
    return this.#open
  }

  /** Undefined: too many. */
  take(): Slot | undefined {
    const slot = new Held(this)
    if (this.#open >= this.#bounds.maxOpen || !this.enter(slot)) return undefined
    this.#open++
    return slot
  }

  // ---- for slots

  enter(slot: Held): boolean {
    if (this.#working.size >= this.#bounds.maxWorking && !this.#takeBack()) return false
    this.#working.add(slot)
    return true
  }

  now(): number {
    return this.#clock.monotonic()
  }

  holds(slot: Held): boolean {
    return this.#working.has(slot)
  }

  leave(slot: Held): void {
    this.#working.delete(slot)
    this.#open--
  }

  #takeBack(): boolean {
    let longest: Held | undefined
    for (const slot of this.#working) {
      if (slot.restingSince < (longest?.restingSince ?? Infinity)) longest = slot
    }
    if (longest === undefined || this.now() - longest.restingSince < this.#bounds.restMs) return false
    return this.#working.delete(longest)
  }
}

class Held implements Slot {
  /** Monotonic ms; Infinity while it works. */
  restingSince = Infinity
  readonly #slots: ReplaySlots
  #over = false

  constructor(slots: ReplaySlots) {
    this.#slots = slots
  }

  rest(): void {
    this.restingSince = this.#slots.now()
  }

  resume(): boolean {
    this.restingSince = Infinity
    return this.#slots.holds(this) || this.#slots.enter(this)
  }

  [Symbol.dispose](): void {
    if (this.#over) return
    this.#over = true
    this.#slots.leave(this)
  }
}
