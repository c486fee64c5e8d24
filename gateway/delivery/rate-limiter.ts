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

  /** One frame, which may be larger than the bucket. */
  take(events: number, bytes: number, now: number): boolean {
    const { eventsPerSecond, bytesPerSecond } = this.limits
    return this.#take(
      events,
      bytes,
      Math.min(events, eventsPerSecond ?? events),
      Math.min(bytes, bytesPerSecond ?? bytes),
      now,
    )
  }

  /** Several frames at once: all of them fit, or none goes. */
  takeAll(events: number, bytes: number, now: number): boolean {
    return this.#take(events, bytes, events, bytes, now)
  }

  /** What was taken and could not be sent. */
  giveBack(events: number, bytes: number): void {
    this.#events += events
    this.#bytes += bytes
  }

  #take(events: number, bytes: number, needEvents: number, needBytes: number, now: number): boolean {
    this.#refill(now)
    if (this.#events < needEvents || this.#bytes < needBytes) return false
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
