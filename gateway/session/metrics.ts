// What the subscriber side counts.
// Owns: the declarations, with their bounded labels. Refuses: deciding when something counts.

import type { BoundCounter, BoundHistogram, Family, Metrics } from '#kit/metrics.ts'

export interface SessionMetrics {
  readonly opened: BoundCounter
  readonly refused: Family<'code', BoundCounter>
  readonly disconnects: Family<'code', BoundCounter>
  readonly errors: Family<'code', BoundCounter>
  readonly outcomes: Family<'outcome', BoundCounter>
  readonly resyncs: Family<'cluster' | 'reason', BoundCounter>
  readonly latency: Family<'cluster' | 'stage', BoundHistogram>
}

const SECONDS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10]

export function sessionMetrics(metrics: Metrics): SessionMetrics {
  return {
    opened: metrics.counter({ name: 'deltawatch_sessions_opened_total', help: 'Sessions that said a valid hello.' }),
    refused: metrics.counter({
      name: 'deltawatch_connections_refused_total',
      help: 'Connections refused before a session began, by the reason.',
      labels: ['code'],
      maxSeries: 32,
    }),
    disconnects: metrics.counter({
      name: 'deltawatch_disconnect_total',
      help: 'Sessions that ended, by close code name; Peer* when the subscriber ended it.',
      labels: ['code'],
      maxSeries: 64,
    }),
    errors: metrics.counter({
      name: 'deltawatch_session_errors_total',
      help: 'Errors told to subscribers, in frames and as HTTP problems, by code name.',
      labels: ['code'],
      maxSeries: 64,
    }),
    outcomes: metrics.counter({
      name: 'deltawatch_resume_total',
      help: 'How watches began on a cluster.',
      labels: ['outcome'],
      maxSeries: 16,
    }),
    resyncs: metrics.counter({
      name: 'deltawatch_reader_resync_total',
      help: 'Times continuity of a reader was broken and repaired, by cluster and reason.',
      labels: ['cluster', 'reason'],
    }),
    latency: metrics.histogram({
      name: 'deltawatch_delivery_seconds',
      help: 'From the ring to the socket (stage gateway), and from the agent wall clock to the socket (stage total).',
      labels: ['cluster', 'stage'],
      buckets: SECONDS,
    }),
  }
}
