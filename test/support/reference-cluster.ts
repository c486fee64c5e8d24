// One cluster's history as plain data: what a correct gateway would know of it.
// Owns: epochs, revisions, the state at any revision, and how far the log reaches back.
// Refuses: the wire (reference-session.ts). Small and slow on purpose, so that it can be read as the truth.

import type { Epoch } from '#protocol/log/entry.ts'
import type { Revision } from '#protocol/revision.ts'
import type { ClusterId, Region } from '#protocol/subjects.ts'

export type Write = { readonly op: 'put' | 'delete' | 'leave'; readonly key: string; readonly value?: string }
export type Held = {
  readonly value: string
  readonly revision: number
  readonly createRevision: number
  readonly version: number
}
export type Entry = { readonly revision: number; readonly writes: readonly Write[] }

/** 32 bits, for names that only have to differ. */
export function hashOf(text: string): number {
  let hash = 5381
  for (let i = 0; i < text.length; i++) hash = (Math.imul(hash, 33) + text.charCodeAt(i)) >>> 0
  return hash
}

export const asRevision = (revision: number): Revision => String(revision) as Revision

/** More restores than any test makes. */
const LINEAGES_APART = 1_000

export class ReferenceCluster {
  readonly id: ClusterId
  readonly region: Region
  /** Whether snapshots can be served. */
  ready = true
  epoch: Epoch
  /** Newest revision of etcd. */
  head: number
  /** Newest revision the gateway has seen; at most `head`. */
  seen: number
  /** Positions before this one cannot be resumed. */
  floor: number
  #generation = 0
  #base: ReadonlyMap<string, Held> = new Map()
  #entries: Entry[] = []

  /** `lineage`: apart from those of others that have borne this name; an etcd of its own has a history of its own. */
  constructor(id: string, revision = 10, lineage = 0) {
    this.#generation = lineage * LINEAGES_APART
    this.id = id as ClusterId
    this.region = (id.split('-')[0] ?? id) as Region
    this.epoch = this.#newEpoch()
    this.head = this.seen = this.floor = revision
  }

  /** One transaction, `skip` revisions after the last one; those between are hidden from everybody. */
  write(writes: readonly Write[], skip = 1): number {
    const caughtUp = this.seen === this.head
    this.head += skip
    this.#entries.push({ revision: this.head, writes })
    if (caughtUp) this.seen = this.head
    return this.head
  }

  /** Revisions that change nothing visible. */
  advance(by: number): void {
    this.head += by
    this.seen = this.head
  }

  /** The gateway is `revisions` behind, as another one might be. */
  lag(revisions: number): void {
    this.seen = Math.max(this.floor, this.head - revisions)
  }
  catchUp(): void {
    this.seen = this.head
  }

  compact(): void {
    this.floor = this.seen
  }

  /** A restore: another lineage, an older revision, some keys gone. */
  restore(): void {
    const state = [...this.state(this.head)].filter((_, index) => index % 2 === 0)
    this.epoch = this.#newEpoch()
    this.head = this.seen = this.floor = Math.max(1, this.head - 3)
    this.#base = new Map(state.map(([key, held]) => [key, { ...held, revision: this.head }]))
    this.#entries = []
  }

  state(revision = this.seen): Map<string, Held> {
    const state = new Map(this.#base)
    for (const entry of this.#entries) {
      if (entry.revision > revision) break
      for (const { op, key, value } of entry.writes) {
        const before = state.get(key)
        if (op !== 'put') state.delete(key)
        else {
          state.set(key, {
            value: value ?? '',
            revision: entry.revision,
            createRevision: before?.createRevision ?? entry.revision,
            version: (before?.version ?? 0) + 1,
          })
        }
      }
    }
    return state
  }

  /** Entries after `from` that the gateway has seen. */
  after(from: number): readonly Entry[] {
    return this.#entries.filter(({ revision }) => revision > from && revision <= this.seen)
  }

  #newEpoch(): Epoch {
    this.#generation += 1
    return (hashOf(this.id).toString(16).padStart(8, '0') + this.#generation.toString(16).padStart(8, '0')) as Epoch
  }
}
