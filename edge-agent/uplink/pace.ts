// How much an append gathers and when the next may follow, by how long the hub takes to answer.
// Owns: the two formulas. Refuses: time itself and the window's bounds (session.ts, window.ts).

/** Enough to fill a window over the link, and no more, because memory pays for it. */
const BATCH = { least: 64 * 1024, most: 512 * 1024, perRoundTripMs: 3 * 1024 } as const
/** Timers are no finer. */
const LEAST_WAIT_MS = 1

/** Revisions are gathered up to this many bytes; `ackMs` is the smoothed time to an acknowledgement, 0 when unknown. */
export function batchBytes(ackMs: number): number {
  return Math.max(BATCH.least, Math.min(BATCH.most, Math.round(ackMs * BATCH.perRoundTripMs)))
}

/**
 * Milliseconds to wait before the next append. On a long link a window that is half used is spread over the round trip,
 * so that small appends do not use it up at once.
 */
export function spreadMs(ackMs: number, inFlight: number, maxInFlight: number, sinceLastMs: number): number {
  if (inFlight * 2 < maxInFlight) return 0
  const wait = ackMs / maxInFlight - sinceLastMs
  return wait < LEAST_WAIT_MS ? 0 : wait
}
