// The position of one watch: a vector {cluster -> (epoch, revision)} with its view tag.
// Owns: folding single advances, which clusters are owed a snapshot, and what to ask for after an interruption.
// Refuses: frames (fold.ts turns them into advances) and the cursor's bytes (protocol/cursor.ts).
//
// The same advances are applied twice: when a change is received (where to resume) and when the consumer took it (what
// to persist). That is why they are values and not method calls.

import { type Cursor, encodeCursor, MAX_CURSOR_CLUSTERS, type Position, type ViewTag } from '../../protocol/cursor.ts'
import type { ClusterId } from '../../protocol/subjects.ts'

export type Advance =
  | { readonly kind: 'at'; readonly cluster: ClusterId; readonly position: Position }
  /** No position until a snapshot ends: a resync, a snapshot or a wait is under way. */
  | { readonly kind: 'owed'; readonly cluster: ClusterId }
  /** The cluster is no part of the watch any more. */
  | { readonly kind: 'dropped'; readonly cluster: ClusterId }
  /** undefined: the view changed, and only the next bookmark names the new one. */
  | { readonly kind: 'tag'; readonly viewTag: ViewTag | undefined }

export type Start = { readonly start: string; readonly default: 'snapshot' | 'now' | undefined }

/** Names no view: a gateway answers it with a resync and full snapshots, never with a silent gap. */
const NO_VIEW: ViewTag = '0000000000000000'

export class PositionVector {
  readonly #positions = new Map<ClusterId, Position>()
  readonly #owed = new Set<ClusterId>()
  #viewTag: ViewTag | undefined

  constructor(cursor?: Cursor) {
    if (cursor === undefined) return
    this.#viewTag = cursor.viewTag
    for (const [cluster, position] of cursor.positions) this.#positions.set(cluster, position)
  }

  apply(advances: readonly Advance[]): void {
    for (const advance of advances) {
      if (advance.kind === 'tag') {
        this.#viewTag = advance.viewTag
        continue
      }
      const { cluster } = advance
      if (advance.kind === 'at') this.#positions.set(cluster, advance.position)
      else this.#positions.delete(cluster)
      if (advance.kind === 'owed') this.#owed.add(cluster)
      else this.#owed.delete(cluster)
    }
  }

  /**
   * The canonical cursor, or undefined before a gateway told the view tag and when the vector does not fit a cursor.
   * Clusters in the middle of a snapshot, resync or wait are not in it.
   */
  cursor(): string | undefined {
    return this.#viewTag === undefined ? undefined : this.#encode(this.#viewTag)
  }

  /** How to ask for the rest, given how the watch was first asked for. */
  resume(asked: Start): Start {
    // A cluster without a position begins by `default`. One that is owed a snapshot must not begin at "now": that would
    // be a gap nobody was told of.
    const fallback = this.#owed.size > 0 ? 'snapshot' : (asked.default ?? (asked.start === 'now' ? 'now' : 'snapshot'))
    const fresh = asked.start === 'now' && this.#owed.size === 0 ? 'now' : fallback
    if (this.#positions.size === 0) return { start: fresh, default: undefined }
    const cursor = this.#encode(this.#viewTag ?? NO_VIEW)
    return cursor === undefined ? { start: 'snapshot', default: undefined } : { start: cursor, default: fallback }
  }

  #encode(viewTag: ViewTag): string | undefined {
    if (this.#positions.size > MAX_CURSOR_CLUSTERS) return undefined
    return encodeCursor({ viewTag, positions: this.#positions })
  }
}
