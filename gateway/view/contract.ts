// What goes into the view and what comes out of it, as types.
// Owns: bounds, steps, events, demands. Refuses: behaviour (view-core.ts).

import type { Epoch, LogEntry, RevisionRecord } from '#protocol/log/entry.ts'
import type { Revision } from '#protocol/revision.ts'
import type { SourceEvent } from '../delivery/ports.ts'

export type ViewBounds = {
  readonly ringBytes: number
  readonly ringRevisions: number
  /** Differences and deletes set aside while a checkpoint is read; beyond it the view is rebuilt in place. */
  readonly stagingBytes: number
  /** Live revisions held while a checkpoint is read. */
  readonly holdBytes: number
  /** A cluster whose state is larger is not served. */
  readonly stateBytes: number
}
export type Position = { readonly epoch: Epoch; readonly revision: Revision }

export type CheckpointOutcome = 'verified' | 'mismatch' | 'skipped' | 'damaged' | 'applied' | 'continued'
/** What goes out, at the moment the view is exactly as the event says. Listeners may read, never apply. */
export type ViewEvent =
  | Exclude<SourceEvent, { readonly kind: 'removed' }>
  | { readonly kind: 'checkpoint'; readonly outcome: CheckpointOutcome; readonly differences: number }
/** What the reader must do before it applies anything else. */
export type Demand =
  /** Begin again at the newest checkpoint, after {@link ViewCore.rejoin}. */
  | { readonly kind: 'start-over'; readonly cause: 'verify' | 'lineage' | 'checkpoint' }
  | { readonly kind: 'stop'; readonly cause: 'state-too-large' }

/** A valid entry of the log, its bytes, and the chain's position after it. */
export type Step = {
  readonly entry: LogEntry
  readonly message: Uint8Array
  /** The message is the view's to keep: values may stay in it. */
  readonly owned: boolean
  readonly position: Revision
  readonly completed: RevisionRecord | undefined
  readonly arrivedAt: number
}
