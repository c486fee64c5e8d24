// The delivery side of one session: its watches, its connection's room, and the readers that have to catch up.
// Owns: fairness among its own readers, the class's rate limits, and the answers of delivery on this connection.
// Refuses: the handshake, authentication and liveness (gateway/session).

import type { ClusterId } from '#protocol/subjects.ts'
import { type Code, ErrorCode, errorLabel, isTemporary } from '#protocol/codes.ts'
import type { ResyncReason, ServerFrame, WatchingFrame } from '#protocol/frames.ts'
import type { PolicyClass } from '#policies/engine/types.ts'
import type { Encoder } from './encoder.ts'
import type { Tick } from './feed.ts'
import type { Outlet } from './outlet.ts'
import type { RateLimiter } from './rate-limiter.ts'
import type { Reader } from './reader.ts'
import type { Watch } from './watch.ts'

/** A frame about a cluster, as it would be said to the subscriber now; undefined when nothing is to be said. */
export type Notice = (subscriber: Subscriber) => Buffer | undefined

/** Between two errors that say the same of what goes on by itself. */
const TELL_MS = 10_000

export interface SubscriberDeps {
  readonly monotonic: () => number
  /** Asks for a turn of the pump. */
  readonly pump: (subscriber: Subscriber) => void
  readonly waiting: (reader: Reader, waits: boolean) => void
  readonly onResync: (cluster: ClusterId, reason: ResyncReason) => void
  readonly onOutcome: (outcome: string) => void
  /** An error frame was sent. */
  readonly onError: (code: Code) => void
  /** The client forgot which view it is being sent. */
  readonly unnamed: (reader: Reader) => void
}

/** Readers and ring revisions that may be served outside the pump's turns: work for microseconds. */
const NEAR_READERS = 4
const NEAR_REVISIONS = 64

export class Subscriber {
  readonly outlet: Outlet
  readonly encoder: Encoder
  policyClass: PolicyClass
  limiter: RateLimiter | undefined
  /** Clusters the credential is narrowed to; undefined means all that policy shows. */
  readonly narrowed: readonly string[] | undefined
  readonly watches = new Map<string, Watch>()
  /** In the pump's queue. */
  queued = false
  closed = false
  readonly #deps: SubscriberDeps
  /** Monotonic ms at which the class's rate was last told of. */
  #slowedAt = Number.NEGATIVE_INFINITY
  #active: Reader[] = []
  /** What a full connection was not told of clusters; made anew when there is room, so that only the newest is sent. */
  #owed: Map<ClusterId, Notice> | undefined

  constructor(
    outlet: Outlet,
    encoder: Encoder,
    policyClass: PolicyClass,
    narrowed: readonly string[] | undefined,
    deps: SubscriberDeps,
  ) {
    this.narrowed = narrowed
    this.outlet = outlet
    this.encoder = encoder
    this.policyClass = policyClass
    this.#deps = deps
  }

  monotonic(): number {
    return this.#deps.monotonic()
  }

  send(frame: ServerFrame): void {
    const bytes = this.encoder.frame(frame)
    if (bytes !== undefined) this.outlet.force(bytes)
  }

  /** Tells of a cluster now, or as soon as there is room; a later notice of the same cluster takes its place. */
  notify(cluster: ClusterId, bytes: Buffer, again: Notice): void {
    if (this.#owed === undefined && this.outlet.offer(bytes)) return
    this.#owed ??= new Map()
    this.#owed.delete(cluster)
    this.#owed.set(cluster, again)
    this.#deps.pump(this)
  }

  /** A live reader's tick: within rate and room, or it falls behind. */
  accepts(tick: Tick): boolean {
    const { limiter } = this
    if (limiter === undefined) return this.outlet.offer(tick.bytes)
    const { events, bytes, frames } = tick
    const now = this.monotonic()
    const allowed = frames === 1 ? limiter.take(events, bytes.length, now) : limiter.takeAll(events, bytes.length, now)
    if (!allowed) {
      // Several frames at once may be too many where one is not; that is no limit met yet.
      if (frames === 1) this.#slowed(limiter)
      return false
    }
    if (this.outlet.offer(bytes)) return true
    limiter.giveBack(events, bytes.length)
    return false
  }

  /** Whether the class's rate allows one more frame of catching up now. */
  paces(events: number, bytes: number): boolean {
    if (this.limiter === undefined || this.limiter.take(events, bytes, this.monotonic())) return true
    this.#slowed(this.limiter)
    return false
  }

  /** Writes what {@link paces} allowed; false when there was no room after all. */
  offerPaced(bytes: Buffer, events: number): boolean {
    if (this.outlet.offer(bytes)) return true
    this.limiter?.giveBack(events, bytes.length)
    return false
  }

  /** Readers that are on their way to live. */
  get catchingUp(): number {
    return this.#active.length
  }

  /** After every transition of a reader. */
  touched(reader: Reader): void {
    const { kind } = reader.state
    this.#deps.waiting(reader, kind === 'waiting')
    if (kind === 'snapshotting' || kind === 'behind' || kind === 'resyncing') this.wake(reader)
  }

  wake(reader: Reader): void {
    if (!reader.active) {
      reader.active = true
      this.#active.push(reader)
    }
    this.#deps.pump(this)
  }

  forget(reader: Reader): void {
    this.#deps.waiting(reader, false)
    if (!reader.active) return
    reader.active = false
    this.#active = this.#active.filter((other) => other !== reader)
  }

  /** The connection has room again. */
  drained(): void {
    if (this.#active.length > 0 || this.#owed !== undefined) this.#deps.pump(this)
  }

  /**
   * Up to `steps` steps, one reader after the other. 'again': more can be done now; 'full': waits for room or for the
   * rate; 'idle': nothing to do.
   */
  pump(steps: number): 'again' | 'full' | 'idle' {
    if (this.#owed !== undefined && !this.closed && !this.#pay(this.#owed)) return 'full'
    let stuck = 0
    for (let n = 0; n < steps; n++) {
      const reader = this.#active.shift()
      if (reader === undefined) return 'idle'
      if (this.closed) return 'idle'
      reader.active = false
      const result = reader.pump()
      if (result === 'idle') continue
      if (!reader.active && reader.slot < 0) {
        reader.active = true
        this.#active.push(reader)
      }
      stuck = result === 'full' ? stuck + 1 : 0
      if (stuck > 0 && stuck >= this.#active.length) return 'full'
    }
    return this.#active.length === 0 ? 'idle' : 'again'
  }

  /** A newcomer's first turn at once, where every reader lacks a few revisions at most; others wait for the pump. */
  pumpNear(): void {
    const readers = this.#active.length
    if (readers > 0 && readers <= NEAR_READERS && this.#active.every(isNear)) this.pump(readers)
  }

  watching(watch: Watch, clusters: WatchingFrame['clusters']): void {
    this.send({ type: 'watching', id: watch.id, ch: watch.channel.ch, clusters })
  }

  resumed(outcome: string): void {
    this.#deps.onOutcome(outcome)
  }

  resynced(reader: Reader, reason: ResyncReason): void {
    this.#deps.onResync(reader.feed.source.cluster, reason)
    if (reason === 'policy' || reason === 'selector') this.#deps.unnamed(reader)
  }

  /** A snapshot or a shared difference was sent whole. */
  repaired(reader: Reader): void {
    this.#deps.unnamed(reader)
  }

  watchOf(reader: Reader): Watch | undefined {
    const { cluster } = reader.feed.source
    for (const watch of this.watches.values()) if (watch.readers.get(cluster) === reader) return watch
    return undefined
  }

  /** Told now and then, not each time it is tried again. */
  busy(reader: Reader, what: 'snapshot' | 'replay'): void {
    const now = this.monotonic()
    if (now - reader.toldAt < TELL_MS) return
    reader.toldAt = now
    const code = what === 'snapshot' ? ErrorCode.SnapshotBusy : ErrorCode.ReplayBusy
    this.#error(code, `${code.text} for cluster ${reader.feed.source.cluster}; it is tried again`, this.watchOf(reader))
  }

  /** Catches up with the notices; false when there was no room for all. */
  #pay(owed: Map<ClusterId, Notice>): boolean {
    for (const [cluster, make] of owed) {
      const bytes = make(this)
      if (bytes !== undefined && !this.outlet.offer(bytes)) return false
      owed.delete(cluster)
    }
    this.#owed = undefined
    return true
  }

  #slowed({ limits }: RateLimiter): void {
    const now = this.monotonic()
    if (now - this.#slowedAt < TELL_MS) return
    this.#slowedAt = now
    const { eventsPerSecond, bytesPerSecond } = limits
    const rates = [
      ...(eventsPerSecond === undefined ? [] : [`${eventsPerSecond} events`]),
      ...(bytesPerSecond === undefined ? [] : [`${bytesPerSecond} bytes`]),
    ]
    const code = ErrorCode.RateLimited
    this.#error(code, `${code.text} of ${rates.join(' and ')} per second; delivery goes on at that rate`, undefined)
  }

  #error(code: Code, message: string, watch: Watch | undefined): void {
    this.#deps.onError(code)
    const frame = { type: 'error', code: errorLabel(code), message, temporary: isTemporary(code) } as const
    this.send(watch === undefined ? frame : { ...frame, id: watch.id })
  }
}

const isNear = ({ state, feed }: Reader): boolean =>
  state.kind === 'behind' && feed.source.nextIndex - state.index <= NEAR_REVISIONS
