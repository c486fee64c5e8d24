// Delivery as a whole: sources on one side, subscribers on the other, channels between them.
// Owns: opening and ending watches, clusters that come and go, the repair after a policy change, and the timers of this folder.
// Refuses: sockets, frames from clients, authentication. I7 holds because every cluster has its own hub and nothing crosses.

import { randomUUID } from 'node:crypto'
import { type Code, ErrorCode } from '#protocol/codes.ts'
import { MAX_CURSOR_CLUSTERS } from '#protocol/cursor.ts'
import type { ClusterStatus, ResyncReason } from '#protocol/frames.ts'
import type { ClusterId } from '#protocol/subjects.ts'
import type { PolicyClass } from '#policies/engine/types.ts'
import { shownState } from './activity.ts'
import { Bookmarks } from './bookmarks.ts'
import { type Channel, Channels, type ChannelSpec } from './channel.ts'
import { ClassesInUse } from './classes-in-use.ts'
import { ClusterHub } from './cluster-hub.ts'
import { CloudEventsEncoder } from './cloud-events.ts'
import { type Encoder, type FormatName, JsonEncoder } from './encoder.ts'
import { Fanout, type FanoutOptions } from './fanout.ts'
import { Feed, type FeedDeps } from './feed.ts'
import { FrameCache } from './frame-cache.ts'
import type { Outlet } from './outlet.ts'
import { policyBurst } from './policy-change.ts'
import type { PolicyView } from './policy-port.ts'
import type { ClusterSource, Sources } from './ports.ts'
import { Pump } from './pump.ts'
import { RateLimiter } from './rate-limiter.ts'
import type { Burst, Reader } from './reader.ts'
import { SnapshotChunks } from './snapshot-chunks.ts'
import { Subscriber, type SubscriberDeps } from './subscriber.ts'
import { Watch, type WatchRequest } from './watch.ts'

export interface DeliveryDeps {
  readonly sources: Sources
  readonly policy: () => PolicyView
  readonly now: () => number
  readonly monotonic: () => number
  readonly soon: (fn: () => void) => void
  readonly later: (fn: () => void, ms: number) => void
  readonly onStatus: (hub: ClusterHub, removed: boolean) => void
  readonly onResync: (cluster: ClusterId, reason: ResyncReason) => void
  readonly onOutcome: (outcome: string) => void
  readonly onError: (code: Code) => void
}

export type DeliveryOptions = FanoutOptions & {
  readonly maxTickBytes: number
  readonly maxValueBytes: number
  readonly frameCacheBytes: number
}

export type Refusal = { readonly code: Code; readonly message: string }

/** Of snapshot chunks kept for those who begin at the same position within a second. */
const SNAPSHOT_BYTES = 8 * 1024 * 1024

export class Delivery implements Disposable {
  readonly fanout: Fanout
  readonly pump: Pump
  readonly bookmarks: Bookmarks
  readonly channels = new Channels()
  readonly classes = new ClassesInUse()
  readonly frames: FrameCache
  readonly chunks = new SnapshotChunks(SNAPSHOT_BYTES)
  readonly #deps: DeliveryDeps
  readonly #options: DeliveryOptions
  readonly #hubs = new Map<ClusterId, ClusterHub>()
  readonly #encoders: Readonly<Record<FormatName, Encoder>>
  readonly #added: Disposable
  readonly #subscriberDeps: SubscriberDeps

  constructor(deps: DeliveryDeps, options: DeliveryOptions) {
    this.#deps = deps
    this.#options = options
    this.frames = new FrameCache(options.frameCacheBytes)
    this.fanout = new Fanout({ now: deps.monotonic, soon: deps.soon, later: deps.later }, options)
    this.pump = new Pump({ now: deps.monotonic, soon: deps.soon })
    this.bookmarks = new Bookmarks(deps)
    this.#encoders = {
      json: new JsonEncoder('websocket'),
      'event-stream': new JsonEncoder('event-stream'),
      cloudevents: new CloudEventsEncoder(randomUUID()),
    }
    this.#subscriberDeps = {
      monotonic: deps.monotonic,
      pump: (who) => this.pump.add(who),
      waiting: (reader, waits) => this.#waiting(reader, waits),
      onResync: deps.onResync,
      onOutcome: deps.onOutcome,
      onError: deps.onError,
      unnamed: (reader) => {
        const watch = reader.subscriber.watchOf(reader)
        if (watch !== undefined) this.bookmarks.rename(watch)
      },
    }
    for (const source of deps.sources.list()) this.#attach(source)
    this.#added = deps.sources.onAdded((source) => {
      const hub = this.#attach(source)
      deps.onStatus(hub, false)
      this.#offer(hub)
    })
  }

  get hubs(): ReadonlyMap<ClusterId, ClusterHub> {
    return this.#hubs
  }

  encoder(format: FormatName): Encoder {
    return this.#encoders[format]
  }

  subscribe(
    outlet: Outlet,
    format: FormatName,
    policyClass: PolicyClass,
    narrowed: readonly string[] | undefined,
  ): Subscriber {
    const subscriber = new Subscriber(outlet, this.#encoders[format], policyClass, narrowed, this.#subscriberDeps)
    subscriber.limiter = this.#limiter(policyClass, undefined)
    this.classes.begin(policyClass)
    return subscriber
  }

  /** Opens a watch and answers on the connection, or says why not. */
  open(
    subscriber: Subscriber,
    spec: Omit<ChannelSpec, 'policyClass' | 'format'>,
    request: WatchRequest,
  ): Refusal | undefined {
    if (subscriber.watches.has(request.id)) {
      return {
        code: ErrorCode.DuplicateWatch,
        message: `watch ${request.id} is open; unwatch it first or use another id`,
      }
    }
    const full: ChannelSpec = { ...spec, policyClass: subscriber.policyClass, format: subscriber.encoder.format }
    const channel = this.channels.open(full, this.#deps.policy(), this.#deps.now(), this.#deps.monotonic())
    for (const other of subscriber.watches.values()) {
      if (other.channel !== channel) continue
      const message = `watch ${other.id} has the same selector, mode and values on this connection; widen its clusters instead`
      return { code: ErrorCode.DuplicateChannel, message }
    }
    const watch = new Watch(request, subscriber, channel)
    const sources = this.#covered(watch)
    if (
      sources.length > MAX_CURSOR_CLUSTERS ||
      (request.clusters !== '*' && request.clusters.length > MAX_CURSOR_CLUSTERS)
    ) {
      this.#release(channel, watch.end())
      const message = `the watch would follow more than ${MAX_CURSOR_CLUSTERS} clusters; name fewer`
      return { code: ErrorCode.TooManyClusters, message }
    }
    subscriber.watches.set(request.id, watch)
    // The answer, its bookmark and what a reader near the head still lacks leave in one write: thousands may come at once.
    const { wire } = subscriber.outlet
    wire.cork()
    watch.open(
      sources.map((source) => this.#feed(channel, source)),
      this.#deps.monotonic(),
    )
    this.bookmarks.first(watch)
    subscriber.pumpNear()
    wire.uncork()
    return undefined
  }

  /** Ends a watch; its channel number, or undefined when there is none of this id. */
  unwatch(subscriber: Subscriber, id: string): number | undefined {
    const watch = subscriber.watches.get(id)
    if (watch === undefined) return undefined
    subscriber.watches.delete(id)
    this.#release(watch.channel, watch.end())
    return watch.channel.ch
  }

  end(subscriber: Subscriber): void {
    if (!subscriber.closed) this.classes.end(subscriber.policyClass)
    subscriber.closed = true
    this.pump.remove(subscriber)
    for (const id of Array.from(subscriber.watches.keys())) this.unwatch(subscriber, id)
  }

  /** Everything the subscriber is owed right now: gathered ticks, then a bookmark on every channel. */
  conclude(subscriber: Subscriber): void {
    for (const watch of subscriber.watches.values()) {
      for (const reader of watch.readers.values()) this.fanout.flush(reader.feed)
      this.bookmarks.last(watch)
    }
  }

  /** The subscriber belongs to another class, or its class means something else now. */
  reclass(subscriber: Subscriber, policyClass: PolicyClass, bursts: Map<Feed, Map<Feed, Burst | undefined>>): void {
    if (!subscriber.closed) {
      this.classes.begin(policyClass)
      this.classes.end(subscriber.policyClass)
    }
    subscriber.policyClass = policyClass
    subscriber.limiter = this.#limiter(policyClass, subscriber.limiter)
    for (const watch of subscriber.watches.values()) this.#rechannel(watch, policyClass, bursts)
  }

  /** What a subscriber may know of the clusters, for `welcome`. */
  clusters(subscriber: Subscriber): Record<string, ClusterStatus> {
    const shown: Record<string, ClusterStatus> = {}
    for (const { source } of this.#hubs.values()) {
      const status = this.statusFor(source, subscriber)
      if (status !== undefined) shown[source.cluster] = status
    }
    return shown
  }

  /** Undefined when the subscriber may not know of the cluster. */
  statusFor(source: ClusterSource, { policyClass, narrowed }: Subscriber): ClusterStatus | undefined {
    if (narrowed !== undefined && !narrowed.includes(source.cluster)) return undefined
    const decider = this.#deps.policy().decider(source.region, policyClass)
    if (decider.blind) return undefined
    const { state, epoch, revision, provenAt } = source.status
    return {
      region: source.region,
      state: shownState(state, decider.hideActivity),
      ...(epoch === undefined ? {} : { epoch }),
      ...(epoch === undefined || decider.hideActivity ? {} : { revision }),
      ...(provenAt === undefined ? {} : { ageMs: Math.max(0, Math.round(this.#deps.monotonic() - provenAt)) }),
    }
  }

  /** Housekeeping; call it about four times per second. */
  tick(): void {
    this.bookmarks.round(this.channels)
    this.pump.retry()
    this.chunks.expire(this.#deps.now())
    const now = this.#deps.monotonic()
    for (const hub of this.#hubs.values()) hub.sweep(now)
  }

  [Symbol.dispose](): void {
    this.#added[Symbol.dispose]()
    for (const hub of this.#hubs.values()) hub[Symbol.dispose]()
    this.#hubs.clear()
  }

  #attach(source: ClusterSource): ClusterHub {
    const hub = new ClusterHub(source, {
      fanout: this.fanout,
      monotonic: this.#deps.monotonic,
      onStatus: (which) => this.#deps.onStatus(which, false),
      onRemoved: (which) => this.#removed(which),
    })
    this.#hubs.set(source.cluster, hub)
    return hub
  }

  #removed(hub: ClusterHub): void {
    const { cluster } = hub.source
    if (this.#hubs.get(cluster) !== hub) return
    this.#hubs.delete(cluster)
    for (const channel of this.channels) {
      for (const watch of channel.watches) watch.drop(cluster)
      channel.feeds.delete(cluster)
    }
    hub[Symbol.dispose]()
    this.#deps.onStatus(hub, true)
  }

  #offer(hub: ClusterHub): void {
    const now = this.#deps.monotonic()
    for (const channel of this.channels) {
      if (channel.policy.decider(hub.source.region, channel.spec.policyClass).blind) continue
      for (const watch of channel.watches) {
        if (watch.covers(hub.source)) watch.offer(this.#feed(channel, hub.source), now)
      }
    }
  }

  #covered(watch: Watch): ClusterSource[] {
    const { policy, spec } = watch.channel
    return [...this.#hubs.values()]
      .map((hub) => hub.source)
      .filter((source) => watch.covers(source) && !policy.decider(source.region, spec.policyClass).blind)
  }

  #feed(channel: Channel, source: ClusterSource): Feed {
    const known = channel.feeds.get(source.cluster)
    if (known !== undefined) return known
    const { spec, policy, ch, viewTag } = channel
    const decider = policy.decider(source.region, spec.policyClass)
    const { cluster, region } = source
    const { maxValueBytes } = this.#options
    const ctx = { ch, cluster, region, values: spec.values, viewTag, hideActivity: decider.hideActivity, maxValueBytes }
    const deps: FeedDeps = {
      encoder: this.#encoders[spec.format],
      frames: this.frames,
      chunks: this.chunks,
      maxTickBytes: this.#options.maxTickBytes,
      now: this.#deps.now,
      dirty: (feed) => this.fanout.mark(feed),
      undecidable: (feed) => this.#hubs.get(cluster)?.undecidable(feed),
    }
    const feed = new Feed(source, spec.range, ctx, spec.mode === 'state', decider, deps)
    channel.feeds.set(cluster, feed)
    this.#hubs.get(cluster)?.add(feed)
    return feed
  }

  /** Feeds nobody reads and channels nobody watches are forgotten. */
  #release(channel: Channel, feeds: readonly Feed[]): void {
    for (const feed of feeds) {
      if (feed.readers.size > 0) continue
      channel.feeds.delete(feed.source.cluster)
      this.#hubs.get(feed.source.cluster)?.remove(feed)
    }
    this.channels.release(channel)
  }

  #rechannel(watch: Watch, policyClass: PolicyClass, bursts: Map<Feed, Map<Feed, Burst | undefined>>): void {
    const old = watch.channel
    const spec = { ...old.spec, policyClass }
    const channel = this.channels.open(spec, this.#deps.policy(), this.#deps.now(), this.#deps.monotonic())
    if (channel === old) return
    const held = watch.move(channel)
    const feeds = this.#covered(watch).map((source) => {
      const feed = this.#feed(channel, source)
      const reader = held.get(source.cluster)
      if (reader !== undefined) this.fanout.flush(reader.feed)
      return { feed, held: reader, burst: reader === undefined ? undefined : burstBetween(bursts, reader.feed, feed) }
    })
    watch.reopen(feeds, this.#deps.monotonic())
    this.bookmarks.first(watch)
    this.#release(
      old,
      [...held.values()].map((reader) => reader.feed),
    )
  }

  #waiting(reader: Reader, waits: boolean): void {
    const hub = this.#hubs.get(reader.feed.source.cluster)
    if (waits) hub?.waiting.add(reader)
    else hub?.waiting.delete(reader)
  }

  #limiter(policyClass: PolicyClass, before: RateLimiter | undefined): RateLimiter | undefined {
    const policy = this.#deps.policy()
    let events: number | undefined
    let bytes: number | undefined
    for (const region of policy.regions) {
      const { limits } = policy.decider(region, policyClass)
      events = least(events, limits.eventsPerSecond)
      bytes = least(bytes, limits.bytesPerSecond)
    }
    if (events === undefined && bytes === undefined) return undefined
    const limits = {
      ...(events === undefined ? {} : { eventsPerSecond: events }),
      ...(bytes === undefined ? {} : { bytesPerSecond: bytes }),
    }
    return new RateLimiter(limits, this.#deps.monotonic(), before)
  }
}

const least = (a: number | undefined, b: number | undefined): number | undefined =>
  a === undefined ? b : b === undefined ? a : Math.min(a, b)

function burstBetween(bursts: Map<Feed, Map<Feed, Burst | undefined>>, before: Feed, after: Feed): Burst | undefined {
  let known = bursts.get(before)
  if (known === undefined) bursts.set(before, (known = new Map()))
  if (!known.has(after)) known.set(after, policyBurst(before, after))
  return known.get(after)
}
