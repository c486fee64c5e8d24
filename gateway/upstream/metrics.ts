// What following the logs costs and meets, per cluster.
// Owns: the declarations and one bound set per cluster. Refuses: labels other than cluster ids and closed sets of names.

import type { BoundCounter, BoundGauge, Metrics } from '#kit/metrics.ts'
import type { ClusterId } from '#protocol/subjects.ts'
import type { ClusterState } from '#protocol/frames.ts'

export const CLUSTER_STATES: readonly ClusterState[] = [
  'live',
  'idle-proved',
  'lagging',
  'unreachable',
  'resyncing',
  'removed',
]

export type ClusterMeters = {
  readonly entries: BoundCounter
  readonly events: BoundCounter
  readonly bytes: BoundCounter
  readonly void: BoundCounter
  readonly undecodable: BoundCounter
  readonly behind: BoundGauge
  readonly count: (name: 'resync' | 'reading' | 'mark' | 'checkpoint' | 'replay', label: string) => void
  readonly differences: BoundCounter
  readonly replayed: BoundCounter
  readonly listenerErrors: BoundCounter
  /** Gauges read when metrics are exposed. */
  readonly watch: (read: ClusterGauges) => Disposable
}
export type ClusterGauges = {
  readonly state: () => ClusterState
  readonly ageSeconds: () => number
  readonly ringBytes: () => number
  readonly ringRevisions: () => number
  readonly stateBytes: () => number
  readonly stateKeys: () => number
  readonly slabBytes: () => number
  readonly stagingBytes: () => number
  readonly revision: () => number
  readonly replays: () => number
  readonly replayBytes: () => number
  readonly replayReaders: () => number
}

export type UpstreamMeters = { readonly forCluster: (cluster: ClusterId) => ClusterMeters }

const LABELS = ['cluster'] as const

export function declareUpstreamMeters(metrics: Metrics): UpstreamMeters {
  const counter = (name: string, help: string) => metrics.counter({ name, help, labels: LABELS })
  const gauge = (name: string, help: string) => metrics.gauge({ name, help, labels: LABELS })
  const labelled = (name: string, label: string, help: string) =>
    metrics.counter({ name, help, labels: ['cluster', label] as const })
  const entries = counter('deltawatch_log_entries_total', 'Entries read from the log, void ones included.')
  const events = counter('deltawatch_log_events_total', 'Events of valid entries, checkpoint items not included.')
  const bytes = counter('deltawatch_log_bytes_total', 'Bytes of entries read from the log.')
  const voids = counter('deltawatch_log_void_entries_total', 'Entries skipped because they do not continue the chain.')
  const undecodable = counter('deltawatch_log_undecodable_entries_total', 'Entries that are no valid encoding.')
  const differences = counter(
    'deltawatch_checkpoint_differences_total',
    'Keys in which a routine checkpoint contradicted the view. Above 0 is an alarm.',
  )
  const replayed = counter(
    'deltawatch_replayed_revisions_total',
    'Revisions read from the log for readers behind the ring.',
  )
  const listenerErrors = counter('deltawatch_view_listener_errors_total', 'Errors thrown by readers of the view.')
  const families = {
    resync: labelled('deltawatch_resync_total', 'cause', 'Times the log was read again from its newest checkpoint.'),
    reading: labelled('deltawatch_log_reading_ends_total', 'end', 'Times a reading of the log ended and was reopened.'),
    mark: labelled('deltawatch_bookmarks_total', 'verdict', 'Bookmarks of agents, by what they proved.'),
    checkpoint: labelled('deltawatch_checkpoints_total', 'outcome', 'Checkpoints read, by outcome.'),
    replay: labelled('deltawatch_replays_total', 'outcome', 'Replays from the log, by outcome.'),
  }
  const labelOf = {
    resync: 'cause',
    reading: 'end',
    mark: 'verdict',
    checkpoint: 'outcome',
    replay: 'outcome',
  } as const
  const behind = gauge('deltawatch_log_pending_entries', 'Entries the log holds beyond the last one read.')
  const state = metrics.gauge({
    name: 'deltawatch_cluster_state',
    help: 'State of a cluster as shown to subscribers: 1 for the present one.',
    labels: ['cluster', 'state'] as const,
  })
  const gauges = {
    ageSeconds: gauge(
      'deltawatch_cluster_proof_age_seconds',
      'Age of the last proof that nothing is missing; -1 before the first.',
    ),
    revision: gauge(
      'deltawatch_cluster_revision',
      'Revision up to which everything is in the view (rounded above 2^53).',
    ),
    ringBytes: gauge('deltawatch_ring_bytes', 'Bytes charged to the ring of recent revisions.'),
    ringRevisions: gauge('deltawatch_ring_revisions', 'Revisions in the ring.'),
    stateBytes: gauge('deltawatch_state_bytes', 'Bytes charged to the current state.'),
    stateKeys: gauge('deltawatch_state_keys', 'Keys in the current state.'),
    slabBytes: gauge('deltawatch_state_slab_bytes', 'Bytes reserved for small values, gaps included.'),
    stagingBytes: gauge('deltawatch_staging_bytes', 'Bytes set aside while a checkpoint is read.'),
    replays: gauge('deltawatch_replays_active', 'Replays from the log that are running.'),
    replayBytes: gauge('deltawatch_replay_bytes', 'Bytes charged to stretches of the log that replays share.'),
    replayReaders: gauge('deltawatch_replay_consumers', 'Consumers that replays of this cluster share.'),
  }

  const forCluster = (cluster: ClusterId): ClusterMeters => ({
    entries: entries.with({ cluster }),
    events: events.with({ cluster }),
    bytes: bytes.with({ cluster }),
    void: voids.with({ cluster }),
    undecodable: undecodable.with({ cluster }),
    behind: behind.with({ cluster }),
    differences: differences.with({ cluster }),
    replayed: replayed.with({ cluster }),
    listenerErrors: listenerErrors.with({ cluster }),
    count: (name, label) => families[name].with({ cluster, [labelOf[name]]: label }).inc(),
    watch: (read) => {
      const stack = new DisposableStack()
      for (const name of Object.keys(gauges) as (keyof typeof gauges)[]) {
        stack.use(gauges[name].with({ cluster }).read(read[name]))
        stack.defer(() => gauges[name].remove({ cluster }))
      }
      for (const name of CLUSTER_STATES) {
        stack.use(state.with({ cluster, state: name }).read(() => (read.state() === name ? 1 : 0)))
        stack.defer(() => state.remove({ cluster, state: name }))
      }
      stack.defer(() => behind.remove({ cluster }))
      return stack
    },
  })
  return { forCluster }
}
