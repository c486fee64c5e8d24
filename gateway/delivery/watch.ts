// One watch of one session: a channel, the clusters it follows, and a reader on each.
// Owns: which clusters belong to it, its answer (`watching`), and the vector its cursor is made of.
// Refuses: bytes on their way (reader.ts) and limits (subscriber.ts).

import { type Cursor, type CursorFailure, MAX_CURSOR_CLUSTERS } from '#protocol/cursor.ts'
import type { Outcome, WatchingFrame } from '#protocol/frames.ts'
import type { ClusterId } from '#protocol/subjects.ts'
import { shownState } from './activity.ts'
import { type Channel, viewMismatch } from './channel.ts'
import type { BookmarkCluster, Position } from './encoder.ts'
import type { Feed } from './feed.ts'
import type { ClusterSource } from './ports.ts'
import { type Burst, Reader } from './reader.ts'
import type { Effect, Start } from './reader-core.ts'
import type { Subscriber } from './subscriber.ts'

export type Begin = 'snapshot' | 'now' | Cursor
export type WatchRequest = {
  readonly id: string
  readonly clusters: '*' | readonly ClusterId[]
  readonly regions: readonly string[] | undefined
  readonly start: Begin
  readonly otherwise: 'snapshot' | 'now'
  /** Clusters the credential is narrowed to; undefined means all. */
  readonly narrowed: readonly string[] | undefined
}
export type { CursorFailure }

export class Watch {
  readonly request: WatchRequest
  readonly subscriber: Subscriber
  channel: Channel
  readonly readers = new Map<ClusterId, Reader>()
  #clusters: string | undefined

  constructor(request: WatchRequest, subscriber: Subscriber, channel: Channel) {
    this.request = request
    this.subscriber = subscriber
    this.channel = channel
    channel.watches.add(this)
  }

  get id(): string {
    return this.request.id
  }

  covers(source: ClusterSource): boolean {
    const { clusters, regions, narrowed } = this.request
    if (narrowed !== undefined && !narrowed.includes(source.cluster)) return false
    if (regions !== undefined && !regions.includes(source.region)) return false
    return clusters === '*' || clusters.includes(source.cluster)
  }

  /** Begins on each source and sends `watching`, then what the beginnings ask for. */
  open(feeds: readonly Feed[], now: number): void {
    const answers: Record<string, { outcome: Outcome; epoch?: string; revision?: Position['revision'] }> = {}
    const held: { readonly reader: Reader; readonly effects: readonly Effect[] }[] = []
    for (const feed of feeds.slice(0, MAX_CURSOR_CLUSTERS)) {
      const start = this.#start(feed.source.cluster)
      const reader = this.#add(feed, start.kind !== 'now')
      const { outcome, effects } = reader.prepare({ type: 'open', start, view: feed.view(), now })
      answers[feed.source.cluster] = { outcome, ...reader.start }
      held.push({ reader, effects })
    }
    // A cluster that is not there and one that is hidden get the same answer.
    const { clusters } = this.request
    if (clusters !== '*') for (const cluster of clusters) answers[cluster] ??= { outcome: 'denied' }
    this.subscriber.watching(this, answers satisfies WatchingFrame['clusters'])
    for (const { reader, effects } of held) {
      this.subscriber.resumed(answers[reader.feed.source.cluster]?.outcome ?? 'denied')
      reader.perform(effects)
    }
  }

  /** Leaves its channel for another one; the readers as they stood, live ones with all they are owed. */
  move(channel: Channel): ReadonlyMap<ClusterId, Reader> {
    const held = new Map(this.readers)
    this.channel.watches.delete(this)
    this.channel = channel
    channel.watches.add(this)
    return held
  }

  /** After {@link move}: `watching` again, and per cluster a shared difference where the reader was live, else a snapshot. */
  reopen(
    feeds: readonly { readonly feed: Feed; readonly held: Reader | undefined; readonly burst: Burst | undefined }[],
    now: number,
  ): void {
    const answers: Record<string, { outcome: Outcome; epoch?: string; revision?: Position['revision'] }> = {}
    for (const cluster of this.readers.keys()) answers[cluster] = { outcome: 'denied' }
    const next: (() => void)[] = []
    for (const { feed, held, burst } of feeds) {
      const { cluster } = feed.source
      const live = held?.state.kind === 'live'
      const from = held?.position
      this.drop(cluster)
      const reader = this.#add(feed, held?.holdsState ?? true)
      const resync = held === undefined ? undefined : { reason: 'policy' as const, from }
      const view = feed.view()
      answers[cluster] = { outcome: held === undefined ? 'snapshot' : 'resync', ...feed.head }
      next.push(() => {
        if (live) {
          feed.join(reader)
          reader.state = { kind: 'live' }
          reader.burst = burst
          const why = resync ?? { reason: 'policy' as const, from }
          reader.apply({ type: 'reset', resync: why, view, now, difference: burst !== undefined })
        } else {
          const kind = reader.holdsState ? 'snapshot' : 'now'
          const start: Start = resync === undefined ? { kind } : { kind, resync }
          reader.apply({ type: 'open', start, view, now })
        }
      })
    }
    for (const [cluster, answer] of Object.entries(answers)) {
      if (answer.outcome === 'denied') this.drop(cluster as ClusterId)
    }
    this.subscriber.watching(this, answers)
    for (const begin of next) begin()
  }

  /** A cluster that came later always begins with a snapshot. */
  offer(feed: Feed, now: number): void {
    if (this.readers.has(feed.source.cluster) || this.readers.size >= MAX_CURSOR_CLUSTERS) return
    this.#add(feed, true).apply({ type: 'open', start: { kind: 'snapshot' }, view: feed.view(), now })
  }

  drop(cluster: ClusterId): Feed | undefined {
    const reader = this.readers.get(cluster)
    if (reader === undefined) return undefined
    this.readers.delete(cluster)
    this.#clusters = undefined
    this.subscriber.forget(reader)
    reader.end()
    return reader.feed
  }

  end(): readonly Feed[] {
    this.channel.watches.delete(this)
    return [...this.readers.keys()].flatMap((cluster) => this.drop(cluster) ?? [])
  }

  /** Positions for the cursor; clusters without one are absent. */
  positions(): Map<ClusterId, Position> {
    const positions = new Map<ClusterId, Position>()
    for (const [cluster, reader] of this.readers) {
      const { position } = reader
      if (position !== undefined) positions.set(cluster, position)
    }
    return positions
  }

  bookmarkClusters(monotonic: number): Map<ClusterId, BookmarkCluster> {
    const listed = new Map<ClusterId, BookmarkCluster>()
    for (const [cluster, position] of this.positions()) {
      const { feed } = this.readers.get(cluster) as Reader
      const { status } = feed.source
      const ageMs = status.provenAt === undefined ? 0 : Math.max(0, monotonic - status.provenAt)
      listed.set(cluster, { ...position, state: shownState(status.state, feed.ctx.hideActivity), ageMs })
    }
    return listed
  }

  /** A name for "all clusters live and at their heads", equal for all watches it is true of; undefined when it is not. */
  standing(): string | undefined {
    if (this.#clusters === undefined) this.#clusters = [...this.readers.keys()].sort().join(' ')
    for (const reader of this.readers.values()) if (!reader.atHead) return undefined
    return this.#clusters
  }

  #add(feed: Feed, holdsState: boolean): Reader {
    const reader = new Reader(this.subscriber, feed, holdsState)
    this.readers.set(feed.source.cluster, reader)
    this.#clusters = undefined
    return reader
  }

  #start(cluster: ClusterId): Start {
    const { start, otherwise } = this.request
    if (start === 'snapshot' || start === 'now') return { kind: start }
    const position = start.positions.get(cluster)
    if (position === undefined) return { kind: otherwise }
    const mismatch = viewMismatch(start.viewTag, this.channel.viewTag)
    if (mismatch !== undefined) return { kind: 'snapshot', resync: { reason: mismatch, from: position } }
    return { kind: 'position', position }
  }
}
