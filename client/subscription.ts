// One watch on one connection: asking, resting, asking again.
// Owns: the ask states, feeding frames to the fold, and repairing a violation without touching other watches.
// Refuses: the socket (link.ts), which connection it is (lanes.ts) and what becomes of changes (the sink).

import type { Cursor } from '../protocol/cursor.ts'
import type { ClientFrame, ErrorFrame, WatchFrame } from '../protocol/frames.ts'
import type { ClusterId } from '../protocol/subjects.ts'
import type { Context } from './context.ts'
import { retryDelay } from './core/backoff.ts'
import type { Beginning } from './core/changes.ts'
import { WatchFold, type WatchFrames } from './core/fold.ts'
import { Violation } from './core/reading.ts'
import type { Folded } from './core/telling.ts'
import { PositionVector, type Start } from './core/vector.ts'
import { type Notice, Refused, WatchError } from './errors.ts'

/** Optional fields may be there and undefined: JSON leaves them out. */
type Loose<T> = T extends unknown
  ? { readonly [K in keyof T]: T[K] | (T extends Record<K, T[K]> ? never : undefined) }
  : never
export type Outgoing = Loose<ClientFrame>
export type WatchAsk = Loose<Omit<WatchFrame, 'type' | 'id' | 'start' | 'default'>>

/** What one watch hands its results to, synchronously. None of these may throw. */
export interface Sink {
  take(folded: Folded): void
  /** The gateway answered: how each cluster goes on. Called before anything of that answer is taken. */
  began?(clusters: Readonly<Record<string, Beginning>>): void
  ended(error: WatchError | undefined): void
}

/** The open connection, as a watch sees it. */
export interface Wire {
  send(frame: Outgoing): void
  /** Routes frames of this id and, once known, this channel to the watch. */
  bind(subscription: Subscription, id: string, ch: number | undefined): void
  unbind(subscription: Subscription): void
}

export type SubscriptionOptions = {
  readonly ask: WatchAsk
  readonly start: Start
  /** What `start` says, when it is a cursor. */
  readonly cursor: Cursor | undefined
  readonly name: string
  readonly context: Context
  /** Watch ids, unique over all connections of this client. */
  readonly newId: () => string
  /** Finds another connection for a watch this one cannot hold; false when there is none. */
  readonly move: (subscription: Subscription) => boolean
}

type Asked =
  | { readonly kind: 'detached' }
  | { readonly kind: 'asking'; readonly id: string }
  | { readonly kind: 'bound'; readonly id: string; readonly since: number }
  /** `unwatch` was sent; frames still on the way are not for us any more. */
  | { readonly kind: 'leaving'; readonly id: string; readonly waitMs: number }
  | { readonly kind: 'resting' }
  | { readonly kind: 'ended' }

export class Subscription {
  readonly options: SubscriptionOptions
  readonly vector: PositionVector
  readonly #fold: WatchFold
  readonly #sink: Sink
  #asked: Asked = { kind: 'detached' }
  #wire: Wire | undefined
  /** The consumer is full: do not ask before it has room. */
  #held = false
  #attempt = 0
  #cancelRetry: (() => void) | undefined

  constructor(options: SubscriptionOptions, sink: Sink) {
    this.options = options
    this.vector = new PositionVector(options.cursor)
    this.#fold = new WatchFold(options.context.maxSnapshot, options.cursor?.positions)
    this.#sink = sink
  }

  /** Revisions that came again after a reconnect and were dropped. */
  get duplicates(): number {
    return this.#fold.duplicates
  }
  /** True while a snapshot is half received. */
  get staging(): boolean {
    return this.#fold.staging
  }

  /** Whether cluster frames, which carry no channel, concern this watch. */
  follows(cluster: string, region: string | undefined): boolean {
    const { clusters, regions } = this.options.ask
    if (clusters !== undefined && clusters !== '*' && !clusters.includes(cluster)) return false
    return regions === undefined || region === undefined || regions.includes(region)
  }

  /** The connection is open and welcomed. */
  opened(wire: Wire): void {
    this.#wire = wire
    if (this.#asked.kind === 'ended') return
    this.#asked = { kind: 'resting' }
    this.#ask()
  }

  /** The connection is gone, or the watch moves to another one. */
  lost(): void {
    this.#wire = undefined
    this.#cancelRetry?.()
    this.#fold.interrupt()
    if (this.#asked.kind !== 'ended') this.#asked = { kind: 'detached' }
  }

  /** The consumer cannot take more. Everything up to the last change it was given counts as received. */
  hold(): void {
    if (this.#held) return
    this.#held = true
    this.#leave(0)
  }

  release(): void {
    if (!this.#held) return
    this.#held = false
    this.#ask()
  }

  end(error?: WatchError): void {
    if (this.#asked.kind === 'ended') return
    this.#leave(0)
    this.#wire?.unbind(this)
    this.#cancelRetry?.()
    this.#asked = { kind: 'ended' }
    this.#sink.ended(error)
  }

  frame(frame: WatchFrames, size: number): void {
    if (frame.type === 'watching') {
      if (this.#asked.kind !== 'asking' && this.#asked.kind !== 'bound') return
      this.#wire?.bind(this, frame.id, frame.ch)
      this.#asked = { kind: 'bound', id: frame.id, since: this.options.context.clock.now() }
      this.#sink.began?.(frame.clusters)
    }
    if (this.#asked.kind !== 'bound') return
    try {
      for (const folded of this.#fold.accept(frame, size)) this.#take(folded)
    } catch (error) {
      this.#repair(error)
    }
  }

  /** The gateway answered `unwatch`, or ended the watch by itself. */
  unwatched(): void {
    const asked = this.#asked
    if (asked.kind !== 'leaving' && asked.kind !== 'bound') return
    this.#wire?.unbind(this)
    this.#fold.interrupt()
    this.#asked = { kind: 'resting' }
    this.#askIn(asked.kind === 'leaving' ? asked.waitMs : this.#nextDelay())
  }

  refused(frame: ErrorFrame): void {
    const { code, message, temporary } = frame
    const error = new WatchError(code, message, temporary)
    if (this.#asked.kind === 'bound')
      return temporary ? this.#say('gateway-error', `${code}: ${message}`) : this.end(error)
    this.#wire?.unbind(this)
    this.#asked = { kind: 'resting' }
    // An equal watch of this application holds the channel, or the connection is full: another connection serves it.
    const full = code === Refused.DuplicateChannel || code === Refused.TooManyWatches
    if (full && this.options.move(this)) return
    if (temporary) return this.#askIn(this.#nextDelay())
    const own = this.vector.resume(this.options.start).start !== this.options.start.start
    if (code !== Refused.BadCursor || !own) return this.end(error)
    // A gateway of another version may not read a cursor that this client folded. A snapshot is always understood.
    this.#startOver(message, this.#fold.clusters())
    this.#askIn(this.#nextDelay())
  }

  #take(folded: Folded): void {
    this.vector.apply(folded.advances)
    if (this.#asked.kind !== 'ended') this.#sink.take(folded)
  }

  #repair(error: unknown): void {
    if (error instanceof WatchError) return this.end(error)
    // Not about one cluster, or not a violation at all: the connection as a whole is not to be trusted.
    if (!(error instanceof Violation) || error.cluster === undefined) throw error
    this.#startOver(error.message, [error.cluster])
    this.#leave(this.#nextDelay())
  }

  #startOver(why: string, clusters: readonly ClusterId[]): void {
    this.#say('violation', `${why}; asking again for a snapshot`)
    for (const cluster of clusters) this.#take(this.#fold.broken(cluster))
  }

  #leave(waitMs: number): void {
    const asked = this.#asked
    if (asked.kind !== 'bound' && asked.kind !== 'asking') return
    this.#wire?.send({ type: 'unwatch', id: asked.id })
    this.#wire?.bind(this, asked.id, undefined)
    this.#fold.interrupt()
    this.#asked = { kind: 'leaving', id: asked.id, waitMs }
  }

  #ask(): void {
    const wire = this.#wire
    if (wire === undefined || this.#held || this.#asked.kind !== 'resting') return
    this.#cancelRetry?.()
    const { ask, start, newId } = this.options
    const resume = this.vector.resume(start)
    this.#fold.asked(resume.start === 'now' ? 'now' : (resume.default ?? 'snapshot'))
    const id = newId()
    this.#asked = { kind: 'asking', id }
    wire.bind(this, id, undefined)
    wire.send({ type: 'watch', id, ...ask, ...resume })
  }

  #askIn(ms: number): void {
    this.#cancelRetry?.()
    if (ms <= 0) return this.#ask()
    this.#cancelRetry = this.options.context.clock.after(ms, () => this.#ask())
  }

  #nextDelay(): number {
    const { backoff, clock, random } = this.options.context
    const asked = this.#asked
    if (asked.kind === 'bound' && clock.now() - asked.since >= backoff.stableMs) this.#attempt = 0
    return retryDelay(backoff, { retry: 'backoff', attempt: this.#attempt++, random: random() })
  }

  #say(code: Notice['code'], message: string): void {
    this.options.context.notice({ code, message, watch: this.options.name })
  }
}
