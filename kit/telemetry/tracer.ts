// Spans as a port: what a service says of its work, without knowing who collects it.
// Owns: the shapes, and the test by which several processes agree on the same traces. Refuses: OpenTelemetry (otlp.ts).
// Attributes name sizes, counts, clusters and revisions. Never a key, a value or a subject: spans leave the house.

import type { TraceContext } from '../tracing.ts'

export type SpanKind = 'internal' | 'producer' | 'consumer'
export type SpanAttributes = Readonly<Record<string, string | number | boolean>>

export type SpanStart = {
  readonly kind: SpanKind
  /** Monotonic ms of the service's clock. */
  readonly at: number
  /** Absent: a trace of its own. */
  readonly parent?: TraceContext
  readonly links?: readonly TraceContext[]
  readonly attributes?: SpanAttributes
}

export interface OpenSpan {
  /** What a message that continues the trace carries. */
  readonly context: TraceContext
  /** `at`: monotonic ms. `failure`: a word for what went wrong. Called once. */
  end(at: number, attributes?: SpanAttributes, failure?: string): void
}

export interface Tracer {
  /** Head-based: whether the work at hand begins a trace. */
  sample(): boolean
  /** Whether this process continues a trace that another one began. */
  follows(context: TraceContext): boolean
  start(name: string, span: SpanStart): OpenSpan
}

/** The same answer in every process for the same share: the last 32 bits of a trace id are random. */
export function isFollowed({ traceId, sampled }: TraceContext, share: number): boolean {
  return sampled && Number.parseInt(traceId.slice(24), 16) < share * 0x1_0000_0000
}
