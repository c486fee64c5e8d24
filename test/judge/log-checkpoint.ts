// One checkpoint of a log, from BEGIN to END.
// Owns: the order of its items, their count and digest, and comparing them with etcd's state at the pinned revision.
// Refuses: deciding whether a checkpoint should have been there (log-judge.ts).

import { createHash } from 'node:crypto'
import { compareEntry, printable } from './compare.ts'
import { itemsOnTheWire, type RawEntry, type RawEvent } from './log-reader.ts'
import type { SeenEntry } from './seen.ts'
import { fingerprint, type History } from './truth.ts'
import type { Verdict } from './verdict.ts'
import { type View, visibleState } from './view.ts'

export const entryOf = (e: RawEvent): SeenEntry => ({
  key: e.key.toString('latin1'),
  value:
    e.withheld === ''
      ? { kind: 'exact', value: fingerprint(e.value) }
      : { kind: 'absent', why: `withheld by ${e.withheld}` },
  create: Number(e.create_revision),
  version: Number(e.version),
  lease: e.lease,
})

export class CheckpointJudge {
  readonly id: string
  /** Sequence of its BEGIN. */
  readonly seq: number
  /** The pinned revision. */
  readonly at: number
  readonly #fail: (detail: string) => void
  readonly #verdict: Verdict
  readonly #hash = createHash('sha256')
  readonly #items: RawEvent[] = []
  #next = 0

  constructor(seq: number, begin: RawEntry, fail: (detail: string) => void, verdict: Verdict) {
    this.id = begin.checkpoint_id
    this.seq = seq
    this.at = Number(begin.revision)
    this.#fail = fail
    this.#verdict = verdict
  }

  take(seq: number, entry: RawEntry, data: Uint8Array): void {
    if (entry.index !== this.#next) this.#fail(`sequence ${seq}: items ${entry.index}, expected ${this.#next}`)
    this.#next += 1
    this.#hash.update(itemsOnTheWire(data))
    for (const item of entry.items) this.#items.push(item)
  }

  /** Judges the whole; false when its revision lies outside the history, so that nothing can be compared. */
  end(seq: number, entry: RawEntry, history: History, view: View): boolean {
    this.#verdict.count('checkpoints')
    this.#verdict.count('items', this.#items.length)
    if (Number(entry.item_count) !== this.#items.length) {
      this.#fail(`sequence ${seq} counts ${entry.item_count} items, there are ${this.#items.length}`)
    }
    if (!this.#hash.digest().equals(entry.digest)) this.#fail(`sequence ${seq}: the digest differs`)
    if (Number(entry.revision) !== this.at) this.#fail(`sequence ${seq} ends at ${entry.revision}, begun at ${this.at}`)
    if (this.at < history.from || this.at > history.to) {
      this.#fail(`sequence ${seq}: revision ${this.at} lies outside etcd's history ${history.from}..${history.to}`)
      return false
    }
    const truth = visibleState(view, history.stateAt(this.at))
    const at = `sequence ${seq}: checkpoint at ${this.at}`
    for (const item of this.#items) {
      const got = { ...entryOf(item), revision: Number(item.mod_revision) }
      const held = truth.get(got.key)
      truth.delete(got.key)
      if (held === undefined) this.#fail(`${at}: key ${printable(got.key)} should not be there, or is there twice`)
      else for (const found of compareEntry(at, held, held.masked, got)) this.#fail(found.detail)
    }
    for (const key of truth.keys()) this.#fail(`${at}: key ${printable(key)} is missing`)
    return true
  }
}
