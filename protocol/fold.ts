// Folding: how a subscriber keeps its cursor exact between bookmarks.
// Owns: the one algorithm of SPEC.md Q4, from the frames of one watch to the cursor it may resume with.
// Refuses: values, keys and sockets. It trusts the gateway's order and never invents a position: when in doubt a cluster
// has none, and resuming snapshots it.

import { type Cursor, decodeCursor, encodeCursor, type Position, type ViewTag } from './cursor.ts'
import type { ServerFrame } from './frames.ts'
import type { Epoch } from './log/entry.ts'
import { compareRevisions, type Revision } from './revision.ts'
import type { ClusterId } from './subjects.ts'

/**
 * The position of one watch, folded from its frames in the order they arrived. A fold serves one ask: the next connection
 * asks with {@link CursorFold.cursor} and folds anew from it.
 */
export class CursorFold {
  readonly #now: boolean
  #answered = false
  #viewTag: ViewTag | undefined
  readonly #positions = new Map<ClusterId, Position>()
  /** Clusters between snapshot `begin` and `end`, with the epoch that `begin` named. */
  readonly #staging = new Map<ClusterId, Epoch>()

  /** `start` is what the watch was opened with; a cursor that cannot be decoded counts as no position. */
  constructor(start: string) {
    this.#now = start === 'now'
    const decoded = decodeCursor(start)
    if (!decoded.ok) return
    this.#viewTag = decoded.cursor.viewTag
    for (const [cluster, position] of decoded.cursor.positions) this.#positions.set(cluster, position)
  }

  /** Applies one frame of this watch's channel, its `watching` frame, or a `cluster` frame. Others change nothing. */
  apply(frame: ServerFrame): void {
    switch (frame.type) {
      case 'watching':
        this.#staging.clear()
        // An answer nobody asked for means another view. The old tag would let a later change back pass for no change.
        if (this.#answered) this.#viewTag = undefined
        this.#answered = true
        // A cluster this gateway does not name is not part of the watch any more.
        for (const cluster of this.#positions.keys()) {
          if (!Object.hasOwn(frame.clusters, cluster)) this.#positions.delete(cluster)
        }
        for (const [name, at] of Object.entries(frame.clusters)) {
          if (at.outcome === 'resumed') this.#move(name, at.epoch, at.revision)
          else this.#set(name, at.outcome === 'live' ? at.epoch : undefined, at.revision)
        }
        return
      case 'snapshot':
        if (frame.phase === 'begin') {
          this.#staging.set(frame.cluster as ClusterId, frame.epoch as Epoch)
          this.#positions.delete(frame.cluster as ClusterId)
        } else if (frame.phase === 'end') {
          const epoch = this.#staging.get(frame.cluster as ClusterId)
          this.#staging.delete(frame.cluster as ClusterId)
          this.#set(frame.cluster, epoch, frame.revision)
        }
        return
      case 'events':
        this.#move(frame.cluster, frame.epoch, frame.revision)
        return
      case 'state':
        if (frame.last) this.#move(frame.cluster, frame.epoch, frame.revision)
        return
      case 'resync':
        this.#staging.delete(frame.cluster as ClusterId)
        if (frame.reason === 'policy' || frame.reason === 'selector') this.#viewTag = undefined
        // A watch from "now" holds no state: nothing follows, it simply continues after `to`.
        this.#set(frame.cluster, this.#now ? frame.to?.epoch : undefined, frame.to?.revision)
        return
      case 'bookmark': {
        const decoded = decodeCursor(frame.cursor)
        if (decoded.ok) this.#viewTag = decoded.cursor.viewTag
        for (const [name, at] of Object.entries(frame.clusters)) this.#move(name, at.epoch, at.revision)
        return
      }
      case 'cluster':
        if (frame.state === 'removed') {
          this.#staging.delete(frame.cluster as ClusterId)
          this.#set(frame.cluster, undefined, undefined)
        }
        return
      default:
        return
    }
  }

  /** What to resume with; undefined until a bookmark has named the view that is being sent. */
  cursor(): string | undefined {
    return this.#viewTag === undefined ? undefined : encodeCursor(this.#snapshot(this.#viewTag))
  }

  position(cluster: ClusterId): Position | undefined {
    return this.#positions.get(cluster)
  }

  #snapshot(viewTag: ViewTag): Cursor {
    return { viewTag, positions: this.#positions }
  }

  /** Forward within an epoch: a repeat changes nothing. Another epoch without a resync proves nothing: no position. */
  #move(cluster: string, epoch: string | undefined, revision: Revision | undefined): void {
    const held = this.#positions.get(cluster as ClusterId)
    if (held === undefined || revision === undefined) this.#set(cluster, epoch, revision)
    else if (held.epoch !== epoch) this.#set(cluster, undefined, undefined)
    else if (compareRevisions(revision, held.revision) > 0) this.#set(cluster, epoch, revision)
  }

  #set(cluster: string, epoch: string | undefined, revision: Revision | undefined): void {
    if (epoch === undefined || revision === undefined) this.#positions.delete(cluster as ClusterId)
    else this.#positions.set(cluster as ClusterId, { epoch: epoch as Epoch, revision })
  }
}
