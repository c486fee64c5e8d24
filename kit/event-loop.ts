// How late the event loop runs: the one honest sign that a Node process is overloaded or stuck.
// Owns: one delay histogram and its reading. Does not own: the limit at which somebody calls that unhealthy.

import { monitorEventLoopDelay } from 'node:perf_hooks'
import type { Metrics } from './metrics.ts'

export interface EventLoopDelay extends Disposable {
  /** 99th percentile in seconds since the last `reset`, 0 before the first sample. */
  p99(): number
  max(): number
  reset(): void
}

const RESOLUTION_MS = 10

export function watchEventLoop(metrics?: Metrics): EventLoopDelay {
  const histogram = monitorEventLoopDelay({ resolution: RESOLUTION_MS })
  histogram.enable()
  // The histogram counts the timer's own period as delay, and reads NaN or 2^63 while it is empty.
  const seconds = (ns: number): number => (histogram.count === 0 ? 0 : Math.max(0, ns / 1e9 - RESOLUTION_MS / 1000))
  const delay: EventLoopDelay = {
    p99: () => seconds(histogram.percentile(99)),
    max: () => seconds(histogram.max),
    reset: () => histogram.reset(),
    [Symbol.dispose]: () => histogram.disable(),
  }
  metrics
    ?.gauge({
      name: 'deltawatch_event_loop_delay_seconds',
      help: 'Event loop delay since the last scrape: 99th percentile and maximum.',
      labels: ['stat'],
    })
    .with({ stat: 'p99' })
    .read(() => delay.p99())
  return delay
}
