// The connection to the hub, as both services use it: it starts while NATS is down, never gives up, and says where it is.
// Owns: dialling with full jitter, ping deadlines, fresh credentials at each connect, the connection's state, its metrics.
// Does not own: streams, subjects or subscriptions. The client library restores subscriptions after a reconnect by
// itself; only a new `generation` needs them made again.
// What is published while not connected may be lost or sent much later: check `state()` before publishing.

import { connect, type NatsConnection, type Status } from '@nats-io/transport-node'
import { type Clock, systemClock } from './clock.ts'
import { DeltawatchError, errorCode, errorMessage } from './errors.ts'
import { createLatest } from './latest.ts'
import type { Logger } from './logger.ts'
import type { Metrics } from './metrics.ts'
import { clientOptions, hostOf, type NatsOptions } from './nats-options.ts'
import { type Random, systemRandom } from './random.ts'
import { observeRedials } from './redials.ts'
import { type BackoffOptions, fullJitter, type ResiliencePolicy } from './resilience.ts'

export type { NatsOptions }

export interface NatsDeps {
  readonly logger: Logger
  readonly clock?: Clock
  readonly random?: Random
  readonly metrics?: Metrics
  /** Every attempt to connect passes through it, those of the client library included; while it refuses, none is made. */
  readonly connectPolicy?: ResiliencePolicy
}

export interface Problem {
  readonly code: string
  readonly message: string
}

export type NatsState =
  /** No connection yet in this generation. */
  | { readonly kind: 'connecting'; readonly sinceMs: number; readonly attempt: number; readonly problem?: Problem }
  | {
      readonly kind: 'connected'
      readonly sinceMs: number
      /** Grows when the client object was replaced: subscriptions made on the old one are gone. */
      readonly generation: number
      readonly server: string
      readonly serverVersion: string
      readonly maxPayload: number
    }
  /** Was connected; the same client object is dialling again. */
  | { readonly kind: 'reconnecting'; readonly sinceMs: number; readonly attempt: number; readonly problem?: Problem }
  | { readonly kind: 'closed' }

export type Connected = Extract<NatsState, { kind: 'connected' }>

export interface NatsLink extends AsyncDisposable {
  state(): NatsState
  /** The present state, then every newest one. Slow readers skip states. Ends when the link is closed. */
  status(signal?: AbortSignal): AsyncIterableIterator<NatsState>
  /** The client object, once there has been a first connection; it may be reconnecting. */
  connection(): NatsConnection | undefined
  /** Waits for a connected state. Rejects when the signal aborts, or with DW_NATS_CLOSED. */
  connected(signal?: AbortSignal): Promise<NatsConnection>
}

export class NatsError extends DeltawatchError {}

const DEFAULT_BACKOFF: BackoffOptions = { baseMs: 250, capMs: 15_000 }
// A server that takes us and drops us at once must not look like success, or the backoff would never grow.
const STABLE_MS = 10_000
const DRAIN_MS = 2_000

/** Returns at once; dialling goes on in the background until the link is disposed. */
export function openNats(options: NatsOptions, deps: NatsDeps): NatsLink {
  const clock = deps.clock ?? systemClock()
  const random = deps.random ?? systemRandom()
  const logger = deps.logger.child({ nats: options.name })
  const backoff = options.backoff ?? DEFAULT_BACKOFF
  const closing = new AbortController()
  const state = createLatest<NatsState>({ kind: 'connecting', sinceMs: clock.now(), attempt: 0 })
  const meters = declareMeters(deps.metrics, () => state.value.kind === 'connected')
  let current: NatsConnection | undefined
  let generation = 0
  let attempt = 0
  let wait = 0
  let connectedAt = clock.monotonic()
  let problem: Problem | undefined

  const nextAttempt = (): void => {
    attempt++
    wait = fullJitter(attempt - 1, backoff, random)
  }
  const note = (error: unknown): void => {
    problem = { code: errorCode(error), message: errorMessage(error) }
  }
  const show = (kind: 'connecting' | 'reconnecting'): void => {
    const sinceMs = state.value.kind === kind ? state.value.sinceMs : clock.now()
    state.set({ kind, sinceMs, attempt, ...(problem === undefined ? {} : { problem }) })
  }
  const redial = observeRedials(deps.connectPolicy, clock, options.connectTimeoutMs ?? 5_000)
  const wallTime = watchWallTime(clock)
  const pauseMs = (): number => Math.max(wait, deps.connectPolicy?.retryAfterMs ?? 0)
  const settings = clientOptions(options, {
    reconnectDelay: () => {
      redial.failed()
      return redial.waitMs(wait) - wallTime.setBackMs()
    },
    onCredentialsProblem: (e) => {
      note(e)
      logger.error('nats credentials unusable', { err: e })
    },
  })

  function onUp(nc: NatsConnection): void {
    problem = undefined
    connectedAt = clock.monotonic()
    const server = nc.getServer()
    const { version = 'unknown', max_payload: maxPayload = 0 } = nc.info ?? {}
    state.set({ kind: 'connected', sinceMs: clock.now(), generation, server, serverVersion: version, maxPayload })
    logger.info('nats connected', { server, serverVersion: version, attempt })
  }

  function onDown(): void {
    if (clock.monotonic() - connectedAt >= STABLE_MS) attempt = 0
    // The first attempt after a stable connection follows at once; later ones wait longer and longer.
    if (attempt === 0) wait = 0
    show('reconnecting')
    meters.disconnects.inc()
    logger.warn('nats disconnected', { problem: problem?.message })
  }

  function onStatus(nc: NatsConnection, event: Status): void {
    switch (event.type) {
      case 'disconnect':
        return onDown()
      case 'reconnecting':
        redial.began()
        wallTime.mark()
        nextAttempt()
        return show('reconnecting')
      case 'reconnect':
        redial.succeeded()
        return onUp(nc)
      case 'staleConnection':
        return note(new NatsError('DW_NATS_STALE', 'the server left two pings unanswered'))
      case 'error':
        note(event.error)
        meters.errors.with({ code: errorCode(event.error) }).inc()
        return logger.warn('nats server error', { err: event.error })
      case 'slowConsumer':
        meters.slow.inc()
        return logger.warn('nats subscription is slow', { subject: event.sub.getSubject(), pending: event.pending })
      case 'ldm':
        return logger.info('nats server is leaving', { server: event.server })
      case 'ping':
      case 'update':
      case 'forceReconnect':
      case 'close':
        return undefined
      default: {
        const unknown: never = event
        return unknown
      }
    }
  }

  async function dial(): Promise<NatsConnection> {
    wallTime.mark()
    const dialling = connect(settings)
    try {
      return await abandonOnAbort(dialling, closing.signal)
    } catch (e) {
      // If it still succeeds after we gave up, nobody else would close it.
      dialling.then((late) => late.close()).catch(() => undefined)
      throw e
    }
  }

  async function keepConnected(): Promise<void> {
    while (!closing.signal.aborted) {
      try {
        show('connecting')
        const nc = await (deps.connectPolicy?.execute(dial, closing.signal) ?? dial())
        current = nc
        generation++
        onUp(nc)
        for await (const event of nc.status()) onStatus(nc, event)
        const reason = await nc.closed()
        current = undefined
        if (closing.signal.aborted) return
        // The client gave up by itself, which it is told not to do. Its replacement is a new generation.
        note(reason ?? new NatsError('DW_NATS_LOST', 'the client closed the connection'))
        logger.error('nats client closed by itself', { err: reason })
      } catch (e) {
        if (closing.signal.aborted) return
        note(e)
        if (attempt === 0) logger.warn('nats unreachable, retrying', { err: e, servers: options.servers.map(hostOf) })
      }
      nextAttempt()
      show('connecting')
      await clock.sleep(pauseMs(), closing.signal).catch(() => undefined)
    }
  }

  async function close(): Promise<void> {
    if (!closing.signal.aborted) {
      closing.abort(new NatsError('DW_NATS_CLOSED', `the connection ${options.name} was closed`))
      const up = state.value.kind === 'connected'
      if (current !== undefined) await (up ? drain(current, clock) : current.close())
      state.set({ kind: 'closed' })
      state.close()
    }
    await loop
  }

  const loop = keepConnected()
  return {
    state: () => state.value,
    status: (signal) => state.changes(signal),
    connection: () => current,
    async connected(signal) {
      await state.until(isConnectedOrClosed, signal)
      if (current !== undefined) return current
      throw new NatsError('DW_NATS_CLOSED', `the connection ${options.name} was closed`)
    },
    [Symbol.asyncDispose]: close,
  }
}

type Settled = Extract<NatsState, { kind: 'connected' | 'closed' }>

function isConnectedOrClosed(state: NatsState): state is Settled {
  return state.kind === 'connected' || state.kind === 'closed'
}

function declareMeters(metrics: Metrics | undefined, isUp: () => boolean) {
  const off = { inc: () => undefined }
  metrics
    ?.gauge({
      name: 'deltawatch_nats_connected',
      help: 'Whether the connection to the hub stands: 1 or 0.',
    })
    .read(() => (isUp() ? 1 : 0))
  return {
    disconnects:
      metrics?.counter({
        name: 'deltawatch_nats_disconnects_total',
        help: 'Times the connection to the hub was lost.',
      }) ?? off,
    slow:
      metrics?.counter({
        name: 'deltawatch_nats_slow_consumer_total',
        help: 'Times a subscription to the hub fell behind its limit.',
      }) ?? off,
    errors: metrics?.counter({
      name: 'deltawatch_nats_errors_total',
      help: 'Errors reported by the hub, by code.',
      labels: ['code'],
      maxSeries: 32,
    }) ?? { with: () => off },
  }
}

/** Above what clocks drift and round by themselves. */
const SET_BACK_MS = 1_000

/**
 * The client library counts from one attempt to the next by wall time. A clock set back by a day would keep it from the hub
 * for that day, so what it lost since the last attempt is taken off the wait.
 */
function watchWallTime(clock: Clock) {
  let wall = clock.now()
  let monotonic = clock.monotonic()
  return {
    /** An attempt begins: what the clock says now is what the library will count from. */
    mark() {
      wall = clock.now()
      monotonic = clock.monotonic()
    },
    setBackMs(): number {
      const lost = clock.monotonic() - monotonic - (clock.now() - wall)
      return lost < SET_BACK_MS ? 0 : lost
    },
  }
}

async function abandonOnAbort<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>()
  const onAbort = (): void => reject(signal.reason)
  signal.addEventListener('abort', onAbort, { once: true })
  try {
    signal.throwIfAborted()
    return await Promise.race([work, promise])
  } finally {
    signal.removeEventListener('abort', onAbort)
  }
}

/** A drain waits for the server's answer; one that does not come must not hold the shutdown. */
async function drain(nc: NatsConnection, clock: Clock): Promise<void> {
  const giveUp = new AbortController()
  const timer = clock.setTimeout(() => giveUp.abort(), DRAIN_MS)
  try {
    await abandonOnAbort(nc.drain(), giveUp.signal)
  } catch {
    await nc.close()
  } finally {
    timer[Symbol.dispose]()
  }
}
