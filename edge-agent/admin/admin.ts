// What an operator can ask an agent over HTTP.
// Owns: health checks per log, and /debug/status. /debug answers on loopback, or with the configured token (guard.ts).
// Refuses: changing anything; what an operator may change stands in holds.ts.

import type { Clock } from '#kit/clock.ts'
import type { Health } from '#kit/http/health.ts'
import type { Router } from '#kit/http/router.ts'
import type { App, RunningLog } from '../app.ts'
import { guarded, type GuardRule } from './guard.ts'
import { mountHolds } from './holds.ts'
import { mountInspection } from './inspect.ts'

export type DebugOptions = GuardRule & { readonly clock: Clock }

export function registerHealth(health: Health, app: App, stopping: AbortSignal): void {
  health.register('ready', 'stopping', () =>
    stopping.aborted ? { state: 'failed', detail: 'the agent is stopping' } : { state: 'ok' },
  )
  health.register('ready', 'policy', () =>
    app.policies.problem === ''
      ? { state: 'ok', detail: app.policies.revision.slice(0, 12) }
      : { state: 'degraded', detail: `the old bundle stays: ${app.policies.problem}` },
  )
  for (const log of app.logs) {
    health.register('ready', log.cluster, () => {
      const { phase, reason, settled } = log.status
      // Until it has been where it belongs once, nobody should count on it; later trouble is shown, and heals by itself.
      if (!settled) return { state: 'failed', detail: reason === '' ? phase : `${phase}: ${reason}` }
      if (phase === 'live' || phase === 'standby' || phase === 'checkpoint') return { state: 'ok', detail: phase }
      return { state: 'degraded', detail: reason === '' ? phase : `${phase}: ${reason}` }
    })
  }
}

export function mountDebug(router: Router, app: App, options: DebugOptions): Router {
  mountHolds(router, app.logs, options)
  mountInspection(router, options, options.clock)
  return router.on(
    'GET',
    '/debug/status',
    guarded(options, () =>
      json({ logs: app.logs.map((log) => describe(log, options.clock)), breakers: app.resilience.status() }),
    ),
  )
}

const json = (value: unknown) => ({
  status: 200,
  headers: { 'content-type': 'application/json' },
  body: `${JSON.stringify(value, null, 2)}\n`,
})

function describe({ cluster, status, relay, hub, hooks }: RunningLog, clock: Clock) {
  const { session, feed, egress } = relay.term ?? {}
  const now = clock.monotonic()
  const age = (at: number): number | null => (Number.isFinite(at) ? Math.round(now - at) : null)
  return {
    cluster,
    phase: status.phase,
    reason: status.reason,
    phaseAgeMs: age(status.phaseSince),
    leader: status.leader,
    epoch: status.epoch ?? null,
    position: status.position,
    seq: status.seq,
    proven: session?.proven ?? null,
    head: status.head,
    lag: status.lag(session?.proven ?? status.position),
    lagMs: Math.round(status.lagMs(now, session?.proven ?? status.position)),
    deviation: { ratio: status.deviation, alarm: status.deviationAlarm },
    lastEventAgeMs: age(status.lastEventAt),
    lastProofAgeMs: age(status.lastProofAt),
    configHash: status.configHash,
    policyRevision: status.policyRevision,
    newestCompleteBeginSeq: status.newestCompleteBeginSeq,
    retention: relay.term === undefined ? null : (status.retention ?? null),
    etcd: {
      endpoint: status.endpoint,
      version: status.etcdVersion,
      clusterId: status.clusterId,
      memberId: status.memberId,
      raftTerm: status.raftTerm,
      raftIndex: status.raftIndex,
      knownBugs: status.knownBugs,
    },
    watch:
      feed === undefined
        ? null
        : {
            phase: feed.machine.phase,
            cursor: feed.machine.cursor,
            silenceMs: Math.round(feed.silenceMs),
            pausedFor: feed.pausedFor,
            responses: feed.responses,
          },
    hub: {
      connected: hub.connected,
      generation: hub.generation,
      inFlight: session?.inFlight ?? 0,
      heldBytes: session?.bytesHeld ?? 0,
      ackMs: session === undefined ? null : Math.round(session.ackMs * 100) / 100,
    },
    egress: egress?.counts ?? null,
    hold:
      hooks.hold === undefined
        ? null
        : {
            hook: hooks.hold.hook,
            pattern: hooks.hold.pattern,
            action: hooks.hold.action,
            revision: hooks.hold.revision,
            count: hooks.hold.count,
            ageMs: age(hooks.hold.since),
            endsInMs: hooks.hold.until === undefined ? null : Math.round(hooks.hold.until - now),
          },
  }
}
