// One stretch of the log as it was fetched, decoded at most once however many read it.
// Owns: its entries, what they are charged with, and a reader's hold on it. Refuses: judging entries, and how long any of
// it is kept (segments.ts).

import { type Decoded, decodeEntry } from '#protocol/log/decode.ts'
import type { LogEntry } from '#protocol/log/entry.ts'
import type { StoredMessage } from './log-stream.ts'

/** Bytes charged for an entry: itself, and about as much again twice for what it decodes to. */
const charge = (data: Uint8Array): number => 3 * data.length + 256

type Message = { readonly seq: number; readonly data: Uint8Array; decoded: Decoded<LogEntry> | undefined }

export type SegmentEntry = { readonly seq: number; readonly decoded: Decoded<LogEntry> }

export class Segment {
  /** Covers the sequence numbers from `from` (inclusive) to `next` (exclusive), whether or not all of them exist. */
  readonly from: number
  readonly next: number
  readonly bytes: number
  /** Monotonic ms at which somebody last read it. */
  usedAt = 0
  readonly #messages: readonly Message[]

  /** `batch` must not be empty; its data must stay as it is. */
  constructor(from: number, batch: readonly StoredMessage[]) {
    this.from = from
    this.#messages = batch.map(({ seq, data }) => ({ seq, data, decoded: undefined }))
    this.next = (batch.at(-1)?.seq ?? from - 1) + 1
    this.bytes = batch.reduce((sum, { data }) => sum + charge(data), 0)
  }

  covers(seq: number): boolean {
    return seq >= this.from && seq < this.next
  }

  /** The first entry at or after `seq`; undefined behind the last. */
  entry(seq: number): SegmentEntry | undefined {
    let low = 0
    let high = this.#messages.length
    while (low < high) {
      const mid = (low + high) >>> 1
      if ((this.#messages[mid] as Message).seq < seq) low = mid + 1
      else high = mid
    }
    const message = this.#messages[low]
    if (message === undefined) return undefined
    message.decoded ??= decodeEntry(message.data)
    return { seq: message.seq, decoded: message.decoded }
  }
}

/** A reader's hold on a stretch, until disposed or taken back. */
export interface Held extends Disposable {
  /** The first entry at or after `seq`; undefined behind the stretch, and once it was taken back. */
  entry(seq: number): SegmentEntry | undefined
}

export class Hold implements Held {
  /** Monotonic ms at which it began. */
  readonly since: number
  #segment: Segment | undefined
  readonly #released: (hold: Hold, segment: Segment) => void

  constructor(segment: Segment, since: number, released: (hold: Hold, segment: Segment) => void) {
    this.#segment = segment
    this.since = since
    this.#released = released
  }

  entry(seq: number): SegmentEntry | undefined {
    return this.#segment?.entry(seq)
  }

  takeBack(): void {
    this.#segment = undefined
  }

  [Symbol.dispose](): void {
    const segment = this.#segment
    this.#segment = undefined
    if (segment !== undefined) this.#released(this, segment)
  }
}
