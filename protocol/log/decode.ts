// Bytes -> LogEntry, from anyone: every failure is a result, unknown fields are skipped, unknown kinds are named.
// Owns: the top-level message and what its kind requires.
// Refuses: judging an entry's place in the log (chain.ts). Decoded values are views into the input: copy to keep them.

import { REVISION_ZERO, type Revision } from '../revision.ts'
import type {
  Base,
  CheckpointReason,
  EntryBody,
  EntryHead,
  EntryId,
  Epoch,
  Lineage,
  LogEntry,
  Pending,
  RevisionRecord,
  SnapshotRecord,
} from './entry.ts'
import {
  type ChunkFields,
  EMPTY,
  hex,
  NO_BASE,
  nested,
  pick,
  readBase,
  readChunk,
  readLineage,
  readRevision,
  readSnapshotRecord,
  revision,
  text,
} from './fields.ts'
import { KINDS, PENDING, REASONS } from './tables.ts'
import { WireError, WireReader } from './wire.ts'

export type DecodeFailure = { readonly code: 'undecodable' | 'unknown-kind'; readonly detail: string }
export type Decoded<T> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly error: DecodeFailure }

/** Every field of the message, before the kind decides which of them count. */
type Raw = {
  entryId: string
  prevEntryId: string
  kind: number
  epoch: string
  agentId: string
  configHash: string
  policyRevision: string
  newestCompleteBeginSeq: number
  pending: Pending
  base: Base
  residenceUs: number
  atMs: number
  lineage: Lineage | undefined
  prevRevision: Revision
  revision: Revision
  revisions: RevisionRecord[]
  chunk: ChunkFields | undefined
  checkpointId: string
  reason: CheckpointReason | undefined
  index: number
  items: SnapshotRecord[]
  itemCount: number
  digest: Uint8Array
}

const readRaw = (r: WireReader): Raw => {
  const raw: Raw = {
    entryId: '',
    prevEntryId: '',
    kind: 0,
    epoch: '',
    agentId: '',
    configHash: '',
    policyRevision: '',
    newestCompleteBeginSeq: 0,
    pending: 'none',
    base: NO_BASE,
    residenceUs: 0,
    atMs: 0,
    lineage: undefined,
    prevRevision: REVISION_ZERO,
    revision: REVISION_ZERO,
    revisions: [],
    chunk: undefined,
    checkpointId: '',
    reason: undefined,
    index: 0,
    items: [],
    itemCount: 0,
    digest: EMPTY,
  }
  while (r.at < r.end) {
    const tag = r.tag()
    const field = tag >>> 3
    if ((tag & 7) !== (TWO_TYPED.has(field) ? 2 : 0)) {
      r.skip(tag & 7)
      continue
    }
    if (!readField(r, field, raw)) r.skip(tag & 7)
  }
  return raw
}

/** Fields with wire type 2; all others of the message are varints. */
const TWO_TYPED = new Set([1, 2, 4, 5, 6, 7, 10, 13, 16, 17, 18, 21, 23])

const readField = (r: WireReader, field: number, raw: Raw): boolean => {
  switch (field) {
    case 1:
      raw.entryId = hex(r, 16, 'entry_id')
      return true
    case 2:
      raw.prevEntryId = hex(r, 16, 'prev_entry_id')
      return true
    case 3:
      raw.kind = r.varint()
      return true
    case 4:
      raw.epoch = hex(r, 8, 'epoch')
      return true
    case 5:
      raw.agentId = text(r)
      return true
    case 6:
      raw.configHash = text(r)
      return true
    case 7:
      raw.policyRevision = text(r)
      return true
    case 8:
      raw.newestCompleteBeginSeq = r.varint()
      return true
    case 9:
      raw.pending = pick(PENDING, r.varint(), 'pending')
      return true
    case 10:
      raw.base = nested(r, readBase)
      return true
    case 11:
      raw.residenceUs = r.varint()
      return true
    case 12:
      raw.atMs = r.varint()
      return true
    case 13:
      raw.lineage = nested(r, readLineage)
      return true
    case 14:
      raw.prevRevision = revision(r)
      return true
    case 15:
      raw.revision = revision(r)
      return true
    case 16:
      raw.revisions.push(nested(r, readRevision))
      return true
    case 17:
      raw.chunk = nested(r, readChunk)
      return true
    case 18:
      raw.checkpointId = text(r)
      return true
    case 19:
      raw.reason = pick(REASONS, r.varint(), 'reason')
      return true
    case 20:
      raw.index = r.varint()
      return true
    case 21:
      raw.items.push(nested(r, readSnapshotRecord))
      return true
    case 22:
      raw.itemCount = r.varint()
      return true
    case 23:
      raw.digest = r.view()
      return true
    default:
      return false
  }
}

const bodyOf = (raw: Raw): EntryBody | undefined => {
  const { prevRevision, checkpointId } = raw
  switch (KINDS[raw.kind]) {
    case 'events':
      if (raw.revisions.length === 0) throw new WireError('an EVENTS entry has no revisions')
      return { kind: 'events', prevRevision, revisions: raw.revisions, throughRevision: raw.revision }
    case 'chunk':
      if (raw.chunk === undefined) throw new WireError('a CHUNK entry has no chunk')
      return { kind: 'chunk', prevRevision, ...raw.chunk }
    case 'progress':
      return { kind: 'progress', prevRevision, revision: raw.revision }
    case 'snapshot-begin':
      if (raw.reason === undefined) throw new WireError('a SNAPSHOT_BEGIN entry has no reason')
      return { kind: 'snapshot-begin', checkpointId, revision: raw.revision, reason: raw.reason }
    case 'snapshot-items':
      return { kind: 'snapshot-items', checkpointId, index: raw.index, items: raw.items }
    case 'snapshot-end':
      return {
        kind: 'snapshot-end',
        checkpointId,
        revision: raw.revision,
        itemCount: raw.itemCount,
        digest: raw.digest,
      }
    default:
      return undefined
  }
}

const attempt = <T>(read: () => Decoded<T>): Decoded<T> => {
  try {
    return read()
  } catch (error) {
    if (!(error instanceof WireError)) throw error
    return { ok: false, error: { code: 'undecodable', detail: error.message } }
  }
}

export function decodeEntry(bytes: Uint8Array): Decoded<LogEntry> {
  return attempt(() => {
    const raw = readRaw(new WireReader(bytes))
    if (raw.entryId === '' || raw.prevEntryId === '' || raw.epoch === '') throw new WireError('an id is missing')
    const body = bodyOf(raw)
    if (body === undefined) return { ok: false, error: { code: 'unknown-kind', detail: `kind ${raw.kind}` } }
    const head: EntryHead = {
      entryId: raw.entryId as EntryId,
      prevEntryId: raw.prevEntryId as EntryId,
      epoch: raw.epoch as Epoch,
      agentId: raw.agentId,
      configHash: raw.configHash,
      policyRevision: raw.policyRevision,
      newestCompleteBeginSeq: raw.newestCompleteBeginSeq,
      pending: raw.pending,
      base: raw.base,
      residenceUs: raw.residenceUs,
      atMs: raw.atMs,
      ...(raw.lineage === undefined ? {} : { lineage: raw.lineage }),
    }
    return { ok: true, value: { ...head, ...body } }
  })
}

/** Decodes the reassembled slices of a chunk group. */
export function decodeRevision(bytes: Uint8Array): Decoded<RevisionRecord> {
  return attempt(() => ({ ok: true, value: readRevision(new WireReader(bytes)) }))
}
