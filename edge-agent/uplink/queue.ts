// Revisions waiting for their entry: everything gathered since the last append was sent.
// Owns: order, the byte count that back-pressure looks at, cutting whole revisions by size, slicing one too large.
// Refuses: bounding itself. Etcd is the buffer: whoever fills the queue stops reading from etcd above its budget.

import { encodeRevision } from '#protocol/log/encode.ts'
import type { RevisionRecord } from '#protocol/log/entry.ts'
import type { Revision } from '#protocol/revision.ts'
import type { Outgoing } from './ports.ts'

export type Batch = {
  readonly kind: 'events'
  readonly records: readonly RevisionRecord[]
  /** Position once these and the hidden revisions behind them are out. */
  readonly through: Revision
  readonly oldestArrival: number
  readonly events: number
}
export type Slice = {
  readonly kind: 'chunk'
  readonly revision: Revision
  readonly groupId: string
  readonly index: number
  readonly count: number
  readonly data: Uint8Array
  readonly oldestArrival: number
  /** Of the revision, reported with its last slice. */
  readonly events: number
}
/** Only hidden revisions were waiting: nothing to append, the position may still be proved. */
export type Silent = { readonly kind: 'hidden'; readonly through: Revision }
export type Taken = Batch | Slice | Silent

type OpenSlices = {
  readonly outgoing: Outgoing
  readonly encoded: Uint8Array
  readonly groupId: string
  readonly count: number
  next: number
}

/** Per event: tags, lengths, revisions, version and lease at their widest. */
const EVENT_OVERHEAD = 64
const RECORD_OVERHEAD = 24

/** Upper bound of a record's encoding, cheap enough for every revision. */
export function encodedBound(record: RevisionRecord): number {
  let bytes = RECORD_OVERHEAD
  for (const event of record.events) {
    bytes += EVENT_OVERHEAD + event.key.length + event.value.length
    if (event.withheld !== undefined) bytes += 4 * event.withheld.length + 8
    if (event.transforms !== undefined) for (const name of event.transforms) bytes += 4 * name.length + 8
  }
  return bytes
}

export class LiveQueue {
  /** Taken slots are emptied at once: each pins the message its bytes came in. */
  #items: (Outgoing | undefined)[] = []
  #head = 0
  #bytes = 0
  #slices: OpenSlices | undefined

  get isEmpty(): boolean {
    return this.#head === this.#items.length && this.#slices === undefined
  }
  /** Raw and encoded bytes held, for back-pressure. */
  get bytes(): number {
    return this.#bytes + (this.#slices === undefined ? 0 : this.#slices.encoded.length)
  }
  get revisions(): number {
    return this.#items.length - this.#head
  }
  /** A chunk group is open: nothing else may come between its slices. */
  get slicing(): boolean {
    return this.#slices !== undefined
  }

  push(outgoing: Outgoing): void {
    this.#items.push(outgoing)
    this.#bytes += outgoing.bytes + EVENT_OVERHEAD
  }

  /**
   * Takes what the next entry carries; undefined when nothing waits. Revisions are gathered up to `batchBytes`; one of
   * more than `maxBytes` is cut into slices.
   * `onCovered` is told of every revision that becomes part of the position with this entry.
   */
  take(
    maxBytes: number,
    batchBytes: number,
    newGroupId: () => string,
    onCovered: (outgoing: Outgoing) => void,
  ): Taken | undefined {
    if (this.#slices !== undefined) return this.#nextSlice(onCovered)
    const first = this.#items[this.#head]
    if (first === undefined) return undefined
    if (first.record !== undefined && first.encodedBytes > maxBytes) {
      const encoded = encodeRevision(first.record)
      if (encoded.length > maxBytes) {
        this.#shift()
        const count = Math.ceil(encoded.length / maxBytes)
        this.#slices = { outgoing: first, encoded, groupId: newGroupId(), count, next: 0 }
        return this.#nextSlice(onCovered)
      }
    }
    return this.#nextBatch(batchBytes, onCovered)
  }

  #nextBatch(batchBytes: number, onCovered: (outgoing: Outgoing) => void): Taken {
    const records: RevisionRecord[] = []
    let bytes = 0
    let events = 0
    let oldestArrival = Number.POSITIVE_INFINITY
    let through = '0' as Revision
    for (let next = this.#items[this.#head]; next !== undefined; next = this.#items[this.#head]) {
      if (next.record !== undefined) {
        if (records.length > 0 && bytes + next.encodedBytes > batchBytes) break
        records.push(next.record)
        bytes += next.encodedBytes
        events += next.record.events.length
        oldestArrival = Math.min(oldestArrival, next.arrivedAt)
      }
      through = next.revision
      this.#shift()
      onCovered(next)
    }
    if (records.length === 0) return { kind: 'hidden', through }
    return { kind: 'events', records, through, oldestArrival, events }
  }

  #nextSlice(onCovered: (outgoing: Outgoing) => void): Slice {
    // Only called while a group is open.
    const open = this.#slices as OpenSlices
    const { outgoing, encoded, groupId, count } = open
    // The slice size was fixed when the group was opened; a hub that shrank its limit meanwhile refuses and we start over.
    const size = Math.ceil(encoded.length / count)
    const index = open.next++
    const data = encoded.subarray(index * size, Math.min(encoded.length, (index + 1) * size))
    const last = index === count - 1
    if (last) {
      this.#slices = undefined
      onCovered(outgoing)
    }
    const events = last ? (outgoing.record?.events.length ?? 0) : 0
    const oldestArrival = outgoing.arrivedAt
    return { kind: 'chunk', revision: outgoing.revision, groupId, index, count, data, oldestArrival, events }
  }

  #shift(): void {
    const item = this.#items[this.#head]
    if (item === undefined) return
    this.#bytes -= item.bytes + EVENT_OVERHEAD
    this.#items[this.#head] = undefined
    this.#head++
    if (this.#head === this.#items.length) {
      this.#items.length = 0
      this.#head = 0
    } else if (this.#head > 1024 && this.#head * 2 > this.#items.length) {
      this.#items = this.#items.slice(this.#head)
      this.#head = 0
    }
  }
}
