// The gateway as a whole: hub connection, sources, policy, subscribers.
// Owns: wiring, the order of start, and the translation of configuration into what each part takes.
// Refuses: the process around it (main.ts). It starts and serves whatever the hub's state: clusters show themselves unreachable.

import type { Clock } from '#kit/clock.ts'
import { natsOptions } from '#kit/config/sections.ts'
import { DeltawatchError } from '#kit/errors.ts'
import type { Health } from '#kit/http/health.ts'
import type { Lifecycle } from '#kit/lifecycle.ts'
import type { Logger } from '#kit/logger.ts'
import type { Metrics } from '#kit/metrics.ts'
import { openNats } from '#kit/nats.ts'
import type { Random } from '#kit/random.ts'
import { openTracing } from '#kit/telemetry/open.ts'
import { parseClusterId, parseRegion } from '#protocol/subjects.ts'
import { type Auth, openAuth } from './auth/open.ts'
import type { GatewayConfig } from './config.ts'
import { LocalTarget } from './admin/local-target.ts'
import type { AdminTarget } from './admin/target.ts'
import { EventTraces } from './delivery/event-traces.ts'
import { publishRevocation } from './auth/revocation-bucket.ts'
import type { Revocation } from './auth/revocations.ts'
import type { ProcessLink } from './workers/process-link.ts'
import { RemoteSubjectCounts, RemoteTickets } from './workers/shared.ts'
import { decisionLogOptions } from '#policies/node/config-section.ts'
import { type GatewayPolicies, openPolicies } from './policies.ts'
import type { PolicySkew } from './policy-skew.ts'
import { openPolicyRecords } from './policy-start.ts'
import { DEFAULT_DELIVERY, type Front, openFront } from './session/front.ts'
import { isLoopback } from './session/origin.ts'
import { DEFAULT_LIMITS, type SessionLimits } from './session/limits.ts'
import { LogSources } from './upstream/sources.ts'

export type AppDeps = {
  readonly lifecycle: Lifecycle
  readonly logger: Logger
  readonly metrics: Metrics
  readonly clock: Clock
  readonly random: Random
  readonly health: Health
  /** Present in a worker process: counts and tickets are then kept by the primary. */
  readonly link: ProcessLink | undefined
  readonly worker: number
}

export type App = {
  readonly target: AdminTarget
  /** Writes a revocation where every gateway reads it; does nothing without such a place. */
  readonly persist: (revocation: Revocation) => Promise<void>
  readonly front: Front
  readonly sources: LogSources
  readonly policies: GatewayPolicies
  reload(config: GatewayConfig): Promise<void>
}

export async function startApp(config: GatewayConfig, deps: AppDeps): Promise<App> {
  const { lifecycle, logger, metrics, clock, random, health } = deps
  const served: { front: Front | undefined } = { front: undefined }
  const inboxPrefix = '_INBOX_dw_gateway'
  const link = await lifecycle.start('nats', () =>
    openNats(natsOptions(config.nats, { name: 'deltawatch-gateway', inboxPrefix }), { logger, clock, random, metrics }),
  )
  const classes = () => served.front?.delivery.classes ?? []
  const policies = await lifecycle.start('policies', (signal) =>
    openPolicies(
      {
        place: config.policies,
        canary: canaryOf(config),
        shadow: config.policyShadow,
        keys: config.policyKeys,
        publicKeyFile: config.policyPublicKeyFile,
        pollMs: config.policyPoll,
      },
      { logger, clock, metrics, link: () => link, classes },
      signal,
    ),
  )
  const { tracer } = await lifecycle.start('tracing', () => openTracing(config.tracing, 'deltawatch-gateway', deps))
  const traces = tracer === undefined ? undefined : new EventTraces(tracer, clock)
  const sources = await lifecycle.start('sources', () => {
    const { ring, ringRevisions, state, staging, hold } = config.memory
    const bounds = { ringBytes: ring, ringRevisions, stateBytes: state, stagingBytes: staging, holdBytes: hold }
    return new LogSources({
      link,
      inboxPrefix,
      clock,
      random,
      logger,
      metrics,
      bounds,
      traces,
      createStreams: config.createStreams ? { hubRegion: config.hubRegion } : undefined,
    })
  })
  followClusters(sources, config)
  const outcomes = metrics.counter({
    name: 'deltawatch_auth_total',
    help: 'Credentials checked, by outcome.',
    labels: ['outcome'],
    maxSeries: 16,
  })
  const onOutcome = (outcome: string): void => outcomes.with({ outcome }).inc()
  const auth = await lifecycle.start('auth', () =>
    openAuth(config.auth, { clock, link, defaultRegion: config.hubRegion, onOutcome }),
  )
  const { authenticator, revocations } = auth
  metrics
    .gauge({
      name: 'deltawatch_auth_degraded',
      help: '1 while keys or revocations cannot be read, or dev mode lets everybody in.',
    })
    .read(() => (auth.problem !== '' || authenticator.dev ? 1 : 0))
  if (authenticator.dev)
    logger.warn('dev mode: everybody is let in', { listen: `${config.listen.host}:${config.listen.port}` })
  if (config.admin === undefined && !isLoopback(config.listen.host))
    logger.warn('no metrics are served: they and the details of probes need --admin where listen is not loopback')
  const front = await lifecycle.start(
    'front',
    () =>
      openFront(
        {
          listen: config.listen,
          limits: limitsOf(config),
          delivery: {
            ...DEFAULT_DELIVERY,
            maxValueBytes: config.limits.maxValue,
            frameCacheBytes: config.memory.frames,
          },
          origin: { allowedOrigins: config.origins, allowedHosts: config.hosts, dev: authenticator.dev },
          drainMs: config.drain,
          details: config.admin === undefined,
          proxyProtocol: config.proxyProtocol,
        },
        {
          sources,
          policy: policies.policy,
          authenticator,
          clock,
          random,
          logger,
          metrics,
          health,
          traces,
          ...(deps.link === undefined
            ? {}
            : { subjects: new RemoteSubjectCounts(deps.link), tickets: new RemoteTickets(deps.link) }),
        },
      ),
    (opened) => async (signal) => {
      await opened.drain(signal)
      await opened[Symbol.asyncDispose]()
    },
  )
  served.front = front
  revocations?.onChange(() => front.sessions.revoke((principal) => revocations.revoked(principal)))
  const { policy } = policies
  const { skew } = await lifecycle.start('policy records', () =>
    openPolicyRecords(
      { decisions: decisionLogOptions(config.decisions, 'deliver'), skewAfterMs: config.policySkew },
      { sources, policy, classes, link, clock, random, logger, metrics },
    ),
  )
  registerHealth(health, { sources, policies, skew, auth, nats: () => link.state().kind })
  const { delivery, sessions } = front
  const bucket = config.auth.revocationsBucket
  return {
    target: new LocalTarget({ sessions, delivery, clock, worker: deps.worker, revocations }),
    persist: async (revocation) => {
      if (bucket !== undefined) await publishRevocation(bucket, link, revocation)
    },
    front,
    sources,
    policies,
    reload: async (next) => {
      await policies.reload()
      await refollow(sources, next)
    },
  }
}

function canaryOf({ canary }: GatewayConfig) {
  return canary === undefined ? undefined : { place: canary.policies, share: canary.share, labels: canary.labels }
}

function followClusters(sources: LogSources, config: GatewayConfig): void {
  for (const [id, name] of Object.entries(config.clusters)) {
    const cluster = parseClusterId(id)
    const region = parseRegion(name)
    if (cluster === undefined || region === undefined) {
      throw new DeltawatchError('DW_CONFIG_CLUSTER', `clusters: ${id}=${name} is not a cluster id and a region`)
    }
    sources.add(cluster, region)
  }
}

/** Clusters that left the configuration are removed for subscribers, new ones are offered; nobody's connection ends. */
async function refollow(sources: LogSources, config: GatewayConfig): Promise<void> {
  for (const source of sources.list()) {
    if (config.clusters[source.cluster] !== source.region) await sources.remove(source.cluster)
  }
  followClusters(sources, config)
}

function limitsOf({ limits }: GatewayConfig): SessionLimits {
  return {
    ...DEFAULT_LIMITS,
    maxInboundBytes: limits.maxInbound,
    maxFragments: limits.maxFragments,
    maxWatches: limits.maxWatches,
    inboundPerSecond: limits.inboundPerSecond,
    inboundBurst: limits.inboundBurst,
    headersTimeoutMs: limits.headersTimeout,
    helloTimeoutMs: limits.helloTimeout,
    heartbeatMs: limits.heartbeat,
    slowReaderMs: limits.slowReader,
    maxLifetimeMs: limits.maxLifetime,
    closeTimeoutMs: limits.closeTimeout,
    maxInFlight: limits.maxInFlight,
    markBytes: limits.markEvery,
    maxFrameBytes: limits.maxFrame,
    maxBytesInFlight: limits.maxBytesInFlight,
    maxConnections: limits.maxConnections,
    maxUnauthenticated: limits.maxUnauthenticated,
    maxPerAddress: limits.maxPerAddress,
    maxUnauthenticatedPerAddress: limits.maxUnauthenticatedPerAddress,
    maxPerSubject: limits.maxPerSubject,
    connectsPerSecond: limits.connectsPerSecond,
    statePerSecond: limits.statePerSecond,
  }
}

type HealthFacts = {
  readonly sources: LogSources
  readonly policies: GatewayPolicies
  readonly skew: PolicySkew
  readonly auth: Auth
  nats(): string
}

/** One cluster's trouble, or the hub's, degrades and never flips readiness: the gateway serves what it has. */
function registerHealth(health: Health, facts: HealthFacts): void {
  health.register('ready', 'policy', () => {
    const { problem, policy } = facts.policies
    const { stable, canary, shadow } = policy.current.bundles
    const parts = [`bundle ${stable.revision.slice(0, 12)}`]
    if (canary !== undefined) parts.push(`canary ${canary.bundle.revision.slice(0, 12)}`)
    if (shadow !== undefined) parts.push(`shadow ${shadow.revision.slice(0, 12)}`)
    if (problem !== '') parts.push(`a newer one was refused: ${problem}`)
    if (facts.skew.problem !== '') parts.push(`bundles differ: ${facts.skew.problem}`)
    const detail = parts.join(', ')
    return problem === '' && facts.skew.problem === '' ? { state: 'ok', detail } : { state: 'degraded', detail }
  })
  health.register('ready', 'hub', () => {
    const state = facts.nats()
    return state === 'connected' ? { state: 'ok' } : { state: 'degraded', detail: state }
  })
  health.register('ready', 'auth', () => {
    const { authenticator, problem } = facts.auth
    if (authenticator.dev) return { state: 'degraded', detail: 'dev mode: everybody is let in' }
    return problem === '' ? { state: 'ok' } : { state: 'degraded', detail: problem }
  })
  health.register('ready', 'clusters', () => {
    const states = facts.sources.list().map((source) => ({ cluster: source.cluster, state: source.status.state }))
    const detail = states.map(({ cluster, state }) => `${cluster} ${state}`).join(', ')
    const well = states.every(({ state }) => state === 'live' || state === 'idle-proved')
    return well ? { state: 'ok', detail } : { state: 'degraded', detail }
  })
}
