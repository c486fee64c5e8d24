// A class's rate for one session: events and bytes per second, as two token buckets.
// Owns: the arithmetic; time is an input. Refuses: dropping: a refusal leaves the reader's cursor where it is.
// A bucket holds one second's worth; a single frame larger than that passes when the bucket is full, and leaves a debt.

import type { RateLimits } from '#policies/engine/types.ts'

export class RateLimiter {
  readonly limits: RateLimits
  #events: number
  #bytes: number
  #at: number

  /**
   * `before` is the limiter whose place it takes: its buckets are as full, or as deep in debt, as those were, in seconds of the
   * rate. Who renews a token or is classified anew gains nothing by it.
   */
  constructor(limits: RateLimits, now: number, before?: RateLimiter) {
    this.limits = limits
    this.#at = now
    const was = before?.fill(now)
    this.#events = bucket(limits.eventsPerSecond, was?.events)
    this.#bytes = bucket(limits.bytesPerSecond, was?.bytes)
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

  /** How full the buckets are: 1 is full, below 0 is debt in seconds; undefined where there is no rate. */
  fill(now: number): { readonly events: number | undefined; readonly bytes: number | undefined } {
    this.#refill(now)
    const { eventsPerSecond, bytesPerSecond } = this.limits
    return {
      events: eventsPerSecond === undefined ? undefined : this.#events / eventsPerSecond,
      bytes: bytesPerSecond === undefined ? undefined : this.#bytes / bytesPerSecond,
    }
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

const bucket = (rate = Number.POSITIVE_INFINITY, fill = 1): number =>
  rate === Number.POSITIVE_INFINITY ? rate : rate * fill
