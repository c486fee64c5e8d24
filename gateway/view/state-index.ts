// The current state of one cluster, by key and in key order.
// Owns: lookup, insert and delete in O(log n), ordered walks, checkpoint marks, and the bytes it is charged with.
// Refuses: revisions and rules (view-core.ts). Keys are byte strings, so `<` is etcd's order.
//
// A map finds a key; sorted chunks keep the order. An update of a known key touches the map alone, which is what most
// events are; only inserts and deletes search the chunks.

import type { Key } from '#protocol/bytes.ts'
import { ENTRY_OVERHEAD, type HeldEntry } from './held-entry.ts'
import { SlabStore } from './slab.ts'

/** `entry` is undefined once the key was removed; `mark` is the generation of the checkpoint that last named the key. */
export type Slot = { readonly key: Key; entry: HeldEntry | undefined; mark: number }
export type HeldSlot = Slot & { entry: HeldEntry }

const CHUNK = 256

export class StateIndex {
  readonly #byKey = new Map<Key, HeldSlot>()
  readonly #values = new SlabStore()
  #chunks: HeldSlot[][] = [[]]
  #bytes = 0

  get size(): number {
    return this.#byKey.size
  }
  /** Bytes this state is charged with: keys, values and a fixed cost per key. */
  get bytes(): number {
    return this.#bytes
  }
  /** Bytes reserved for small values, gaps included. */
  get slabBytes(): number {
    return this.#values.allocated
  }

  slot(key: Key): HeldSlot | undefined {
    return this.#byKey.get(key)
  }
  get(key: Key): HeldEntry | undefined {
    return this.#byKey.get(key)?.entry
  }

  /** Until the next call, values lying in `message` are kept where they are. */
  adopt(message: Uint8Array | undefined): void {
    this.#values.adopt(message)
  }

  /** Takes the entry in with its value; what was held before under its key leaves. */
  put(entry: HeldEntry, value: Uint8Array, mark: number): void {
    this.putAt(this.#byKey.get(entry.key), entry, value, mark)
  }

  /** {@link put}, where the key's slot is known. */
  putAt(slot: HeldSlot | undefined, entry: HeldEntry, value: Uint8Array, mark: number): void {
    if (slot === undefined) {
      const added: HeldSlot = { key: entry.key, entry, mark }
      this.#byKey.set(added.key, added)
      this.#insert(added)
      this.#bytes += ENTRY_OVERHEAD + added.key.length + value.length
      this.#values.place(added, entry, value)
      return
    }
    const before = slot.entry
    this.#bytes += value.length - before.size
    slot.entry = entry
    slot.mark = mark
    this.#values.place(slot, entry, value)
    this.#values.release(before)
  }

  remove(key: Key): HeldEntry | undefined {
    const slot = this.#byKey.get(key)
    if (slot === undefined) return undefined
    const { entry } = slot
    this.#byKey.delete(key)
    this.#delete(key)
    this.#bytes -= entry.charge
    this.#values.release(entry)
    const gone: Slot = slot
    gone.entry = undefined
    return entry
  }

  /** Slots with `from <= key < to` in order. Do not change the index while walking. */
  *walk(from: Key, to: Key | undefined): Generator<HeldSlot> {
    let c = this.#chunkOf(from)
    let i = lowerBound(this.#chunks[c] ?? [], from)
    for (; c < this.#chunks.length; c++, i = 0) {
      const chunk = this.#chunks[c] ?? []
      for (; i < chunk.length; i++) {
        const slot = chunk[i] as HeldSlot
        if (to !== undefined && slot.key >= to) return
        yield slot
      }
    }
  }

  /** Every slot the checkpoint of this generation did not name, in order. */
  unmarked(generation: number): HeldSlot[] {
    const found: HeldSlot[] = []
    for (const chunk of this.#chunks) for (const slot of chunk) if (slot.mark !== generation) found.push(slot)
    return found
  }

  #insert(slot: HeldSlot): void {
    const { key } = slot
    const c = this.#chunkOf(key)
    const chunk = this.#chunks[c] as HeldSlot[]
    const last = chunk[chunk.length - 1]
    if (last === undefined || last.key < key) {
      // Keys arriving in order fill their chunks: a checkpoint is read in key order.
      if (chunk.length < CHUNK) chunk.push(slot)
      else this.#chunks.splice(c + 1, 0, [slot])
      return
    }
    chunk.splice(lowerBound(chunk, key), 0, slot)
    if (chunk.length > CHUNK) this.#chunks.splice(c + 1, 0, chunk.splice(CHUNK >> 1))
  }

  #delete(key: Key): void {
    const c = this.#chunkOf(key)
    const chunk = this.#chunks[c] as HeldSlot[]
    chunk.splice(lowerBound(chunk, key), 1)
    if (this.#chunks.length === 1) return
    if (chunk.length === 0) {
      this.#chunks.splice(c, 1)
      return
    }
    const next = this.#chunks[c + 1]
    if (next !== undefined && chunk.length + next.length <= CHUNK >> 1) {
      this.#chunks.splice(c, 2, chunk.concat(next))
    }
  }

  /** The chunk that holds `key`, or would. */
  #chunkOf(key: Key): number {
    let low = 0
    let high = this.#chunks.length - 1
    while (low < high) {
      const mid = (low + high + 1) >>> 1
      const first = (this.#chunks[mid] as HeldSlot[])[0]
      if (first !== undefined && first.key <= key) low = mid
      else high = mid - 1
    }
    return low
  }
}

const lowerBound = (chunk: readonly HeldSlot[], key: Key): number => {
  let low = 0
  let high = chunk.length
  while (low < high) {
    const mid = (low + high) >>> 1
    if ((chunk[mid] as HeldSlot).key < key) low = mid + 1
    else high = mid
  }
  return low
}
