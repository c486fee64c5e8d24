// What the valid entries of one log make of the view. Deterministic: time and bytes come in, events go out.
// Owns: state, ring, position, the checkpoint in progress, and what each entry means for readers.
// Refuses: judging entries (upstream applies the chain rule first), I/O and timers.
//
//            rejoin()                 BEGIN                        END fits, high-water reached
//   serving ─────────► awaiting BEGIN ─────► held (stage | load) ──────────────────────────────► serving
//      │  BEGIN routine                                                                             ▲
//      └─────────────► serving + verify ── END: no difference ──────────────────────────────────────┘
//
// High-water rule: what was shown at (epoch, revision) is never shown again. A log read again from a checkpoint is folded
// up to the revision the view had reached and compared there; equal means that nothing happened as far as readers know.

import type { Epoch, RevisionRecord } from '#protocol/log/entry.ts'
import { compareRevisions, maxRevision, REVISION_ZERO, type Revision } from '#protocol/revision.ts'
import type { Located, RingEvent } from '../delivery/ports.ts'
import { type BeginEntry, Checkpoint, type EndEntry, type ItemsEntry } from './checkpoint.ts'
import type { CheckpointOutcome, Demand, Position, Step, ViewBounds, ViewEvent } from './contract.ts'
import { type Barrier, barrierOf, resetReason } from './continuity.ts'
import { ENTRY_OVERHEAD, HeldEntry } from './held-entry.ts'
import { type Arrival, HoldQueue } from './hold-queue.ts'
import { Ring } from './ring.ts'
import { StateIndex } from './state-index.ts'

type Held = {
  readonly checkpoint: Checkpoint
  /** The log is being read again: equality may prove that nothing changed. */
  readonly again: boolean
  /** The state set aside holds every event up to here. */
  folded: Revision
  /** The chain's position. */
  position: Revision
}

export class ViewCore {
  index = new StateIndex()
  readonly ring: Ring
  readonly #bounds: ViewBounds
  readonly #emit: (event: ViewEvent) => void
  readonly #queue: HoldQueue
  #ready = false
  #epoch: Epoch | undefined
  /** Complete up to here: applied or proven. */
  #revision: Revision = REVISION_ZERO
  /** The last revision whose events are in the state. */
  #applied: Revision = REVISION_ZERO
  #barrier: Barrier | undefined
  #awaiting: 'boot' | 'rejoin' | undefined = 'boot'
  #held: Held | undefined
  #verify: Checkpoint | undefined
  #generation = 0

  constructor(bounds: ViewBounds, emit: (event: ViewEvent) => void) {
    this.#bounds = bounds
    this.#emit = emit
    this.ring = new Ring({ bytes: bounds.ringBytes, revisions: bounds.ringRevisions }, REVISION_ZERO)
    this.#queue = new HoldQueue(bounds.holdBytes)
  }

  get ready(): boolean {
    return this.#ready
  }
  get epoch(): Epoch | undefined {
    return this.#epoch
  }
  get revision(): Revision {
    return this.#revision
  }
  /** Delivery stands still until a checkpoint has been read. */
  get resyncing(): boolean {
    return this.#awaiting !== undefined || this.#held !== undefined
  }
  /** The checkpoint is complete; only the log does not reach yet what the view has shown. */
  get behindHighWater(): boolean {
    return this.#held?.checkpoint.complete === true
  }
  get stagingBytes(): number {
    return (this.#held?.checkpoint.bytes ?? 0) + (this.#verify?.bytes ?? 0) + this.#queue.bytes
  }

  apply(step: Step): Demand | undefined {
    const { entry } = step
    this.index.adopt(step.owned ? step.message : undefined)
    switch (entry.kind) {
      case 'events':
        return this.#revisions(entry.revisions, step)
      case 'chunk':
        return step.completed === undefined ? undefined : this.#revisions([step.completed], step)
      case 'progress':
        return this.#revisions([], step)
      case 'snapshot-begin':
        return this.#begin(entry)
      case 'snapshot-items':
        return this.#items(entry, step.message)
      case 'snapshot-end':
        return this.#end(entry, step.position)
      default: {
        const never: never = entry
        return never
      }
    }
  }

  /** A bookmark that names the last entry read: nothing is missing up to `revision`. */
  prove(revision: Revision): Demand | undefined {
    const held = this.#held
    if (held !== undefined) {
      if (!held.checkpoint.complete) return undefined
      held.position = maxRevision(held.position, revision)
      return this.#settle(held)
    }
    if (this.#awaiting !== undefined || compareRevisions(revision, this.#revision) <= 0) return undefined
    this.#revision = revision
    this.#emit({ kind: 'proven' })
    return undefined
  }

  /** The reader starts again at the newest checkpoint. What is served stays as it is until that has been read. */
  rejoin(): void {
    this.#verify = undefined
    this.#held = undefined
    this.#queue.takeAll()
    this.#awaiting = this.#ready ? 'rejoin' : 'boot'
    this.#emit({ kind: 'status' })
  }

  /** The log's end does not reach what the view showed, and will not: take the log's word. */
  yieldHighWater(): Demand | undefined {
    return this.#held?.checkpoint.complete === true ? this.#finish(this.#held) : undefined
  }

  locate(position: Position): Located {
    if (!this.#ready) return { kind: 'unready' }
    if (position.epoch !== this.#epoch) {
      // Another gateway may have finished the checkpoint that this one still reads.
      return this.#held?.checkpoint.epoch === position.epoch ? { kind: 'ahead' } : { kind: 'resync', reason: 'epoch' }
    }
    if (compareRevisions(position.revision, this.#revision) > 0) return { kind: 'ahead' }
    const barrier = this.#barrier
    if (barrier !== undefined && compareRevisions(position.revision, barrier.revision) < 0) {
      return { kind: 'resync', reason: barrier.reason }
    }
    const index = this.ring.after(position.revision)
    return index === undefined ? { kind: 'log' } : { kind: 'ring', index }
  }

  /** Policy was narrowed at this very revision: who stands there may have been before it or after. */
  ambiguous(position: Position): boolean {
    const barrier = this.#barrier
    return position.epoch === this.#epoch && barrier?.reason === 'policy' && barrier.revision === position.revision
  }

  #begin(entry: BeginEntry): Demand | undefined {
    const before = this.#held
    const sameEpoch = entry.epoch === this.#epoch
    this.#verify = undefined
    const serving = this.#ready && this.#awaiting === undefined && before === undefined
    if (serving && sameEpoch && entry.reason === 'routine' && compareRevisions(entry.revision, this.#revision) <= 0) {
      // S below the last event: the items would be older than the view, and nothing could be compared.
      if (compareRevisions(entry.revision, this.#applied) < 0) this.#outcome('skipped')
      else this.#verify = new Checkpoint('verify', entry, ++this.#generation, this.index)
      return undefined
    }
    const sameLineage = before?.checkpoint.epoch === entry.epoch
    // Complete already, only waiting for the log to reach what was shown: a routine checkpoint adds nothing.
    if (before?.checkpoint.complete && sameLineage && entry.reason === 'routine') return undefined
    const reached = sameLineage ? before?.folded : serving && sameEpoch ? this.#applied : undefined
    if (reached !== undefined && compareRevisions(entry.revision, reached) < 0) return this.#damaged()
    // Nothing held from another lineage may follow these items.
    if (sameLineage) this.#queue.takeThrough(entry.revision)
    else this.#queue.takeAll()
    const again = this.#awaiting === 'rejoin' || (before?.again === true && entry.reason === 'routine')
    const checkpoint = new Checkpoint(this.#ready ? 'stage' : 'load', entry, ++this.#generation, this.index)
    this.#held = { checkpoint, again, folded: entry.revision, position: entry.revision }
    this.#awaiting = undefined
    this.#emit({ kind: 'status' })
    return undefined
  }

  #items(entry: ItemsEntry, message: Uint8Array): Demand | undefined {
    const checkpoint = this.#held?.checkpoint ?? this.#verify
    if (checkpoint === undefined || checkpoint.id !== entry.checkpointId || checkpoint.complete) return undefined
    return checkpoint.items(entry, message) ? this.#withinBounds() : this.#damaged()
  }

  #end(entry: EndEntry, position: Revision): Demand | undefined {
    const held = this.#held
    const checkpoint = held?.checkpoint ?? this.#verify
    if (checkpoint === undefined || checkpoint.id !== entry.checkpointId || checkpoint.complete) return undefined
    if (checkpoint.end(entry) !== undefined) return this.#damaged()
    if (held !== undefined) {
      held.position = maxRevision(held.position, position)
      return this.#settle(held)
    }
    const differences = checkpoint.verdict()
    this.#verify = undefined
    this.#outcome(differences === 0 ? 'verified' : 'mismatch', differences)
    return differences === 0 ? undefined : { kind: 'start-over', cause: 'verify' }
  }

  #damaged(): Demand {
    this.#verify = undefined
    this.#outcome('damaged')
    return { kind: 'start-over', cause: 'checkpoint' }
  }

  #outcome(outcome: CheckpointOutcome, differences = 0): void {
    this.#emit({ kind: 'checkpoint', outcome, differences })
  }

  #revisions(records: readonly RevisionRecord[], step: Step): Demand | undefined {
    if (this.#awaiting !== undefined) return undefined
    const arrival = { arrivedAt: step.arrivedAt, agentAtMs: step.entry.atMs }
    let live = 0
    for (const record of records) {
      const held = this.#held
      if (held === undefined) break
      live++
      if (compareRevisions(record.revision, held.checkpoint.pinned) <= 0) continue
      if (!held.checkpoint.complete) {
        for (const over of this.#queue.push(record, arrival)) this.#fold(held, over)
      } else if (compareRevisions(record.revision, this.#highWater(held)) <= 0) {
        this.#fold(held, record)
      } else {
        // The next revision lies beyond what was shown, so nothing lies between.
        held.position = maxRevision(held.position, this.#highWater(held))
        live--
        const demand = this.#finish(held)
        if (demand !== undefined) return demand
      }
    }
    const held = this.#held
    if (held === undefined) return this.#live(records.slice(live), arrival, step.position)
    held.position = maxRevision(held.position, step.position)
    return this.#withinBounds() ?? this.#settle(held)
  }

  #fold(held: Held, record: RevisionRecord): void {
    held.checkpoint.fold(record)
    held.folded = maxRevision(held.folded, record.revision)
  }

  /** What the view has shown of the lineage being read. */
  #highWater(held: Held): Revision {
    return held.checkpoint.epoch === this.#epoch ? this.#revision : REVISION_ZERO
  }

  /** Ends the hold as soon as the checkpoint is complete and the log reaches what the view showed. */
  #settle(held: Held): Demand | undefined {
    if (!held.checkpoint.complete) return undefined
    const highWater = this.#highWater(held)
    for (const record of this.#queue.takeThrough(highWater)) this.#fold(held, record)
    return compareRevisions(held.position, highWater) < 0 ? undefined : this.#finish(held)
  }

  #finish(held: Held): Demand | undefined {
    const { checkpoint } = held
    const queued = this.#queue.takeAll()
    const reached = queued.length === 0 ? maxRevision(held.folded, held.position) : held.folded
    this.#held = undefined
    if (this.#continues(held)) {
      this.#revision = maxRevision(this.#revision, reached)
      this.#outcome('continued')
      this.#emit({ kind: 'status' })
    } else this.#reset(checkpoint, held.folded, reached)
    for (const { record, arrival } of queued) {
      const demand = this.#live([record], arrival, record.revision)
      if (demand !== undefined) return demand
    }
    return this.#live([], { arrivedAt: 0, agentAtMs: 0 }, held.position)
  }

  /** Read again and found equal at the revision the view had reached: no reader needs to know. */
  #continues(held: Held): boolean {
    const { checkpoint } = held
    return (
      held.again &&
      checkpoint.mode === 'stage' &&
      checkpoint.epoch === this.#epoch &&
      // Nothing beyond what was shown was folded in: not S, and nothing the queue could not hold.
      compareRevisions(held.folded, this.#revision) <= 0 &&
      compareRevisions(held.position, this.#revision) >= 0 &&
      checkpoint.equalsView
    )
  }

  #reset(checkpoint: Checkpoint, applied: Revision, revision: Revision): void {
    const { epoch } = checkpoint
    const from = this.#epoch === undefined ? undefined : { epoch: this.#epoch, revision: this.#revision }
    const shown = from?.epoch === epoch ? from.revision : undefined
    const reason = resetReason(checkpoint, shown)
    const staged = checkpoint.mode === 'stage'
    const differences = staged ? checkpoint.applyStage(reason === 'policy' ? 'leave' : 'delete') : undefined
    if (!staged) checkpoint.applyLoad()
    this.#ready = true
    this.#epoch = epoch
    this.#revision = revision
    this.#applied = applied
    this.#barrier = barrierOf(checkpoint, reason, shown, revision)
    this.ring.reset(revision)
    this.#outcome('applied', differences?.length ?? 0)
    this.#emit({ kind: 'reset', reason, from, to: { epoch, revision }, index: this.ring.nextIndex, differences })
  }

  #live(records: readonly RevisionRecord[], arrival: Arrival, position: Revision): Demand | undefined {
    const epoch = this.#epoch
    if (epoch === undefined) return undefined
    const first = this.ring.nextIndex
    let demand: Demand | undefined
    for (const record of records) {
      // In chain, yet at or below what was proven: another history under the same epoch.
      if (compareRevisions(record.revision, this.#revision) <= 0) {
        demand = { kind: 'start-over', cause: 'lineage' }
        break
      }
      this.#push(epoch, record, arrival)
    }
    const moved = demand === undefined && compareRevisions(position, this.#revision) > 0
    if (moved) this.#revision = position
    const last = this.ring.nextIndex - 1
    if (last >= first) this.#emit({ kind: 'revisions', first, last })
    else if (moved) this.#emit({ kind: 'proven' })
    this.ring.trim()
    return demand ?? this.#withinBounds()
  }

  #push(epoch: Epoch, record: RevisionRecord, arrival: Arrival): void {
    const { revision } = record
    let bytes = 64
    const events: RingEvent[] = []
    for (const event of record.events) {
      const { op } = event
      const slot = this.index.slot(event.key)
      const prior = slot?.entry
      const key = prior?.key ?? event.key
      let entry: HeldEntry | undefined
      if (op === 'put') {
        entry = new HeldEntry(event, revision, prior)
        this.index.putAt(slot, entry, event.value, 0)
      } else {
        this.index.remove(key)
        this.#verify?.noteGone(key, op)
      }
      bytes += ENTRY_OVERHEAD + key.length + (entry?.size ?? 0) + (prior?.size ?? 0)
      events.push({ op, key, entry, prior })
    }
    this.ring.push({ index: this.ring.nextIndex, epoch, revision, events, bytes, ...arrival })
    this.#revision = revision
    this.#applied = revision
  }

  #withinBounds(): Demand | undefined {
    const held = this.#held?.checkpoint
    if (this.index.bytes + (held?.mode === 'load' ? held.bytes : 0) > this.#bounds.stateBytes) return this.#drop()
    if (this.#verify !== undefined && this.#verify.bytes > this.#bounds.stagingBytes) {
      this.#verify = undefined
      this.#outcome('skipped')
    }
    if (held?.mode === 'stage' && held.bytes > this.#bounds.stagingBytes) {
      held.spill()
      // From here on the index changes without the ring: no page pinned before may go on.
      this.ring.reset(this.#revision)
      this.#ready = false
      this.#emit({ kind: 'status' })
    }
    return undefined
  }

  /** Gives the memory back: a state that outgrew its bound is not served in part. */
  #drop(): Demand {
    this.index = new StateIndex()
    this.ring.reset(this.#revision)
    this.#ready = false
    this.rejoin()
    return { kind: 'stop', cause: 'state-too-large' }
  }
}
