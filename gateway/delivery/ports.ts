// What delivery asks of the layer below it: one source per cluster.
// Owns: the port between a cluster's view (state, ring, status) and everything that serves subscribers.
// Refuses: implementation. gateway/view provides it; tests provide small fakes.
//
// Rules of the port
// - Everything is synchronous and single-threaded: a listener sees the source exactly as it is at that moment.
// - Ring positions are dense integers ("index"), never reused within a process; a reader keeps an index, not a copy.
// - A `reset` ends every continuity: readers at or before it go through a snapshot, never across.

import type { Key } from '#protocol/bytes.ts'
import type { KeyRange } from '#protocol/decode.ts'
import type { ClusterState, ResyncReason } from '#protocol/frames.ts'
import type { Epoch, LogOp } from '#protocol/log/entry.ts'
import type { Revision } from '#protocol/revision.ts'
import type { ClusterId, Region } from '#protocol/subjects.ts'

/** One key as the hub holds it: egress policy and its transforms already applied. */
export type StateEntry = {
  readonly key: Key
  readonly value: Uint8Array
  readonly modRevision: Revision
  readonly createRevision: Revision
  readonly version: string
  readonly lease: string
  /** Rule id when egress withheld the value. */
  readonly withheld: string | undefined
  /** Transforms egress already applied. */
  readonly transforms: readonly string[] | undefined
}

export type RingEvent = {
  readonly op: LogOp
  readonly key: Key
  /** The new state of a put; undefined for delete and leave. */
  readonly entry: StateEntry | undefined
  /** What the view held before this event, or undefined when it held nothing. */
  readonly prior: StateEntry | undefined
}
export type RingRevision = {
  readonly index: number
  readonly epoch: Epoch
  readonly revision: Revision
  readonly events: readonly RingEvent[]
  /** Bytes this revision is charged with in the ring. */
  readonly bytes: number
  /** Monotonic ms (kit Clock) when it entered the ring, and the agent's wall clock, for latency metrics. */
  readonly arrivedAt: number
  readonly agentAtMs: number
}

/** A revision as the log gives it back. */
export type ReplayedRevision = Pick<RingRevision, 'epoch' | 'revision' | 'events' | 'agentAtMs'>

/** One difference a checkpoint made against what the view held. */
export type Difference =
  | { readonly key: Key; readonly entry: StateEntry; readonly prior: StateEntry | undefined }
  | { readonly key: Key; readonly gone: 'delete' | 'leave'; readonly prior: StateEntry }

export type SourceStatus = {
  readonly state: ClusterState
  readonly epoch: Epoch | undefined
  /** Everything up to here is in the ring or the state. */
  readonly revision: Revision
  /** Monotonic ms of the last proof (entry or accepted bookmark); undefined before the first. */
  readonly provenAt: number | undefined
  /** Wall clock ms when `state` was entered. */
  readonly since: number
  /** Why the log cannot be followed, in a word for operators (`missing`, `disconnected`, `unknown-kind`, …). */
  readonly reason?: string
}

export type SourceEvent =
  /** Ring revisions [first, last] were appended and applied to the state. */
  | { readonly kind: 'revisions'; readonly first: number; readonly last: number }
  /** `status.revision` moved without visible events. */
  | { readonly kind: 'proven' }
  | { readonly kind: 'status' }
  /** Continuity ended: the state is already the new one; `differences` lead from the old state to it. */
  | {
      readonly kind: 'reset'
      readonly reason: ResyncReason
      readonly from: { readonly epoch: Epoch; readonly revision: Revision } | undefined
      readonly to: { readonly epoch: Epoch; readonly revision: Revision }
      /** Ring index the new continuity starts at (the next revision gets it). */
      readonly index: number
      /** Undefined when they are unknown or larger than the budget: readers take a full snapshot. */
      readonly differences: readonly Difference[] | undefined
    }
  | { readonly kind: 'removed' }

export type Located =
  /** Continue with the ring revision of this index (may be `nextIndex`: nothing newer yet). */
  | { readonly kind: 'ring'; readonly index: number }
  /** Not in the ring, but the log still holds everything after it: {@link ClusterSource.replay}. */
  | { readonly kind: 'log' }
  | { readonly kind: 'ahead' }
  | { readonly kind: 'resync'; readonly reason: ResyncReason }
  /** Nothing is known yet of this cluster (no complete checkpoint read). */
  | { readonly kind: 'unready' }

export interface ClusterSource {
  readonly cluster: ClusterId
  readonly region: Region
  /** True once a complete checkpoint was applied: snapshots can be served. */
  readonly ready: boolean
  readonly status: SourceStatus
  /** Index the next ring revision will get. */
  readonly nextIndex: number
  /** The ring revision at `index`, or undefined when it was trimmed or does not exist yet. */
  at(index: number): RingRevision | undefined
  /** Where a reader that holds everything up to `position` continues. */
  locate(position: { readonly epoch: Epoch; readonly revision: Revision }): Located
  /**
   * True when policy was narrowed by a checkpoint at this very revision, so that a client that resumes there may have
   * been there before it. Absent: never.
   */
  ambiguous?(position: { readonly epoch: Epoch; readonly revision: Revision }): boolean
  /**
   * Up to `limit` entries of the range after `after` (exclusive) as of the state now, ascending, bytewise.
   * A paged reader that must stay at one revision gives `undoTo`: the ring index its page is pinned before; ring
   * revisions at or after it are undone by their `prior`. Undefined when the ring no longer reaches back.
   */
  scan(range: KeyRange, after: Key | undefined, limit: number, undoTo?: number): readonly StateEntry[] | undefined
  get(key: Key): StateEntry | undefined
  /**
   * Whole revisions after `position` from the hub's log up to where the ring begins, in order; events carry no `prior`.
   * Bounded by the source's replay budget: rejects with code `replay-busy` (come again), or `trimmed` when the log no
   * longer reaches or something cuts it; the error's `reason`, a ResyncReason, says what.
   */
  replay(
    position: { readonly epoch: Epoch; readonly revision: Revision },
    signal: AbortSignal,
  ): AsyncIterable<ReplayedRevision>
  /** Called synchronously, in subscription order. A listener must not throw. */
  listen(listener: (event: SourceEvent) => void): Disposable
}

/** All clusters of this gateway; clusters come and go at run time. */
export interface Sources {
  list(): readonly ClusterSource[]
  get(cluster: ClusterId): ClusterSource | undefined
  onAdded(listener: (source: ClusterSource) => void): Disposable
}
