// The life of one watch on one stream, as a machine: checked messages in, complete revisions and one end out.
// Owns: reassembly of fragments, completeness and order of revisions, duplicates, what a bookmark proves, why it ended.
// Refuses: I/O, time (arrival stamps come in), retries. A machine is used for one stream and thrown away with it.
// A revision is complete when a later one follows it or its response ends unfragmented; an incomplete tail dies with
// the stream and is read again.

import { addRevision, compareRevisions, type Revision } from '#protocol/revision.ts'
import type { Change, ChangedRevision } from '../egress/change.ts'
import { type CancelCause, createdId, type Header, type Impossible, readMessage, type WatchMessage } from './message.ts'

export type EndCause =
  | CancelCause
  /** A response that is no watch response, or events before `created`. */
  | { readonly kind: 'protocol'; readonly detail: string }
  /** Revisions went backwards inside the stream. */
  | { readonly kind: 'disorder'; readonly revision: Revision }
  /** A revision went on after it was complete: what was relayed of it was half a transaction. */
  | { readonly kind: 'split'; readonly revision: Revision }
  | { readonly kind: 'oversize'; readonly revision: Revision; readonly bytes: number }

export type WatchOutput =
  | { readonly kind: 'created'; readonly header: Header }
  | { readonly kind: 'revision'; readonly revision: ChangedRevision }
  /** Everything up to here has been put out, on a server whose word counts (see trustsManualProgress). */
  | { readonly kind: 'proved'; readonly revision: Revision }
  /** The server's watch has reached this revision: liveness, not proof. */
  | { readonly kind: 'reached'; readonly revision: Revision }
  | { readonly kind: 'dropped'; readonly reason: 'stale' | 'duplicate' | 'low-bookmark'; readonly count: number }
  | { readonly kind: 'impossible'; readonly events: readonly Impossible[] }
  | { readonly kind: 'ended'; readonly cause: EndCause }

export type WatchMachineOptions = {
  readonly startRevision: Revision
  /** Manual bookmarks are ordered with events on this server (>= 3.4.31, 3.5.13). */
  readonly trustsManualProgress: boolean
  /** A revision above this is not held in memory: the watch ends with `oversize`. */
  readonly maxRevisionBytes: number
}

type Phase = 'creating' | 'open' | 'ended'

export class WatchMachine {
  readonly #options: WatchMachineOptions
  #phase: Phase = 'creating'
  #watchId: string | undefined
  /** The last complete or proven revision; everything at or below it is history. */
  #cursor: Revision
  #lastComplete: ChangedRevision | undefined
  #openRevision: Revision | undefined
  #openChanges: Change[] = []
  #openBytes = 0
  #openArrivedAt = 0
  #header: Header | undefined

  constructor(options: WatchMachineOptions) {
    this.#options = options
    this.#cursor = addRevision(options.startRevision, -1)
  }

  get phase(): Phase {
    return this.#phase
  }
  get cursor(): Revision {
    return this.#cursor
  }
  /** The newest header seen: who answered, and etcd's head at that time. */
  get header(): Header | undefined {
    return this.#header
  }

  /** `now` is the agent's monotonic clock in ms. */
  receive(raw: unknown, now: number): readonly WatchOutput[] {
    if (this.#phase === 'ended') return []
    const read = readMessage(raw, this.#watchId)
    if (!read.ok) return this.#end({ kind: 'protocol', detail: read.defect })
    const { message } = read
    if (message.header.clusterId !== '0') this.#header = message.header
    return this.#phase === 'creating' ? this.#receiveFirst(raw, message) : this.#receiveOpen(message, now)
  }

  #receiveFirst(raw: unknown, message: WatchMessage): readonly WatchOutput[] {
    if (message.kind === 'canceled') return this.#end(message.cause)
    if (message.kind !== 'created') return this.#end({ kind: 'protocol', detail: `${message.kind} before created` })
    this.#watchId = createdId(raw)
    this.#header = message.header
    this.#phase = 'open'
    return [{ kind: 'created', header: message.header }]
  }

  #receiveOpen(message: WatchMessage, now: number): readonly WatchOutput[] {
    switch (message.kind) {
      case 'created':
        return this.#end({ kind: 'protocol', detail: 'created twice' })
      case 'canceled':
        return this.#end(message.cause)
      case 'progress':
        return this.#progress(message.header.revision, message.manual)
      case 'events':
        return this.#events(message, now)
      default: {
        const never: never = message
        return never
      }
    }
  }

  #progress(revision: Revision, manual: boolean): readonly WatchOutput[] {
    const reached: WatchOutput = { kind: 'reached', revision }
    // Old servers answer below the start revision of a watch on the future, or behind events already sent.
    if (compareRevisions(revision, this.#cursor) < 0)
      return [reached, { kind: 'dropped', reason: 'low-bookmark', count: 1 }]
    if ((manual && !this.#options.trustsManualProgress) || this.#openRevision !== undefined) return [reached]
    this.#cursor = revision
    return [reached, { kind: 'proved', revision }]
  }

  #events(message: WatchMessage & { kind: 'events' }, now: number): readonly WatchOutput[] {
    const out: WatchOutput[] = []
    let stale = 0
    let duplicates = 0
    if (message.impossible.length > 0) out.push({ kind: 'impossible', events: message.impossible })
    for (const { revision, change, bytes } of message.changes) {
      if (revision !== this.#openRevision) {
        const order = compareRevisions(revision, this.#cursor)
        if (order <= 0) {
          if (order < 0 || this.#lastComplete?.revision !== revision) stale++
          else if (holds(this.#lastComplete, change)) duplicates++
          else return [...out, ...this.#end({ kind: 'split', revision })]
          continue
        }
        if (this.#openRevision !== undefined) {
          if (compareRevisions(revision, this.#openRevision) < 0) {
            return [...out, ...this.#end({ kind: 'disorder', revision })]
          }
          out.push(this.#complete(this.#openRevision))
        }
        this.#openRevision = revision
        this.#openArrivedAt = now
      }
      this.#openChanges.push(change)
      this.#openBytes += bytes
      if (this.#openBytes > this.#options.maxRevisionBytes) {
        return [...out, ...this.#end({ kind: 'oversize', revision, bytes: this.#openBytes })]
      }
    }
    if (!message.fragment && this.#openRevision !== undefined) out.push(this.#complete(this.#openRevision))
    if (stale > 0) out.push({ kind: 'dropped', reason: 'stale', count: stale })
    if (duplicates > 0) out.push({ kind: 'dropped', reason: 'duplicate', count: duplicates })
    return out
  }

  #complete(revision: Revision): WatchOutput {
    const complete: ChangedRevision = {
      revision,
      changes: this.#openChanges,
      bytes: this.#openBytes,
      arrivedAt: this.#openArrivedAt,
    }
    this.#lastComplete = complete
    this.#cursor = revision
    this.#openRevision = undefined
    this.#openChanges = []
    this.#openBytes = 0
    return { kind: 'revision', revision: complete }
  }

  #end(cause: EndCause): readonly WatchOutput[] {
    this.#phase = 'ended'
    this.#openRevision = undefined
    this.#openChanges = []
    this.#lastComplete = undefined
    return [{ kind: 'ended', cause }]
  }
}

const holds = (revision: ChangedRevision, change: Change): boolean =>
  revision.changes.some((held) => held.key === change.key && held.op === change.op)
