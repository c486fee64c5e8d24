// A wait that a signal ends early, as an answer and not as an error.

import type { Clock } from '#kit/clock.ts'

/** False when the signal ended the wait. */
export async function pause(clock: Clock, ms: number, signal: AbortSignal): Promise<boolean> {
  if (signal.aborted) return false
  if (ms <= 0) return true
  try {
    await clock.sleep(ms, signal)
    return true
  } catch {
    return false
  }
}
