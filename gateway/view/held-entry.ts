// One key as the view keeps it.
// Owns: the entry's shape, its equality with what a checkpoint says, and what it is charged with.
// Refuses: deciding where its bytes lie (slab.ts moves them; the content never changes).

import type { Key } from '#protocol/bytes.ts'
import type { LogEvent, SnapshotRecord } from '#protocol/log/entry.ts'
import type { Revision } from '#protocol/revision.ts'
import type { StateEntry } from '../delivery/ports.ts'
import type { Slab } from './slab.ts'

/** Rough cost of one key besides its own and its value's bytes: slot, entry, map and index places, small strings. */
export const ENTRY_OVERHEAD = 320

const NOTHING = new Uint8Array(0)

/**
 * `value` is an accessor: spreading an entry loses it. A view object per key would cost more memory than most values, so
 * one is made when somebody looks.
 */
export class HeldEntry implements StateEntry {
  readonly key: Key
  readonly modRevision: Revision
  readonly createRevision: Revision
  readonly version: string
  readonly lease: string
  readonly withheld: string | undefined
  readonly transforms: readonly string[] | undefined
  /** The state slab the value lies in; undefined when it has bytes of its own, or belongs to the ring alone. */
  slab: Slab | undefined = undefined
  #bytes: Uint8Array = NOTHING
  #at = 0
  #size = 0

  /** `before`: what the key held until now; the strings both share are kept once. */
  constructor(from: LogEvent | SnapshotRecord, modRevision: Revision, before?: HeldEntry) {
    this.key = before?.key ?? from.key
    this.modRevision = modRevision
    this.createRevision =
      before?.createRevision === from.createRevision
        ? before.createRevision
        : from.createRevision === modRevision
          ? modRevision
          : from.createRevision
    this.version = from.version
    this.lease = before?.lease === from.lease ? before.lease : from.lease
    this.withheld = from.withheld
    this.transforms = from.transforms
  }

  get value(): Uint8Array {
    return this.#size === this.#bytes.length ? this.#bytes : this.#bytes.subarray(this.#at, this.#at + this.#size)
  }
  get size(): number {
    return this.#size
  }
  get charge(): number {
    return ENTRY_OVERHEAD + this.key.length + this.#size
  }

  /** The value is bytes[at, at + size). Only its place may ever change, never its content. */
  lie(bytes: Uint8Array, at: number, size: number): void {
    this.#bytes = bytes
    this.#at = at
    this.#size = size
  }
}

/** Whether the view holds exactly what a checkpoint item (or a re-read event) says. */
export function sameEntry(held: StateEntry, other: LogEvent | SnapshotRecord | StateEntry, mod: Revision): boolean {
  return (
    held.modRevision === mod &&
    held.createRevision === other.createRevision &&
    held.version === other.version &&
    held.lease === other.lease &&
    held.withheld === other.withheld &&
    sameTexts(held.transforms, other.transforms) &&
    sameBytes(held.value, other.value)
  )
}

const sameTexts = (a: readonly string[] | undefined, b: readonly string[] | undefined): boolean =>
  a === b || (a !== undefined && b !== undefined && a.length === b.length && a.every((text, i) => text === b[i]))

const sameBytes = (a: Uint8Array, b: Uint8Array): boolean => a.length === b.length && Buffer.compare(a, b) === 0
