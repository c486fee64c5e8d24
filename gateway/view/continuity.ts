// What a checkpoint means for continuity.
// Owns: the reason a reset is told with, and which earlier positions it cuts off for good.
// Refuses: state; two pure functions of the checkpoint and of what readers were shown.

import type { ResyncReason } from '#protocol/frames.ts'
import { addRevision, compareRevisions, type Revision } from '#protocol/revision.ts'
import type { Checkpoint } from './checkpoint.ts'

/** Positions before `revision` cannot be continued from, whatever the log holds. */
export type Barrier = { readonly revision: Revision; readonly reason: ResyncReason }

const CUTS = { epoch: 'epoch', gap: 'compacted', policy: 'policy' } as const

/** `shown`: what readers saw of this epoch. A checkpoint behind that was crossed before; it is only read again. */
export const resetReason = (checkpoint: Checkpoint, shown: Revision | undefined): ResyncReason => {
  if (shown === undefined) return 'epoch'
  if (checkpoint.reason === 'routine' || compareRevisions(checkpoint.pinned, shown) < 0) return 'trimmed'
  return CUTS[checkpoint.reason]
}
export const barrierOf = (
  checkpoint: Checkpoint,
  reason: ResyncReason,
  shown: Revision | undefined,
  reached: Revision,
): Barrier | undefined => {
  if (reason === 'trimmed' && shown !== undefined) {
    // Having gone back, everything shown beforehand may belong to another history.
    return { revision: compareRevisions(reached, shown) > 0 ? reached : addRevision(shown, 1), reason }
  }
  // A routine checkpoint that starts an epoch for this process cuts nothing off: the log may reach further back.
  if (checkpoint.reason === 'routine') return undefined
  return { revision: checkpoint.pinned, reason: CUTS[checkpoint.reason] }
}
