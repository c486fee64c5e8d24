// What a relay counts.
// Owns: the agent's metric families, bound per cluster once, and the log lines of rare and telling events.
// Refuses: keys, values and anything unbounded in a label or a line.

import type { Clock } from '#kit/clock.ts'
import type { Logger } from '#kit/logger.ts'
import type { BoundCounter, Family, Metrics } from '#kit/metrics.ts'
import type { CheckpointReason } from '#protocol/log/entry.ts'
import type { Finding } from './hooks/guards.ts'
import type { CheckpointResult } from './uplink/checkpoint.ts'
import type { AppendedEntry } from './uplink/session.ts'
import type { Break } from './watch/continuity.ts'
import type { Impossible } from './watch/message.ts'

const CLUSTER = ['cluster'] as const
const SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10]

export type AgentMetrics = ReturnType<typeof declareAgentMetrics>

export function declareAgentMetrics(metrics: Metrics) {
  const counter = (name: string, help: string) =>
    metrics.counter({ name: `deltawatch_agent_${name}`, help, labels: CLUSTER })
  const by = <L extends string>(name: string, help: string, label: L) =>
    metrics.counter<'cluster' | L>({ name: `deltawatch_agent_${name}`, help, labels: ['cluster', label] })
  const gauge = (name: string, help: string) =>
    metrics.gauge({ name: `deltawatch_agent_${name}`, help, labels: CLUSTER })
  return {
    attachments: counter('watch_attachments_total', 'Attempts to attach to an etcd member.'),
    opened: counter('watch_streams_total', 'Watch streams opened.'),
    created: counter('watch_created_total', 'Streams on which etcd confirmed that the watch was created.'),
    failed: counter('watch_failed_total', 'Streams that ended by a failure of the connection or the server.'),
    reconnects: gauge('reconnects_per_minute', 'Attempts to attach to etcd within the last minute.'),
    detachments: by('watch_ends_total', 'Ends of a watch or an attempt, by cause.', 'cause'),
    seen: counter('events_seen_total', 'Events received from etcd, hidden and discarded ones included.'),
    relayed: counter('events_relayed_total', 'Events acknowledged by the hub.'),
    entries: by('entries_total', 'Log entries acknowledged by the hub, by kind.', 'kind'),
    entryBytes: counter('entry_bytes_total', 'Bytes of log entries acknowledged by the hub.'),
    ackSeconds: metrics.histogram({
      name: 'deltawatch_agent_ack_seconds',
      help: 'Time from an append to its acknowledgement.',
      labels: CLUSTER,
      buckets: SECONDS,
    }),
    residenceSeconds: metrics.histogram({
      name: 'deltawatch_agent_residence_seconds',
      help: 'Time from the arrival of the oldest change of an entry at the agent to its append.',
      labels: CLUSTER,
      buckets: SECONDS,
    }),
    dropped: by('events_dropped_total', 'Events or bookmarks at or below the position, by reason.', 'reason'),
    quarantined: by('quarantined_total', 'Events no etcd can mean, left out, by reason.', 'reason'),
    breaks: by('continuity_breaks_total', 'Changes that do not fit the history of their key, by reason.', 'reason'),
    checkpoints: by('checkpoints_total', 'Checkpoints written, by reason.', 'reason'),
    abandoned: counter('checkpoints_abandoned_total', 'Checkpoints begun and not finished.'),
    oversize: counter('oversize_total', 'Values too large for a checkpoint entry, sent without their bytes.'),
    checkpointSeconds: metrics.gauge({
      name: 'deltawatch_agent_checkpoint_seconds',
      help: 'Duration of the newest checkpoint.',
      labels: CLUSTER,
    }),
    resyncs: by('resyncs_total', 'Checkpoints that break continuity for subscribers, by reason.', 'reason'),
    conflicts: counter('append_conflicts_total', 'Appends refused because another entry stood at their place.'),
    sessionEnds: by('session_ends_total', 'Ends of a run of appends, by cause.', 'cause'),
    voids: counter('void_entries_total', 'Entries found void by the chain rule when the tail was read.'),
    pauses: counter('watch_pauses_total', 'Times the watch was paused because the hub was behind.'),
    lagRevisions: gauge('lag_revisions', 'Revisions etcd is known to be ahead of the log.'),
    lagSeconds: gauge('lag_seconds', 'Time for which the log has been behind etcd; 0 while it is level.'),
    deviation: gauge('deviation_ratio', "How far the revisions seen are from what etcd's own count lets expect."),
    deviationAlarm: gauge('deviation_alarm', 'Whether that was above 0.3 twice in a row: 1 or 0. Alert on it.'),
    proofAge: gauge('proof_age_seconds', 'Age of the last proof that everything is relayed.'),
    held: gauge('held_bytes', 'Bytes waiting for the hub or for its acknowledgement.'),
    inFlight: gauge('appends_in_flight', 'Appends not yet acknowledged.'),
    live: gauge('live', 'Whether changes flow from etcd to the hub: 1 or 0.'),
    leading: gauge('leading', 'Whether this agent appends to the log: 1 or 0.'),
    retainedWider: gauge(
      'retained_wider',
      'Whether the log still holds entries from before its newest change of policy: 1 or 0. Purge them with "deltawatch hub purge".',
    ),
    phase: metrics.gauge<'cluster' | 'phase'>({
      name: 'deltawatch_agent_phase',
      help: 'The phase the relay is in: 1 for the present one.',
      labels: ['cluster', 'phase'],
    }),
    antipatterns: by(
      'antipatterns_total',
      'Patterns the hooks noticed in what was written to etcd, by pattern.',
      'pattern',
    ),
    holds: by('holds_total', 'Times a hook stopped the relay before a revision, by hook.', 'hook'),
    releases: by('hold_releases_total', 'Ends of such holds, by who or what ended them.', 'by'),
    holding: gauge('holding', 'Whether a hook holds the relay until somebody releases it: 1 or 0. Alert on it.'),
    egress: by('egress_total', 'Egress decisions, by outcome.', 'outcome'),
  }
}

export type RelayCounters = ReturnType<typeof bindCounters>

/** Most lines about one kind of trouble per interval; the counters tell the rest. */
const LINES_PER_MINUTE = 10

export function bindCounters(metrics: AgentMetrics, cluster: string, logger: Logger, clock: Clock) {
  const bound = lazily(cluster)
  const one = { cluster }
  const seen = metrics.seen.with(one)
  const relayed = metrics.relayed.with(one)
  const entryBytes = metrics.entryBytes.with(one)
  const ack = metrics.ackSeconds.with(one)
  const residence = metrics.residenceSeconds.with(one)
  const mayLog = limiter(clock)
  const attempts = recent(clock, 60_000)
  metrics.reconnects.with(one).read(attempts.count)
  const opened = metrics.opened.with(one)
  const created = metrics.created.with(one)
  const failed = metrics.failed.with(one)
  return {
    attaching(endpoint: string) {
      metrics.attachments.with(one).inc()
      attempts.add()
      logger.debug('attaching', { endpoint })
    },
    watchOpened: () => opened.inc(),
    watchCreated: () => created.inc(),
    watchFailed: () => failed.inc(),
    detached: (cause: string) => bound(metrics.detachments, 'cause', cause).inc(),
    seen: (events: number) => seen.inc(events),
    appended(entry: AppendedEntry) {
      relayed.inc(entry.events)
      entryBytes.inc(entry.bytes)
      bound(metrics.entries, 'kind', entry.kind).inc()
      ack.observe(entry.ackMs / 1000)
      if (entry.events > 0) residence.observe(entry.residenceMs / 1000)
    },
    dropped: (reason: string, count: number) => bound(metrics.dropped, 'reason', reason).inc(count),
    impossible(events: readonly Impossible[]) {
      for (const { revision, reason, keyLength } of events) {
        bound(metrics.quarantined, 'reason', reason).inc()
        if (mayLog('impossible')) logger.error('impossible event quarantined', { revision, reason, keyLength })
      }
    },
    broken(breaks: readonly Break[]) {
      for (const { revision, reason, keyLength } of breaks) {
        bound(metrics.breaks, 'reason', reason).inc()
        if (mayLog('broken')) logger.error('history of a key is broken', { revision, reason, keyLength })
      }
    },
    checkpoint(reason: CheckpointReason, result: CheckpointResult, seconds: number) {
      bound(metrics.checkpoints, 'reason', reason).inc()
      metrics.oversize.with(one).inc(result.oversize)
      metrics.checkpointSeconds.with(one).set(seconds)
    },
    checkpointAbandoned: () => metrics.abandoned.with(one).inc(),
    resync: (reason: string) => bound(metrics.resyncs, 'reason', reason).inc(),
    conflict: () => metrics.conflicts.with(one).inc(),
    sessionEnded: (cause: string) => bound(metrics.sessionEnds, 'cause', cause).inc(),
    voids: (count: number) => metrics.voids.with(one).inc(count),
    paused: () => metrics.pauses.with(one).inc(),
    found: ({ pattern }: Finding) => bound(metrics.antipatterns, 'pattern', pattern).inc(),
    held: (hook: string) => bound(metrics.holds, 'hook', hook).inc(),
    released: (who: string) => bound(metrics.releases, 'by', who).inc(),
  }
}

/** Binds a series once per label value. */
function lazily(cluster: string) {
  const kept = new Map<object, Map<string, BoundCounter>>()
  return <L extends string>(family: Family<'cluster' | L, BoundCounter>, label: L, value: string): BoundCounter => {
    const series = kept.get(family) ?? new Map<string, BoundCounter>()
    kept.set(family, series)
    const found = series.get(value)
    if (found !== undefined) return found
    const made = family.with({ cluster, [label]: value } as Readonly<Record<'cluster' | L, string>>)
    series.set(value, made)
    return made
  }
}

/** Counts what happened within the last `ms`; more than fit are counted as that many. */
function recent(clock: Clock, ms: number) {
  const MOST = 1_000
  let times: number[] = []
  const trim = (): number => {
    const now = clock.monotonic()
    times = times.filter((at) => now - at < ms).slice(-MOST)
    return now
  }
  return {
    add: () => {
      const now = trim()
      times.push(now)
    },
    count: () => {
      trim()
      return times.length
    },
  }
}

function limiter(clock: Clock): (what: string) => boolean {
  const windows = new Map<string, { from: number; lines: number }>()
  return (what) => {
    const now = clock.monotonic()
    const window = windows.get(what)
    if (window === undefined || now - window.from >= 60_000) {
      windows.set(what, { from: now, lines: 1 })
      return true
    }
    window.lines++
    return window.lines <= LINES_PER_MINUTE
  }
}
