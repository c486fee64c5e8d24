// Reads what the ring no longer holds from the hub's log, at the reader's own pace.
// Owns: one running replay of one reader: at most one encoded chunk in memory.
// Refuses: retries and fallbacks; the core decides what follows a failure.

import { errorCode } from '#kit/errors.ts'
import type { ResyncReason } from '#protocol/frames.ts'
import { CHUNK_BYTES } from './catch-up.ts'
import type { Position } from './encoder.ts'
import { joinFrames } from './frame-writer.ts'
import type { PumpResult, Reader } from './reader.ts'

export class Replay {
  readonly #reader: Reader
  readonly #abort = new AbortController()
  #frames: Buffer[] = []
  #bytes = 0
  #events = 0
  #at: Position
  #progress = false
  /** Resolves when the chunk in memory was written. */
  #drained: (() => void) | undefined

  constructor(reader: Reader, from: Position) {
    this.#reader = reader
    this.#at = from
    void this.#run(from)
  }

  stop(): void {
    this.#abort.abort()
    this.#drained?.()
  }

  /** Called when the connection has room. */
  pump(): PumpResult {
    if (this.#drained === undefined) return 'idle'
    const { subscriber } = this.#reader
    if (this.#frames.length > 0) {
      if (!subscriber.paces(this.#events, this.#bytes)) return 'full'
      if (!subscriber.offerPaced(joinFrames(this.#frames), this.#events)) {
        this.#reader.need = this.#bytes
        return 'full'
      }
    }
    this.#reader.need = 0
    this.#frames = []
    this.#bytes = 0
    this.#events = 0
    this.#reader.apply({ type: 'replayed', at: this.#at })
    this.#drained()
    this.#drained = undefined
    return 'idle'
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
        if (encoded !== undefined) {
          this.#frames.push(encoded.frame)
          this.#bytes += encoded.frame.length
          this.#events += encoded.events
        }
        if (encoded !== undefined || !feed.ctx.hideActivity)
          this.#at = { epoch: revision.epoch, revision: revision.revision }
        if (this.#bytes >= CHUNK_BYTES / 2) await this.#drain()
        if (signal.aborted) return
      }
      await this.#drain()
      if (signal.aborted) return
      const now = this.#reader.subscriber.monotonic()
      this.#reader.apply({ type: 'replay-end', progress: this.#progress, view: feed.view(), now })
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
