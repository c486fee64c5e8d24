// The parts of a checkpoint, as a session is given them. Live entries it makes itself, from its queue.
// Owns: their shape and a bound of their size. Refuses: when they are sent (session.ts) and what is in them (checkpoint.ts).

import type { EntryBody } from '#protocol/log/entry.ts'
import type { Revision } from '#protocol/revision.ts'

export type CheckpointPart = Extract<EntryBody, { kind: 'snapshot-begin' | 'snapshot-items' | 'snapshot-end' }>
/** A part that depends on the position is made when it is sent: entries may still go before it. */
export type PartSource = CheckpointPart | ((position: Revision) => CheckpointPart)

/** Close to the part's encoding: items are cut by a byte target far below the entry limit. */
export function partBytes(part: PartSource): number {
  if (typeof part === 'function' || part.kind !== 'snapshot-items') return 0
  return part.items.reduce((sum, item) => sum + item.key.length + item.value.length + 64, 0)
}
