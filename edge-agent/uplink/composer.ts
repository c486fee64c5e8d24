// From a body to an entry: its head, its place in the chain, its bytes.
// Owns: what every entry says about the log (epoch, pending, newest checkpoint, lineage, base) and how a body moves the
// position. Refuses: order and sending (session.ts).

import { toHex } from '#protocol/bytes.ts'
import { encodeEntry } from '#protocol/log/encode.ts'
import type { CheckpointReason, EntryBody, EntryId, Epoch, Pending } from '#protocol/log/entry.ts'
import { WireWriter } from '#protocol/log/wire.ts'
import { maxRevision, REVISION_ZERO, type Revision } from '#protocol/revision.ts'
import type { Clock } from '#kit/clock.ts'
import type { Random } from '#kit/random.ts'
import type { Evidence, LineageTrail, Outgoing } from './ports.ts'
import type { Claim } from './window.ts'

export type Identity = { readonly agentId: string; readonly configHash: string; readonly policyRevision: string }

export type Composed = {
  readonly bytes: Uint8Array
  readonly entryId: EntryId
  /** Position of the log after the entry. */
  readonly revision: Revision
  /** False inside a chunk group: a reader that starts there would miss its beginning. */
  readonly restable: boolean
}

/** Everything of an entry but its body's variable part: ids, hashes, names, lineage. */
export const HEAD_BYTES = 4096
/** Only the last revisions of the evidence count; more than these are not kept for it. */
const COVERED_MAX = 128
const COVERED_KEPT = 64

type Deps = { readonly trail: LineageTrail; readonly clock: Clock; readonly random: Random }

export class Composer {
  readonly #identity: Identity
  readonly #deps: Deps
  readonly #writer = new WireWriter(256 * 1024)
  #epoch: Epoch
  #nextEpoch: Epoch | undefined
  /** Sequence of the BEGIN that started the current epoch here: nothing before it speaks for the epoch. */
  #epochSince = 0
  #pending: Pending = 'none'
  #newestCompleteBeginSeq: number
  #beginSeq = 0
  /** Covered by the position's next move, not yet part of the evidence. */
  #covered: Evidence[] = []

  constructor(identity: Identity, epoch: Epoch, newestCompleteBeginSeq: number, deps: Deps) {
    this.#identity = identity
    this.#epoch = epoch
    this.#newestCompleteBeginSeq = newestCompleteBeginSeq
    this.#deps = deps
  }

  get epoch(): Epoch {
    return this.#epoch
  }
  get epochSince(): number {
    return this.#epochSince
  }
  /** Until a pending checkpoint is complete nothing live may stand in the log. */
  get isPending(): boolean {
    return this.#pending !== 'none'
  }
  get newestCompleteBeginSeq(): number {
    return this.#newestCompleteBeginSeq
  }

  /** What follows belongs to this checkpoint; a new epoch takes effect with its BEGIN. */
  prepare(reason: CheckpointReason, epoch: Epoch): void {
    this.#nextEpoch = epoch
    this.#pending = reason === 'routine' ? 'none' : reason
  }

  cover(outgoing: Outgoing): void {
    this.#covered.push(outgoing.evidence)
    if (this.#covered.length >= COVERED_MAX) this.#covered = this.#covered.slice(-COVERED_KEPT)
  }

  compose(body: EntryBody, claim: Claim, oldestArrival: number): Composed {
    const { clock, random, trail } = this.#deps
    const entryId = toHex(random.bytes(16)) as EntryId
    const revision = this.#positionAfter(body, claim.prevRevision)
    this.#turn(body, claim.expectedSeq + 1)
    if (isLast(body)) {
      for (const evidence of this.#covered) trail.include(evidence)
      this.#covered = []
    }
    const bytes = encodeEntry(
      {
        entryId,
        prevEntryId: claim.prevEntryId,
        epoch: this.#epoch,
        ...this.#identity,
        newestCompleteBeginSeq: this.#newestCompleteBeginSeq,
        pending: this.#pending,
        base: claim.base,
        residenceUs: Math.max(0, Math.round((clock.monotonic() - oldestArrival) * 1000)),
        atMs: clock.now(),
        lineage: trail.evidence(),
        ...body,
      },
      this.#writer,
    )
    return { bytes, entryId, revision, restable: body.kind !== 'chunk' || isLast(body) }
  }

  /** Checkpoint parts change what this and later entries say about the log. */
  #turn(body: EntryBody, seq: number): void {
    if (body.kind === 'snapshot-begin') {
      this.#beginSeq = seq
      if (this.#nextEpoch !== undefined && this.#nextEpoch !== this.#epoch) {
        this.#epoch = this.#nextEpoch
        this.#epochSince = seq
      }
    }
    if (body.kind === 'snapshot-end') {
      this.#pending = 'none'
      this.#newestCompleteBeginSeq = this.#beginSeq
    }
  }

  #positionAfter(body: EntryBody, before: Revision): Revision {
    switch (body.kind) {
      case 'events':
        return body.throughRevision
      case 'progress':
        return body.revision
      case 'chunk':
        return isLast(body) ? body.revision : before
      case 'snapshot-begin':
        return this.#nextEpoch === undefined || this.#nextEpoch === this.#epoch ? before : REVISION_ZERO
      case 'snapshot-items':
        return before
      case 'snapshot-end':
        return maxRevision(before, body.revision)
      default: {
        const never: never = body
        return never
      }
    }
  }
}

/** The entry that moves the position past what was covered. */
function isLast(body: EntryBody): boolean {
  if (body.kind === 'chunk') return body.index === body.count - 1
  return body.kind === 'events' || body.kind === 'progress'
}
