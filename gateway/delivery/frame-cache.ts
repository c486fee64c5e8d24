// Encoded revisions of recent moments, so that a reader that fell behind costs no second encoding.
// Owns: one first-in-first-out bound, in bytes and count, over the frames of all feeds.
// Refuses: being needed: whatever was evicted is encoded again from the ring.

/** One revision as a class sees it. */
export type Frame = { readonly frame: Buffer; readonly events: number }

export interface CachedFrames {
  readonly frames: Map<number, Frame>
}

type Kept = { readonly owner: CachedFrames; readonly index: number; readonly bytes: number }

export class FrameCache {
  readonly #maxBytes: number
  readonly #maxCount: number
  #queue: Kept[] = []
  #head = 0
  #bytes = 0

  constructor(maxBytes: number, maxCount = 100_000) {
    this.#maxBytes = maxBytes
    this.#maxCount = maxCount
  }

  get bytes(): number {
    return this.#bytes
  }

  put(owner: CachedFrames, index: number, encoded: Frame): void {
    if (owner.frames.has(index)) return
    owner.frames.set(index, encoded)
    const bytes = encoded.frame.length
    this.#queue.push({ owner, index, bytes })
    this.#bytes += bytes
    while (this.#bytes > this.#maxBytes || this.#queue.length - this.#head > this.#maxCount) this.#evict()
  }

  #evict(): void {
    const oldest = this.#queue[this.#head]
    if (oldest === undefined) return
    this.#head++
    this.#bytes -= oldest.bytes
    oldest.owner.frames.delete(oldest.index)
    // Amortised: the consumed half is dropped when it is as long as the rest.
    if (this.#head > 1024 && this.#head * 2 > this.#queue.length) {
      this.#queue = this.#queue.slice(this.#head)
      this.#head = 0
    }
  }
}
