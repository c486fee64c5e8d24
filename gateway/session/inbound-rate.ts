// How much one connection may say: a token bucket over its inbound frames, pings and stray pongs included.
// Owns: the arithmetic; time is an input. Refuses: the consequence (the session closes with 4100).

export type InboundLimits = { readonly framesPerSecond: number; readonly burst: number }

export class InboundRate {
  readonly #limits: InboundLimits
  #tokens: number
  #at: number

  constructor(limits: InboundLimits, now: number) {
    this.#limits = limits
    this.#tokens = limits.burst
    this.#at = now
  }

  take(now: number): boolean {
    const { framesPerSecond, burst } = this.#limits
    this.#tokens = Math.min(burst, this.#tokens + (Math.max(0, now - this.#at) / 1000) * framesPerSecond)
    this.#at = now
    if (this.#tokens < 1) return false
    this.#tokens--
    return true
  }
}
