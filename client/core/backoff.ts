// How long to stay away before the next attempt.
// Owns: the delay for a close code's band, jitter over the whole span, and when retries count as a loop.
// Refuses: timers and randomness; both come in as arguments.

import type { Retry } from '../../protocol/codes.ts'

export type BackoffOptions = {
  /** Span of the first delay in ms; it doubles with each attempt. */
  readonly baseMs: number
  readonly maxMs: number
  /** A connection that held this long in ms starts the count anew. */
  readonly stableMs: number
}
export const DEFAULT_BACKOFF: BackoffOptions = { baseMs: 500, maxMs: 30_000, stableMs: 10_000 }

/** Attempts in a row that each reached the gateway and ended early. From here on it is called a loop. */
export const LOOP_AFTER = 5
const NOW_SPAN_MS = 250
/** The back-off band promises the gateway at least this much rest. */
const BAND_FLOOR_MS = 1_000

export type RetryAsk = {
  readonly retry: Exclude<Retry, 'never'>
  /** Attempts since the last stable connection, from 0. */
  readonly attempt: number
  /** What the gateway asked for in its goodbye. */
  readonly retryAfterMs?: number | undefined
  /** True for the codes 4100-4199. */
  readonly floor?: boolean
  /** In [0, 1). */
  readonly random: number
}

/** Milliseconds. A gateway that asks everybody back "now" meets the same growing spans when that goes wrong again. */
export function retryDelay(options: BackoffOptions, ask: RetryAsk): number {
  const { attempt, retryAfterMs } = ask
  const rest = Math.max(ask.floor === true ? BAND_FLOOR_MS : 0, Math.min(retryAfterMs ?? 0, options.maxMs))
  // A gateway that names a time has spread its clients already.
  const soon = attempt === 0 && (ask.retry === 'now' || retryAfterMs !== undefined)
  const span = Math.min(soon ? NOW_SPAN_MS : options.maxMs, options.baseMs * 2 ** Math.min(attempt, 20))
  return rest + ask.random * span
}
