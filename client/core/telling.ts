// Changes that tell what happened to a cluster, as opposed to its keys.
// Owns: building resync and cluster changes with what they do to the position. Refuses: deciding when (fold.ts).

import type { Position } from '../../protocol/cursor.ts'
import type { ClusterFrame } from '../../protocol/frames.ts'
import type { ClusterId } from '../../protocol/subjects.ts'
import type { Break, Change, Place } from './changes.ts'
import type { Advance } from './vector.ts'

/**
 * One change, what taking it does to the position, and what it weighs (characters of its frames).
 * Without a change it only moves the position, in order with the changes around it.
 */
export type Folded = { readonly change?: Change; readonly advances: readonly Advance[]; readonly size: number }

export const silently = (...advances: readonly Advance[]): Folded => ({ advances, size: 0 })

export function resyncTold(
  cluster: ClusterId,
  reason: Break,
  from: Place | undefined,
  to: Position | undefined,
): Folded {
  return { change: { kind: 'resync', cluster, reason, from, to }, advances: [{ kind: 'owed', cluster }], size: 0 }
}

export function stateTold(cluster: ClusterId, frame: ClusterFrame, size: number): Folded {
  const { state, region, since, lastRevision } = frame
  return { change: { kind: 'cluster', cluster, state, region, since, lastRevision }, advances: [], size }
}

/** The cluster is no part of the watch any more; without a frame, this client found that out by itself. */
export function dropTold(cluster: ClusterId, state: 'removed' | 'denied', frame?: ClusterFrame): Folded {
  const since = frame?.since
  const change = { kind: 'cluster', cluster, state, region: undefined, since, lastRevision: undefined } as const
  return { change, advances: [{ kind: 'dropped', cluster }], size: 0 }
}
