// Reads what the ring no longer holds from the hub's log, at the reader's own pace.
// Owns: one running replay of one reader: at most one encoded chunk in memory, written frame by frame as the class's rate allows.
// Refuses: retries and fallbacks; the core decides what follows a failure.

import { errorCode } from '#kit/errors.ts'
import type { ResyncReason } from '#protocol/frames.ts'
import { CHUNK_BYTES } from './catch-up.ts'
import type { Position } from './encoder.ts'
import type { Frame } from './frame-cache.ts'
import { joinFrames } from './frame-writer.ts'
import type { PumpResult, Reader } from './reader.ts'

/** An encoded revision, and where the reader stands once it is written. */
type Held = Frame & { readonly at: Position }

export class Replay {
  readonly #reader: Reader
  readonly #abort = new AbortController()
  #held: Held[] = []
  #bytes = 0
  /** Where the client stands, as far as it may know. */
  #at: Position
  /** The last revision read, seen or hidden. Told to no client. */
  #scanned: Position
  #progress = false
  /** Resolves when the chunk in memory was written. */
  #drained: (() => void) | undefined

  constructor(reader: Reader, { at, from }: { readonly at: Position; readonly from: Position }) {
    this.#reader = reader
    this.#at = at
    this.#scanned = from
    void this.#run(from)
  }

  stop(): void {
    this.#abort.abort()
    this.#drained?.()
  }

  /** Called when the connection has room. */
  pump(): PumpResult {
    if (this.#drained === undefined) return 'idle'
    const held = this.#held
    const paced = this.#paced()
    const last = paced.at(-1)
    if (last === undefined && held.length > 0) return 'full'
    if (last !== undefined) {
      const bytes = joinFrames(paced.map(({ frame }) => frame))
      const events = paced.reduce((sum, frame) => sum + frame.events, 0)
      if (!this.#reader.subscriber.offerPaced(bytes, events)) {
        this.#reader.need = bytes.length
        return 'full'
      }
    }
    this.#reader.need = 0
    if (last !== undefined && paced.length < held.length) {
      this.#held = held.slice(paced.length)
      this.#reader.apply({ type: 'replayed', at: last.at })
      return 'full'
    }
    this.#held = []
    this.#bytes = 0
    this.#reader.apply({ type: 'replayed', at: this.#at })
    this.#drained()
    this.#drained = undefined
    return 'idle'
  }

  /** As many of the chunk's frames as may go now: a chunk of small changes is no large one. */
  #paced(): readonly Held[] {
    const { subscriber } = this.#reader
    const stop = this.#held.findIndex(({ events, frame }) => !subscriber.paces(events, frame.length))
    return stop < 0 ? this.#held : this.#held.slice(0, stop)
  }

  async #run(from: Position): Promise<void> {
    const { feed } = this.#reader
    const { signal } = this.#abort
    try {
      for await (const revision of feed.source.replay(from, signal)) {
        if (signal.aborted) return
        this.#progress = true
        const encoded = feed.encodeReplayed(revision)
        if (encoded === 'unknown') return this.#failed('undecidable')
        this.#scanned = { epoch: revision.epoch, revision: revision.revision }
        if (encoded !== undefined || !feed.ctx.hideActivity) this.#at = this.#scanned
        if (encoded !== undefined) {
          this.#held.push({ ...encoded, at: this.#at })
          this.#bytes += encoded.frame.length
        }
        if (this.#bytes >= CHUNK_BYTES / 2) await this.#drain()
        if (signal.aborted) return
      }
      await this.#drain()
      if (signal.aborted) return
      const now = this.#reader.subscriber.monotonic()
      const [progress, scanned] = [this.#progress, this.#scanned]
      this.#reader.apply({ type: 'replay-end', progress, scanned, view: feed.view(), now })
    } catch (e) {
      if (!signal.aborted) this.#failed(errorCode(e) === 'replay-busy' ? 'busy' : reasonOf(e))
    }
  }

  #failed(why: 'busy' | 'undecidable' | ResyncReason): void {
    const { feed, subscriber } = this.#reader
    this.#reader.apply({ type: 'replay-failed', why, view: feed.view(), now: subscriber.monotonic() })
  }

  async #drain(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#drained = resolve
    this.#reader.subscriber.wake(this.#reader)
    await promise
  }
}

/** What ends the history, where the source says so. */
function reasonOf(error: unknown): ResyncReason {
  const reason = error instanceof Error && 'reason' in error ? error.reason : undefined
  return reason === 'policy' || reason === 'compacted' || reason === 'epoch' ? reason : 'trimmed'
}
