// A sampled entry as two spans: from etcd's events in memory to the hub's acknowledgement, and the append within it.
// Owns: which entries are asked about, names and attributes. Refuses: sampling (the tracer's) and every byte of the entry.
//
//   relay   since the oldest of its events arrived from etcd: filtering, policy, waiting for the window, and
//   append  from sending to the acknowledgement. Its context travels in the entry's header.

import type { EntryBody } from '#protocol/log/entry.ts'
import type { OpenSpan, Tracer } from '#kit/telemetry/tracer.ts'
import type { TraceContext } from '#kit/tracing.ts'
import { logSubject, type ClusterId } from '#protocol/subjects.ts'
import type { AppendResult } from './ports.ts'

export type EntryFacts = {
  readonly events: number
  readonly bytes: number
  /** Monotonic ms. */
  readonly oldestArrival: number
  readonly sentAt: number
}

export interface EntryTrace {
  readonly context: TraceContext
  end(result: AppendResult, at: number): void
}

export class EntryTracer {
  readonly #tracer: Tracer
  readonly #of: { readonly 'deltawatch.cluster': string; readonly 'deltawatch.region': string }
  readonly #subject: string

  constructor(tracer: Tracer, cluster: ClusterId, region: string) {
    this.#tracer = tracer
    this.#of = { 'deltawatch.cluster': cluster, 'deltawatch.region': region }
    this.#subject = logSubject(cluster)
  }

  /** Undefined for most entries. Only what completes revisions is traced: readers see nothing of the rest. */
  begin(body: EntryBody, { events, bytes, oldestArrival, sentAt }: EntryFacts): EntryTrace | undefined {
    const through = completes(body)
    if (through === undefined || !this.#tracer.sample()) return undefined
    const attributes = { ...this.#of, 'deltawatch.events': events, 'deltawatch.revision': through }
    const relay = this.#tracer.start('relay', { kind: 'internal', at: oldestArrival, attributes })
    const append = this.#tracer.start('append', {
      kind: 'producer',
      at: sentAt,
      parent: relay.context,
      attributes: {
        ...this.#of,
        'messaging.system': 'nats',
        'messaging.operation.type': 'send',
        'messaging.destination.name': this.#subject,
        'messaging.message.body.size': bytes,
      },
    })
    return { context: append.context, end: (result, at) => finish(relay, append, result, at) }
  }
}

function finish(relay: OpenSpan, append: OpenSpan, result: AppendResult, at: number): void {
  const stored = result.kind === 'stored'
  // What was not acknowledged is read from etcd again and travels in another entry, perhaps in another trace.
  const failure = stored ? undefined : result.kind
  append.end(at, stored ? { 'deltawatch.seq': result.seq } : {}, failure)
  relay.end(at, {}, failure)
}

/** The newest revision that a reader has whole with this entry; undefined when there is none. */
function completes(body: EntryBody): string | undefined {
  if (body.kind === 'events') return body.throughRevision
  return body.kind === 'chunk' && body.index === body.count - 1 ? body.revision : undefined
}
