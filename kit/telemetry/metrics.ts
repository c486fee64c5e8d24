// What tracing says of itself, declared apart from it: the reference lists it, and nobody loads OpenTelemetry for that.
// Owns: the declaration. Refuses: counting (otlp.ts).

import type { Metrics } from '../metrics.ts'

export const declareTraceMetrics = (metrics: Metrics) =>
  metrics.counter({
    name: 'deltawatch_trace_spans_total',
    help: 'Spans ended, sent to the collector, or failed to be sent; the rest waits or was dropped. Only with tracing on.',
    labels: ['outcome'],
    maxSeries: 4,
  })
