// Where values lie: copied out of network buffers, small ones side by side in slabs.
// Owns: the copy, how many bytes of each slab are still wanted, and moving the survivors out of a slab mostly dead.
// Refuses: knowing keys. Slabs are written once and never reused, so a view handed out stays true for ever; the garbage
// collector frees a slab when nobody looks at it any more.
//
// A large message is copied once, as a whole, and is a slab of its own: its values are views that decoding made anyway.
// Small messages share slabs, value by value. Values above SMALL get bytes of exactly their size.

import type { HeldEntry } from './held-entry.ts'

const SLAB_BYTES = 64 * 1024
const SMALL = 4 * 1024
/** Values of superseded entries in slabs this much older than the newest are moved to the ring's own bytes. */
const RECENT_SLABS = 32

export type Slab = {
  /** Ascending with time. */
  readonly serial: number
  readonly size: number
  /** Bytes the state still points to. */
  live: number
  /** `sealed`: nothing is added any more; `gone`: nothing of the state lies here any more. */
  phase: 'open' | 'sealed' | 'gone'
  /** Slots whose entry lay here when it was written; may name a slot twice, or one that moved on. */
  tenants: Tenant[]
}
export type Tenant = { entry: HeldEntry | undefined }

/** Appends values to slabs; keeps nothing but the open one. */
export class SlabWriter {
  #bytes = new Uint8Array(0)
  #at = 0
  /** Grows when a new slab was opened. */
  serial = 0

  /** Copies `value` and makes it the entry's. */
  write(entry: HeldEntry, value: Uint8Array): void {
    const at = this.#append(value)
    if (at < 0) entry.lie(new Uint8Array(value), 0, value.length)
    else entry.lie(this.#bytes, at, value.length)
  }

  copy(value: Uint8Array): Uint8Array {
    const at = this.#append(value)
    return at < 0 ? new Uint8Array(value) : this.#bytes.subarray(at, at + value.length)
  }

  /** Where in the open slab the value now lies; -1 for one that needs bytes of its own. */
  #append(value: Uint8Array): number {
    const { length } = value
    if (length > SMALL) return -1
    if (length > this.#bytes.length - this.#at) {
      this.#bytes = new Uint8Array(SLAB_BYTES)
      this.#at = 0
      this.serial++
    }
    const at = this.#at
    this.#bytes.set(value, at)
    this.#at = at + length
    return at
  }
}

/** The values of the current state. */
export class SlabStore {
  readonly #writer = new SlabWriter()
  readonly #ring = new SlabWriter()
  #writerSerial = 0
  #open: Slab | undefined
  #adopted: { readonly slab: Slab; readonly message: Uint8Array } | undefined
  #serial = 0
  #allocated = 0

  /** Bytes of slabs that hold at least one wanted value; for the metric. */
  get allocated(): number {
    return this.#allocated
  }

  /** Until the next call, values that are views into `message` stay where they are: the message is ours to keep. */
  adopt(message: Uint8Array | undefined): void {
    const before = this.#adopted
    this.#adopted = undefined
    if (before !== undefined) this.#seal(before.slab)
    if (message === undefined) return
    this.#adopted = { slab: this.#newSlab(message.length), message }
  }

  /** Makes `value` the entry's, copied if need be; `slot` tells later where the entry has gone. */
  place(slot: Tenant, entry: HeldEntry, value: Uint8Array): void {
    const { length } = value
    if (length === 0) return
    const adopted = this.#adopted
    const stays = adopted !== undefined && length <= SMALL && value.buffer === adopted.message.buffer
    if (stays) entry.lie(adopted.message, value.byteOffset - adopted.message.byteOffset, length)
    else this.#writer.write(entry, value)
    if (length > SMALL) return
    const slab = stays ? adopted.slab : this.#shared()
    entry.slab = slab
    slab.live += length
    slab.tenants.push(slot)
  }

  /** The entry left the state. When the ring still shows it, an old slab must not live on for its sake. */
  release(entry: HeldEntry): void {
    const { slab } = entry
    if (slab === undefined) return
    entry.slab = undefined
    slab.live -= entry.size
    if (this.#serial - slab.serial > RECENT_SLABS) this.#ring.write(entry, entry.value)
    if (slab.phase === 'sealed') this.#reclaim(slab)
  }

  /** The slab the writer's last value lies in. */
  #shared(): Slab {
    if (this.#open !== undefined && this.#writer.serial === this.#writerSerial) return this.#open
    const before = this.#open
    this.#writerSerial = this.#writer.serial
    this.#open = this.#newSlab(SLAB_BYTES)
    const opened = this.#open
    if (before !== undefined) this.#seal(before)
    return opened
  }

  #newSlab(size: number): Slab {
    this.#allocated += size
    return { serial: ++this.#serial, size, live: 0, phase: 'open', tenants: [] }
  }

  #seal(slab: Slab): void {
    slab.phase = 'sealed'
    this.#reclaim(slab)
  }

  /** At most a third of a slab is moved, so two bytes freed cost at most one byte copied. */
  #reclaim(slab: Slab): void {
    if (slab.phase === 'gone' || slab.live * 3 > slab.size) return
    const { tenants } = slab
    slab.phase = 'gone'
    slab.tenants = []
    this.#allocated -= slab.size
    for (const slot of tenants) {
      const { entry } = slot
      if (entry?.slab !== slab) continue
      entry.slab = undefined
      this.place(slot, entry, entry.value)
    }
  }
}
