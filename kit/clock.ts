// Time as a port, so that every pure core and every timer can be driven by a test.
// Owns: wall time, monotonic time, timers that are disposable, and a sleep that a signal can end.
// Does not own: backoff (see resilience.ts) or deadlines of a shutdown (see lifecycle.ts).
// The hand-driven clock for tests is test/support/manual-clock.ts.

export interface Clock {
  /** Wall time in milliseconds since 1970. May jump; never measure a duration with it. */
  now(): number
  /** Milliseconds since an arbitrary point, never going back. */
  monotonic(): number
  /** Calls `fn` once after at least `ms`. Disposing before that cancels it; disposing later does nothing. */
  setTimeout(fn: () => void, ms: number): Disposable
  /** Resolves after at least `ms`; rejects with the signal's reason as soon as it aborts. Leaves no listener behind. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>
}

// Node's timers take 31 bits and fire at once beyond that, so longer waits are made of several.
const MAX_TIMER_MS = 0x7fff_ffff

export function systemClock(): Clock {
  const clock: Clock = {
    now: () => Date.now(),
    monotonic: () => performance.now(),
    setTimeout(fn, ms) {
      let remaining = Math.max(0, ms)
      let timer: NodeJS.Timeout
      const arm = (): void => {
        const step = Math.min(remaining, MAX_TIMER_MS)
        remaining -= step
        timer = setTimeout(() => (remaining > 0 ? arm() : fn()), step)
      }
      arm()
      return { [Symbol.dispose]: () => clearTimeout(timer) }
    },
    sleep: (ms, signal) => sleepOn(clock, ms, signal),
  }
  return clock
}

/** `Clock.sleep` in terms of `Clock.setTimeout`; every implementation shares it, so they agree about cancellation. */
export function sleepOn(clock: Pick<Clock, 'setTimeout'>, ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted === true) return reject(signal.reason)
    const onAbort = (): void => {
      timer[Symbol.dispose]()
      reject(signal?.reason)
    }
    const timer = clock.setTimeout(() => {
      signal?.removeEventListener('abort', onAbort)
      resolve()
    }, ms)
    signal?.addEventListener('abort', onAbort, { once: true })
  })
}
