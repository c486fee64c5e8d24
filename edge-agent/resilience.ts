// The named policies of the agent, and the ports seen through them: etcd's reads, the log's reads, appends, dialling.
// Owns: which failures speak against a dependency, one breaker per log and dependency, and what a refused call looks like.
// Refuses: repeating an append. Whether one was stored is only known from the tail, so its breaker looks on and shuts the
// gate, and what the hub answered is handed on untouched. Loops with waits of their own (attach, relay) ask once.

import { errorCode } from '#kit/errors.ts'
import {
  DEFAULT_POLICIES,
  type PolicyOptions,
  type Resilience,
  ResilienceError,
  type ResiliencePolicy,
} from '#kit/resilience.ts'
import { type AppendResult, HubError, type HubLog } from './uplink/ports.ts'
import { EtcdFailure, type EtcdMember, type WatchSink } from './watch/etcd.ts'

export type PolicyLimits = {
  readonly breaker: PolicyOptions['breaker']
  readonly etcdReadMs: number
  readonly hubReadMs: number
  readonly appendMs: number
  /** Appends in flight at once: the window is the bulkhead. */
  readonly window: number
}

export type LogPolicies = {
  /** One per member: a bad one says nothing about the others. */
  etcdRead(endpoint: string): ResiliencePolicy
  readonly hubRead: ResiliencePolicy
  readonly hubAppend: ResiliencePolicy
}

/** Logs fail independently, so each has its own. */
export function logPolicies(resilience: Resilience, cluster: string, limits: PolicyLimits): LogPolicies {
  const { breaker } = limits
  const reads = new Map<string, ResiliencePolicy>()
  return {
    etcdRead(endpoint) {
      const known = reads.get(endpoint)
      if (known !== undefined) return known
      const made = resilience.policy(`etcd read ${cluster} ${endpoint.replace(/^https?:\/\//, '')}`, {
        ...DEFAULT_POLICIES.etcdRead,
        breaker,
        timeoutMs: limits.etcdReadMs,
        countsAsFailure: etcdIsInTrouble,
      })
      reads.set(endpoint, made)
      return made
    },
    hubRead: resilience.policy(`hub read ${cluster}`, {
      ...DEFAULT_POLICIES.hubRead,
      breaker,
      timeoutMs: limits.hubReadMs,
      countsAsFailure: hubIsInTrouble,
    }),
    hubAppend: resilience.policy(`hub append ${cluster}`, {
      ...DEFAULT_POLICIES.hubAppend,
      breaker,
      // Each append ends by its own time-out; this one must not come first.
      timeoutMs: limits.appendMs + 1_000,
      bulkhead: { concurrent: limits.window, queued: limits.window },
      countsAsFailure: (e) => e instanceof AppendTrouble,
    }),
  }
}

/** Dialling and redialling; a refused connection costs nobody anything and has its own backoff. */
export function connectPolicy(resilience: Resilience, breaker: PolicyOptions['breaker'], dialMs: number) {
  return resilience.policy('hub connect', {
    ...DEFAULT_POLICIES.hubConnect,
    breaker,
    timeoutMs: dialMs + 1_000,
    countsAsFailure: (e) => isTaskTimeout(e) || errorCode(e) === 'DW_NATS_TIMEOUT' || isTimeoutError(e),
  })
}

/** By name: several copies of the client's classes may exist in one process. */
const isTimeoutError = (e: unknown): boolean =>
  e instanceof Error && (e.name === 'TimeoutError' || (e.cause instanceof Error && e.cause.name === 'TimeoutError'))

/**
 * Silence, broken connections, an overloaded server. Not: a port that refuses (nobody is hurt by asking again, and the
 * attach loop waits anyway), a call we cancelled ourselves, an answer that is a plain no.
 */
export function etcdIsInTrouble(e: unknown): boolean {
  if (e instanceof ResilienceError) return e.code === 'DW_TIMEOUT'
  if (!(e instanceof EtcdFailure)) return isTaskTimeout(e)
  if (e.kind === 'timeout') return true
  if (e.kind === 'unavailable') return !/ECONNREFUSED|cancel/i.test(e.message)
  return e.kind === 'other' && /too many requests|resource exhausted/i.test(e.message)
}

function hubIsInTrouble(e: unknown): boolean {
  return e instanceof HubError ? e.kind === 'timeout' : isTaskTimeout(e)
}

/** The policy's own time-out, as the library reports it inside. */
const isTaskTimeout = (e: unknown): boolean => e instanceof Error && 'isTaskCancelledError' in e

export type WatchCounters = { watchOpened(): void; watchCreated(): void; watchFailed(): void }

export function guardEtcd(member: EtcdMember, policy: ResiliencePolicy, counters?: WatchCounters): EtcdMember {
  const read = async <T>(call: () => Promise<T>, once: boolean): Promise<T> => {
    try {
      return await policy.execute(call, undefined, { once })
    } catch (e) {
      throw e instanceof ResilienceError ? asEtcdFailure(e, member.endpoint) : e
    }
  }
  return {
    endpoint: member.endpoint,
    // The next member is a better second attempt than the same one.
    status: () => read(() => member.status(), true),
    head: (range) => read(() => member.head(range), true),
    // A page among thousands is asked for again: giving up would throw a whole checkpoint away.
    page: (request) => read(() => member.page(request), false),
    watch: (request, sink) => {
      counters?.watchOpened()
      return member.watch(request, counters === undefined ? sink : counting(sink, counters))
    },
    [Symbol.dispose]: () => member[Symbol.dispose](),
  }
}

function counting(sink: WatchSink, counters: WatchCounters): WatchSink {
  return {
    message: (raw) => {
      if (typeof raw === 'object' && raw !== null && 'created' in raw && raw.created === true) counters.watchCreated()
      sink.message(raw)
    },
    closed: (failure) => {
      counters.watchFailed()
      sink.closed(failure)
    },
  }
}

function asEtcdFailure(e: ResilienceError, endpoint: string): EtcdFailure {
  const kind = e.code === 'DW_TIMEOUT' ? 'timeout' : 'unavailable'
  return new EtcdFailure(kind, `${endpoint}: ${e.message}`, { cause: e })
}

export function guardHub(log: HubLog, read: ResiliencePolicy, append: ResiliencePolicy): HubLog {
  /** What is in flight together fails together, and counts once. */
  let burst = 0
  let { generation } = log
  /** A connection made since is news of the hub: what spoke against it was another one. */
  const news = (): void => {
    if (log.generation === generation) return
    ;({ generation } = log)
    read.heard()
    append.heard()
  }
  const guarded = async <T>(call: () => Promise<T>): Promise<T> => {
    news()
    try {
      return await read.execute(call)
    } catch (e) {
      throw e instanceof ResilienceError ? new HubError('timeout', e.message, { cause: e }) : e
    }
  }
  return {
    get generation() {
      return log.generation
    },
    get connected() {
      return log.connected
    },
    get maxPayload() {
      return log.maxPayload
    },
    info: () => guarded(() => log.info()),
    message: (seq) => guarded(() => log.message(seq)),
    append: (...args) => {
      news()
      if (append.retryAfterMs > 0) {
        return Promise.resolve({ kind: 'rejected', reason: 'overloaded', detail: refusal(append) })
      }
      const mine = burst
      const sent = log.append(...args)
      const observed = sent.then((result) => {
        if (!isTrouble(result)) return
        if (mine !== burst) throw new Error('the same trouble')
        burst++
        throw new AppendTrouble(result.reason)
      })
      append.execute(() => observed).catch(() => undefined)
      return sent
    },
    publishMark: (mark) => log.publishMark(mark),
    ready: (signal) => log.ready(signal),
    onLost: (fn) => log.onLost(fn),
    onMark: (fn) => log.onMark(fn),
  }
}

export const refusal = (policy: ResiliencePolicy): string =>
  `${policy.name}: the circuit breaker is open, the next probe follows within ${Math.ceil(policy.retryAfterMs / 1_000)} s`

class AppendTrouble extends Error {}

/** No answer while connected, or a hub that says it cannot. A lost connection is told by the connection itself. */
function isTrouble(result: AppendResult): result is Extract<AppendResult, { reason: string }> {
  return (
    (result.kind === 'lost' && result.reason === 'timeout') ||
    (result.kind === 'rejected' && result.reason === 'overloaded')
  )
}
