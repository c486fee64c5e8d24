// The hub of one channel on one cluster: what its live readers get, encoded once.
// Owns: the frames not yet delivered (ticks), the live readers, and the class's decisions on this cluster.
// Refuses: when to write (fanout.ts) and what happens to readers that are not live (reader.ts).
//
// A live reader has got every tick up to its `seq`. Ticks are closed at `maxTickBytes`, so that one write stays small.

import type { KeyRange } from '#protocol/decode.ts'
import { addRevision, maxRevision, REVISION_ZERO, type Revision } from '#protocol/revision.ts'
import type { DeliverDecider } from '#policies/engine/types.ts'
import type { EncodeContext, Encoder, Position } from './encoder.ts'
import type { Frame, FrameCache } from './frame-cache.ts'
import { joinFrames } from './frame-writer.ts'
import { decideChange, type Visible } from './policy-port.ts'
import type { ClusterSource, ReplayedRevision, RingEvent, RingRevision } from './ports.ts'
import type { Reader } from './reader.ts'
import type { View } from './reader-core.ts'
import type { SnapshotChunks } from './snapshot-chunks.ts'

export type Tick = {
  readonly seq: number
  /** Ring index of its first revision. */
  readonly from: number
  /** Where a reader stands that got everything before this tick. */
  readonly before: Position
  /** Its newest revision. */
  readonly through: Revision
  readonly bytes: Buffer
  readonly events: number
  readonly frames: number
  /** Monotonic ms at which its oldest revision entered the ring, and wall clock ms at which its agent appended it. */
  readonly arrivedAt: number
  readonly agentAtMs: number
}

export interface FeedDeps {
  readonly encoder: Encoder
  readonly frames: FrameCache
  readonly chunks: SnapshotChunks
  readonly maxTickBytes: number
  readonly now: () => number
  /** The feed has something to deliver. */
  readonly dirty: (feed: Feed) => void
  /** A change could not be decided: its readers need a snapshot. */
  readonly undecidable: (feed: Feed) => void
}

export type Encoded = Frame | undefined | 'unknown'

export class Feed {
  readonly source: ClusterSource
  readonly range: KeyRange
  readonly deps: FeedDeps
  readonly ctx: EncodeContext
  /** Readers that catch up get net differences instead of every revision. */
  readonly conflates: boolean
  decider: DeliverDecider
  /** Wall clock ms of its beginning: no legal basis it rests on lapses in its life, so this is a time its decisions hold at. */
  readonly since: number
  readonly readers = new Set<Reader>()
  readonly live: Reader[] = []
  /** Encoded revisions by ring index, bounded by the FrameCache. */
  readonly frames = new Map<number, Frame>()
  /** Sequence number of the newest closed tick. */
  seq = 0
  /** Closed ticks that some live reader may not have got. */
  outgoing: Tick[] = []
  /** For the fan-out: waiting in its queue; ms spent on the pass under way; monotonic ms before which no new one starts. */
  queued = false
  spent = 0
  notBefore = 0
  /** For the cluster hub: ring index last matched, and its events in range. */
  stamp = -1
  readonly batch: RingEvent[] = []
  /** Newest revision with something visible; all that a class without activity may know. */
  lastVisible: Revision
  /** `lastVisible` is known (always, for classes that may know of activity). */
  surveyed: boolean
  #pending: Buffer[] = []
  #pendingBytes = 0
  #pendingEvents = 0
  #pendingFrom = 0
  #pendingBefore: Position | undefined
  #pendingThrough: Revision = REVISION_ZERO
  #pendingSince = 0
  #pendingAgentAt = 0

  constructor(
    source: ClusterSource,
    range: KeyRange,
    ctx: EncodeContext,
    conflates: boolean,
    decider: DeliverDecider,
    deps: FeedDeps,
  ) {
    this.source = source
    this.conflates = conflates
    this.range = range
    this.ctx = ctx
    this.decider = decider
    this.deps = deps
    this.since = deps.now()
    this.lastVisible = REVISION_ZERO
    this.surveyed = !ctx.hideActivity
  }

  /** Where the class stands when it has got everything. */
  get head(): Position | undefined {
    const { epoch, revision } = this.source.status
    if (epoch === undefined) return undefined
    return { epoch, revision: this.ctx.hideActivity ? this.lastVisible : revision }
  }

  view(): View {
    const { source } = this
    return {
      ready: source.ready && this.surveyed,
      nextIndex: source.nextIndex,
      head: this.head,
      // Who may hold what policy took back starts over: fails closed.
      locate: (position) =>
        source.ambiguous?.(position) === true ? { kind: 'resync', reason: 'policy' } : source.locate(position),
    }
  }

  /** A new continuity: what was gathered and remembered belongs to the old one. */
  restart(): void {
    this.frames.clear()
    if (!this.ctx.hideActivity) return
    this.lastVisible = REVISION_ZERO
    this.surveyed = false
  }

  /** One ring revision with events in range. Costs nothing while nobody is live: the others read the ring themselves. */
  take(revision: RingRevision, events: readonly RingEvent[]): void {
    if (this.live.length === 0) {
      // Still decided for a class whose head is its last visible revision.
      if (this.ctx.hideActivity && this.#changes(revision, events).length > 0) this.lastVisible = revision.revision
      return
    }
    const before: Position = {
      epoch: revision.epoch,
      revision: this.ctx.hideActivity ? this.lastVisible : addRevision(revision.revision, -1),
    }
    const encoded = this.#encode(revision, events)
    if (encoded === 'unknown') return this.deps.undecidable(this)
    if (encoded === undefined) return
    this.deps.frames.put(this, revision.index, encoded)
    if (this.#pendingBytes + encoded.frame.length > this.deps.maxTickBytes) this.close()
    if (this.#pending.length === 0) {
      this.#pendingFrom = revision.index
      this.#pendingBefore = before
      this.#pendingSince = revision.arrivedAt
      this.#pendingAgentAt = revision.agentAtMs
    }
    this.#pendingThrough = revision.revision
    this.#pending.push(encoded.frame)
    this.#pendingBytes += encoded.frame.length
    this.#pendingEvents += encoded.events
    this.deps.dirty(this)
  }

  /** The wire form of a ring revision, from the cache or anew; undefined when nothing in it is visible. */
  frameAt(revision: RingRevision): Encoded {
    const cached = this.frames.get(revision.index)
    if (cached !== undefined) return cached
    const events = revision.events.filter((event) => this.wants(event))
    if (events.length === 0) return undefined
    const encoded = this.#encode(revision, events)
    if (encoded !== undefined && encoded !== 'unknown') this.deps.frames.put(this, revision.index, encoded)
    return encoded
  }

  /** Revisions from the log know no prior; what hinges on it is 'unknown'. */
  encodeReplayed(revision: ReplayedRevision): Encoded {
    const changes: Visible[] = []
    const now = this.deps.now()
    for (const event of revision.events) {
      if (!this.wants(event)) continue
      const change = decideChange(this.decider, event, now, false)
      if (change === 'unknown') return 'unknown'
      if (change !== undefined && this.holds(change)) changes.push(change)
    }
    if (changes.length === 0) return undefined
    // A deletion leaves nothing that a survey could find, and here it is known to be visible.
    if (this.ctx.hideActivity && revision.epoch === this.source.status.epoch)
      this.lastVisible = maxRevision(this.lastVisible, revision.revision)
    return { frame: this.deps.encoder.events(this.ctx, revision, changes, revision.agentAtMs), events: changes.length }
  }

  /** Whether an event can matter: keys are renamed per class only by policy, which then looks at all of them. */
  wants(event: RingEvent): boolean {
    return this.movesKeys || inRange(this.range, event.key)
  }

  holds(change: Visible): boolean {
    return !this.movesKeys || inRange(this.range, change.key)
  }

  get movesKeys(): boolean {
    return this.decider.movesKeys
  }

  /** What to index and to scan: everything when keys are renamed, for their place as delivered is not their place here. */
  get scanRange(): KeyRange {
    return this.movesKeys ? EVERYTHING : this.range
  }

  /** Frames wait to be closed into a tick. */
  get gathering(): boolean {
    return this.#pending.length > 0
  }

  /** Closes the tick being gathered, if any. */
  close(): void {
    if (this.#pending.length === 0) return
    this.seq++
    this.outgoing.push({
      seq: this.seq,
      from: this.#pendingFrom,
      before: this.#pendingBefore as Position,
      through: this.#pendingThrough,
      bytes: joinFrames(this.#pending),
      events: this.#pendingEvents,
      frames: this.#pending.length,
      arrivedAt: this.#pendingSince,
      agentAtMs: this.#pendingAgentAt,
    })
    this.#pending = []
    this.#pendingBytes = 0
    this.#pendingEvents = 0
  }

  /** Takes a caught-up reader in: it has everything up to the newest ring revision. */
  join(reader: Reader): void {
    this.close()
    reader.seq = this.seq
    reader.slot = this.live.length
    this.live.push(reader)
  }

  leave(reader: Reader): void {
    const last = this.live.pop()
    if (last === undefined) return
    if (last !== reader) {
      this.live[reader.slot] = last
      last.slot = reader.slot
    }
    reader.slot = -1
  }

  /** What a live reader has got for certain. */
  positionOfLive(reader: Reader): Position | undefined {
    const next = this.outgoing.find((tick) => tick.seq === reader.seq + 1)
    if (next !== undefined) return next.before
    return this.#pending.length > 0 ? this.#pendingBefore : this.head
  }

  #encode(revision: RingRevision, events: readonly RingEvent[]): Encoded {
    const changes = this.#changes(revision, events)
    if (changes.length === 0) return undefined
    this.lastVisible = maxRevision(this.lastVisible, revision.revision)
    return { frame: this.deps.encoder.events(this.ctx, revision, changes, revision.agentAtMs), events: changes.length }
  }

  #changes(_revision: RingRevision, events: readonly RingEvent[]): Visible[] {
    const changes: Visible[] = []
    const now = this.deps.now()
    for (const event of events) {
      const change = decideChange(this.decider, event, now, true)
      if (change === 'unknown') {
        this.deps.undecidable(this)
        continue
      }
      if (change !== undefined && this.holds(change)) changes.push(change)
    }
    return changes
  }
}

const EVERYTHING: KeyRange = { from: '' as KeyRange['from'], to: undefined }

export const inRange = (range: KeyRange, key: KeyRange['from']): boolean =>
  key >= range.from && (range.to === undefined || key < range.to)
