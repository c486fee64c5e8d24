// The chain rule: which entries of a log count.
// Owns: the decision valid/void for each message in stream order, and the position a valid prefix proves.
// Refuses: I/O and repair. Every reader applies this, agents included (SPEC L-rules): compare-and-append alone compares
// places, so an append of an abandoned pipeline can still land behind another agent's entry; the chain voids it.

import { maxRevision, REVISION_ZERO, type Revision } from '../revision.ts'
import { decodeRevision } from './decode.ts'
import { type EntryId, type Epoch, GENESIS, type LogEntry, type RevisionRecord } from './entry.ts'

/** A revision whose slices are arriving: void as a whole unless the next valid entry continues it. */
export type OpenGroup = {
  readonly groupId: string
  readonly revision: Revision
  readonly count: number
  readonly slices: readonly Uint8Array[]
  readonly bytes: number
}

/** Where a reader of the log stands after the last valid entry. */
export type ChainState = {
  readonly seq: number
  readonly entryId: EntryId
  readonly epoch: Epoch | undefined
  /** The last complete or proven revision. */
  readonly revision: Revision
  readonly group: OpenGroup | undefined
}

export type Verdict =
  | { readonly kind: 'valid'; readonly state: ChainState; readonly completed?: RevisionRecord }
  /** Skipped and counted, never applied. */
  | { readonly kind: 'void'; readonly reason: 'chain' }
  /** In chain but impossible: the reader stops trusting this lineage and resyncs. */
  | {
      readonly kind: 'broken'
      readonly reason: 'revision-order' | 'prev-revision' | 'chunk' | 'epoch-without-checkpoint'
    }

export const CHAIN_START: ChainState = {
  seq: 0,
  entryId: GENESIS,
  epoch: undefined,
  revision: REVISION_ZERO,
  group: undefined,
}

/** A group may not outgrow this; a longer one is no revision any agent writes (maxRevisionBytes plus framing). */
export const MAX_GROUP_BYTES = 64 * 1024 * 1024
/** More slices than any payload limit calls for; keeps the copy made per slice cheap against a hostile writer. */
export const MAX_GROUP_SLICES = 4096

/** Judges the entry found at `seq`. Pure: returns the next state, keeps none. */
export function advance(state: ChainState, seq: number, entry: LogEntry): Verdict {
  if (entry.prevEntryId !== state.entryId) return { kind: 'void', reason: 'chain' }
  const next = { seq, entryId: entry.entryId, epoch: entry.epoch, revision: state.revision, group: undefined }
  const sameEpoch = entry.epoch === state.epoch
  switch (entry.kind) {
    case 'snapshot-begin':
      // A new epoch begins here and only here; its revisions may lie below the old ones.
      return { kind: 'valid', state: { ...next, revision: sameEpoch ? state.revision : REVISION_ZERO } }
    case 'snapshot-items':
      return sameEpoch ? { kind: 'valid', state: next } : { kind: 'broken', reason: 'epoch-without-checkpoint' }
    case 'snapshot-end':
      if (!sameEpoch) return { kind: 'broken', reason: 'epoch-without-checkpoint' }
      return { kind: 'valid', state: { ...next, revision: maxRevision(state.revision, entry.revision) } }
    case 'progress':
    case 'events':
    case 'chunk':
      if (!sameEpoch) return { kind: 'broken', reason: 'epoch-without-checkpoint' }
      if (entry.prevRevision !== state.revision) return { kind: 'broken', reason: 'prev-revision' }
      break
    default: {
      const never: never = entry
      return never
    }
  }
  if (entry.kind === 'chunk') return advanceChunk(state, next, entry)
  if (entry.kind === 'progress') {
    if (!isAfter(entry.revision, state.revision)) return { kind: 'broken', reason: 'revision-order' }
    return { kind: 'valid', state: { ...next, revision: entry.revision } }
  }
  let last = state.revision
  for (const record of entry.revisions) {
    if (!isAfter(record.revision, last)) return { kind: 'broken', reason: 'revision-order' }
    last = record.revision
  }
  if (entry.throughRevision !== last && !isAfter(entry.throughRevision, last)) {
    return { kind: 'broken', reason: 'revision-order' }
  }
  return { kind: 'valid', state: { ...next, revision: entry.throughRevision } }
}

const isAfter = (a: Revision, b: Revision): boolean => (a.length === b.length ? a > b : a.length > b.length)

const advanceChunk = (state: ChainState, next: ChainState, entry: LogEntry & { kind: 'chunk' }): Verdict => {
  if (!isAfter(entry.revision, state.revision)) return { kind: 'broken', reason: 'revision-order' }
  if (entry.count > MAX_GROUP_SLICES) return { kind: 'broken', reason: 'chunk' }
  const open = state.group
  const continues = open !== undefined && open.groupId === entry.groupId
  if (continues) {
    const fits = entry.index === open.slices.length && entry.count === open.count && entry.revision === open.revision
    if (!fits) return { kind: 'broken', reason: 'chunk' }
  } else if (entry.index !== 0) {
    return { kind: 'broken', reason: 'chunk' }
  }
  const group: OpenGroup = {
    groupId: entry.groupId,
    revision: entry.revision,
    count: entry.count,
    slices: [...(continues ? open.slices : []), entry.data],
    bytes: (continues ? open.bytes : 0) + entry.data.length,
  }
  if (group.bytes > MAX_GROUP_BYTES) return { kind: 'broken', reason: 'chunk' }
  if (group.slices.length < group.count) return { kind: 'valid', state: { ...next, group } }
  const whole = new Uint8Array(group.bytes)
  let at = 0
  for (const slice of group.slices) {
    whole.set(slice, at)
    at += slice.length
  }
  const record = decodeRevision(whole)
  if (!record.ok || record.value.revision !== entry.revision) return { kind: 'broken', reason: 'chunk' }
  return { kind: 'valid', state: { ...next, revision: entry.revision }, completed: record.value }
}
