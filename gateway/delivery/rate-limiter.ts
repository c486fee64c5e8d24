// A class's rate for one session: events and bytes per second, as two token buckets.
// Owns: the arithmetic; time is an input. Refuses: dropping: a refusal leaves the reader's cursor where it is.
// A bucket holds one second's worth; a single frame larger than that passes when the bucket is full, and leaves a debt.

import type { RateLimits } from '#policies/engine/types.ts'

export class RateLimiter {
  readonly limits: RateLimits
  #events: number
  #bytes: number
  #at: number

  constructor(limits: RateLimits, now: number) {
    this.limits = limits
    this.#events = limits.eventsPerSecond ?? Number.POSITIVE_INFINITY
    this.#bytes = limits.bytesPerSecond ?? Number.POSITIVE_INFINITY
    this.#at = now
  }

  take(events: number, bytes: number, now: number): boolean {
    this.#refill(now)
    const { eventsPerSecond, bytesPerSecond } = this.limits
    if (!fits(this.#events, events, eventsPerSecond) || !fits(this.#bytes, bytes, bytesPerSecond)) return false
    this.#events -= events
    this.#bytes -= bytes
    return true
  }

  #refill(now: number): void {
    const seconds = Math.max(0, now - this.#at) / 1000
    this.#at = now
    const { eventsPerSecond, bytesPerSecond } = this.limits
    if (eventsPerSecond !== undefined)
      this.#events = Math.min(eventsPerSecond, this.#events + seconds * eventsPerSecond)
    if (bytesPerSecond !== undefined) this.#bytes = Math.min(bytesPerSecond, this.#bytes + seconds * bytesPerSecond)
  }
}

const fits = (have: number, want: number, limit: number | undefined): boolean =>
  limit === undefined || have >= Math.min(want, limit)
