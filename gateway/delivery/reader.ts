// One watch of one session on one cluster: carries out what the pure core decides.
// Owns: the current state, the reader's place among the live ones, and one step of catching up at a time.
// Refuses: deciding (reader-core.ts) and waiting: every step writes at most one chunk and returns.

import type { Outcome } from '#protocol/frames.ts'
import { conflateStep, ringStep, snapshotStep } from './catch-up.ts'
import type { Position } from './encoder.ts'
import type { Feed, Tick } from './feed.ts'
import { type Effect, type Input, positionOf, type ReaderState, startPosition, transition } from './reader-core.ts'
import { Replay } from './replay.ts'
import type { Subscriber } from './subscriber.ts'

/** A difference prepared once for all live readers of a feed. */
export type Burst = readonly Buffer[]
export type PumpResult = 'again' | 'full' | 'idle'

export class Reader {
  readonly subscriber: Subscriber
  readonly feed: Feed
  readonly holdsState: boolean
  state: ReaderState = { kind: 'removed' }
  /** Newest tick this reader got while live. */
  seq = 0
  /** Place in the feed's list of live readers; -1 when not live. */
  slot = -1
  /** Waiting in its subscriber's list of readers to pump. */
  active = false
  /** Bytes the next chunk is known to need; 0 when any room will do. */
  need = 0
  burst: Burst | undefined
  /** Monotonic ms at which the client was last told that it has to wait for a budget. */
  toldAt = Number.NEGATIVE_INFINITY
  #sent = 0
  #replay: Replay | undefined

  constructor(subscriber: Subscriber, feed: Feed, holdsState: boolean) {
    this.subscriber = subscriber
    this.feed = feed
    this.holdsState = holdsState
    feed.readers.add(this)
  }

  get position(): Position | undefined {
    return this.state.kind === 'live' ? this.feed.positionOfLive(this) : positionOf(this.state, undefined)
  }

  /** Live, with nothing under way. */
  get atHead(): boolean {
    return this.state.kind === 'live' && this.seq === this.feed.seq && !this.feed.gathering
  }

  get start(): Position | undefined {
    return this.state.kind === 'live' ? this.feed.head : startPosition(this.state)
  }

  /** Moves the state and returns what is to be done, for a caller that has a frame to send first. */
  prepare(input: Input): { readonly outcome: Outcome; readonly effects: readonly Effect[] } {
    const step = transition(this.state, input, this.holdsState)
    this.state = step.state
    return step
  }

  apply(input: Input): void {
    this.perform(this.prepare(input).effects)
  }

  perform(effects: readonly Effect[]): void {
    for (const effect of effects) this.#perform(effect)
    this.subscriber.touched(this)
  }

  /** The connection was full at this tick. */
  blocked(tick: Tick): void {
    this.need = tick.bytes.length
    this.apply({ type: 'blocked', index: tick.from, at: tick.before })
  }

  /** One step towards live. */
  pump(): PumpResult {
    switch (this.state.kind) {
      case 'snapshotting':
        return snapshotStep(this, this.state)
      case 'behind':
        return this.feed.conflates ? conflateStep(this, this.state) : ringStep(this, this.state)
      case 'resyncing':
        return this.#burstStep()
      case 'replaying':
        return this.#replay?.pump() ?? 'idle'
      default:
        return 'idle'
    }
  }

  /** Room for `need` bytes, or for a good part of a chunk; a single larger frame passes when nothing is in flight. */
  hasRoom(): boolean {
    const { outlet } = this.subscriber
    return outlet.hasRoom(this.need > 0 ? this.need : outlet.worthwhile)
  }

  end(): void {
    if (this.slot >= 0) this.feed.leave(this)
    this.#replay?.stop()
    this.#replay = undefined
    this.feed.readers.delete(this)
    this.state = { kind: 'removed' }
  }

  #burstStep(): PumpResult {
    const chunk = this.burst?.[this.#sent]
    if (chunk === undefined) {
      this.burst = undefined
      this.apply({ type: 'difference-end' })
      this.subscriber.repaired(this)
      return 'again'
    }
    if (!this.subscriber.outlet.offer(chunk)) {
      this.need = chunk.length
      return 'full'
    }
    this.need = 0
    this.#sent++
    return 'again'
  }

  #perform(effect: Effect): void {
    const { feed, subscriber } = this
    const { encoder } = feed.deps
    switch (effect.do) {
      case 'resync':
        subscriber.resynced(this, effect.resync.reason)
        subscriber.outlet.force(encoder.resync(feed.ctx, effect.resync.reason, effect.resync.from, effect.to))
        return
      case 'begin':
        this.need = 0
        subscriber.outlet.force(encoder.snapshotBegin(feed.ctx, 'full', effect.at))
        return
      case 'end':
        subscriber.outlet.force(encoder.snapshotEnd(feed.ctx, effect.at))
        subscriber.repaired(this)
        return
      case 'join':
        feed.join(this)
        return
      case 'leave':
        feed.leave(this)
        return
      case 'replay':
        this.#replay?.stop()
        this.#replay = new Replay(this, effect)
        return
      case 'stop-replay':
        this.#replay?.stop()
        this.#replay = undefined
        return
      case 'difference':
        this.#sent = 0
        this.need = 0
        return
      case 'busy':
        subscriber.busy(this, effect.what)
        return
      default: {
        const unknown: never = effect
        return unknown
      }
    }
  }
}
