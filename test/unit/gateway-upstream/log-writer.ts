// An agent's side of the log, for tests: a tiny etcd whose changes are written as entries.
// Owns: a state with revisions, the entry chain, checkpoints, chunks, and entries that are deliberately void.
// Refuses: where the entries go (memory, JetStream) and all of the product's reading code.

import { createHash } from 'node:crypto'
import type { Key } from '#protocol/bytes.ts'
import { itemsBytes } from '#protocol/log/digest.ts'
import { encodeEntry, encodeRevision } from '#protocol/log/encode.ts'
import {
  type Base,
  type CheckpointReason,
  type EntryBody,
  type EntryId,
  type Epoch,
  GENESIS,
  type LogEntry,
  type LogEvent,
  type Mark,
  type Pending,
  type SnapshotRecord,
} from '#protocol/log/entry.ts'
import type { Revision } from '#protocol/revision.ts'

const text = new TextEncoder()
export const rev = (n: number): Revision => String(n) as Revision
export const epochOf = (n: number): Epoch => n.toString(16).padStart(16, '0') as Epoch

export type Change =
  | { readonly op: 'put'; readonly key: string; readonly value: string | Uint8Array }
  | { readonly op: 'delete' | 'leave'; readonly key: string }

/** Where entries end up; returns nothing, sequences are the writer's own count. */
export type Sink = (seq: number, data: Uint8Array, entry: LogEntry) => void

export type LogWriterOptions = {
  readonly sink: Sink
  readonly epoch?: number
  readonly firstSeq?: number
  readonly seed?: number
}

export class LogWriter {
  /** What etcd holds that may leave the region. */
  readonly state = new Map<string, SnapshotRecord>()
  head = 0
  /** The log's position. */
  position = 0
  epoch: Epoch
  seq: number
  lastId: EntryId = GENESIS
  newestComplete = 0
  pending: Pending = 'none'
  configHash = 'config-1'
  policyRevision = 'policy-1'
  agentId = 'agent-1'
  nowMs: () => number = () => 0
  readonly #sink: Sink
  #ids: number

  constructor(options: LogWriterOptions) {
    this.#sink = options.sink
    this.epoch = epochOf(options.epoch ?? 1)
    this.seq = (options.firstSeq ?? 1) - 1
    this.#ids = (options.seed ?? 1) * 1_000_000
  }

  newId(): EntryId {
    return (++this.#ids).toString(16).padStart(32, '0') as EntryId
  }

  /** Applies changes as one revision of etcd, without writing it to the log. */
  commit(changes: readonly Change[]): { readonly revision: Revision; readonly events: LogEvent[] } {
    const revision = rev(++this.head)
    const events = changes.map((change): LogEvent => {
      const key = change.key as Key
      const before = this.state.get(key)
      if (change.op !== 'put') {
        this.state.delete(key)
        return { op: change.op, key, value: new Uint8Array(0), createRevision: rev(0), version: '0', lease: '0' }
      }
      const value = typeof change.value === 'string' ? text.encode(change.value) : change.value
      const version = String(Number(before?.version ?? '0') + 1)
      const createRevision = before?.createRevision ?? revision
      const held = { key, value, createRevision, version, lease: '0' }
      this.state.set(key, { ...held, modRevision: revision })
      return { op: 'put', ...held }
    })
    return { revision, events }
  }

  /** Writes each list of changes as one revision, all in one entry. */
  events(...revisions: (readonly Change[])[]): LogEntry {
    const records = revisions.map((changes) => this.commit(changes))
    return this.append(this.eventsBody(records))
  }

  eventsBody(records: readonly { readonly revision: Revision; readonly events: readonly LogEvent[] }[]): EntryBody {
    const prevRevision = rev(this.position)
    const through = records.at(-1)?.revision ?? prevRevision
    return { kind: 'events', prevRevision, revisions: records, throughRevision: through }
  }

  /** One revision cut into `count` slices, each an entry of its own. */
  chunks(changes: readonly Change[], count: number): void {
    const record = this.commit(changes)
    const whole = encodeRevision(record)
    const size = Math.ceil(whole.length / count)
    const groupId = `g${this.newId()}`
    for (let index = 0; index < count; index++) {
      const data = whole.slice(index * size, (index + 1) * size)
      const prevRevision = rev(this.position)
      const last = index === count - 1
      this.#write({ kind: 'chunk', prevRevision, revision: record.revision, groupId, index, count, data })
      if (last) this.position = Number(record.revision)
    }
  }

  progress(to: number): LogEntry {
    this.head = Math.max(this.head, to)
    return this.append({ kind: 'progress', prevRevision: rev(this.position), revision: rev(to) })
  }

  /** A whole checkpoint; `between` may write live entries after each ITEMS entry. */
  checkpoint(reason: CheckpointReason, itemsPerEntry = 3, between: (index: number) => void = () => undefined): void {
    const open = this.begin(reason)
    for (let i = 0; open.items(itemsPerEntry); i++) between(i)
    open.end()
  }

  begin(reason: CheckpointReason): {
    items: (count: number) => boolean
    end: () => void
    readonly seq: number
    readonly revision: number
  } {
    const checkpointId = `c${this.newId()}`
    const pinned = reason === 'routine' ? this.position : this.head
    if (reason !== 'routine') this.pending = reason
    const held = [...this.state.values()].filter((item) => Number(item.modRevision) <= pinned)
    const sorted = held.toSorted((a, b) => (a.key < b.key ? -1 : 1))
    const hash = createHash('sha256')
    let written = 0
    let index = 0
    this.append({ kind: 'snapshot-begin', checkpointId, revision: rev(pinned), reason })
    const beginSeq = this.seq
    return {
      seq: beginSeq,
      revision: pinned,
      items: (count) => {
        const items = sorted.slice(written, written + count)
        written += items.length
        if (items.length > 0) this.append({ kind: 'snapshot-items', checkpointId, index: index++, items }, hash)
        return written < sorted.length
      },
      end: () => {
        if (reason !== 'routine') this.pending = 'none'
        this.newestComplete = beginSeq
        const digest = new Uint8Array(hash.digest())
        this.append({ kind: 'snapshot-end', checkpointId, revision: rev(pinned), itemCount: written, digest })
        this.position = Math.max(this.position, pinned)
      },
    }
  }

  append(body: EntryBody, hash?: { update: (data: Uint8Array) => unknown }): LogEntry {
    const entry = this.#write(body, hash)
    if (body.kind === 'events') this.position = Number(body.throughRevision)
    if (body.kind === 'progress') this.position = Number(body.revision)
    return entry
  }

  /** An entry that stands in the log and continues nothing valid. */
  void(body: EntryBody, prevEntryId: EntryId = this.newId()): LogEntry {
    return this.#write(body, undefined, prevEntryId)
  }

  /** A run of entries of an abandoned pipeline: they continue each other, and claim what the log goes on to say otherwise. */
  zombies(run: number): void {
    const { head } = this
    const kept = new Map(this.state)
    let prev = this.newId()
    for (let i = 0; i < run; i++) {
      const record = this.commit([{ op: 'put', key: '/zombie', value: `${i}` }])
      prev = this.void(this.eventsBody([record]), prev).entryId
    }
    this.head = head
    this.state.clear()
    for (const [key, item] of kept) this.state.set(key, item)
  }

  /** A new lineage: etcd was restored or replaced. */
  newEpoch(n: number, head: number, state?: ReadonlyMap<string, SnapshotRecord>): void {
    this.epoch = epochOf(n)
    this.head = head
    this.position = 0
    this.newestComplete = 0
    if (state === undefined || state === this.state) return
    this.state.clear()
    for (const [key, item] of state) this.state.set(key, item)
  }

  /** Where the chain's base stands: an agent without a position puts genesis at the stream's end. */
  knownFrom(seq: number): void {
    this.#base = { seq, entryId: this.lastId, revision: rev(this.position) }
  }

  mark(overrides: Partial<Mark> = {}): Mark {
    return {
      v: 1,
      agentId: this.agentId,
      epoch: this.epoch,
      provenRevision: rev(this.position),
      seq: this.seq,
      entryId: this.lastId,
      configHash: this.configHash,
      state: 'live',
      lag: 0,
      atMs: this.nowMs(),
      ...overrides,
    }
  }

  #write(body: EntryBody, hash?: { update: (data: Uint8Array) => unknown }, prevEntryId?: EntryId): LogEntry {
    const entry: LogEntry = {
      entryId: this.newId(),
      prevEntryId: prevEntryId ?? this.lastId,
      epoch: this.epoch,
      agentId: this.agentId,
      configHash: this.configHash,
      policyRevision: this.policyRevision,
      newestCompleteBeginSeq: this.newestComplete,
      pending: this.pending,
      base: this.#base,
      residenceUs: 0,
      atMs: this.nowMs(),
      ...body,
    }
    const data = encodeEntry(entry)
    hash?.update(itemsBytes(data))
    this.seq++
    if (prevEntryId === undefined) {
      this.lastId = entry.entryId
      this.#rest(entry)
    }
    this.#sink(this.seq, data, entry)
    return entry
  }

  /** A base is never inside a revision that is cut into slices. */
  #rest(entry: LogEntry): void {
    if (entry.kind === 'chunk' && entry.index < entry.count - 1) return
    const revision =
      entry.kind === 'events'
        ? entry.throughRevision
        : 'revision' in entry && entry.kind !== 'snapshot-begin'
          ? entry.revision
          : rev(this.position)
    this.#base = { seq: this.seq, entryId: entry.entryId, revision }
  }
  #base: Base = { seq: 0, entryId: GENESIS, revision: rev(0) }
}
