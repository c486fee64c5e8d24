// One checkpoint of the log on its way into the view.
// Owns: marks, the overlay of what differs, count and digest, and the differences found at the end.
// Refuses: deciding when it may take effect (view-core.ts) and revisions that are not in it.
//
// Three modes, one index:
// - verify (routine): the view serves and changes meanwhile. Items are compared where neither side changed after S; keys
//   deleted since are remembered until END. Nothing is copied.
// - stage (pending, or re-read after trouble): the view stands still. What equals it is only marked; what differs lies in
//   the overlay until END. Memory follows the differences, not the state.
// - load (nothing served, or the overlay outgrew its budget): items go straight into the index.

import { createHash, type Hash } from 'node:crypto'
import type { Key } from '#protocol/bytes.ts'
import { itemsBytes } from '#protocol/log/digest.ts'
import type {
  CheckpointReason,
  Epoch,
  LogEntry,
  LogEvent,
  RevisionRecord,
  SnapshotRecord,
} from '#protocol/log/entry.ts'
import { compareRevisions, type Revision } from '#protocol/revision.ts'
import type { Difference } from '../delivery/ports.ts'
import { HeldEntry, sameEntry } from './held-entry.ts'
import { SlabWriter } from './slab.ts'
import type { HeldSlot, StateIndex } from './state-index.ts'

export type CheckpointMode = 'verify' | 'stage' | 'load'
export type BeginEntry = LogEntry & { readonly kind: 'snapshot-begin' }
export type ItemsEntry = LogEntry & { readonly kind: 'snapshot-items' }
export type EndEntry = LogEntry & { readonly kind: 'snapshot-end' }

/** What one remembered delete is charged with. */
const goneCharge = (key: Key): number => 96 + key.length

export class Checkpoint {
  mode: CheckpointMode
  readonly id: string
  /** S: items are the state at this revision. */
  readonly pinned: Revision
  readonly epoch: Epoch
  readonly reason: CheckpointReason
  readonly generation: number
  /** END was read and fits. */
  complete = false
  /** Items or re-read state that contradict the view (verify mode). */
  mismatches = 0
  readonly #index: StateIndex
  readonly #overlay = new Map<Key, HeldEntry>()
  /** Keys deleted or left after S: an item for them is older news. */
  readonly #gone = new Map<Key, 'delete' | 'leave'>()
  readonly #values = new SlabWriter()
  readonly #hash: Hash = createHash('sha256')
  #bytes = 0
  #items = 0
  #nextIndex = 0

  constructor(mode: CheckpointMode, begin: BeginEntry, generation: number, index: StateIndex) {
    this.mode = mode
    this.id = begin.checkpointId
    this.pinned = begin.revision
    this.epoch = begin.epoch
    this.reason = begin.reason
    this.generation = generation
    this.#index = index
  }

  /** Bytes held beside the index: overlay and remembered deletes. */
  get bytes(): number {
    return this.#bytes
  }

  /** False when the entry is not the next part of this checkpoint; `message` is the entry as encoded. */
  items(entry: ItemsEntry, message: Uint8Array): boolean {
    if (entry.index !== this.#nextIndex) return false
    this.#nextIndex++
    this.#items += entry.items.length
    this.#hash.update(itemsBytes(message))
    for (const item of entry.items) this.#item(item)
    return true
  }

  /** Checks count, digest and revision; what is wrong, or undefined. */
  end(entry: EndEntry): 'revision' | 'count' | 'digest' | undefined {
    if (entry.revision !== this.pinned) return 'revision'
    if (entry.itemCount !== this.#items) return 'count'
    if (Buffer.compare(this.#hash.digest(), entry.digest) !== 0) return 'digest'
    this.complete = true
    return undefined
  }

  /** Stage and load: a revision of the log after S. Earlier ones are in the items. */
  fold(record: RevisionRecord): void {
    for (const event of record.events) {
      if (event.op === 'put') this.#foldPut(event, record.revision)
      else this.#foldGone(event.key, event.op)
    }
  }

  /** Verify: the live view dropped this key. */
  noteGone(key: Key, op: 'delete' | 'leave'): void {
    this.#remember(key, op)
  }

  /** From stage to load: what was set aside goes into the index, which is no longer fit to be served. */
  spill(): void {
    this.mode = 'load'
    for (const entry of this.#overlay.values()) this.#index.put(entry, entry.value, this.generation)
    for (const key of this.#gone.keys()) this.#index.remove(key)
    this.#overlay.clear()
    this.#bytes = 0
    for (const key of this.#gone.keys()) this.#bytes += goneCharge(key)
  }

  /** Verify: the number of contradictions, once complete. */
  verdict(): number {
    let missing = 0
    for (const slot of this.#index.unmarked(this.generation)) if (!this.#changedSince(slot)) missing++
    return this.mismatches + missing
  }

  /** Stage: brings the index to the new state; the differences in key order. */
  applyStage(unnamed: 'delete' | 'leave'): Difference[] {
    const differences: Difference[] = []
    for (const { key, entry: prior } of this.#index.unmarked(this.generation)) {
      if (!this.#overlay.has(key)) differences.push({ key, gone: this.#gone.get(key) ?? unnamed, prior })
    }
    for (const [key, entry] of this.#overlay) differences.push({ key, entry, prior: this.#index.get(key) })
    for (const difference of differences) {
      if ('entry' in difference) {
        const entry = this.#overlay.get(difference.key) as HeldEntry
        this.#index.put(entry, entry.value, this.generation)
      } else this.#index.remove(difference.key)
    }
    return differences.sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0))
  }

  /** Stage: whether the state it describes is the one the view holds. */
  get equalsView(): boolean {
    return this.#overlay.size === 0 && this.#index.unmarked(this.generation).length === 0
  }

  /** Load: drops what the checkpoint did not name. */
  applyLoad(): void {
    for (const { key } of this.#index.unmarked(this.generation)) this.#index.remove(key)
  }

  #changedSince(slot: HeldSlot): boolean {
    return compareRevisions(slot.entry.modRevision, this.pinned) > 0
  }

  #item(item: SnapshotRecord): void {
    const slot = this.#index.slot(item.key)
    if (this.mode === 'verify') {
      if (slot === undefined) {
        if (!this.#gone.has(item.key)) this.mismatches++
        return
      }
      slot.mark = this.generation
      if (!this.#changedSince(slot) && !sameEntry(slot.entry, item, item.modRevision)) this.mismatches++
      return
    }
    if (this.#gone.has(item.key)) return
    const marked = slot !== undefined && slot.mark === this.generation
    // Already folded from a later revision.
    if (marked && this.#changedSince(slot)) return
    if (this.mode === 'load') {
      this.#index.putAt(slot, new HeldEntry(item, item.modRevision, slot?.entry), item.value, this.generation)
      return
    }
    const staged = this.#overlay.get(item.key)
    if (staged !== undefined && compareRevisions(staged.modRevision, this.pinned) > 0) return
    if (slot !== undefined && sameEntry(slot.entry, item, item.modRevision)) slot.mark = this.generation
    else this.#overlaid(new HeldEntry(item, item.modRevision), item.value)
  }

  #foldPut(event: LogEvent, revision: Revision): void {
    if (this.#gone.delete(event.key)) this.#bytes -= goneCharge(event.key)
    if (this.mode === 'load') {
      this.#index.put(new HeldEntry(event, revision), event.value, this.generation)
      return
    }
    const slot = this.#index.slot(event.key)
    if (slot !== undefined && sameEntry(slot.entry, event, revision)) {
      this.#uncover(event.key)
      slot.mark = this.generation
    } else {
      if (slot !== undefined) slot.mark = 0
      this.#overlaid(new HeldEntry(event, revision), event.value)
    }
  }

  #foldGone(key: Key, op: 'delete' | 'leave'): void {
    this.#remember(key, op)
    if (this.mode === 'load') {
      this.#index.remove(key)
      return
    }
    this.#uncover(key)
    const slot = this.#index.slot(key)
    if (slot !== undefined) slot.mark = 0
  }

  #remember(key: Key, op: 'delete' | 'leave'): void {
    if (!this.#gone.has(key)) this.#bytes += goneCharge(key)
    this.#gone.set(key, op)
  }

  #overlaid(entry: HeldEntry, value: Uint8Array): void {
    this.#uncover(entry.key)
    this.#values.write(entry, value)
    this.#overlay.set(entry.key, entry)
    this.#bytes += entry.charge
  }

  #uncover(key: Key): void {
    const entry = this.#overlay.get(key)
    if (entry === undefined) return
    this.#overlay.delete(key)
    this.#bytes -= entry.charge
  }
}
