// The attempts that the hub's client library makes by itself, as a policy sees them.
// Owns: telling the policy of each attempt and its outcome, and closing its breaker once a connection stands.
// Refuses: dialling, and deciding when (nats.ts).

import type { Clock } from './clock.ts'
import { DeltawatchError } from './errors.ts'
import type { ResiliencePolicy } from './resilience.ts'

export interface Redials {
  /** Milliseconds from the start of the last attempt, as the client counts, until the next may be made; at least the backoff's `wait`. */
  waitMs(wait: number): number
  began(): void
  succeeded(): void
  failed(): void
}

/** A failed attempt is judged by how long it took: `timeoutMs` is the client's own limit. */
export function observeRedials(policy: ResiliencePolicy | undefined, clock: Clock, timeoutMs: number): Redials {
  let attempt: (PromiseWithResolvers<void> & { readonly at: number }) | undefined
  /** What the policy made of the attempt: done also when it would not take it. */
  let observed: Promise<unknown> = Promise.resolve()
  let beganAt = 0
  let attempts = 0

  /**
   * An attempt that came before the breaker would take it is proof all the same. Without this the breaker of a connection
   * that stands would stay open, for nothing dials any more.
   */
  const prove = async (by: ResiliencePolicy, mine: number): Promise<void> => {
    await observed
    while (by.state === 'open' && mine === attempts) {
      await clock.sleep(Math.max(1, by.retryAfterMs))
      if (mine === attempts) await by.execute(() => Promise.resolve()).catch(() => undefined)
    }
  }

  return {
    waitMs(wait) {
      const refusedMs = policy?.retryAfterMs ?? 0
      return refusedMs === 0 ? wait : Math.max(wait, Math.ceil(clock.monotonic() - beganAt + refusedMs))
    },
    began() {
      if (policy === undefined || attempt !== undefined) return
      attempts++
      const outcome = Promise.withResolvers<void>()
      // An open breaker takes no interest in it: nobody else would hear of the failure.
      outcome.promise.catch(() => undefined)
      beganAt = clock.monotonic()
      attempt = { ...outcome, at: beganAt }
      observed = policy.execute(() => outcome.promise).catch(() => undefined)
    },
    succeeded() {
      attempt?.resolve()
      attempt = undefined
      if (policy !== undefined) void prove(policy, attempts)
    },
    failed() {
      if (attempt === undefined) return
      const hung = clock.monotonic() - attempt.at >= timeoutMs * 0.9
      const code = hung ? 'DW_NATS_TIMEOUT' : 'DW_NATS_REFUSED'
      attempt.reject(new DeltawatchError(code, 'the hub could not be reached again'))
      attempt = undefined
    },
  }
}
