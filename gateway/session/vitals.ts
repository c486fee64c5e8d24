// Is this connection still worth holding? Liveness, expiry, lifetime, slow readers, as a pure question asked on the wheel.
// Owns: the deadlines and their order. Refuses: acting: the owner closes, resets or asks for a sign of life.

import { Close, type Code } from '#protocol/codes.ts'

export type VitalLimits = {
  readonly heartbeatMs: number
  readonly slowReaderMs: number
}

export type Reading = {
  readonly now: number
  /** Wall clock ms left until the credential expires. */
  readonly expiresInMs: number
  /** Monotonic ms since which bytes wait for the peer; undefined when nothing waits. */
  readonly waitingSince: number | undefined
  /** What waits is more than a sign of life. */
  readonly loaded: boolean
}

export type Verdict =
  | { readonly kind: 'close' | 'reset'; readonly code: Code }
  /** `ask`: the peer was silent for a heartbeat and nothing is under way that it would answer. */
  | { readonly kind: 'well'; readonly ask: boolean; readonly wakeInMs: number }

export class Vitals {
  seenAt: number
  readonly endsAt: number
  readonly #limits: VitalLimits

  constructor(limits: VitalLimits, now: number, endsAt: number) {
    this.#limits = limits
    this.seenAt = now
    this.endsAt = endsAt
  }

  judge({ now, expiresInMs, waitingSince, loaded }: Reading): Verdict {
    const { heartbeatMs, slowReaderMs } = this.#limits
    if (now >= this.endsAt) return { kind: 'close', code: Close.MaxLifetime }
    if (expiresInMs <= 0) return { kind: 'close', code: Close.TokenExpired }
    if (waitingSince !== undefined && now - waitingSince >= slowReaderMs) {
      // Reset, not close: a closed socket would still deliver what is queued.
      return { kind: 'reset', code: loaded ? Close.SlowReader : Close.HeartbeatTimeout }
    }
    // Often enough to notice a reader that stalls between two looks within half its time again.
    let wakeInMs = Math.min(heartbeatMs, slowReaderMs / 2, expiresInMs, this.endsAt - now)
    if (waitingSince !== undefined) wakeInMs = Math.min(wakeInMs, waitingSince + slowReaderMs - now)
    const ask = waitingSince === undefined && now - this.seenAt >= heartbeatMs
    return { kind: 'well', ask, wakeInMs: Math.max(1, wakeInMs) }
  }
}
