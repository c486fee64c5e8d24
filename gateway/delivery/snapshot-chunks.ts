// Chunks of snapshots that several readers of a feed take at one position, encoded once.
// Owns: which chunk continues where, and one first-in-first-out bound over all feeds, in bytes and in time.
// Refuses: timers of its own (delivery's housekeeping calls), and being needed: what is not here is encoded again. When
// thousands begin anew at once, the first of them pays for the rest.

import type { Key } from '#protocol/bytes.ts'
import type { Position } from './encoder.ts'

export type SnapshotChunk = {
  /** Undefined when nothing between here and `after` is visible. */
  readonly bytes: Buffer | undefined
  /** The last key looked at; the next chunk starts behind it. */
  readonly after: Key | undefined
  readonly done: boolean
}

/** What a chunk depends on, beside the feed: the state before ring index `pin`, behind `after`. */
export type ChunkPlace = { readonly at: Position; readonly pin: number; readonly after: Key | undefined }

type Kept = { readonly owner: object; readonly name: string; readonly bytes: number; readonly keptAt: number }

/** Decisions can lapse with time; a chunk is shared among those who come together, no longer. */
const SHARED_MS = 1_000

export class SnapshotChunks {
  readonly #maxBytes: number
  readonly #maxCount: number
  readonly #byOwner = new Map<object, Map<string, SnapshotChunk>>()
  /** Oldest first; never long enough for shifting to cost. */
  #queue: Kept[] = []
  #bytes = 0

  constructor(maxBytes: number, maxCount = 256) {
    this.#maxBytes = maxBytes
    this.#maxCount = maxCount
  }

  get bytes(): number {
    return this.#bytes
  }

  /** `owner`: the feed, whose selector, class and form all its chunks share. `now`: ms of one clock. */
  get(owner: object, place: ChunkPlace, now: number): SnapshotChunk | undefined {
    this.expire(now)
    return this.#byOwner.get(owner)?.get(nameOf(place))
  }

  put(owner: object, place: ChunkPlace, chunk: SnapshotChunk, now: number): void {
    const name = nameOf(place)
    let known = this.#byOwner.get(owner)
    if (known === undefined) this.#byOwner.set(owner, (known = new Map()))
    if (known.has(name)) return
    known.set(name, chunk)
    const bytes = chunk.bytes?.length ?? 0
    this.#queue.push({ owner, name, bytes, keptAt: now })
    this.#bytes += bytes
    while (this.#bytes > this.#maxBytes || this.#queue.length > this.#maxCount) this.#drop()
  }

  /** Gives back what is too old. Call it now and then: when nobody begins, nobody asks. */
  expire(now: number): void {
    for (let oldest = this.#queue[0]; oldest !== undefined; oldest = this.#queue[0]) {
      // A clock that was set back makes nothing younger.
      if (Math.abs(now - oldest.keptAt) < SHARED_MS) return
      this.#drop()
    }
  }

  /** Continuity ended: a class that stands at what it may know of may stand at the same position in another state. */
  forget(owner: object): void {
    if (!this.#byOwner.delete(owner)) return
    for (const kept of this.#queue) if (kept.owner === owner) this.#bytes -= kept.bytes
    this.#queue = this.#queue.filter((kept) => kept.owner !== owner)
  }

  #drop(): void {
    const oldest = this.#queue.shift()
    if (oldest === undefined) return
    this.#bytes -= oldest.bytes
    const known = this.#byOwner.get(oldest.owner)
    known?.delete(oldest.name)
    if (known?.size === 0) this.#byOwner.delete(oldest.owner)
  }
}

const nameOf = ({ at, pin, after }: ChunkPlace): string => `${at.epoch} ${at.revision} ${pin} ${after ?? ''}`
