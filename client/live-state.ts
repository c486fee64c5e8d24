// A live map of keys, per cluster: what `dw.state()` returns.
// Owns: the map's readers and listeners, and how fresh each cluster is. Refuses: continuity (core/fold.ts) and the map's
// arithmetic (core/live-map.ts). Changes are applied as they arrive, so there is no queue to overflow; the memory is
// that of the selected keys, and a snapshot larger than `maxSnapshot` ends it with an error.

import type { ClusterState } from '../protocol/frames.ts'
import type { Context } from './context.ts'
import type { Beginning, Change, Entry } from './core/changes.ts'
import { type Difference, LiveMap } from './core/live-map.ts'
import type { Folded } from './core/telling.ts'
import type { WatchError } from './errors.ts'
import { Listeners } from './listeners.ts'
import type { Sink } from './subscription.ts'

/** How far one cluster's entries can be relied on. Silence is never one of the states. */
export type Freshness = {
  /**
   * The cluster's state as the gateway last told it. `disconnected`: this client has no connection at the moment.
   * `unknown`: nothing was told yet.
   */
  readonly state: ClusterState | 'denied' | 'disconnected' | 'unknown'
  readonly epoch: string | undefined
  readonly revision: string | undefined
  /** Milliseconds since the last proof that nothing is missing up to `revision`; undefined before the first. */
  readonly ageMs: number | undefined
  /** True while a repair is under way: entries are those of before, whole, until it is complete. */
  readonly resyncing: boolean
}

export type LiveStateHost = {
  readonly context: Context
  readonly connected: () => boolean
  /** The gateway's word about a cluster of which this watch was told nothing yet. */
  readonly stateOf: (cluster: string) => ClusterState | undefined
  readonly close: () => void
}

type Known = {
  state: ClusterState | 'denied' | 'unknown'
  place?: { readonly epoch: string; readonly revision: string } | undefined
  provedAt?: number
  resyncing?: boolean
  /** `ready` waits for its first snapshot. */
  awaited?: boolean
}

const OUT: readonly string[] = ['removed', 'denied']

export class LiveState {
  /** Resolves when every cluster that the gateway can serve has its first snapshot, or when the watch ended before. */
  readonly ready: Promise<void>
  /** Resolves when no more changes will come: with the error, or with undefined after {@link close}. Never rejects. */
  readonly closed: Promise<WatchError | undefined>
  readonly #map = new LiveMap()
  readonly #known = new Map<string, Known>()
  readonly #host: LiveStateHost
  readonly #differences: Listeners<Difference>
  readonly #setReady: () => void
  readonly #setClosed: (error: WatchError | undefined) => void
  #stage: 'new' | 'begun' | 'ready' = 'new'

  constructor(host: LiveStateHost) {
    this.#host = host
    this.#differences = new Listeners(host.context)
    ;({ promise: this.ready, resolve: this.#setReady } = Promise.withResolvers<void>())
    ;({ promise: this.closed, resolve: this.#setClosed } = Promise.withResolvers<WatchError | undefined>())
  }

  /** Clusters with entries, or of which something is known. */
  get clusters(): readonly string[] {
    return [...new Set([...this.#known.keys(), ...this.#map.clusters()])].sort()
  }

  /** The entry of a key in one cluster. A key that is not UTF-8 is given as bytes. */
  get(cluster: string, key: string | Uint8Array): Entry | undefined {
    return this.#map.get(cluster, key)
  }

  /** Entries of one cluster in bytewise key order, or of all clusters, cluster by cluster. */
  *entries(cluster?: string): IterableIterator<Entry & { readonly cluster: string }> {
    const names = cluster === undefined ? [...this.#map.clusters()].sort() : [cluster]
    for (const name of names) for (const entry of this.#map.entries(name)) yield { ...entry, cluster: name }
  }

  size(cluster: string): number {
    return this.#map.size(cluster)
  }

  freshness(cluster: string): Freshness {
    const known = this.#known.get(cluster)
    const told = known === undefined || known.state === 'unknown' ? this.#host.stateOf(cluster) : known.state
    return {
      state: this.#host.connected() || told === 'denied' ? (told ?? 'unknown') : 'disconnected',
      epoch: known?.place?.epoch,
      revision: known?.place?.revision,
      ageMs: known?.provedAt === undefined ? undefined : Math.max(0, this.#host.context.clock.now() - known.provedAt),
      resyncing: known?.resyncing ?? false,
    }
  }

  /** Calls `listener` after each change, once per revision, with everything it changed. Returns a function that stops it. */
  subscribe(listener: (difference: Difference) => void): () => void {
    return this.#differences.add(listener)
  }

  close(): void {
    this.#host.close()
  }
  [Symbol.dispose](): void {
    this.close()
  }

  /** For DeltaWatch, which connects it. */
  sink(): Sink {
    return {
      take: (folded) => this.#take(folded),
      began: (clusters) => this.#begin(clusters),
      ended: (error) => this.#end(error),
    }
  }

  #take({ change, advances }: Folded): void {
    for (const advance of advances) {
      if (advance.kind === 'tag') continue
      const known = this.#of(advance.cluster)
      known.resyncing = advance.kind === 'owed'
      if (advance.kind === 'at') {
        known.place = advance.position
        if (change !== undefined && change.kind !== 'bookmark') known.provedAt = this.#host.context.clock.now()
      }
    }
    if (change === undefined) return
    this.#note(change)
    const difference = this.#map.apply(change)
    if (difference !== undefined && difference.changed.length > 0) this.#differences.emit(difference)
    this.#checkReady()
  }

  #note(change: Change): void {
    if (change.kind === 'bookmark') {
      for (const [cluster, mark] of Object.entries(change.clusters)) {
        const known = this.#of(cluster)
        known.state = mark.state
        known.provedAt = this.#host.context.clock.now() - mark.ageMs
      }
      return
    }
    const known = this.#of(change.cluster)
    if (change.kind === 'cluster') {
      known.state = change.state
      if (OUT.includes(change.state)) known.place = undefined
    }
    // One cluster's trouble must not keep everybody from beginning with the others.
    if (change.kind === 'snapshot' || known.state === 'unreachable' || OUT.includes(known.state)) known.awaited = false
  }

  /** The first answer says which clusters will send a snapshot; those are waited for, except out of reach. */
  #begin(clusters: Readonly<Record<string, Beginning>>): void {
    for (const [cluster, { outcome }] of Object.entries(clusters)) {
      const known = this.#of(cluster)
      const comes = outcome === 'snapshot' || (outcome === 'waiting' && this.#host.stateOf(cluster) !== 'unreachable')
      if (this.#stage === 'new') known.awaited = comes
    }
    if (this.#stage === 'new') this.#stage = 'begun'
    this.#checkReady()
  }

  #checkReady(): void {
    if (this.#stage !== 'begun') return
    for (const { awaited } of this.#known.values()) if (awaited === true) return
    this.#stage = 'ready'
    this.#setReady()
  }

  #end(error: WatchError | undefined): void {
    this.#setReady()
    this.#setClosed(error)
  }

  #of(cluster: string): Known {
    let known = this.#known.get(cluster)
    if (known === undefined) {
      known = { state: 'unknown' }
      this.#known.set(cluster, known)
    }
    return known
  }
}
