// The agent as a whole: one hub connection, one policy bundle, one relay per log.
// Owns: wiring, and the translation of configuration into what each part takes.
// Refuses: the process around it (main.ts). Logs fail independently: nothing of one is awaited by another.

import { readFileSync } from 'node:fs'
import { hostname } from 'node:os'
import type { Clock } from '#kit/clock.ts'
import { breakerOptions, natsOptions } from '#kit/config/sections.ts'
import { DeltawatchError } from '#kit/errors.ts'
import type { Lifecycle } from '#kit/lifecycle.ts'
import type { Logger } from '#kit/logger.ts'
import type { Metrics } from '#kit/metrics.ts'
import { openNats } from '#kit/nats.ts'
import type { Random } from '#kit/random.ts'
import { createResilience, type Resilience } from '#kit/resilience.ts'
import { openTracing } from '#kit/telemetry/open.ts'
import type { Tracer } from '#kit/telemetry/tracer.ts'
import { decisionLogOptions } from '#policies/node/config-section.ts'
import { toHex } from '#protocol/bytes.ts'
import { parseClusterId } from '#protocol/subjects.ts'
import { type AgentConfig, type LogConfig, logsOf } from './config.ts'
import { type BundleHolder, openPolicies } from './egress/bundle.ts'
import { Destination } from './egress/destination.ts'
import { Hooks } from './hooks/hooks.ts'
import { type LineageKeys, lineageKeys } from './lineage/key.ts'
import { Relay } from './relay.ts'
import { type AgentMetrics, bindCounters, declareAgentMetrics } from './relay-metrics.ts'
import { RelayStatus } from './relay-status.ts'
import { reloadAgent } from './reload.ts'
import { connectPolicy, guardEtcd, guardHub, logPolicies } from './resilience.ts'
import { scopeOf } from './scope.ts'
import { HubAccess } from './uplink/access.ts'
import { shareHub, type SharedHub } from './uplink/connection.ts'
import { createLogStream } from './uplink/create-stream.ts'
import { EntryTracer } from './uplink/entry-trace.ts'
import { openHubLog } from './uplink/hub.ts'
import { HubError, type HubLog } from './uplink/ports.ts'
import { EtcdAccess } from './watch/access.ts'
import { Endpoints } from './watch/endpoints.ts'
import { connectEtcd, type ConnectEtcd } from './watch/etcd.ts'

export type AppDeps = {
  readonly lifecycle: Lifecycle
  readonly logger: Logger
  readonly metrics: Metrics
  readonly clock: Clock
  readonly random: Random
  /** Replaced in tests by a member that misbehaves on purpose. */
  readonly connect?: ConnectEtcd
}

export type RunningLog = {
  readonly cluster: string
  readonly status: RelayStatus
  readonly relay: Relay
  readonly hub: HubLog
  readonly access: EtcdAccess
  readonly endpoints: Endpoints
  readonly hooks: Hooks
}

/** Reads of the log are small: slower than this is as good as silent, and so is slower than an append may be. */
const HUB_READ_MS = 5_000

export type App = {
  readonly logs: readonly RunningLog[]
  readonly policies: BundleHolder
  readonly keys: LineageKeys
  readonly resilience: Resilience
  reload(config: AgentConfig): Promise<void>
}

export async function startApp(config: AgentConfig, deps: AppDeps): Promise<App> {
  const { lifecycle, logger, metrics, clock, random } = deps
  const keys = lineageKeys(
    config.lineageKeyFile === undefined ? undefined : readFileSync(config.lineageKeyFile, 'utf8'),
  )
  if (keys.isDefault) {
    logger.warn('lineage key is the public development key', {
      advice: 'set lineageKeyFile: digests of withheld values can be guessed at the hub',
    })
  }
  const agentName =
    config.agentName ??
    hostname()
      .replace(/[^A-Za-z0-9._-]/g, '-')
      .slice(0, 64)
  const inboxPrefix = `_INBOX_dw_${config.cluster}`
  const resilience = createResilience({
    clock,
    random,
    metrics,
    onStateChange: (policy, state) => logger.warn('circuit breaker', { policy, state }),
  })
  const redial = connectPolicy(resilience, breakerOptions(config.breaker), config.nats.connectTimeout)
  const hubAccess = new HubAccess(natsOptions(config.nats, { name: `deltawatch-agent ${config.cluster}`, inboxPrefix }))
  const link = await lifecycle.start('nats', () =>
    openNats(hubAccess.options, {
      logger,
      clock,
      random,
      metrics,
      connectPolicy: redial,
    }),
  )
  const policies = await lifecycle.start('policies', (signal) =>
    openPolicies(
      {
        place: config.policies,
        shadow: config.policyShadow,
        keys: config.policyKeys,
        publicKeyFile: config.policyPublicKeyFile,
        pollMs: config.policyPoll,
        decisions: decisionLogOptions(config.decisions, 'egress'),
      },
      { link, logger, clock, random, metrics },
      signal,
    ),
  )
  const hub = await lifecycle.start('hub', () => shareHub(link))
  const { tracer } = await lifecycle.start('tracing', () => openTracing(config.tracing, 'deltawatch-agent', deps))
  const agentMetrics = declareAgentMetrics(metrics)
  const logs: RunningLog[] = []
  for (const log of logsOf(config)) {
    const running = openLog(log, config, { ...deps, hub, keys, policies, agentName, agentMetrics, tracer, resilience })
    logs.push(running)
    await lifecycle.start(`relay ${log.cluster}`, () => startRelay(running.relay))
  }
  const reload = (next: AgentConfig): Promise<void> =>
    reloadAgent(config, next, { logger, policies, hub: hubAccess, link, logs })
  return { logs, policies, keys, resilience, reload }
}

function startRelay(relay: Relay): AsyncDisposable {
  const stop = new AbortController()
  const done = relay.run(stop.signal)
  return {
    [Symbol.asyncDispose]: async () => {
      stop.abort()
      await done
    },
  }
}

type LogDeps = AppDeps & {
  readonly hub: SharedHub
  readonly keys: LineageKeys
  readonly policies: BundleHolder
  readonly agentName: string
  readonly agentMetrics: AgentMetrics
  readonly tracer: Tracer | undefined
  readonly resilience: Resilience
}

function openLog(log: LogConfig, config: AgentConfig, deps: LogDeps): RunningLog {
  const { clock, random, agentMetrics, agentName } = deps
  const cluster = parseClusterId(log.cluster)
  if (cluster === undefined)
    throw new DeltawatchError('DW_CONFIG_CLUSTER', `cluster ${log.cluster} is not a cluster id`)
  const logger = deps.logger.child({ cluster })
  const status = new RelayStatus(clock.monotonic())
  const { watch, uplink } = config
  const scope = scopeOf(log.prefixes, log.range)
  const hubReadMs = Math.min(HUB_READ_MS, uplink.ackTimeout)
  const rules = logPolicies(deps.resilience, cluster, {
    breaker: breakerOptions(config.breaker),
    etcdReadMs: config.etcd.callTimeout,
    hubReadMs,
    appendMs: uplink.ackTimeout,
    window: uplink.window,
  })
  const opened = openHubLog(deps.hub, cluster, { readMs: hubReadMs, appendMs: uplink.ackTimeout })
  const hub = guardHub(withCreation(opened, config, deps.hub, cluster, logger), rules.hubRead, rules.hubAppend)
  const destination = new Destination(config.hubRegion)
  const access = new EtcdAccess(log.etcd)
  const endpoints = new Endpoints(log.etcd.endpoints, {
    baseMs: watch.backoff.base,
    capMs: watch.backoff.cap,
    stableMs: watch.stableAfter,
  })
  const connect = deps.connect ?? connectEtcd
  const counters = bindCounters(agentMetrics, cluster, logger, clock)
  const range = { from: scope.from, to: scope.to }
  const { holdFor, delayFor, ...guards } = config.hooks
  const hooks = new Hooks(
    { ...guards, range, holdMs: holdFor, delayMs: delayFor },
    { clock, logger, counters, head: () => status.head },
  )
  const relay = new Relay(
    {
      scope,
      agentName,
      agentId: `${agentName}/${toHex(random.bytes(4))}`,
      attach: {
        range,
        keys: deps.keys,
        maxRevisionBytes: watch.maxRevision,
        replayTimeoutMs: watch.replayTimeout,
        liveness: {
          progressEveryMs: watch.progressEvery,
          deafAfterMs: watch.deafAfter,
          probeEveryMs: watch.probeEvery,
          staleAfterMs: watch.staleAfter,
        },
      },
      window: { maxInFlight: uplink.window, maxBytes: uplink.windowBytes },
      ackTimeoutMs: uplink.ackTimeout,
      progress: { maxRevisions: uplink.progressRevisions, maxMs: uplink.progressEvery },
      markEveryMs: uplink.markEvery,
      maxHeldBytes: uplink.maxHeld,
      continuityKeys: watch.continuityKeys,
      resyncEveryMs: uplink.resyncEvery,
      maxStateKeys: watch.stateKeys,
      routine: { maxAgeMs: config.checkpoint.maxAge, maxRevisions: config.checkpoint.maxRevisions },
      quietMs: watch.quietAfter,
      deviationEveryMs: watch.deviationEvery,
      logLookEveryMs: config.checkpoint.lookEvery,
      silenceMs: uplink.silence,
      stepDownMs: uplink.stepDown,
      backoff: { baseMs: uplink.backoffBase, capMs: uplink.backoffCap },
    },
    {
      clock,
      random,
      logger,
      hub,
      policy: deps.policies.sourceFor(cluster, log.region, destination),
      destination,
      endpoints,
      appendPolicy: rules.hubAppend,
      connect: (endpoint) => {
        const member = connect({
          endpoint,
          credentials: access.current,
          keepaliveMs: config.etcd.keepalive,
          keepaliveTimeoutMs: config.etcd.keepaliveTimeout,
          callTimeoutMs: config.etcd.callTimeout,
          now: () => clock.now(),
        })
        return guardEtcd(member, rules.etcdRead(endpoint), counters)
      },
      status,
      counters,
      hooks,
      traces: deps.tracer === undefined ? undefined : new EntryTracer(deps.tracer, cluster, log.region),
    },
  )
  readGauges(agentMetrics, cluster, relay, status, clock)
  agentMetrics.holding.with({ cluster }).read(() => (hooks.hold?.action === 'hold' ? 1 : 0))
  return { cluster, status, relay, hub, access, endpoints, hooks }
}

/** In development the first look at a missing stream creates it. */
function withCreation(
  log: HubLog,
  config: AgentConfig,
  hub: SharedHub,
  cluster: NonNullable<ReturnType<typeof parseClusterId>>,
  logger: Logger,
): HubLog {
  if (!config.createStream) return log
  const info: HubLog['info'] = async () => {
    try {
      return await log.info()
    } catch (e) {
      const nc = hub.current
      if (!(e instanceof HubError) || e.kind !== 'stream-missing' || nc === undefined) throw e
      if (!(await createLogStream(nc, cluster, config.hubRegion, logger))) throw e
      return await log.info()
    }
  }
  return Object.defineProperty(Object.create(log) as HubLog, 'info', { value: info })
}

function readGauges(metrics: AgentMetrics, cluster: string, relay: Relay, status: RelayStatus, clock: Clock): void {
  const one = { cluster }
  const now = (): number => clock.monotonic()
  metrics.lagRevisions.with(one).read(() => status.lag(relay.term?.session.proven ?? status.position))
  metrics.lagSeconds.with(one).read(() => status.lagMs(now(), relay.term?.session.proven ?? status.position) / 1000)
  metrics.deviation.with(one).read(() => status.deviation)
  metrics.deviationAlarm.with(one).read(() => (status.deviationAlarm ? 1 : 0))
  metrics.proofAge.with(one).read(() => Math.max(0, (now() - Math.max(status.lastProofAt, status.lastEventAt)) / 1000))
  metrics.held.with(one).read(() => relay.term?.session.bytesHeld ?? 0)
  metrics.inFlight.with(one).read(() => relay.term?.session.inFlight ?? 0)
  metrics.live.with(one).read(() => (status.phase === 'live' ? 1 : 0))
  metrics.retainedWider
    .with(one)
    .read(() => (relay.term !== undefined && status.retention?.state === 'retained-wider' ? 1 : 0))
  metrics.leading.with(one).read(() => (relay.term === undefined ? 0 : 1))
}
