// Where values lie: copied out of network buffers, small ones side by side in slabs.
// Owns: the copy, how many bytes of each slab are still wanted, and moving the survivors out of a slab mostly dead.
// Refuses: knowing keys. Slabs are written once and never reused, so a view handed out stays true for ever; the garbage
// collector frees a slab when nobody looks at it any more.

import type { HeldEntry } from './held-entry.ts'

const SLAB_BYTES = 64 * 1024
/** Larger values get a copy of exactly their size: they would waste the ends of slabs. */
const SMALL = 4 * 1024
/** Values of superseded entries in slabs this much older than the open one are moved to the ring's own bytes. */
const RECENT_SLABS = 32

export type Slab = {
  /** Ascending with time. */
  readonly serial: number
  used: number
  /** Bytes of `used` that the state still points to. */
  live: number
  sealed: boolean
  /** Slots whose entry lay here when it was written; may name a slot twice, or one that moved on. */
  readonly tenants: Tenant[]
}
export type Tenant = { entry: HeldEntry | undefined }

/** Appends values to slabs; keeps nothing but the open one. */
export class SlabWriter {
  #bytes = new Uint8Array(0)
  #at = 0
  #serial = 0

  /** Grows when a new slab was opened. */
  get serial(): number {
    return this.#serial
  }

  copy(value: Uint8Array): Uint8Array {
    const { length } = value
    if (length > SMALL) {
      const own = new Uint8Array(length)
      own.set(value)
      return own
    }
    if (length > this.#bytes.length - this.#at) {
      this.#bytes = new Uint8Array(SLAB_BYTES)
      this.#at = 0
      this.#serial++
    }
    const start = this.#at
    this.#bytes.set(value, start)
    this.#at = start + length
    return this.#bytes.subarray(start, this.#at)
  }
}

/** The values of the current state. */
export class SlabStore {
  readonly #writer = new SlabWriter()
  readonly #ring = new SlabWriter()
  #open: Slab | undefined
  /** Bytes allocated in slabs that hold at least one wanted value; for the metric. */
  #slabs = 0

  get allocated(): number {
    return this.#slabs * SLAB_BYTES
  }

  /** Copies `value` and makes it the entry's; `slot` is asked later where the entry has gone. */
  place(slot: Tenant, entry: HeldEntry, value: Uint8Array): void {
    if (value.length === 0) return
    entry.value = this.#writer.copy(value)
    if (value.length > SMALL) return
    const slab = this.#openSlab()
    entry.slab = slab
    slab.used += value.length
    slab.live += value.length
    slab.tenants.push(slot)
  }

  /** The entry left the state. When the ring still shows it, an old slab must not live on for its sake. */
  release(entry: HeldEntry): void {
    const { slab } = entry
    if (slab === undefined) return
    entry.slab = undefined
    slab.live -= entry.value.length
    if (this.#writer.serial - slab.serial > RECENT_SLABS) entry.value = this.#ring.copy(entry.value)
    if (slab.sealed) this.#reclaim(slab)
  }

  #openSlab(): Slab {
    const { serial } = this.#writer
    if (this.#open?.serial === serial) return this.#open
    const before = this.#open
    const slab: Slab = { serial, used: 0, live: 0, sealed: false, tenants: [] }
    this.#open = slab
    this.#slabs++
    if (before !== undefined) {
      before.sealed = true
      this.#reclaim(before)
    }
    return slab
  }

  /** At most half of the slab is moved, so every byte freed costs at most one byte copied. */
  #reclaim(slab: Slab): void {
    if (slab.tenants.length === 0 || slab.live * 2 > slab.used) return
    const tenants = slab.tenants.splice(0)
    this.#slabs--
    for (const slot of tenants) {
      const { entry } = slot
      if (entry?.slab !== slab) continue
      entry.slab = undefined
      this.place(slot, entry, entry.value)
    }
    slab.live = 0
  }
}
