// One timer for all connections: a hashed timing wheel.
// Owns: who is to be woken when, to the precision of one slot. Refuses: what waking means.
// Ten thousand sockets cost one interval and a set entry each, instead of ten thousand timers.

export interface Sleeper {
  /** Slot and remaining rounds, written by the wheel. */
  slot: number
  rounds: number
  /** Returns ms until the next wake-up, or undefined to leave the wheel. */
  wake(now: number): number | undefined
}

export class TimingWheel {
  readonly slotMs: number
  readonly #slots: Set<Sleeper>[]
  #at = 0

  constructor(slotMs = 250, slots = 256) {
    this.slotMs = slotMs
    this.#slots = Array.from({ length: slots }, () => new Set())
  }

  add(sleeper: Sleeper, inMs: number): void {
    this.remove(sleeper)
    const ticks = Math.max(1, Math.ceil(inMs / this.slotMs))
    const { length } = this.#slots
    sleeper.slot = (this.#at + ticks) % length
    sleeper.rounds = Math.floor((ticks - 1) / length)
    this.#slots[sleeper.slot]?.add(sleeper)
  }

  remove(sleeper: Sleeper): void {
    if (sleeper.slot >= 0) this.#slots[sleeper.slot]?.delete(sleeper)
    sleeper.slot = -1
  }

  /** One slot forward; call it every `slotMs`. */
  advance(now: number): void {
    this.#at = (this.#at + 1) % this.#slots.length
    const due = this.#slots[this.#at]
    if (due === undefined) return
    for (const sleeper of Array.from(due)) {
      if (sleeper.rounds > 0) {
        sleeper.rounds--
        continue
      }
      due.delete(sleeper)
      sleeper.slot = -1
      const next = sleeper.wake(now)
      if (next !== undefined) this.add(sleeper, next)
    }
  }
}
