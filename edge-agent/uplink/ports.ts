// What the uplink asks of others: the hub's log, the trail of lineage evidence, the source of checkpoints.
// Owns: these ports, declared here because the uplink consumes them, and the errors a hub answers with.
// Refuses: NATS (hub.ts) and etcd (watch/etcd.ts).

import type { Mark, Lineage } from '#protocol/log/entry.ts'
import { DeltawatchError } from '#kit/errors.ts'
import type { TraceContext } from '#kit/tracing.ts'
import type { RevisionRecord } from '#protocol/log/entry.ts'
import type { Revision } from '#protocol/revision.ts'
import type { ChangedRevision } from '../egress/change.ts'

export type HubErrorKind =
  | 'disconnected'
  | 'timeout'
  /** The stream does not exist: `deltawatch hub apply` creates it. */
  | 'stream-missing'
  | 'jetstream-off'
  | 'denied'
  | 'unexpected'

export class HubError extends DeltawatchError {
  readonly kind: HubErrorKind

  constructor(kind: HubErrorKind, message: string, options?: ErrorOptions) {
    super(`DW_HUB_${kind.toUpperCase().replace('-', '_')}`, message, options)
    this.kind = kind
  }
}

export type StreamInfo = {
  /** When the stream was created, as the hub says it: another one means another stream. */
  readonly created: string
  readonly firstSeq: number
  readonly lastSeq: number
  readonly messages: number
  readonly bytes: number
  /** -1: unlimited. */
  readonly maxBytes: number
  /** -1: the server's max_payload alone. */
  readonly maxMessageBytes: number
  readonly replicas: number
  /** Region the hub says it stands in; undefined when the stream does not state it. */
  readonly hubRegion: string | undefined
}

export type AppendResult =
  | { readonly kind: 'stored'; readonly seq: number }
  /** Another entry stands at the expected place. */
  | { readonly kind: 'refused' }
  /** Whether it was stored is unknown: only the tail can say. */
  | { readonly kind: 'lost'; readonly reason: string }
  /** The hub will not take it now: full, overloaded, missing, forbidden. */
  | {
      readonly kind: 'rejected'
      readonly reason: 'full' | 'too-large' | 'overloaded' | 'missing' | 'denied' | 'duplicate' | 'other'
      readonly detail: string
    }

/** One log at the hub. Every call may reject with HubError. */
export interface HubLog {
  /** Counts connections: an append of an earlier one is abandoned, whatever became of it. */
  readonly generation: number
  readonly connected: boolean
  /** Largest message the hub accepts. */
  readonly maxPayload: number
  info(): Promise<StreamInfo>
  /** From the leader, never a replica; undefined when there is no message at this sequence. */
  message(seq: number): Promise<Uint8Array | undefined>
  /**
   * Never rejects. `expectedSeq` is the stream's last sequence for the entry to be stored. `trace`: a sampled entry says
   * so in its header, for readers that go on with the trace; nothing else depends on it.
   */
  append(entry: Uint8Array, expectedSeq: number, trace?: TraceContext): Promise<AppendResult>
  publishMark(mark: Mark): void
  /** Resolves when connected; rejects when the signal aborts. */
  ready(signal: AbortSignal): Promise<void>
  /** Called on every loss of the connection, before anything else is resolved. */
  onLost(fn: () => void): Disposable
  onMark(fn: (mark: Mark) => void): Disposable
}

/** A revision's share of the lineage evidence. Its content is let go as soon as its digest is known. */
export type Evidence = {
  readonly revision: Revision
  source: ChangedRevision | undefined
  digest: Uint8Array | undefined
}

/** A revision on its way out. */
export type Outgoing = {
  readonly revision: Revision
  /** Undefined: nothing of it leaves the region. */
  readonly record: RevisionRecord | undefined
  readonly evidence: Evidence
  /** Keys and values as they came from etcd, for budgets. */
  readonly bytes: number
  /** When its first byte arrived, monotonic ms. */
  readonly arrivedAt: number
  /** Upper bound of the record's encoding. */
  readonly encodedBytes: number
}

/** Evidence carried by entries: told of every revision an entry covers, hidden ones included, in order. */
export interface LineageTrail {
  include(evidence: Evidence): void
  evidence(): Lineage
}
