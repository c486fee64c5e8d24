// One watch as the application reads it: `for await (const change of watch)`.
// Owns: the bounded queue between the socket and the consumer, back-pressure, and the position the consumer reached.
// Refuses: connections (link.ts) and continuity (core/fold.ts).
//
// Back-pressure: a browser's WebSocket cannot be paused. When the consumer is `maxQueue` behind, the watch asks the
// gateway to stop, lets the consumer work, and asks again from the last change it holds. Nothing is lost or repeated
// unless the gateway answers that the position is too old; then the stream says so with a resync.

import { type Cursor, decodeCursor } from '../protocol/cursor.ts'
import type { Context } from './context.ts'
import { ChangeQueue } from './core/change-queue.ts'
import type { Change } from './core/changes.ts'
import type { Folded } from './core/telling.ts'
import { PositionVector, type Start } from './core/vector.ts'
import { CursorKeeper, type CursorStore } from './cursor-keeper.ts'
import { Refused, WatchError } from './errors.ts'
import { onAbort } from './ports.ts'
import type { Sink, Subscription } from './subscription.ts'

export type WatchHost = {
  readonly context: Context
  readonly name: string
  readonly start: string
  readonly default: 'snapshot' | 'now' | undefined
  readonly store: CursorStore | undefined
  readonly signal: AbortSignal | undefined
  /** Makes the subscription and finds it a connection. */
  readonly open: (start: Start, cursor: Cursor | undefined, sink: Sink) => Subscription
  readonly begun: () => void
  readonly closed: (subscription: Subscription | undefined) => void
}

/** Half a snapshot is worth nothing, so a watch in the middle of one may overdraw its queue this many times. */
const STAGING_OVERDRAFT = 4

/**
 * Reads changes once, in order, from one consumer. It begins with the first read and ends when the loop is left, when
 * the signal aborts, when {@link close} is called, or by throwing a {@link WatchError}.
 */
export class Watch implements AsyncIterable<Change> {
  readonly name: string
  readonly #host: WatchHost
  readonly #queue: ChangeQueue
  #subscription: Subscription | undefined
  /** Up to the change the consumer has in hand. */
  #reached = new PositionVector()
  #keeper: CursorKeeper | undefined
  #read = false
  #unlisten: (() => void) | undefined
  #over = false
  #error: WatchError | undefined
  /** Ends the wait for the next change. */
  #wake: (() => void) | undefined
  #slow = false

  constructor(host: WatchHost) {
    this.#host = host
    this.name = host.name
    this.#queue = new ChangeQueue(host.context.maxQueue)
  }

  /**
   * Where to resume after the change that was read last: `dw.watch({ …, start: cursor })`. undefined before the
   * gateway's first bookmark. Read it when you are done with a change.
   */
  get cursor(): string | undefined {
    return this.#reached.cursor()
  }

  /** Revisions that came again after a reconnect and were dropped. */
  get duplicates(): number {
    return this.#subscription?.duplicates ?? 0
  }

  /**
   * Calls `onChange` for each change, one at a time; a promise it returns is awaited before the next one (that is the
   * back-pressure). `onEnd` is called once: without an error when the watch was closed. Returns a function that closes it.
   */
  subscribe(onChange: (change: Change) => void | Promise<void>, onEnd: (error?: unknown) => void): () => void {
    const run = async (): Promise<void> => {
      for await (const change of this) await onChange(change)
    }
    void run().then(
      () => onEnd(),
      (error: unknown) => onEnd(error),
    )
    return () => void this.close()
  }

  /** Ends the iteration. Resolves when the last cursor is saved. Never rejects. */
  async close(): Promise<void> {
    this.#finish(undefined)
    await this.#keeper?.flush()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Change, undefined, undefined> {
    if (this.#read) throw new WatchError('client.bad-option', 'a watch has one reader; call watch() again')
    this.#read = true
    this.#host.begun()
    try {
      await this.#begin()
      for (;;) {
        const folded = this.#queue.shift()
        this.#giveRoom()
        if (folded === undefined) {
          if (this.#error !== undefined) throw this.#error
          if (this.#over) return undefined
          await new Promise<void>((resolve) => {
            this.#wake = resolve
          })
          continue
        }
        this.#reached.apply(folded.advances)
        if (folded.change !== undefined) yield folded.change
        // The consumer came back for more, so it is done with this one.
        this.#keeper?.took(folded.advances)
      }
    } finally {
      await this.close()
    }
  }

  async #begin(): Promise<void> {
    const { signal, store, name, context } = this.#host
    this.#unlisten = onAbort(signal, () => void this.close())
    const { start, cursor } = await this.#start()
    if (this.#over) return
    this.#reached = new PositionVector(cursor)
    if (store !== undefined) {
      this.#keeper = new CursorKeeper(context, store, name, new PositionVector(cursor))
    }
    this.#subscription = this.#host.open(start, cursor, {
      take: (folded) => this.#take(folded),
      ended: (error) => this.#finish(error),
    })
  }

  async #start(): Promise<{ readonly start: Start; readonly cursor: Cursor | undefined }> {
    const { name, start: asked, default: fallback, context, store } = this.#host
    const stored = await this.#load(store)
    const kept = stored === undefined ? undefined : decodeCursor(stored)
    // A cluster that was owed a snapshot when the cursor was saved is not in it, and must not begin at "now".
    if (kept?.ok === true)
      return { start: { start: stored ?? '', default: fallback ?? 'snapshot' }, cursor: kept.cursor }
    if (kept !== undefined) {
      const message = `the cursor cannot be decoded (${kept.reason}); starting from "${asked}"`
      context.notice({ code: 'stored-cursor-unusable', message, watch: name })
    }
    const start = { start: asked, default: fallback }
    if (asked === 'snapshot' || asked === 'now') return { start, cursor: undefined }
    const given = decodeCursor(asked)
    if (given.ok) return { start, cursor: given.cursor }
    throw new WatchError(Refused.BadCursor, `the cursor cannot be decoded (${given.reason}); start from "snapshot"`)
  }

  async #load(store: CursorStore | undefined): Promise<string | undefined> {
    try {
      return (await store?.load(this.name)) ?? undefined
    } catch (cause) {
      throw new WatchError('client.cursor-store', 'the stored cursor could not be loaded', true, { cause })
    }
  }

  #take(folded: Folded): void {
    this.#queue.push(folded)
    this.#wake?.()
    const subscription = this.#subscription
    if (subscription === undefined || this.#slow || !this.#queue.full) return
    if (subscription.staging && this.#queue.weight < this.#host.context.maxQueue * STAGING_OVERDRAFT) return
    this.#slow = true
    subscription.hold()
    const message = `${this.#queue.length} changes wait for the consumer; the watch rests`
    this.#host.context.notice({ code: 'slow-consumer', message, watch: this.name })
  }

  #giveRoom(): void {
    if (!this.#slow || !this.#queue.slack) return
    this.#slow = false
    this.#subscription?.release()
  }

  #finish(error: WatchError | undefined): void {
    if (this.#over) return
    this.#over = true
    this.#error = error
    this.#unlisten?.()
    const subscription = this.#subscription
    if (error === undefined) this.#queue.clear()
    subscription?.end()
    this.#host.closed(subscription)
    this.#wake?.()
  }
}
