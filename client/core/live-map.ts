// The state that a watch's changes add up to: one map of entries per cluster.
// Owns: applying each change whole, keeping the old state until a repair is complete, and saying what changed.
// Refuses: freshness and connections (live-state.ts), and any merging across clusters: they have no common order.

import type { Key } from '../../protocol/bytes.ts'
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

type Told = { readonly cluster: string; readonly kind: Change['kind'] }
type Held = { readonly entries: Map<Key, Entry>; sorted: readonly Key[] | undefined }

/** The bytes of a key, one character each: what maps and order go by. */
export const keyOf = (name: Named | string | Uint8Array): Key => {
  // Not protocol's keyFromBytes, which is made for speed: this one is made for size.
  if (name instanceof Uint8Array) return Array.from(name, (byte) => String.fromCharCode(byte)).join('') as Key
  if (typeof name !== 'string') return name.binary === true ? (name.key as Key) : keyOf(name.key)
  return /[\u0080-\uffff]/.test(name) ? keyOf(new TextEncoder().encode(name)) : (name as Key)
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
        return change.base === 'full' ? this.#replace(change, change.items) : this.#items(change)
      case 'state':
        return this.#items(change)
      case 'events':
        return this.#each(change, change.events, (event) => afterEvent(event, change.revision))
      case 'scope':
        return this.#each(change, change.left, () => undefined)
      case 'resync':
        return change.reason === 'removed' ? this.#drop(change) : undefined
      case 'cluster':
        return change.state === 'removed' || change.state === 'denied' ? this.#drop(change) : undefined
      case 'bookmark':
        return undefined
      default:
        return change satisfies never
    }
  }

  #items(change: Told & { readonly items: readonly Item[] }): Difference {
    return this.#each(change, change.items, (item) => ('gone' in item ? undefined : item))
  }

  #each<T extends Named>(
    { cluster, kind: cause }: Told,
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

  #replace({ cluster, kind: cause }: Told, items: readonly Item[]): Difference {
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
    return { cluster, cause, changed }
  }

  #drop(change: Told): Difference | undefined {
    if (!this.#clusters.has(change.cluster)) return undefined
    const gone = this.#replace(change, [])
    this.#clusters.delete(change.cluster)
    return gone
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
