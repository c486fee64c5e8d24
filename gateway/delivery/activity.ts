// For classes that must not learn of hidden activity: the newest revision with something visible, and nothing newer.
// Owns: finding it by a walk over what is held, and the states such a class is shown.
// Refuses: exactness about the past: deletes before this process began are not known, so the answer may be too old, never too new.

import type { Key } from '#protocol/bytes.ts'
import type { KeyRange } from '#protocol/decode.ts'
import type { ClusterState } from '#protocol/frames.ts'
import { maxRevision, REVISION_ZERO, type Revision } from '#protocol/revision.ts'
import type { DeliverDecider } from '#policies/engine/types.ts'
import { decideEntry } from './policy-port.ts'
import type { ClusterSource } from './ports.ts'

const SCAN = 512
const EVERYTHING: KeyRange = { from: '' as Key, to: undefined }

export type VisibleRange = { readonly decider: DeliverDecider; readonly range: KeyRange; readonly now: number }

/** Newest visible entry's revision. Walks in slices; entries that change meanwhile are the caller's to count. */
export async function visibleHead(source: ClusterSource, { decider, range, now }: VisibleRange): Promise<Revision> {
  let newest = REVISION_ZERO
  let at: Key | undefined
  for (;;) {
    const entries = source.scan(decider.movesKeys ? EVERYTHING : range, at, SCAN) ?? []
    for (const entry of entries) {
      const put = decideEntry(decider, entry, now)
      const inside = put !== undefined && put.key >= range.from && (range.to === undefined || put.key < range.to)
      if (inside) newest = maxRevision(newest, entry.modRevision)
    }
    at = entries.at(-1)?.key
    if (entries.length < SCAN) return newest
    await new Promise((resolve) => setImmediate(resolve))
  }
}

/** Whether a cluster is idle is activity too. */
export function shownState(state: ClusterState, hideActivity: boolean): ClusterState {
  return hideActivity && state === 'idle-proved' ? 'live' : state
}
