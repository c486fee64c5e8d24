// One watch's frames, folded into changes.
// Owns: continuity per cluster, staging until a snapshot's end, the duplicates a reconnect may bring, and noticing a
// gateway that breaks the protocol. Refuses: sockets, time and the consumer's queue.
//
// Per cluster:  unknown -> owed -> staging -> at <-> staging
//                  \________ live, resumed ____/    owed: a resync, an interrupted snapshot, or a wait for a late gateway
// Whatever does not fit is a violation: the caller asks again from the position without that cluster (see `broken`).

import { decodeCursor, type Position } from '../../protocol/cursor.ts'
import type {
  BookmarkFrame,
  ClusterFrame,
  EventsFrame,
  ResyncFrame,
  ScopeFrame,
  SnapshotFrame,
  StateFrame,
  WatchingFrame,
} from '../../protocol/frames.ts'
import type { ClusterId } from '../../protocol/subjects.ts'
import type { Beginning, Bookmarked, Break, Change } from './changes.ts'
import {
  breakBetween,
  type Continuity,
  emptyStage,
  heldBy,
  isAtOrAfter,
  isRepairable,
  isSame,
  mayGoOn,
  stage,
  unstage,
} from './continuity.ts'
import { clusterOf, itemsOf, keyEventsOf, namedOf, positionOf, Violation } from './reading.ts'
import { dropTold, type Folded, resyncTold, silently, stateTold } from './telling.ts'
import type { Advance } from './vector.ts'

/** Frames that concern one watch. */
export type WatchFrames =
  | WatchingFrame
  | SnapshotFrame
  | EventsFrame
  | StateFrame
  | BookmarkFrame
  | ResyncFrame
  | ScopeFrame
  | ClusterFrame

const NOTHING: readonly Folded[] = []
const NO_TAG: Advance = { kind: 'tag', viewTag: undefined }

export class WatchFold {
  readonly #clusters = new Map<ClusterId, Continuity>()
  readonly #maxStaged: number
  /** Clusters that began at "now": they hold no state, and go on after a resync without a snapshot. */
  readonly #stateless = new Set<ClusterId>()
  /** How clusters without a position begin, until the first answer; undefined after it. */
  #asked: 'snapshot' | 'now' | undefined
  #duplicates = 0

  /** `maxStaged`: the largest snapshot or difference, in characters of its frames. */
  constructor(maxStaged: number, positions?: ReadonlyMap<ClusterId, Position>) {
    this.#maxStaged = maxStaged
    for (const [cluster, position] of positions ?? []) this.#clusters.set(cluster, { kind: 'at', position })
  }

  /** Revisions that came again after a reconnect and were dropped. */
  get duplicates(): number {
    return this.#duplicates
  }

  clusters(): readonly ClusterId[] {
    return [...this.#clusters.keys()]
  }

  /** True while a snapshot is half received. */
  get staging(): boolean {
    for (const c of this.#clusters.values()) if (c.kind === 'staging') return true
    return false
  }

  /** The watch is asked for; clusters that its cursor does not name begin by `otherwise`. */
  asked(otherwise: 'snapshot' | 'now'): void {
    this.#asked = otherwise
    this.#stateless.clear()
  }

  /** The connection or the watch on it ended: half of a snapshot is worth nothing. */
  interrupt(): void {
    for (const [cluster, c] of this.#clusters) {
      if (c.kind === 'at') this.#clusters.set(cluster, { kind: 'at', position: c.position })
      else if (c.kind === 'staging' || c.why === 'resync') {
        this.#owe(cluster, 'lost', c.held)
      }
    }
  }

  /** Throws {@link Violation}; then call {@link broken} and ask for the watch again. */
  accept(frame: WatchFrames, size: number): readonly Folded[] {
    if (frame.type === 'watching') return this.#watching(frame)
    if (frame.type === 'bookmark') return this.#bookmark(frame, size)
    const cluster = clusterOf(frame.cluster)
    const now = this.#clusters.get(cluster)
    switch (frame.type) {
      case 'snapshot':
        return this.#snapshot(frame, size, cluster, now)
      case 'events':
        return this.#events(frame, size, cluster, now)
      case 'state':
        return this.#state(frame, size, cluster, now)
      case 'resync':
        return this.#resync(frame, cluster, now)
      case 'scope': {
        const left = namedOf(frame.left, frame.leftBase64, cluster)
        if (now?.kind === 'staging') unstage(now.stage, left)
        return [{ change: { kind: 'scope', cluster, left }, advances: [], size }]
      }
      case 'cluster':
        if (frame.state !== 'removed') return [stateTold(cluster, frame, size)]
        return now === undefined ? NOTHING : [this.#drop(cluster, 'removed', frame)]
      default:
        return frame satisfies never
    }
  }

  /** Gives up continuity in one cluster after a violation. The change says so; a snapshot must follow. */
  broken(cluster: ClusterId): Folded {
    return this.#breakOff(cluster, 'violation', this.#clusters.get(cluster), undefined)
  }

  #watching(frame: WatchingFrame): readonly Folded[] {
    const asked = this.#asked
    this.#asked = undefined
    // A later answer means another view. Keeping the old tag would be wrong if policy were ever changed back.
    const out: Folded[] = asked === undefined ? [silently(NO_TAG)] : []
    for (const [name, beginning] of Object.entries(frame.clusters)) {
      const cluster = clusterOf(name)
      if (asked === 'now' && this.#clusters.get(cluster)?.kind !== 'at') this.#stateless.add(cluster)
      out.push(...this.#begins(cluster, beginning, asked !== undefined))
    }
    // What an earlier connection followed and this one does not name is not part of the watch any more.
    for (const cluster of this.#clusters.keys()) {
      if (!Object.hasOwn(frame.clusters, cluster)) out.push(this.#drop(cluster, 'removed'))
    }
    return out
  }

  /** `first`: the answer to asking; later ones follow a change of policy or token on a live stream. */
  #begins(cluster: ClusterId, { outcome, epoch, revision }: Beginning, first: boolean): readonly Folded[] {
    const before = this.#clusters.get(cluster)
    const held = heldBy(before)
    switch (outcome) {
      case 'live':
      case 'resumed': {
        const position = positionOf(cluster, epoch, revision)
        if (before !== undefined && !mayGoOn(before)) {
          throw new Violation('goes on without the snapshot it owes', cluster)
        }
        if (outcome === 'resumed') mustMatch(held, position, cluster)
        // A gateway may go back a little when it resumes; what it repeats is dropped as duplicates.
        const later = held !== undefined && isAtOrAfter(held, position) ? held : position
        const gap = outcome === 'live' && held !== undefined && later !== held
        const told = gap ? [this.#breakOff(cluster, breakBetween(held, position), before, position)] : NOTHING
        return [...told, silently(this.#at(cluster, later))]
      }
      case 'waiting':
        this.#owe(cluster, 'waiting', held)
        // What never began and holds no state is owed nothing: asked again, it begins at "now" again.
        return [silently({ kind: held === undefined && this.#stateless.has(cluster) ? 'dropped' : 'owed', cluster })]
      case 'snapshot':
      case 'resync':
        return [silently(this.#owe(cluster, !first && isRepairable(before) ? 'resync' : 'lost', held))]
      case 'denied':
        // Also told when nothing was held: whoever names a cluster wants to know that it is not served.
        return [this.#drop(cluster, 'denied')]
      default:
        throw new Violation('unknown outcome', cluster)
    }
  }

  #snapshot(frame: SnapshotFrame, size: number, cluster: ClusterId, now: Continuity | undefined): readonly Folded[] {
    if (frame.phase === 'begin') return this.#begin(frame, cluster, now)
    if (now?.kind !== 'staging') throw new Violation('snapshot without a begin', cluster)
    if (frame.phase === 'items') {
      stage(now.stage, itemsOf(frame.items, cluster), size, this.#maxStaged, cluster)
      return NOTHING
    }
    const { position, base, stage: staged, held } = now
    if (frame.revision !== position.revision) throw new Violation('snapshot ends elsewhere', cluster)
    const out: Folded[] = []
    // The consumer stood at `held` and nobody told it that the revisions from there on do not come one by one.
    if (held !== undefined && !isSame(held, position)) {
      out.push(this.#breakOff(cluster, breakBetween(held, position), now, position))
    }
    const change = { kind: 'snapshot', cluster, base, ...position, items: staged.items } as const
    out.push(this.#moved(change, cluster, position, size + staged.size))
    return out
  }

  #begin(
    frame: SnapshotFrame & { phase: 'begin' },
    cluster: ClusterId,
    now: Continuity | undefined,
  ): readonly Folded[] {
    const position = positionOf(cluster, frame.epoch, frame.revision)
    const { base } = frame
    // A difference needs a state to differ from, and only a live session has one.
    if (base === 'diff' && !isRepairable(now)) throw new Violation('a difference without a base', cluster)
    this.#stateless.delete(cluster)
    this.#clusters.set(cluster, {
      kind: 'staging',
      base,
      position,
      stage: emptyStage(),
      held: heldBy(now),
    })
    return [silently({ kind: 'owed', cluster })]
  }

  #events(frame: EventsFrame, size: number, cluster: ClusterId, now: Continuity | undefined): readonly Folded[] {
    const position = positionOf(cluster, frame.epoch, frame.revision)
    if (!this.#follows(cluster, now, position)) return NOTHING
    const events = keyEventsOf(frame.events, cluster)
    return [this.#moved({ kind: 'events', cluster, ...position, events }, cluster, position, size)]
  }

  #state(frame: StateFrame, size: number, cluster: ClusterId, before: Continuity | undefined): readonly Folded[] {
    const position = positionOf(cluster, frame.epoch, frame.revision)
    const from = positionOf(cluster, frame.epoch, frame.fromRevision)
    if (!this.#follows(cluster, before, position)) return NOTHING
    const held = heldBy(before)
    if (held !== undefined && !isAtOrAfter(held, from)) throw new Violation('skipped revisions', cluster)
    const open = before?.kind === 'at' ? before.difference : undefined
    if (open !== undefined && open.to.revision !== position.revision) {
      throw new Violation('difference ends elsewhere', cluster)
    }
    const difference = open ?? { ...emptyStage(), to: position }
    stage(difference, itemsOf(frame.items, cluster), size, this.#maxStaged, cluster)
    if (!frame.last) {
      const base = before?.kind === 'at' ? before.position : from
      this.#clusters.set(cluster, { kind: 'at', position: base, difference })
      return NOTHING
    }
    const { fromRevision } = frame
    const change = { kind: 'state', cluster, ...position, fromRevision, items: difference.items } as const
    return [this.#moved(change, cluster, position, difference.size)]
  }

  /** False for a revision that was already delivered; throws where continuity does not allow the next one. */
  #follows(cluster: ClusterId, now: Continuity | undefined, next: Position): boolean {
    if (!mayGoOn(now)) throw new Violation('no position to continue from', cluster)
    const held = heldBy(now)
    mustMatch(held, next, cluster)
    if (held === undefined || !isAtOrAfter(held, next)) return true
    this.#duplicates += 1
    return false
  }

  #bookmark(frame: BookmarkFrame, size: number): readonly Folded[] {
    const decoded = decodeCursor(frame.cursor)
    if (!decoded.ok) throw new Violation(`undecodable cursor (${decoded.reason})`)
    const advances: Advance[] = [{ kind: 'tag', viewTag: decoded.cursor.viewTag }]
    const clusters: Record<string, Bookmarked> = {}
    for (const [name, mark] of Object.entries(frame.clusters)) {
      const cluster = clusterOf(name)
      const position = positionOf(cluster, mark.epoch, mark.revision)
      const now = this.#clusters.get(cluster)
      // Only continuity that was established can be extended: no snapshot yet means nothing is proved to this consumer.
      if (!mayGoOn(now)) continue
      const held = heldBy(now)
      mustMatch(held, position, cluster)
      const later = held !== undefined && isAtOrAfter(held, position) ? held : position
      clusters[cluster] = { ...mark, ...later }
      // A wait is over once the gateway lists the cluster again.
      if (later === held && now?.kind === 'at') continue
      advances.push(this.#at(cluster, later))
    }
    return [{ change: { kind: 'bookmark', clusters }, advances, size }]
  }

  #resync(frame: ResyncFrame, cluster: ClusterId, now: Continuity | undefined): readonly Folded[] {
    if (frame.reason === 'removed') return [this.#drop(cluster, 'removed')]
    const to = frame.to === undefined ? undefined : positionOf(cluster, frame.to.epoch, frame.to.revision)
    const told = this.#breakOff(cluster, frame.reason, now, to, frame.from)
    const view = frame.reason === 'policy' || frame.reason === 'selector' ? [NO_TAG] : []
    const next = this.#stateless.has(cluster) && to !== undefined ? [this.#at(cluster, to)] : told.advances
    return [{ ...told, advances: [...view, ...next] }]
  }

  #breakOff(
    cluster: ClusterId,
    reason: Break,
    now: Continuity | undefined,
    to: Position | undefined,
    stated?: ResyncFrame['from'],
  ): Folded {
    const from = stated ?? heldBy(now)
    this.#owe(cluster, reason !== 'violation' && isRepairable(now) ? 'resync' : 'lost', undefined)
    return resyncTold(cluster, reason, from, to)
  }

  #at(cluster: ClusterId, position: Position): Advance {
    this.#clusters.set(cluster, { kind: 'at', position })
    return { kind: 'at', cluster, position }
  }

  #owe(cluster: ClusterId, why: 'resync' | 'lost' | 'waiting', held: Position | undefined): Advance {
    this.#clusters.set(cluster, { kind: 'owed', why, held })
    return { kind: 'owed', cluster }
  }

  #moved(change: Change, cluster: ClusterId, position: Position, size: number): Folded {
    return { change, advances: [this.#at(cluster, position)], size }
  }

  #drop(cluster: ClusterId, state: 'removed' | 'denied', frame?: ClusterFrame): Folded {
    this.#clusters.delete(cluster)
    return dropTold(cluster, state, frame)
  }
}

/** A position of another epoch has no order with this one: only a resync leads there. */
function mustMatch(held: Position | undefined, next: Position, cluster: ClusterId): void {
  if (held !== undefined && held.epoch !== next.epoch) throw new Violation('another epoch without a resync', cluster)
}
