// Everything delivery knows of one cluster: who wants which keys, and what to do when the source speaks.
// Owns: the interest index, the feeds of this cluster, and the reaction to each source event.
// Refuses: other clusters (I7: nothing here waits for, or touches, another hub).

import type { Difference, ClusterSource, RingEvent, SourceEvent } from './ports.ts'
import { maxRevision } from '#protocol/revision.ts'
import { visibleHead } from './activity.ts'
import type { Fanout } from './fanout.ts'
import type { Feed } from './feed.ts'
import { InterestIndex } from './interest.ts'
import type { Reader } from './reader.ts'
import type { Resync } from './reader-core.ts'
import { differenceBurst } from './difference.ts'

export interface ClusterHubDeps {
  readonly fanout: Fanout
  readonly monotonic: () => number
  /** The cluster's visible state changed. */
  readonly onStatus: (hub: ClusterHub) => void
  readonly onRemoved: (hub: ClusterHub) => void
}

export class ClusterHub implements Disposable {
  readonly source: ClusterSource
  readonly feeds = new Set<Feed>()
  /** Readers that look again whenever the source moves. */
  readonly waiting = new Set<Reader>()
  /** Events that found somebody, and all events. */
  matched = 0
  events = 0
  readonly #deps: ClusterHubDeps
  readonly #interest = new InterestIndex<Feed>()
  readonly #subscription: Disposable
  readonly #hit: Feed[] = []
  readonly #undecided = new Set<Feed>()
  readonly #surveys = new Set<Feed>()

  constructor(source: ClusterSource, deps: ClusterHubDeps) {
    this.source = source
    this.#deps = deps
    this.#subscription = source.listen((event) => this.#on(event))
  }

  add(feed: Feed): void {
    this.feeds.add(feed)
    this.#interest.add(feed.scanRange, feed)
    this.#survey(feed)
  }

  remove(feed: Feed): void {
    this.feeds.delete(feed)
    this.#interest.remove(feed.scanRange, feed)
  }

  /** Readers whose time to wait is over. */
  sweep(now: number): void {
    for (const reader of Array.from(this.waiting)) {
      const { state } = reader
      if (state.kind === 'waiting' && state.until !== undefined && now >= state.until) {
        reader.apply({ type: 'deadline', view: reader.feed.view(), now })
      }
    }
  }

  /** Every reader of a feed starts over, because a change could not be decided for its class. */
  undecidable(feed: Feed): void {
    this.#undecided.add(feed)
    queueMicrotask(() => this.#restartUndecided())
  }

  [Symbol.dispose](): void {
    this.#subscription[Symbol.dispose]()
  }

  #on(event: SourceEvent): void {
    switch (event.kind) {
      case 'revisions':
        for (let index = event.first; index <= event.last; index++) this.#revision(index)
        this.#wakeWaiting()
        return
      case 'proven':
        this.#wakeWaiting()
        return
      case 'status':
        this.#deps.onStatus(this)
        for (const feed of this.feeds) this.#survey(feed)
        this.#wakeWaiting()
        return
      case 'reset':
        this.#reset({ reason: event.reason, from: event.from }, event.differences)
        this.#deps.onStatus(this)
        return
      case 'removed':
        this.#deps.onRemoved(this)
        return
      default: {
        const unknown: never = event
        return unknown
      }
    }
  }

  #revision(index: number): void {
    const revision = this.source.at(index)
    // Trimmed before it could be told: live readers fall behind it and find out by themselves.
    if (revision === undefined) return this.#lose(index)
    this.events += revision.events.length
    const hit = this.#hit
    for (const event of revision.events) this.#match(event, index)
    for (const feed of hit) {
      feed.take(revision, feed.batch)
      feed.batch.length = 0
    }
    this.matched += hit.length
    hit.length = 0
  }

  #match(event: RingEvent, index: number): void {
    const hit = this.#hit
    this.#interest.match(event.key, (feed) => {
      if (feed.stamp !== index) {
        feed.stamp = index
        hit.push(feed)
      }
      feed.batch.push(event)
    })
  }

  #lose(index: number): void {
    const { epoch, revision } = this.source.status
    if (epoch === undefined) return
    for (const feed of this.feeds) {
      this.#deps.fanout.flush(feed)
      for (const reader of Array.from(feed.live)) {
        reader.apply({ type: 'blocked', index, at: feed.positionOfLive(reader) ?? { epoch, revision } })
      }
    }
  }

  /** Finds where a class stands that must not learn of hidden activity; its readers wait for it. */
  #survey(feed: Feed): void {
    const { source } = this
    if (feed.surveyed || !source.ready || this.#surveys.has(feed)) return
    const { epoch } = source.status
    this.#surveys.add(feed)
    const { decider, range } = feed
    void visibleHead(source, { decider, range, now: feed.deps.now() }).then((revision) => {
      this.#surveys.delete(feed)
      if (!this.feeds.has(feed)) return
      if (source.status.epoch !== epoch) return this.#survey(feed)
      feed.lastVisible = maxRevision(feed.lastVisible, revision)
      feed.surveyed = true
      this.#wakeWaiting()
    })
  }

  #wakeWaiting(): void {
    if (this.waiting.size === 0) return
    const now = this.#deps.monotonic()
    for (const reader of Array.from(this.waiting)) reader.apply({ type: 'source', view: reader.feed.view(), now })
  }

  #reset(resync: Resync, differences: readonly Difference[] | undefined): void {
    const now = this.#deps.monotonic()
    for (const feed of this.feeds) {
      // What was gathered belongs to the old continuity and is still true of it.
      this.#deps.fanout.flush(feed)
      feed.deps.chunks.forget(feed)
      feed.restart()
      this.#survey(feed)
      const to = feed.head
      const burst =
        differences === undefined || to === undefined || feed.live.length === 0 || !feed.surveyed
          ? undefined
          : differenceBurst(feed, resync, to, differences)
      const view = feed.view()
      for (const reader of Array.from(feed.readers)) {
        reader.burst = burst
        reader.apply({ type: 'reset', resync, view, now, difference: burst !== undefined })
      }
    }
  }

  #restartUndecided(): void {
    const feeds = [...this.#undecided]
    this.#undecided.clear()
    for (const feed of feeds) {
      this.#deps.fanout.flush(feed)
      const from = feed.head
      const view = feed.view()
      const now = this.#deps.monotonic()
      for (const reader of Array.from(feed.readers)) {
        reader.apply({ type: 'reset', resync: { reason: 'policy', from }, view, now, difference: false })
      }
    }
  }
}
