// Spans by OpenTelemetry, sent to a collector as OTLP over HTTP.
// Owns: translating the port, the bounded queue, and what becomes of spans that cannot be sent: they are counted and gone.
// Refuses: being loaded by a service without tracing (open.ts), globals, instrumentation of libraries, context managers.
// Overflow rule: at most QUEUE spans wait; newer ones are dropped. A collector that is slow, broken or away costs that
// memory, one warning and nothing else: no span is ever waited for, except for SHUTDOWN_MS when the service ends.

import { type HrTime, ROOT_CONTEXT, SpanKind as OtelKind, SpanStatusCode, trace, TraceFlags } from '@opentelemetry/api'
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http'
import { resourceFromAttributes } from '@opentelemetry/resources'
import { BatchSpanProcessor, type SpanExporter, TracerProvider } from '@opentelemetry/sdk-trace'
import { errorMessage } from '../errors.ts'
import type { TraceContext } from '../tracing.ts'
import { VERSION } from '../version.ts'
import { declareTraceMetrics } from './metrics.ts'
import type { Tracing, TracingDeps } from './open.ts'
import { isFollowed, type OpenSpan, type SpanKind, type SpanStart, type Tracer } from './tracer.ts'

export type OtlpOptions = {
  readonly url: string
  readonly service: string
  /** In (0, 1]. */
  readonly share: number
  readonly env: string | undefined
  readonly canary: boolean
  readonly headers: Readonly<Record<string, string>>
}

const QUEUE = 2_048
const BATCH = 256
const EVERY_MS = 1_000
const EXPORT_MS = 5_000
const SHUTDOWN_MS = 1_000
/** Wall and monotonic clock drift apart this much before spans follow. */
const DRIFT_MS = 5

const KINDS: Readonly<Record<SpanKind, OtelKind>> = {
  internal: OtelKind.INTERNAL,
  producer: OtelKind.PRODUCER,
  consumer: OtelKind.CONSUMER,
}

export function openOtlp(options: OtlpOptions, deps: TracingDeps): Tracing {
  const { clock, random, metrics } = deps
  const spans = declareTraceMetrics(metrics)
  const ended = spans.with({ outcome: 'ended' })
  const sender = new OTLPTraceExporter({
    url: options.url,
    headers: { ...options.headers },
    timeoutMillis: EXPORT_MS,
    concurrencyLimit: 2,
  })
  const provider = new TracerProvider({
    resource: resourceFromAttributes({
      'service.name': options.service,
      'service.version': VERSION,
      'service.namespace': 'deltawatch',
      ...(options.env === undefined ? {} : { 'deployment.environment.name': options.env }),
    }),
    spanProcessors: [
      new BatchSpanProcessor({
        exporter: observed(sender, spans, deps),
        maxQueueSize: QUEUE,
        maxExportBatchSize: BATCH,
        scheduledDelayMillis: EVERY_MS,
        exportTimeoutMillis: EXPORT_MS,
      }),
    ],
  })
  const otel = provider.getTracer('deltawatch', VERSION)
  const everywhere = { canary: options.canary, ...(options.env === undefined ? {} : { env: options.env }) }
  const wall = wallClock(deps)

  const start = (name: string, { kind, at, parent, links, attributes }: SpanStart): OpenSpan => {
    const span = otel.startSpan(
      name,
      {
        kind: KINDS[kind],
        startTime: wall(at),
        root: parent === undefined,
        attributes: { ...everywhere, ...attributes },
        links: (links ?? []).map((context) => ({ context: spanContext(context) })),
      },
      parent === undefined ? ROOT_CONTEXT : trace.setSpanContext(ROOT_CONTEXT, spanContext(parent)),
    )
    const { traceId, spanId } = span.spanContext()
    return {
      context: { traceId, spanId, sampled: true },
      end: (endedAt, more, failure) => {
        if (more !== undefined) span.setAttributes({ ...more })
        if (failure !== undefined) span.setStatus({ code: SpanStatusCode.ERROR, message: failure })
        span.end(wall(endedAt))
        ended.inc()
      },
    }
  }
  const tracer: Tracer = {
    sample: () => random.next() < options.share,
    follows: (context) => isFollowed(context, options.share),
    start,
  }
  return {
    tracer,
    [Symbol.asyncDispose]: async () => {
      const closed = provider.shutdown().catch(() => undefined)
      await Promise.race([closed, clock.sleep(SHUTDOWN_MS)])
    },
  }
}

const spanContext = ({ traceId, spanId }: TraceContext) => ({
  traceId,
  spanId,
  traceFlags: TraceFlags.SAMPLED,
  isRemote: true,
})

/** Monotonic ms to wall time. The offset is kept while it holds, so that spans of one process never overlap by a jump. */
function wallClock({ clock }: TracingDeps): (at: number) => HrTime {
  let offset = clock.now() - clock.monotonic()
  return (at) => {
    const now = clock.now() - clock.monotonic()
    if (Math.abs(now - offset) > DRIFT_MS) offset = now
    const micros = Math.round((at + offset) * 1_000)
    return [Math.floor(micros / 1_000_000), (micros % 1_000_000) * 1_000]
  }
}

type Outcomes = { with(labels: { readonly outcome: string }): { inc(by?: number): void } }

/** Counts what was sent, and says once when sending begins to fail and once when it works again. */
function observed(sender: SpanExporter, spans: Outcomes, { logger }: TracingDeps): SpanExporter {
  const sent = spans.with({ outcome: 'sent' })
  const failed = spans.with({ outcome: 'failed' })
  let failing = false
  return {
    export: (batch, done) =>
      sender.export(batch, (result) => {
        const wrong = result.error !== undefined
        ;(wrong ? failed : sent).inc(batch.length)
        if (wrong !== failing) {
          if (wrong) logger.warn('spans are not taken by the collector', { reason: errorMessage(result.error) })
          else logger.info('spans are taken by the collector again')
        }
        failing = wrong
        done(result)
      }),
    shutdown: () => sender.shutdown(),
  }
}
