// A cluster without etcd, NATS or an agent: the port between view and delivery, driven by a test.
// Owns: a sorted state, a bounded ring, a log that can be trimmed, resets with differences, and status.
// Refuses: speed. Everything is copied and scanned; a test holds a few thousand keys.

import { type Key, keyFromText } from '#protocol/bytes.ts'
import type { KeyRange } from '#protocol/decode.ts'
import type { ClusterState, ResyncReason } from '#protocol/frames.ts'
import type { Epoch } from '#protocol/log/entry.ts'
import { addRevision, compareRevisions, type Revision } from '#protocol/revision.ts'
import type { ClusterId, Region } from '#protocol/subjects.ts'
import { DeltawatchError } from '#kit/errors.ts'
import type {
  ClusterSource,
  Difference,
  Located,
  RingEvent,
  RingRevision,
  SourceEvent,
  SourceStatus,
  Sources,
  StateEntry,
} from '#gateway/delivery/ports.ts'

export type Write =
  | { readonly put: string; readonly value: string | Uint8Array; readonly withheld?: string }
  | { readonly delete: string }
  | { readonly leave: string }

export type FakeOptions = {
  readonly cluster?: string
  readonly region?: string
  readonly epoch?: string
  /** Ring revisions kept. */
  readonly ring?: number
  readonly ready?: boolean
  readonly now?: () => number
}

type Position = { readonly epoch: Epoch; readonly revision: Revision }

export class FakeSource implements ClusterSource {
  readonly cluster: ClusterId
  readonly region: Region
  ready: boolean
  status: SourceStatus
  nextIndex = 1000
  /** Every ring revision of this epoch since the last trim of the log. */
  log: RingRevision[] = []
  readonly state = new Map<Key, StateEntry>()
  replays = 0
  /** Set to make the next replays fail. */
  replayError: string | undefined
  readonly #now: () => number
  readonly #ringSize: number
  readonly #ring = new Map<number, RingRevision>()
  readonly #listeners = new Set<(event: SourceEvent) => void>()
  #ringStart = 1000
  #logStart = '0' as Revision

  constructor(options: FakeOptions = {}) {
    this.cluster = (options.cluster ?? 'sz-edge-1') as ClusterId
    this.region = (options.region ?? 'sz') as Region
    this.ready = options.ready ?? true
    this.#ringSize = options.ring ?? 1000
    this.#now = options.now ?? (() => performance.now())
    const epoch = (options.epoch ?? '00000000000000aa') as Epoch
    this.status = { state: 'live', epoch, revision: '1' as Revision, provenAt: this.#now(), since: Date.now() }
  }

  get epoch(): Epoch {
    return this.status.epoch as Epoch
  }

  /** One transaction: one revision. */
  commit(...writes: readonly Write[]): Revision {
    return this.commitAll([writes])
  }

  /** Several revisions told of by one source event. */
  commitAll(transactions: readonly (readonly Write[])[]): Revision {
    const first = this.nextIndex
    for (const writes of transactions) this.#append(writes)
    this.#emit({ kind: 'revisions', first, last: this.nextIndex - 1 })
    return this.status.revision
  }

  /** Moves the proven revision without an event. */
  prove(by = 1): void {
    this.#advance(addRevision(this.status.revision, by))
    this.#emit({ kind: 'proven' })
  }

  setState(state: ClusterState): void {
    this.status = { ...this.status, state, since: Date.now() }
    this.#emit({ kind: 'status' })
  }

  /** The first complete checkpoint was read. */
  becomeReady(): void {
    this.ready = true
    this.#emit({ kind: 'status' })
  }

  /** Drops the ring up to `index` (exclusive); the log still has it. */
  trimRing(index = this.nextIndex): void {
    for (let i = this.#ringStart; i < index; i++) this.#ring.delete(i)
    this.#ringStart = Math.max(this.#ringStart, index)
  }

  /** Drops ring and log before the present revision. */
  trimLog(): void {
    this.trimRing()
    this.log = []
    this.#logStart = this.status.revision
  }

  /** A new state, by checkpoint; writes are applied to the old one. */
  reset(
    reason: ResyncReason,
    writes: readonly Write[],
    options: { readonly epoch?: string; readonly differences?: boolean } = {},
  ): void {
    const from = { epoch: this.epoch, revision: this.status.revision }
    const revision = options.epoch === undefined ? addRevision(from.revision, 10) : ('5' as Revision)
    this.status = { ...this.status, epoch: (options.epoch ?? from.epoch) as Epoch, revision }
    if (options.epoch !== undefined)
      for (const [key, entry] of this.state)
        this.state.set(key, { ...entry, modRevision: revision, createRevision: revision })
    const differences: Difference[] = []
    for (const write of writes) {
      const event = this.#apply(write, revision)
      if (event.entry !== undefined) differences.push({ key: event.key, entry: event.entry, prior: event.prior })
      else if (event.prior !== undefined) {
        differences.push({ key: event.key, gone: event.op === 'leave' ? 'leave' : 'delete', prior: event.prior })
      }
    }
    this.trimLog()
    this.#emit({
      kind: 'reset',
      reason,
      from,
      to: { epoch: this.epoch, revision },
      index: this.nextIndex,
      differences: options.differences === false ? undefined : differences,
    })
  }

  remove(): void {
    this.#emit({ kind: 'removed' })
  }

  at(index: number): RingRevision | undefined {
    return this.#ring.get(index)
  }

  locate(position: Position): Located {
    if (!this.ready) return { kind: 'unready' }
    if (position.epoch !== this.epoch) return { kind: 'resync', reason: 'epoch' }
    if (compareRevisions(position.revision, this.status.revision) > 0) return { kind: 'ahead' }
    for (let index = this.#ringStart; index < this.nextIndex; index++) {
      const revision = this.#ring.get(index) as RingRevision
      if (compareRevisions(revision.revision, position.revision) <= 0) continue
      if (index > this.#ringStart || !this.#gapBefore(position.revision, revision.revision))
        return { kind: 'ring', index }
      return this.#inLog(position)
    }
    const last = this.log.at(-1)?.revision ?? this.#logStart
    if (this.#ringStart === this.nextIndex && compareRevisions(position.revision, last) < 0)
      return this.#inLog(position)
    return { kind: 'ring', index: this.nextIndex }
  }

  scan(range: KeyRange, after: Key | undefined, limit: number, undoTo?: number): readonly StateEntry[] | undefined {
    const state = undoTo === undefined ? this.state : this.#undo(undoTo)
    if (state === undefined) return undefined
    const keys = [...state.keys()].filter(
      (key) => key >= range.from && (range.to === undefined || key < range.to) && (after === undefined || key > after),
    )
    return keys
      .sort((a, b) => (a < b ? -1 : 1))
      .slice(0, limit)
      .map((key) => state.get(key) as StateEntry)
  }

  get(key: Key): StateEntry | undefined {
    return this.state.get(key)
  }

  async *replay(
    position: Position,
    signal: AbortSignal,
  ): AsyncIterable<Pick<RingRevision, 'epoch' | 'revision' | 'events' | 'agentAtMs'>> {
    this.replays++
    if (this.replayError !== undefined) throw new DeltawatchError(this.replayError, 'the replay was refused')
    for (const revision of Array.from(this.log)) {
      if (revision.index >= this.#ringStart) return
      if (compareRevisions(revision.revision, position.revision) <= 0) continue
      await new Promise((resolve) => setImmediate(resolve))
      signal.throwIfAborted()
      yield { ...revision, events: revision.events.map((event) => ({ ...event, prior: undefined })) }
    }
  }

  listen(listener: (event: SourceEvent) => void): Disposable {
    this.#listeners.add(listener)
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) }
  }

  #append(writes: readonly Write[]): void {
    const revision = addRevision(this.status.revision, 1)
    const events = writes.map((write) => this.#apply(write, revision))
    const bytes = events.reduce((sum, event) => sum + event.key.length + (event.entry?.value.length ?? 0), 64)
    const entry: RingRevision = {
      index: this.nextIndex++,
      epoch: this.epoch,
      revision,
      events,
      bytes,
      arrivedAt: this.#now(),
      agentAtMs: Date.now(),
    }
    this.#ring.set(entry.index, entry)
    this.log.push(entry)
    while (this.#ring.size > this.#ringSize) this.#ring.delete(this.#ringStart++)
    this.#advance(revision)
  }

  #apply(write: Write, revision: Revision): RingEvent {
    const name = 'put' in write ? write.put : 'delete' in write ? write.delete : write.leave
    const key = keyFromText(name)
    const prior = this.state.get(key)
    if (!('put' in write)) {
      this.state.delete(key)
      return { op: 'delete' in write ? 'delete' : 'leave', key, entry: undefined, prior }
    }
    const entry: StateEntry = {
      key,
      value: typeof write.value === 'string' ? Buffer.from(write.value) : write.value,
      modRevision: revision,
      createRevision: prior?.createRevision ?? revision,
      version: String(Number(prior?.version ?? '0') + 1),
      lease: '0',
      withheld: write.withheld,
      transforms: undefined,
    }
    this.state.set(key, entry)
    return { op: 'put', key, entry, prior }
  }

  #advance(revision: Revision): void {
    this.status = { ...this.status, revision, provenAt: this.#now() }
  }

  #inLog(position: Position): Located {
    const held = compareRevisions(position.revision, this.#logStart) >= 0
    return held ? { kind: 'log' } : { kind: 'resync', reason: 'trimmed' }
  }

  /** Whether a revision after `from` and before `to` is no longer in the ring. */
  #gapBefore(from: Revision, to: Revision): boolean {
    if (compareRevisions(from, this.#logStart) < 0) return true
    return this.log.some((r) => compareRevisions(r.revision, from) > 0 && compareRevisions(r.revision, to) < 0)
  }

  #undo(index: number): Map<Key, StateEntry> | undefined {
    const state = new Map(this.state)
    for (let i = this.nextIndex - 1; i >= index; i--) {
      const revision = this.#ring.get(i)
      if (revision === undefined) return undefined
      for (const event of revision.events.toReversed()) {
        if (event.prior === undefined) state.delete(event.key)
        else state.set(event.key, event.prior)
      }
    }
    return state
  }

  #emit(event: SourceEvent): void {
    for (const listener of Array.from(this.#listeners)) listener(event)
  }
}

export class FakeSources implements Sources {
  readonly #sources: ClusterSource[]
  readonly #listeners = new Set<(source: ClusterSource) => void>()

  constructor(...sources: ClusterSource[]) {
    this.#sources = sources
  }

  list(): readonly ClusterSource[] {
    return this.#sources
  }

  get(cluster: ClusterId): ClusterSource | undefined {
    return this.#sources.find((source) => source.cluster === cluster)
  }

  onAdded(listener: (source: ClusterSource) => void): Disposable {
    this.#listeners.add(listener)
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) }
  }

  add(source: ClusterSource): void {
    this.#sources.push(source)
    for (const listener of this.#listeners) listener(source)
  }

  remove(source: FakeSource): void {
    this.#sources.splice(this.#sources.indexOf(source), 1)
    source.remove()
  }
}
