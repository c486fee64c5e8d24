// The subscriber side of a gateway, assembled: delivery, sessions, and the HTTP server they live on.
// Owns: wiring, and the order of the end (stop accepting, drain, close).
// Refuses: where clusters come from and which policy holds: both are given.

import type { IncomingMessage } from 'node:http'
import type { Clock } from '#kit/clock.ts'
import { mountAdmin } from '#kit/http/admin.ts'
import type { Health } from '#kit/http/health.ts'
import { createRouter, type Router } from '#kit/http/router.ts'
import { type HttpServer, startHttpServer } from '#kit/http/server.ts'
import type { Logger } from '#kit/logger.ts'
import type { Metrics } from '#kit/metrics.ts'
import type { Random } from '#kit/random.ts'
import { SUBPROTOCOL, SUBPROTOCOL_CLOUDEVENTS } from '#protocol/version.ts'
import type { ClusterId } from '#protocol/subjects.ts'
import type { Authenticator } from '../auth/principal.ts'
import { LocalTickets, type Tickets } from '../auth/tickets.ts'
import { Delivery, type DeliveryOptions } from '../delivery/delivery.ts'
import type { EventTraces } from '../delivery/event-traces.ts'
import { ByteBudget } from '../delivery/outlet.ts'
import type { PolicySource } from '../delivery/policy-port.ts'
import type { Sources } from '../delivery/ports.ts'
import { Admissions, LocalSubjectCounts, type SubjectCounts } from './admission.ts'
import { crossOrigin } from './cross-origin.ts'
import { bindDeliveries, bindGauges } from './gauges.ts'
import type { SessionLimits } from './limits.ts'
import { sessionMetrics } from './metrics.ts'
import { ProxiedSockets } from './proxied.ts'
import { readOnlySocket } from './read-only.ts'
import { mountSubscriberRoutes } from './routes.ts'
import { isLocalPeer, isLoopback, judgeOrigin, type OriginRules } from './origin.ts'
import { Sessions } from './sessions.ts'
import { WsAcceptor } from './transport.ts'
import { upgradeHandler } from './upgrade.ts'

export type FrontOptions = {
  readonly listen: { readonly host: string; readonly port: number }
  readonly limits: SessionLimits
  readonly delivery: DeliveryOptions
  readonly origin: OriginRules
  readonly drainMs: number
  /**
   * Whether metrics and the details of probes may be read here: on a loopback listener, under a name of it, by a peer on
   * this host that no proxy speaks for. They name every cluster and its activity, which not every subscriber may know of.
   */
  readonly details: boolean
  /** Every connection comes through a balancer that says who the peer is. */
  readonly proxyProtocol?: boolean
}

export interface FrontDeps {
  readonly sources: Sources
  readonly policy: PolicySource
  readonly authenticator: Authenticator
  readonly clock: Clock
  readonly random: Random
  readonly logger: Logger
  readonly metrics: Metrics
  readonly health: Health
  readonly subjects?: SubjectCounts
  readonly tickets?: Tickets
  /** Undefined: nothing is traced. */
  readonly traces?: EventTraces | undefined
}

export interface Front extends AsyncDisposable {
  readonly address: { readonly host: string; readonly port: number }
  readonly delivery: Delivery
  readonly sessions: Sessions
  readonly admissions: Admissions
  readonly router: Router
  /** Refuses newcomers, says goodbye to everybody over `drainMs`, then closes. */
  drain(signal: AbortSignal): Promise<void>
}

export const DEFAULT_DELIVERY: DeliveryOptions = {
  sliceWrites: 512,
  restFactor: 1,
  maxDelayMs: 8,
  maxTickBytes: 128 * 1024,
  maxValueBytes: 1_600_000,
  frameCacheBytes: 32 * 1024 * 1024,
}

/** Connections for requests that hold none for long: health, metrics, state pages, and refusals. */
const UNCOUNTED = 1_024

export async function openFront(options: FrontOptions, deps: FrontDeps): Promise<Front> {
  const { clock, policy } = deps
  const meters = sessionMetrics(deps.metrics)
  const delivery = new Delivery(
    {
      sources: deps.sources,
      policy: () => policy.current,
      now: () => clock.now(),
      monotonic: () => clock.monotonic(),
      soon: (fn) => void setImmediate(fn),
      later: (fn, ms) => void setTimeout(fn, ms),
      onStatus: (hub, removed) => sessions.announce(hub, removed),
      onResync: (cluster, reason) => meters.resyncs.with({ cluster, reason }).inc(),
      onOutcome: (outcome) => meters.outcomes.with({ outcome }).inc(),
      onError: (code) => meters.errors.with({ code: code.name }).inc(),
    },
    options.delivery,
  )
  const budget = new ByteBudget(options.limits.maxBytesInFlight)
  const sessions = new Sessions({
    limits: options.limits,
    delivery,
    authenticator: deps.authenticator,
    budget,
    clock,
    random: deps.random,
    metrics: meters,
    policy: () => policy.current,
  })
  const admissions = new Admissions(options.limits, deps.subjects ?? new LocalSubjectCounts())
  bindDeliveries(deps.metrics, delivery, meters, clock, deps.traces)
  bindGauges(deps.metrics, { delivery, sessions, admissions, budget })
  const policyChanges = policy.onChange(() => sessions.reclass())
  let draining = false
  const proxied =
    options.proxyProtocol === true
      ? new ProxiedSockets(options.limits.headersTimeoutMs, () => meters.refused.with({ code: 'ProxyHeader' }).inc())
      : undefined
  const addressOf = ({ socket }: IncomingMessage): string => proxied?.addressOf(socket) ?? socket.remoteAddress ?? ''
  const cross = crossOrigin(options.origin)
  const detailed = options.details && isLoopback(options.listen.host)
  const { health, metrics } = deps
  const router = mountAdmin(createRouter(), {
    health,
    metrics,
    detail: ({ headers, remoteAddress }) =>
      detailed &&
      isLocalPeer(remoteAddress, headers) &&
      judgeOrigin({ ...options.origin, dev: true }, headers.origin, headers.host) === 'ok',
  })
  const credentials = {
    authenticator: deps.authenticator,
    tickets: deps.tickets ?? new LocalTickets(clock, deps.random),
  }
  const isDraining = (): boolean => draining
  const { context } = sessions
  mountSubscriberRoutes(router, {
    context,
    credentials,
    admissions,
    cross,
    draining: isDraining,
    addressOf,
    maxValueBytes: options.delivery.maxValueBytes,
    source: (cluster) => delivery.hubs.get(cluster as ClusterId)?.source,
    statePerSecond: options.limits.statePerSecond,
    host: `${options.listen.host}:${options.listen.port}`,
  })
  const acceptor = new WsAcceptor(options.limits, [SUBPROTOCOL, SUBPROTOCOL_CLOUDEVENTS])
  const server: HttpServer = await startHttpServer({
    listen: options.listen,
    router,
    logger: deps.logger,
    // Beyond the limit a connection is answered and counted (admission.ts); beyond these it is dropped without a word.
    maxConnections: options.limits.maxConnections + UNCOUNTED,
    onBadRequest: (status) => meters.refused.with({ code: String(status) }).inc(),
    // A balancer on this host is not its peers: who it does not name is nobody.
    ...(proxied === undefined
      ? {}
      : { accept: proxied.accept, addressOf: (socket) => proxied.addressOf(socket) ?? '' }),
    headersTimeoutMs: options.limits.headersTimeoutMs,
    requestTimeoutMs: options.limits.headersTimeoutMs * 2,
    onUpgrade: upgradeHandler({
      acceptor,
      admissions,
      sessions,
      origin: options.origin,
      metrics: meters,
      monotonic: () => clock.monotonic(),
      draining: isDraining,
      addressOf,
      readOnly: readOnlySocket(sessions.context, credentials),
    }),
  })
  const drainCheck = deps.health.register('ready', 'accepting', () =>
    draining ? { state: 'failed', detail: 'the gateway drains' } : { state: 'ok', detail: `${sessions.size} sessions` },
  )
  const drain = async (signal: AbortSignal): Promise<void> => {
    draining = true
    await sessions.drain(options.drainMs, signal)
  }
  return {
    address: server.address,
    delivery,
    sessions,
    admissions,
    router,
    drain,
    async [Symbol.asyncDispose]() {
      draining = true
      await sessions.drain(0, AbortSignal.timeout(1_000))
      await server.close()
      policyChanges[Symbol.dispose]()
      drainCheck[Symbol.dispose]()
      sessions[Symbol.dispose]()
      delivery[Symbol.dispose]()
    },
  }
}
