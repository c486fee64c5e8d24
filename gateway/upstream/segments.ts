// Stretches of the log, read once for everybody who catches up from it.
// Owns: a few consumers, the stretches they brought (bounded in bytes), and who waits for which.
// Refuses: meaning (replay.ts applies the chain rule) and pace: each reader takes its next stretch when done with one.
// Overflow rule: stretches nobody holds go first, the longest unread before the others. Where all are held, those go that
// their readers have had for `holdMs`: a reader that stalls pins nothing, and takes its place anew when it goes on. Who
// waits longer than `patienceMs` all the same is refused with `replay-busy` and comes again.

import type { Clock } from '#kit/clock.ts'
import type { LogStream, StoredMessage } from './log-stream.ts'
import { ReplayError } from './replay-error.ts'
import { type Held, Hold, Segment } from './segment.ts'

export type SegmentBounds = {
  /** Consumers at once. */
  readonly streams: number
  /** Of all stretches held, besides one batch under way per consumer. */
  readonly bytes: number
  readonly patienceMs: number
  /** How long a reader may keep a stretch that others wait for the room of. */
  readonly holdMs: number
  /** Consumers and stretches that nobody asked for in this time are given up. */
  readonly lingerMs: number
}
const MIB = 1024 * 1024
export const DEFAULT_SEGMENT_BOUNDS: SegmentBounds = {
  streams: 2,
  bytes: 32 * MIB,
  patienceMs: 5_000,
  holdMs: 1_000,
  lingerMs: 2_000,
}

/** Entries a fetch is expected to bring until one has shown it. */
const FIRST_SPAN = 4096
/** Fetches waited for in vain, before a consumer of its own. */
const MAX_DEFERRALS = 8

type Stream = {
  readonly iterator: AsyncIterator<readonly StoredMessage[]>
  readonly stop: AbortController
  next: number
  busy: boolean
  /** Has brought nothing yet, so that its end is the end of the log and its failure the hub's. */
  fresh: boolean
  usedAt: number
}
type Waiter = {
  readonly seq: number
  deferrals: number
  readonly settle: (how: { readonly segment: Segment | undefined } | { readonly error: unknown }) => void
}

export class LogSegments implements Disposable {
  /** Consumers opened so far. */
  opened = 0
  readonly #log: Pick<LogStream, 'batches'>
  readonly #clock: Clock
  readonly #bounds: SegmentBounds
  #streams: Stream[] = []
  #kept: Segment[] = []
  #waiting: Waiter[] = []
  #bytes = 0
  #span = FIRST_SPAN
  #sweeping: Disposable | undefined
  #retrying: Disposable | undefined
  readonly #holds = new Map<Segment, Set<Hold>>()

  constructor(log: Pick<LogStream, 'batches'>, clock: Clock, bounds: SegmentBounds = DEFAULT_SEGMENT_BOUNDS) {
    this.#log = log
    this.#clock = clock
    this.#bounds = bounds
  }

  get bytes(): number {
    return this.#bytes
  }
  get streams(): number {
    return this.#streams.length
  }

  /** The stretch from `seq` on, until disposed; undefined when the log has nothing from there on at the moment. */
  take(seq: number, signal: AbortSignal): Promise<Held | undefined> {
    const { promise, resolve, reject } = Promise.withResolvers<Held | undefined>()
    if (signal.aborted) {
      reject(signal.reason)
      return promise
    }
    const kept = this.#kept.find((segment) => segment.covers(seq))
    if (kept !== undefined) {
      resolve(this.#hold(kept))
      return promise
    }
    const refused = new ReplayError('replay-busy', 'too much of the log is being read by slow readers; try again later')
    const impatient = this.#clock.setTimeout(() => waiter.settle({ error: refused }), this.#bounds.patienceMs)
    const abort = (): void => waiter.settle({ error: signal.reason })
    const waiter: Waiter = {
      seq,
      deferrals: 0,
      settle: (how) => {
        impatient[Symbol.dispose]()
        signal.removeEventListener('abort', abort)
        this.#waiting = this.#waiting.filter((other) => other !== waiter)
        if ('error' in how) reject(how.error)
        else resolve(how.segment === undefined ? undefined : this.#hold(how.segment))
      },
    }
    signal.addEventListener('abort', abort, { once: true })
    this.#waiting.push(waiter)
    this.#work()
    return promise
  }

  /** The log is another one now: nothing that was read from the old one may be served. */
  forget(): void {
    for (const stream of Array.from(this.#streams)) this.#drop(stream)
    for (const segment of Array.from(this.#kept)) this.#giveUp(segment)
    this.#work()
  }

  [Symbol.dispose](): void {
    for (const waiter of Array.from(this.#waiting)) waiter.settle({ segment: undefined })
    this.forget()
    this.#sweeping?.[Symbol.dispose]()
    this.#retrying?.[Symbol.dispose]()
  }

  /** Starts what can be started for those who wait: first where a consumer stands already, then in the order they came. */
  #work(): void {
    for (const stream of this.#streams) {
      if (stream.busy || !this.#waiting.some((waiter) => this.#reaches(stream.next, waiter))) continue
      if (!this.#makeRoom()) return
      void this.#fetch(stream)
    }
    for (const waiter of Array.from(this.#waiting)) {
      if (this.#comes(waiter)) continue
      if (!this.#makeRoom()) return
      const stream = this.#streamAt(this.#startFor(waiter))
      if (stream === undefined) return
      void this.#fetch(stream)
    }
  }

  #comes(waiter: Waiter): boolean {
    return this.#streams.some((stream) => stream.busy && this.#reaches(stream.next, waiter))
  }

  /** A fetch that begins at `from` is likely to bring what is wanted. */
  #reaches(from: number, { seq, deferrals }: Waiter): boolean {
    return from === seq || (from < seq && seq - from < this.#span && deferrals < MAX_DEFERRALS)
  }

  /** Where a stretch ends that is held: stretches that adjoin are read by more than those that overlap. */
  #startFor(waiter: Waiter): number {
    const ends = this.#kept.map((segment) => segment.next).filter((next) => this.#reaches(next, waiter))
    return ends.length === 0 ? waiter.seq : Math.max(...ends)
  }

  #makeRoom(): boolean {
    while (this.#bytes >= this.#bounds.bytes) {
      const before = this.#clock.monotonic() - this.#bounds.holdMs
      const kept = this.#kept.toSorted((a, b) => a.usedAt - b.usedAt)
      const spare =
        kept.find((segment) => !this.#holds.has(segment)) ??
        kept.find((segment) => this.#heldBy(segment).every(({ since }) => since <= before))
      if (spare === undefined) {
        this.#retryLater()
        return false
      }
      this.#giveUp(spare)
    }
    return true
  }

  #heldBy(segment: Segment): readonly Hold[] {
    return [...(this.#holds.get(segment) ?? [])]
  }

  /** When the first of those that are held now may be taken back. */
  #retryLater(): void {
    const due = this.#kept.map((segment) => Math.max(...this.#heldBy(segment).map(({ since }) => since)))
    const ms = Math.min(...due) + this.#bounds.holdMs - this.#clock.monotonic()
    this.#retrying ??= this.#clock.setTimeout(() => {
      this.#retrying = undefined
      if (this.#waiting.length > 0) this.#work()
    }, ms)
  }

  /** A new consumer, in the place of the one that rested longest. */
  #streamAt(seq: number): Stream | undefined {
    if (this.#streams.length >= this.#bounds.streams) {
      const idle = this.#streams.filter((stream) => !stream.busy)
      const oldest = idle.sort((a, b) => a.usedAt - b.usedAt)[0]
      if (oldest === undefined) return undefined
      this.#drop(oldest)
    }
    const stop = new AbortController()
    const iterator = this.#log.batches(seq, stop.signal)[Symbol.asyncIterator]()
    const stream: Stream = { iterator, stop, next: seq, busy: false, fresh: true, usedAt: 0 }
    this.opened++
    this.#streams.push(stream)
    return stream
  }

  async #fetch(stream: Stream): Promise<void> {
    const at = stream.next
    const { fresh } = stream
    stream.busy = true
    let batch: readonly StoredMessage[] | undefined
    let failure: { readonly error: unknown } | undefined
    try {
      const result = await stream.iterator.next()
      batch = result.done === true ? undefined : result.value
    } catch (error) {
      failure = { error }
    }
    stream.busy = false
    stream.fresh = false
    stream.usedAt = this.#clock.monotonic()
    // Dropped meanwhile: those who wait are served by another.
    if (stream.stop.signal.aborted) return this.#work()
    if (batch !== undefined) this.#keep(stream, at, batch)
    else {
      this.#drop(stream)
      // A stream that brought something before may have ended, or been given up by the hub, long ago.
      if (fresh) for (const one of this.#reachedFrom(at)) one.settle(failure ?? { segment: undefined })
    }
    this.#work()
  }

  #keep(stream: Stream, at: number, batch: readonly StoredMessage[]): void {
    const segment = new Segment(at, batch)
    this.#span = segment.next - at
    stream.next = segment.next
    segment.usedAt = stream.usedAt
    this.#kept.push(segment)
    this.#bytes += segment.bytes
    for (const waiter of Array.from(this.#waiting)) {
      if (segment.covers(waiter.seq)) waiter.settle({ segment })
      else if (waiter.seq > at && waiter.seq - at < 2 * this.#span) waiter.deferrals++
    }
    this.#sweepLater()
  }

  #reachedFrom(from: number): readonly Waiter[] {
    return this.#waiting.filter((waiter) => this.#reaches(from, waiter))
  }

  #hold(segment: Segment): Held {
    const now = this.#clock.monotonic()
    const hold = new Hold(segment, now, this.#released)
    const holds = this.#holds.get(segment)
    if (holds === undefined) this.#holds.set(segment, new Set([hold]))
    else holds.add(hold)
    segment.usedAt = now
    return hold
  }

  readonly #released = (hold: Hold, segment: Segment): void => {
    const holds = this.#holds.get(segment)
    holds?.delete(hold)
    if (holds?.size === 0) this.#holds.delete(segment)
    segment.usedAt = this.#clock.monotonic()
    if (this.#waiting.length > 0) this.#work()
  }

  /** Whoever holds it finds it gone and takes its place anew. */
  #giveUp(segment: Segment): void {
    for (const hold of this.#heldBy(segment)) hold.takeBack()
    this.#holds.delete(segment)
    this.#kept = this.#kept.filter((other) => other !== segment)
    this.#bytes -= segment.bytes
  }

  #drop(stream: Stream): void {
    this.#streams = this.#streams.filter((other) => other !== stream)
    stream.stop.abort()
    void stream.iterator.return?.().catch(() => undefined)
  }

  #sweepLater(): void {
    this.#sweeping ??= this.#clock.setTimeout(() => this.#sweep(), this.#bounds.lingerMs)
  }

  #sweep(): void {
    this.#sweeping = undefined
    const before = this.#clock.monotonic() - this.#bounds.lingerMs
    for (const stream of this.#streams) if (!stream.busy && stream.usedAt <= before) this.#drop(stream)
    for (const segment of this.#kept) if (!this.#holds.has(segment) && segment.usedAt <= before) this.#giveUp(segment)
    if (this.#streams.length > 0 || this.#kept.length > 0) this.#sweepLater()
  }
}
