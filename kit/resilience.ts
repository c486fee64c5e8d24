// Retry, time-out, circuit breaker and bulkhead for calls to other systems, by cockatiel, in one place.
// Owns: the named policies, their defaults, their breaker states as a gauge and in status, and full-jitter backoff.
// Does not own: what is called. Loops that never give up (reconnect, tail) use `fullJitter` and their own states;
// policies here are for single calls that must end.
// Order, outermost first: bulkhead, retry, breaker, time-out. So each attempt has its own time-out, every failed attempt
// counts for the breaker, and an open breaker ends the retries at once instead of feeding them.

import {
  bulkhead,
  CircuitState,
  ConstantBackoff,
  circuitBreaker,
  handleWhen,
  type IBackoff,
  isBrokenCircuitError,
  isBulkheadRejectedError,
  isTaskCancelledError,
  retry,
  SamplingBreaker,
  TimeoutStrategy,
  timeout,
  wrap,
} from 'cockatiel'
import type { Clock } from './clock.ts'
import { DeltawatchError, errorMessage } from './errors.ts'
import type { Metrics } from './metrics.ts'
import type { Random } from './random.ts'

export type BreakerState = 'closed' | 'open' | 'half-open'

export interface PolicyOptions {
  /** Per attempt. */
  readonly timeoutMs: number
  /** Attempts after the first; 0 = none. */
  readonly retries: number
  readonly backoff: BackoffOptions
  readonly breaker: {
    /** Share of failed attempts that opens the breaker, in (0, 1). */
    readonly failureRatio: number
    readonly samplingMs: number
    /** Attempts that a sampling window must hold before its ratio means anything. */
    readonly minimumCalls: number
    readonly halfOpenAfterMs: number
  }
  readonly bulkhead: { readonly concurrent: number; readonly queued: number }
  /** False for errors that say nothing about the other side's health (bad argument, not found). They pass through. */
  readonly countsAsFailure?: (error: unknown) => boolean
}

export interface ResiliencePolicy {
  readonly name: string
  /**
   * Runs `call` under the policy. Its signal aborts on time-out or with the caller's signal; honour it.
   * Rejects with the call's own error, or a ResilienceError: DW_TIMEOUT, DW_BREAKER_OPEN, DW_BULKHEAD_FULL.
   */
  execute<T>(call: (signal: AbortSignal) => Promise<T>, signal?: AbortSignal, how?: ExecuteOptions): Promise<T>
  readonly state: BreakerState
  /** How long an open breaker goes on refusing calls; 0 when the next call is let through. */
  readonly retryAfterMs: number
  /** The other side was heard of otherwise, by a new connection for instance: an open breaker lets one call probe now. */
  heard(): void
}

export interface ExecuteOptions {
  /** No second attempt: the caller has a better way to go on, such as another endpoint. */
  readonly once?: boolean
}

export interface PolicyStatus {
  readonly name: string
  readonly breaker: BreakerState
  readonly retryAfterMs: number
  /** Times the breaker opened since the start. */
  readonly opened: number
  readonly lastFailure?: string
}

export class ResilienceError extends DeltawatchError {}

export interface BackoffOptions {
  readonly baseMs: number
  readonly capMs: number
}

/**
 * Full jitter: uniform in [0, min(cap, base * 2^attempt)), in milliseconds. `attempt` counts from 0.
 * Uniform over the whole span, because a thousand agents that lost the same hub must not come back together.
 */
export function fullJitter(attempt: number, options: BackoffOptions, random: Pick<Random, 'next'>): number {
  const ceiling = Math.min(options.capMs, options.baseMs * 2 ** attempt)
  return Math.floor(random.next() * ceiling)
}

export const DEFAULT_BREAKER = {
  failureRatio: 0.35,
  // A call that hangs takes its whole time-out: in a shorter window a few of them could never add up.
  samplingMs: 60_000,
  minimumCalls: 5,
  halfOpenAfterMs: 60_000,
} as const

/** The named policies; override single fields from configuration. */
export const DEFAULT_POLICIES = {
  etcdRead: {
    timeoutMs: 5_000,
    retries: 3,
    backoff: { baseMs: 100, capMs: 2_000 },
    breaker: DEFAULT_BREAKER,
    bulkhead: { concurrent: 16, queued: 256 },
  },
  hubRead: {
    timeoutMs: 5_000,
    retries: 0,
    backoff: { baseMs: 100, capMs: 5_000 },
    breaker: DEFAULT_BREAKER,
    bulkhead: { concurrent: 16, queued: 256 },
  },
  // An append is never repeated by a policy: whether it was stored is only known from the log's tail.
  hubAppend: {
    timeoutMs: 10_000,
    retries: 0,
    backoff: { baseMs: 100, capMs: 5_000 },
    breaker: DEFAULT_BREAKER,
    bulkhead: { concurrent: 16, queued: 0 },
  },
  hubConnect: {
    timeoutMs: 5_000,
    retries: 0,
    backoff: { baseMs: 250, capMs: 15_000 },
    breaker: DEFAULT_BREAKER,
    bulkhead: { concurrent: 4, queued: 16 },
  },
} as const satisfies Record<string, PolicyOptions>

export interface Resilience {
  /** Creates a policy. `name` is the `dep` label of its gauge and unique. */
  policy(name: string, options: PolicyOptions): ResiliencePolicy
  status(): readonly PolicyStatus[]
}

export interface ResilienceDeps {
  readonly clock: Clock
  readonly random: Random
  readonly metrics?: Metrics
  readonly onStateChange?: (name: string, state: BreakerState) => void
}

const BREAKER_STATES: Readonly<Record<CircuitState, BreakerState>> = {
  [CircuitState.Closed]: 'closed',
  [CircuitState.HalfOpen]: 'half-open',
  [CircuitState.Open]: 'open',
  [CircuitState.Isolated]: 'open',
}

const GAUGE_VALUE: Readonly<Record<BreakerState, number>> = { closed: 0, 'half-open': 1, open: 2 }

export function createResilience(deps: ResilienceDeps): Resilience {
  const built = new Map<string, { policy: ResiliencePolicy; status: () => PolicyStatus }>()
  const gauge = deps.metrics?.gauge({
    name: 'deltawatch_breaker_state',
    help: 'Circuit breaker towards a dependency: 0 closed, 1 half-open (probing), 2 open (calls are refused at once).',
    labels: ['dep'],
  })
  const opened = deps.metrics?.counter({
    name: 'deltawatch_breaker_opened_total',
    help: 'Times a circuit breaker towards a dependency opened.',
    labels: ['dep'],
  })
  return {
    policy(name, options) {
      if (built.has(name)) {
        throw new ResilienceError(
          'DW_POLICY_DECLARATION',
          `policy ${name} is declared twice; declare it once and pass it on`,
        )
      }
      const entry = build(name, options, deps, () => opened?.with({ dep: name }).inc())
      built.set(name, entry)
      gauge?.with({ dep: name }).read(() => GAUGE_VALUE[entry.policy.state])
      return entry.policy
    },
    status: () => [...built.values()].map((entry) => entry.status()),
  }
}

function build(name: string, options: PolicyOptions, deps: ResilienceDeps, onOpened: () => void) {
  const counts = options.countsAsFailure ?? (() => true)
  let heard = false
  const breaker = circuitBreaker(
    // A cancelled call says nothing about the other side, except while probing: a probe without an answer proves no recovery.
    handleWhen((e) => (e instanceof CallerAbort ? breaker.state === CircuitState.HalfOpen : counts(e))),
    {
      halfOpenAfter: { next: () => monotonicWait(deps.clock, options.breaker.halfOpenAfterMs, () => heard) },
      breaker: new SamplingBreaker({
        threshold: options.breaker.failureRatio,
        duration: options.breaker.samplingMs,
        minimumRps: (options.breaker.minimumCalls * 1000) / options.breaker.samplingMs,
      }),
    },
  )
  const retried = handleWhen((e) => !isBrokenCircuitError(e) && !(e instanceof CallerAbort) && counts(e))
  const attempts = wrap(
    breaker,
    timeout(options.timeoutMs, { strategy: TimeoutStrategy.Aggressive, abortOnReturn: false }),
  )
  // The wait between attempts is ours: cockatiel's cannot be cancelled and would outlive the call.
  const again = retry(retried, { maxAttempts: options.retries, backoff: new ConstantBackoff(0) })
  const slots = bulkhead(options.bulkhead.concurrent, options.bulkhead.queued)
  let lastFailure: string | undefined
  breaker.onFailure(({ reason, handled }) => {
    if (handled && 'error' in reason) lastFailure = errorMessage(translate(name, options, reason.error))
  })
  const state = (): BreakerState => BREAKER_STATES[breaker.state]
  breaker.onStateChange(() => deps.onStateChange?.(name, state()))
  let openedAt = 0
  let opened = 0
  breaker.onBreak(() => {
    openedAt = deps.clock.monotonic()
    heard = false
    opened++
    onOpened()
  })
  const retryAfterMs = (): number =>
    state() === 'open' && !heard ? Math.max(0, openedAt + options.breaker.halfOpenAfterMs - deps.clock.monotonic()) : 0

  const policy: ResiliencePolicy = {
    name,
    get state() {
      return state()
    },
    get retryAfterMs() {
      return retryAfterMs()
    },
    heard() {
      heard = true
    },
    async execute(call, signal, { once = false } = {}) {
      signal?.throwIfAborted()
      // The caller's signal stays outside cockatiel, which would report a cancellation as a time-out and count it.
      using cancelled = abortAsRejection(signal)
      const attempt = async (number: number): Promise<Awaited<ReturnType<typeof call>>> => {
        if (number > 0)
          await deps.clock.sleep(fullJitter(number - 1, options.backoff, deps.random), signal).catch(gaveUp)
        return attempts.execute(({ signal: inner }) => {
          if (signal?.aborted === true) throw new CallerAbort()
          const both = signal === undefined ? inner : AbortSignal.any([inner, signal])
          return Promise.race([call(both), cancelled.promise])
        })
      }
      try {
        const work = slots.execute(() => (once ? attempt(0) : again.execute(({ attempt: number }) => attempt(number))))
        return await Promise.race([work, cancelled.promise])
      } catch (e) {
        signal?.throwIfAborted()
        throw translate(name, options, e)
      }
    },
  }
  const status = (): PolicyStatus => ({
    name,
    breaker: state(),
    retryAfterMs: Math.ceil(retryAfterMs()),
    opened,
    ...(lastFailure === undefined ? {} : { lastFailure }),
  })
  return { policy, status }
}

/** Marks a failure that happened because the caller gave up. */
class CallerAbort extends Error {}

function gaveUp(): never {
  throw new CallerAbort()
}

function abortAsRejection(signal: AbortSignal | undefined): Disposable & { readonly promise: Promise<never> } {
  const { promise, reject } = Promise.withResolvers<never>()
  const onAbort = (): void => reject(new CallerAbort())
  promise.catch(() => undefined)
  signal?.addEventListener('abort', onAbort, { once: true })
  return { promise, [Symbol.dispose]: () => signal?.removeEventListener('abort', onAbort) }
}

/**
 * How long an open breaker still refuses calls. cockatiel compares this with wall time since opening; answering with
 * an infinity on either side leaves the decision to the monotonic clock, so that a wall clock set back by an hour
 * does not keep a breaker open for an hour.
 */
function monotonicWait(clock: Pick<Clock, 'monotonic'>, ms: number, heard: () => boolean): IBackoff<unknown> {
  const openedAt = clock.monotonic()
  return {
    get duration() {
      return clock.monotonic() - openedAt >= ms || heard() ? Number.NEGATIVE_INFINITY : Number.POSITIVE_INFINITY
    },
    next: () => monotonicWait(clock, ms, heard),
  }
}

function translate(name: string, options: PolicyOptions, e: unknown): unknown {
  if (isBrokenCircuitError(e)) {
    const seconds = options.breaker.halfOpenAfterMs / 1000
    const message = `${name}: too many recent failures, calls are refused; the next probe follows within ${seconds} s`
    return new ResilienceError('DW_BREAKER_OPEN', message, { cause: e })
  }
  if (isBulkheadRejectedError(e)) {
    const message = `${name}: ${options.bulkhead.concurrent} calls are running and ${options.bulkhead.queued} waiting; try later`
    return new ResilienceError('DW_BULKHEAD_FULL', message, { cause: e })
  }
  if (isTaskCancelledError(e)) {
    return new ResilienceError('DW_TIMEOUT', `${name}: no answer within ${options.timeoutMs} ms`, { cause: e })
  }
  return e
}
