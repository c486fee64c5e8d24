// W3C trace context, parsed and written by hand, so that a trace can cross etcd, NATS and WebSocket boundaries.
// Owns: the `traceparent` format and its way in and out of a header map; child contexts.
// Does not own: spans, sampling decisions of a backend, or exporting. Without a traceparent nothing is recorded or sent.
// A NATS server (2.11 and later) whose account sets msg_trace reacts to a sampled traceparent with trace events of its
// own: the `sampled` flag is a cost switch there, which is why `inject` never sets it by itself, and why only sampled log
// entries carry the header at all. The header is stored with the entry and compared by nobody: it is no message id.

import type { Random } from './random.ts'

export interface TraceContext {
  /** 32 lower-case hex digits, not all zero. */
  readonly traceId: string
  /** 16 lower-case hex digits, not all zero. */
  readonly spanId: string
  readonly sampled: boolean
}

/** The two methods of a header map that are used; NATS `MsgHdrs` and WHATWG `Headers` both fit. */
export interface HeaderReader {
  get(name: string): string | null | undefined
}
export interface HeaderWriter {
  set(name: string, value: string): void
}

export const TRACEPARENT = 'traceparent'

const FORMAT = /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/
const ZERO = /^0+$/

/** Undefined for anything malformed: a bad header means "no trace", never an error. */
export function parseTraceparent(header: string | null | undefined): TraceContext | undefined {
  const match = FORMAT.exec(header?.trim() ?? '')
  const [, version, traceId, spanId, flags, rest] = match ?? []
  if (version === undefined || traceId === undefined || spanId === undefined || flags === undefined) return undefined
  // Version ff is forbidden; version 00 has exactly four fields; later versions may append some.
  if (version === 'ff' || (version === '00' && rest !== undefined)) return undefined
  if (ZERO.test(traceId) || ZERO.test(spanId)) return undefined
  return { traceId, spanId, sampled: (Number.parseInt(flags, 16) & 1) === 1 }
}

export function formatTraceparent(context: TraceContext): string {
  return `00-${context.traceId}-${context.spanId}-${context.sampled ? '01' : '00'}`
}

export function extractTrace(headers: HeaderReader): TraceContext | undefined {
  return parseTraceparent(headers.get(TRACEPARENT))
}

/** Writes the header, or nothing when there is no trace. */
export function injectTrace(context: TraceContext | undefined, headers: HeaderWriter): void {
  if (context !== undefined) headers.set(TRACEPARENT, formatTraceparent(context))
}

/** A new trace, unsampled unless asked for. */
export function newTrace(random: Random, sampled = false): TraceContext {
  return { traceId: hex(random, 16), spanId: hex(random, 8), sampled }
}

/** A new span of the same trace. */
export function childTrace(parent: TraceContext, random: Random): TraceContext {
  return { ...parent, spanId: hex(random, 8) }
}

function hex(random: Random, bytes: number): string {
  for (;;) {
    const text = Buffer.from(random.bytes(bytes)).toString('hex')
    if (!ZERO.test(text)) return text
  }
}
