// One stretch of the log as it was fetched, decoded at most once however many read it.
// Owns: its entries and what they are charged with. Refuses: judging them, and how long it is kept (segments.ts).

import { type Decoded, decodeEntry } from '#protocol/log/decode.ts'
import type { LogEntry } from '#protocol/log/entry.ts'
import type { StoredMessage } from './log-stream.ts'

/** Bytes charged for an entry: itself, and about as much again twice for what it decodes to. */
const charge = (data: Uint8Array): number => 3 * data.length + 256

type Message = { readonly seq: number; readonly data: Uint8Array; decoded: Decoded<LogEntry> | undefined }

export class Segment {
  /** Covers the sequence numbers from `from` (inclusive) to `next` (exclusive), whether or not all of them exist. */
  readonly from: number
  readonly next: number
  readonly bytes: number
  readers = 0
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

  *entries(from: number): Generator<{ readonly seq: number; readonly decoded: Decoded<LogEntry> }> {
    for (const message of this.#messages) {
      if (message.seq < from) continue
      message.decoded ??= decodeEntry(message.data)
      yield { seq: message.seq, decoded: message.decoded }
    }
  }
}
