// A clock that moves only when a test says so.
// Owns: virtual wall and monotonic time and the order in which due timers fire.
// Does not own: promises. `advance` lets microtasks run between timers, so that code awaiting a sleep continues in order.

import { type Clock, sleepOn } from '#kit/clock.ts'

interface Timer {
  readonly dueAt: number
  readonly order: number
  readonly fn: () => void
}

export class ManualClock implements Clock {
  #wall: number
  #monotonic = 0
  #order = 0
  readonly #timers = new Set<Timer>()

  constructor(startMs = Date.UTC(2026, 0, 1)) {
    this.#wall = startMs
  }

  now(): number {
    return this.#wall
  }

  monotonic(): number {
    return this.#monotonic
  }

  setTimeout(fn: () => void, ms: number): Disposable {
    const timer: Timer = { dueAt: this.#monotonic + Math.max(0, ms), order: this.#order++, fn }
    this.#timers.add(timer)
    return { [Symbol.dispose]: () => void this.#timers.delete(timer) }
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return sleepOn(this, ms, signal)
  }

  /** Timers not yet fired or cancelled: zero after a clean shutdown. */
  get pending(): number {
    return this.#timers.size
  }

  /** Moves wall time alone, as NTP or an operator would. Monotonic time and timers do not notice. */
  jumpWall(ms: number): void {
    this.#wall += ms
  }

  /** Moves both times by `ms`, firing due timers in order; timers they set fire too if they fall into the same span. */
  async advance(ms: number): Promise<void> {
    const end = this.#monotonic + ms
    await settle()
    for (;;) {
      const next = this.#nextDue(end)
      if (next === undefined) break
      this.#moveTo(Math.max(next.dueAt, this.#monotonic))
      this.#timers.delete(next)
      next.fn()
      await settle()
    }
    this.#moveTo(end)
  }

  #nextDue(end: number): Timer | undefined {
    let best: Timer | undefined
    for (const t of this.#timers) {
      if (t.dueAt > end) continue
      if (best === undefined || t.dueAt < best.dueAt || (t.dueAt === best.dueAt && t.order < best.order)) best = t
    }
    return best
  }

  #moveTo(monotonic: number): void {
    this.#wall += monotonic - this.#monotonic
    this.#monotonic = monotonic
  }
}

/** A full turn of the event loop, so that promise chains of any depth have run. */
function settle(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}
