// The subscriber side's counters and readings, tied to the live objects.
// Owns: the mapping to series; what happens per tick is counted per tick, never per delivery.
// Refuses: keeping anything of its own.

import type { Clock } from '#kit/clock.ts'
import type { BoundHistogram, Metrics } from '#kit/metrics.ts'
import type { Delivery } from '../delivery/delivery.ts'
import type { EventTraces } from '../delivery/event-traces.ts'
import type { ByteBudget } from '../delivery/outlet.ts'
import type { Admissions } from './admission.ts'
import type { SessionMetrics } from './metrics.ts'
import type { Sessions } from './sessions.ts'

type Watched = {
  readonly delivery: Delivery
  readonly sessions: Sessions
  readonly admissions: Admissions
  readonly budget: ByteBudget
}

export function bindGauges(metrics: Metrics, { delivery, sessions, admissions, budget }: Watched): void {
  const gauge = (name: string, help: string, read: () => number): void => void metrics.gauge({ name, help }).read(read)
  gauge('deltawatch_sessions', 'WebSocket connections held.', () => sessions.size)
  gauge('deltawatch_followers', 'Event streams and read-only connections held.', () => sessions.followers.size)
  gauge('deltawatch_sessions_unauthenticated', 'Connections without a valid hello.', () => admissions.unauthenticated)
  gauge('deltawatch_channels', 'Distinct streams in use (class, selector, mode, values).', () => delivery.channels.size)
  gauge('deltawatch_bytes_in_flight', 'Bytes written and not yet answered by a pong.', () => budget.used)
  gauge('deltawatch_bytes_in_flight_limit', 'The global byte budget.', () => budget.limit)
  gauge(
    'deltawatch_frame_cache_bytes',
    'Encoded revisions kept for those that fell behind.',
    () => delivery.frames.bytes,
  )
  gauge('deltawatch_pump_queue', 'Subscribers waiting for a turn to catch up.', () => delivery.pump.queued)
}

export function bindDeliveries(
  metrics: Metrics,
  delivery: Delivery,
  meters: SessionMetrics,
  clock: Clock,
  traces: EventTraces | undefined,
): void {
  const counter = (name: string, help: string) => metrics.counter({ name, help })
  const deliveries = counter('deltawatch_deliveries_total', 'Revisions written to live subscribers.')
  const writes = counter('deltawatch_writes_total', 'Socket writes to live subscribers.')
  const bytes = counter('deltawatch_delivered_bytes_total', 'Bytes written to live subscribers.')
  const blocked = counter('deltawatch_readers_blocked_total', 'Times a live reader was full and fell behind.')
  const histograms = new Map<string, { readonly gateway: BoundHistogram; readonly total: BoundHistogram }>()
  delivery.fanout.onDelivered = (feed, tick, served, held) => {
    blocked.inc(held)
    if (served === 0) return
    deliveries.inc(served * tick.frames)
    writes.inc(served)
    bytes.inc(served * tick.bytes.length)
    const { cluster } = feed.source
    let pair = histograms.get(cluster)
    if (pair === undefined) {
      pair = {
        gateway: meters.latency.with({ cluster, stage: 'gateway' }),
        total: meters.latency.with({ cluster, stage: 'total' }),
      }
      histograms.set(cluster, pair)
    }
    traces?.delivered(feed, tick, served, held)
    pair.gateway.observe((clock.monotonic() - tick.arrivedAt) / 1000)
    // Two machines' clocks: a skew shows as an offset, never as a negative time.
    if (tick.agentAtMs > 0) pair.total.observe(Math.max(0, clock.now() - tick.agentAtMs) / 1000)
  }
}
