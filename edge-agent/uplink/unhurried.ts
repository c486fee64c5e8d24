// Reading pages without taking the machine from live events: after each page as long a rest as the page took.
// Owns: the rests. Refuses: what is read, and deciding who may take their time (checkpoints.ts).

import type { Clock } from '#kit/clock.ts'
import { pause } from '../pause.ts'
import type { ReadPage } from './checkpoint.ts'

/** Half of the time for the pages, half for everybody else, on any machine and at any load. */
const REST_FACTOR = 1
/** A page that took longer was waited for, not worked at. */
const REST_MOST_MS = 250

export function unhurried(read: ReadPage, rests: () => boolean, clock: Clock, signal: AbortSignal): ReadPage {
  let restMs = 0
  return async (...request) => {
    if (rests()) await pause(clock, restMs, signal)
    const began = clock.monotonic()
    try {
      return await read(...request)
    } finally {
      restMs = Math.min(REST_MOST_MS, REST_FACTOR * (clock.monotonic() - began))
    }
  }
}
