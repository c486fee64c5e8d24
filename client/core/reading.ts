// The few fields of a server frame on which a subscriber's correctness rests, read strictly.
// Owns: cluster ids, positions, names of keys, and the word for a gateway that breaks the protocol.
// Refuses: values and display fields; they are handed on as they came.

import type { Position } from '../../protocol/cursor.ts'
import type { SnapshotItem, WireEvent } from '../../protocol/frames.ts'
import { isEpoch } from '../../protocol/log/entry.ts'
import { parseRevision } from '../../protocol/revision.ts'
import { type ClusterId, parseClusterId } from '../../protocol/subjects.ts'
import type { Item, KeyEvent, Named } from './changes.ts'

/** A frame that no correct gateway sends. With a cluster, the damage is limited to it. */
export class Violation extends Error {
  readonly cluster: ClusterId | undefined
  constructor(what: string, cluster?: ClusterId) {
    super(cluster === undefined ? what : `${cluster}: ${what}`)
    this.name = 'Violation'
    this.cluster = cluster
  }
}

export function clusterOf(name: unknown): ClusterId {
  const cluster = parseClusterId(name)
  if (cluster === undefined) throw new Violation('invalid cluster name')
  return cluster
}

export function positionOf(cluster: ClusterId, epoch: unknown, text: unknown): Position {
  const revision = parseRevision(text)
  if (!isEpoch(epoch) || revision === undefined) throw new Violation('invalid position', cluster)
  return { epoch, revision }
}

/** Names the keys in place: the frame was parsed for this reader alone, and copies would double the work. */
export function itemsOf(items: readonly SnapshotItem[], cluster: ClusterId): readonly Item[] {
  return nameAll(items, cluster) as readonly Item[]
}
export function keyEventsOf(events: readonly WireEvent[], cluster: ClusterId): readonly KeyEvent[] {
  return nameAll(events, cluster) as readonly KeyEvent[]
}
export function namedOf(
  texts: readonly string[],
  base64: readonly string[] | undefined,
  cluster: ClusterId,
): readonly Named[] {
  return [...texts.map((key) => ({ key })), ...(base64 ?? []).map((text) => binaryName(text, cluster))]
}

const binaryName = (text: unknown, cluster: ClusterId): Named => {
  try {
    return { key: atob(String(text)), binary: true }
  } catch {
    throw new Violation('invalid base64', cluster)
  }
}

const nameAll = (list: readonly object[], cluster: ClusterId): readonly object[] => {
  for (const one of list as readonly { key?: unknown; keyBase64?: unknown; binary?: true }[]) {
    if (typeof one.key === 'string') continue
    Object.assign(one, binaryName(one.keyBase64, cluster))
    delete one.keyBase64
  }
  return list
}
