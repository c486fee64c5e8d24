// Writes ticks to live readers: immediately when idle, joined under load, never so long that others starve.
// Owns: the queue of feeds with something to deliver, the pace, and the yielding inside long fan-outs.
// Refuses: encoding, and readers that are not live.
//
// Pace: one pass writes what gathered since the last; a pass that took c ms is followed by the next after at least
// `restFactor` x c (at most `maxDelayMs`). One reader costs microseconds, so it waits for nobody; a thousand readers make
// passes of milliseconds, and what arrives meanwhile leaves in one write instead of several.

import type { Feed, Tick } from './feed.ts'
import type { Reader } from './reader.ts'

export interface FanoutDeps {
  now(): number
  soon(fn: () => void): void
  later(fn: () => void, ms: number): void
}

export type FanoutOptions = {
  /** Writes before the event loop gets a turn. */
  readonly sliceWrites: number
  readonly restFactor: number
  readonly maxDelayMs: number
}

export class Fanout {
  /** Told of every delivered tick, for latency metrics. */
  onDelivered: ((feed: Feed, tick: Tick, served: number, held: number) => void) | undefined
  readonly #deps: FanoutDeps
  readonly #options: FanoutOptions
  #queue: Feed[] = []
  #scheduled = false
  #notBefore = 0
  #spent = 0
  #rotation = 0

  constructor(deps: FanoutDeps, options: FanoutOptions) {
    this.#deps = deps
    this.#options = options
  }

  mark(feed: Feed): void {
    if (feed.queued) return
    feed.queued = true
    this.#queue.push(feed)
    this.#schedule()
  }

  /** Delivers all a feed has, at once: before a reset or a close its live readers must stand at one position. */
  flush(feed: Feed): void {
    feed.close()
    for (const tick of feed.outgoing) this.#deliver(feed, tick, Number.POSITIVE_INFINITY)
    feed.outgoing = []
  }

  #schedule(): void {
    if (this.#scheduled) return
    this.#scheduled = true
    const wait = this.#notBefore - this.#deps.now()
    if (wait > 0.5) this.#deps.later(this.#run, wait)
    else this.#deps.soon(this.#run)
  }

  readonly #run = (): void => {
    const started = this.#deps.now()
    let budget = this.#options.sliceWrites
    const queue = this.#queue
    this.#queue = []
    for (let i = 0; i < queue.length; i++) {
      const feed = queue[i] as Feed
      if (budget <= 0) {
        this.#queue.push(feed)
        continue
      }
      feed.close()
      budget -= this.#serve(feed, budget)
      if (feed.outgoing.length > 0) this.#queue.push(feed)
      else feed.queued = false
    }
    const ended = this.#deps.now()
    this.#spent += ended - started
    if (this.#queue.length > 0) {
      this.#deps.soon(this.#run)
      return
    }
    this.#scheduled = false
    this.#notBefore = ended + Math.min(this.#options.maxDelayMs, this.#spent * this.#options.restFactor)
    this.#spent = 0
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
