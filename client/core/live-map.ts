// The state that a watch's changes add up to: one map of entries per cluster.
// Owns: applying each change whole, keeping the old state until a repair is complete, and saying what changed.
// Refuses: freshness and connections (live-state.ts), and any merging across clusters: they have no common order.

import { type Key, keyFromBytes, keyFromText } from '../../protocol/bytes.ts'
import type { Change, Entry, Item, KeyEvent, Named } from './changes.ts'

export type KeyChange = {
  readonly name: Named
  /** undefined: the key was not in view. */
  readonly before: Entry | undefined
  /** undefined: it is gone, or left the view. */
  readonly after: Entry | undefined
}

/** What one change did to one cluster, atomically. */
export type Difference = {
  readonly cluster: string
  readonly cause: Change['kind']
  readonly changed: readonly KeyChange[]
}

type Held = { readonly entries: Map<Key, Entry>; sorted: readonly Key[] | undefined }

/** The bytes of a key, one character each: what maps and order go by. */
export const keyOf = (name: Named | string | Uint8Array): Key => {
  if (typeof name === 'string') return keyFromText(name)
  if (name instanceof Uint8Array) return keyFromBytes(name)
  return name.binary === true ? (name.key as Key) : keyFromText(name.key)
}

export class LiveMap {
  readonly #clusters = new Map<string, Held>()

  clusters(): IterableIterator<string> {
    return this.#clusters.keys()
  }
  size(cluster: string): number {
    return this.#clusters.get(cluster)?.entries.size ?? 0
  }
  get(cluster: string, key: string | Uint8Array): Entry | undefined {
    return this.#clusters.get(cluster)?.entries.get(keyOf(key))
  }

  /** Entries of one cluster in bytewise key order. */
  *entries(cluster: string): IterableIterator<Entry> {
    const held = this.#clusters.get(cluster)
    if (held === undefined) return
    held.sorted ??= [...held.entries.keys()].sort((a, b) => (a < b ? -1 : 1))
    for (const key of held.sorted) {
      const entry = held.entries.get(key)
      if (entry !== undefined) yield entry
    }
  }

  /** Applies one change; undefined when it touches no keys. */
  apply(change: Change): Difference | undefined {
    switch (change.kind) {
      case 'snapshot':
        return change.base === 'full' ? this.#replace(change.cluster, change.items) : this.#items(change)
      case 'state':
        return this.#items(change)
      case 'events': {
        const { cluster, revision, kind } = change
        return this.#each(cluster, kind, change.events, (event) => afterEvent(event, revision))
      }
      case 'scope':
        return this.#each(change.cluster, change.kind, change.left, () => undefined)
      case 'resync':
        return change.reason === 'removed' ? this.#drop(change.cluster, change.kind) : undefined
      case 'cluster':
        return change.state === 'removed' || change.state === 'denied'
          ? this.#drop(change.cluster, change.kind)
          : undefined
      case 'bookmark':
        return undefined
      default:
        return change satisfies never
    }
  }

  #items(change: { kind: 'snapshot' | 'state'; cluster: string; items: readonly Item[] }): Difference {
    return this.#each(change.cluster, change.kind, change.items, (item) => ('gone' in item ? undefined : item))
  }

  #each<T extends Named>(
    cluster: string,
    cause: Change['kind'],
    touched: readonly T[],
    after: (one: T) => Entry | undefined,
  ): Difference {
    const held = this.#held(cluster)
    const changed: KeyChange[] = []
    for (const one of touched) {
      const key = keyOf(one)
      const before = held.entries.get(key)
      const next = after(one)
      if (before === undefined) {
        if (next === undefined) continue
        held.sorted = undefined
      }
      if (next === undefined) {
        held.entries.delete(key)
        held.sorted = undefined
      } else held.entries.set(key, next)
      changed.push({ name: before ?? next ?? one, before, after: next })
    }
    return { cluster, cause, changed }
  }

  #replace(cluster: string, items: readonly Item[]): Difference {
    const before = this.#clusters.get(cluster)?.entries ?? new Map<Key, Entry>()
    const entries = new Map<Key, Entry>()
    for (const item of items) if (!('gone' in item)) entries.set(keyOf(item), item)
    this.#clusters.set(cluster, { entries, sorted: undefined })
    const changed: KeyChange[] = []
    for (const [key, old] of before) if (!entries.has(key)) changed.push({ name: old, before: old, after: undefined })
    for (const [key, next] of entries) {
      const old = before.get(key)
      // In another epoch the same revision may carry another value, so equal needs more than an equal revision.
      if (old === undefined || !isSameEntry(old, next)) changed.push({ name: next, before: old, after: next })
    }
    return { cluster, cause: 'snapshot', changed }
  }

  #drop(cluster: string, cause: Change['kind']): Difference | undefined {
    const held = this.#clusters.get(cluster)
    if (held === undefined) return undefined
    this.#clusters.delete(cluster)
    const changed = [...held.entries.values()].map((old) => ({ name: old, before: old, after: undefined }))
    return { cluster, cause, changed }
  }

  #held(cluster: string): Held {
    let held = this.#clusters.get(cluster)
    if (held === undefined) {
      held = { entries: new Map(), sorted: undefined }
      this.#clusters.set(cluster, held)
    }
    return held
  }
}

const afterEvent = (event: KeyEvent, revision: string): Entry | undefined => {
  if (event.op !== 'put') return undefined
  const { op: _op, ...entry } = event
  return { ...entry, revision }
}

const isSameEntry = (a: Entry, b: Entry): boolean =>
  a.revision === b.revision && JSON.stringify(a) === JSON.stringify(b)
