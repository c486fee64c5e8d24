// Writes ticks to live readers: immediately when idle, joined under load, never so long that others starve.
// Owns: the queue of feeds with something to deliver, the pace, and the yielding inside long fan-outs.
// Refuses: encoding, and readers that are not live.
//
// Pace, per feed: one pass writes what gathered since the last; a pass that cost c ms is followed by the feed's next after
// at least `restFactor` x c (at most `maxDelayMs`). One reader costs microseconds, so nothing waits; a thousand readers make
// passes of milliseconds, and what arrives meanwhile leaves in one write instead of several. Feeds do not wait for each other.

import type { Feed, Tick } from './feed.ts'
import type { Reader } from './reader.ts'

export interface FanoutDeps {
  readonly now: () => number
  readonly soon: (fn: () => void) => void
  readonly later: (fn: () => void, ms: number) => void
}

export type FanoutOptions = {
  /** Writes before the event loop gets a turn. */
  readonly sliceWrites: number
  readonly restFactor: number
  readonly maxDelayMs: number
}

/** Timers are not finer than this; what is due within it is due now. */
const SOON_MS = 0.5

export class Fanout {
  /** Told of every delivered tick, for latency metrics. */
  onDelivered: ((feed: Feed, tick: Tick, served: number, held: number) => void) | undefined
  readonly #deps: FanoutDeps
  readonly #options: FanoutOptions
  #queue: Feed[] = []
  /** Monotonic ms of the next run that is asked for. */
  #dueAt = Number.POSITIVE_INFINITY
  #rotation = 0

  constructor(deps: FanoutDeps, options: FanoutOptions) {
    this.#deps = deps
    this.#options = options
  }

  mark(feed: Feed): void {
    if (feed.queued) return
    feed.queued = true
    this.#queue.push(feed)
    this.#schedule(feed.notBefore)
  }

  /** Delivers all a feed has, at once: before a reset or a close its live readers must stand at one position. */
  flush(feed: Feed): void {
    feed.close()
    for (const tick of feed.outgoing) this.#deliver(feed, tick, Number.POSITIVE_INFINITY)
    feed.outgoing = []
  }

  /** Runs that come too early find nothing due and ask again. */
  #schedule(at: number): void {
    const now = this.#deps.now()
    const due = Math.max(at, now)
    if (due >= this.#dueAt - SOON_MS) return
    this.#dueAt = due
    if (due - now <= SOON_MS) this.#deps.soon(this.#run)
    else this.#deps.later(this.#run, due - now)
  }

  readonly #run = (): void => {
    this.#dueAt = Number.POSITIVE_INFINITY
    const queue = this.#queue
    const kept: Feed[] = []
    const unfinished: Feed[] = []
    this.#queue = kept
    let budget = this.#options.sliceWrites
    let next = Number.POSITIVE_INFINITY
    let now = this.#deps.now()
    for (const feed of queue) {
      const starts = feed.outgoing.length === 0
      if (budget <= 0 || (starts && feed.notBefore > now + SOON_MS)) {
        kept.push(feed)
        next = Math.min(next, starts ? feed.notBefore : now)
        continue
      }
      // While a tick is under way the next one keeps gathering.
      if (starts) feed.close()
      budget -= this.#serve(feed, budget)
      const after = this.#deps.now()
      feed.spent += after - now
      now = after
      if (feed.outgoing.length > 0) {
        unfinished.push(feed)
        next = now
        continue
      }
      feed.notBefore = now + Math.min(this.#options.maxDelayMs, feed.spent * this.#options.restFactor)
      feed.spent = 0
      if (feed.gathering) {
        kept.push(feed)
        next = Math.min(next, feed.notBefore)
      } else feed.queued = false
    }
    // Behind those that did not get their turn: a feed with ten thousand readers must not hold up one with ten.
    kept.push(...unfinished)
    if (kept.length > 0) this.#schedule(next)
  }

  #serve(feed: Feed, budget: number): number {
    let used = 0
    while (feed.outgoing.length > 0 && used < budget) {
      const tick = feed.outgoing[0] as Tick
      const { writes, complete } = this.#deliver(feed, tick, budget - used)
      // An empty room costs something too, or a feed without readers would loop for free.
      used += Math.max(1, writes)
      if (!complete) break
      feed.outgoing.shift()
    }
    return used
  }

  /** One tick to every live reader that lacks it; stops after `limit` writes. */
  #deliver(feed: Feed, tick: Tick, limit: number): { readonly writes: number; readonly complete: boolean } {
    const { live } = feed
    const count = live.length
    const before = tick.seq - 1
    // Rotating the start keeps the same reader from being last every time.
    const start = count === 0 ? 0 : this.#rotation++ % count
    let blocked: Reader[] | undefined
    let writes = 0
    let complete = true
    for (let n = 0; n < count; n++) {
      const reader = live[start + n < count ? start + n : start + n - count] as Reader
      if (reader.seq !== before) continue
      if (writes >= limit) {
        complete = false
        break
      }
      if (reader.subscriber.accepts(tick)) {
        reader.seq = tick.seq
        writes++
      } else {
        ;(blocked ??= []).push(reader)
      }
    }
    // Only now: leaving reorders `live`.
    if (blocked !== undefined) for (const reader of blocked) reader.blocked(tick)
    this.onDelivered?.(feed, tick, writes, blocked?.length ?? 0)
    return { writes, complete }
  }
}
