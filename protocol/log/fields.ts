// Readers for the nested messages of log.proto.
// Owns: one function per message, each reading to its own end and checking what a single message allows.
// Refuses: the top-level message (decode.ts) and results: these throw WireError, decode.ts turns it into one.

import { decodeUtf8, keyFromBytes, toHex } from '../bytes.ts'
import { parseRevision, REVISION_ZERO, type Revision } from '../revision.ts'
import {
  type Base,
  type EntryId,
  GENESIS,
  type Lineage,
  type LineageProof,
  type LogEvent,
  type LogOp,
  type RevisionRecord,
  type SnapshotRecord,
} from './entry.ts'
import { OPS } from './tables.ts'
import { WireError, type WireReader } from './wire.ts'

export const EMPTY = new Uint8Array(0)
export const NO_BASE: Base = { seq: 0, entryId: GENESIS, revision: REVISION_ZERO }

export const text = (r: WireReader): string => {
  const end = r.fieldEnd()
  const value = decodeUtf8(r.bytes, r.at, end)
  if (value === undefined) throw new WireError('a text field is not UTF-8')
  r.at = end
  return value
}
export const hex = (r: WireReader, length: number, name: string): string => {
  const view = r.view()
  if (view.length !== length) throw new WireError(`${name} is not ${length} bytes`)
  return toHex(view)
}
export const revision = (r: WireReader): Revision => {
  const value = parseRevision(r.decimal())
  if (value === undefined) throw new WireError('a revision exceeds 63 bits')
  return value
}
export const pick = <T>(table: readonly (T | undefined)[], index: number, name: string): T => {
  const value = table[index]
  if (value === undefined) throw new WireError(`${name} ${index} is unknown`)
  return value
}

const readEvent = (r: WireReader): LogEvent & { modRevision: Revision } => {
  let op: LogOp | undefined
  let key = '' as LogEvent['key']
  let value: Uint8Array = EMPTY
  let createRevision: Revision = REVISION_ZERO
  let version = '0'
  let lease = '0'
  let withheld: string | undefined
  let transforms: string[] | undefined
  let modRevision: Revision = REVISION_ZERO
  while (r.at < r.end) {
    const tag = r.tag()
    switch (tag) {
      case 8:
        op = pick(OPS, r.varint(), 'op')
        break
      case 18: {
        const end = r.fieldEnd()
        key = keyFromBytes(r.bytes, r.at, end)
        r.at = end
        break
      }
      case 26:
        value = r.view()
        break
      case 32:
        createRevision = revision(r)
        break
      case 40:
        version = r.decimal()
        break
      case 48:
        lease = r.decimal()
        break
      case 58:
        withheld = text(r)
        break
      case 66:
        transforms ??= []
        transforms.push(text(r))
        break
      case 72:
        modRevision = revision(r)
        break
      default:
        r.skip(tag & 7)
    }
  }
  if (op === undefined) throw new WireError('an event has no op')
  return {
    op,
    key,
    value,
    createRevision,
    version,
    lease,
    modRevision,
    ...(withheld === undefined ? {} : { withheld }),
    ...(transforms === undefined ? {} : { transforms }),
  }
}

/** Runs `read` inside the length-delimited field that starts here. */
export const nested = <T>(r: WireReader, read: (r: WireReader) => T): T => {
  const outer = r.end
  r.end = r.fieldEnd()
  const value = read(r)
  if (r.at !== r.end) throw new WireError('a message overruns its field')
  r.end = outer
  return value
}

export const readRevision = (r: WireReader): RevisionRecord => {
  let at: Revision = REVISION_ZERO
  const events: LogEvent[] = []
  while (r.at < r.end) {
    const tag = r.tag()
    if (tag === 8) at = revision(r)
    else if (tag === 18) events.push(nested(r, readEvent))
    else r.skip(tag & 7)
  }
  if (at === REVISION_ZERO || events.length === 0) throw new WireError('a revision record is empty')
  return { revision: at, events }
}

export const readBase = (r: WireReader): Base => {
  let seq = 0
  let entryId = NO_BASE.entryId
  let at: Revision = REVISION_ZERO
  while (r.at < r.end) {
    const tag = r.tag()
    if (tag === 8) seq = r.varint()
    else if (tag === 18) entryId = hex(r, 16, 'base.entry_id') as EntryId
    else if (tag === 24) at = revision(r)
    else r.skip(tag & 7)
  }
  return { seq, entryId, revision: at }
}

const readProof = (r: WireReader): LineageProof => {
  let at: Revision = REVISION_ZERO
  let digest: Uint8Array = EMPTY
  while (r.at < r.end) {
    const tag = r.tag()
    if (tag === 8) at = revision(r)
    else if (tag === 18) digest = r.view()
    else r.skip(tag & 7)
  }
  return { revision: at, digest }
}

export const readLineage = (r: WireReader): Lineage => {
  let clusterId = '0'
  let raftTerm = '0'
  let keyId = ''
  const proofs: LineageProof[] = []
  while (r.at < r.end) {
    const tag = r.tag()
    if (tag === 8) clusterId = r.decimal()
    else if (tag === 16) raftTerm = r.decimal()
    else if (tag === 26) keyId = text(r)
    else if (tag === 34) proofs.push(nested(r, readProof))
    else r.skip(tag & 7)
  }
  return { clusterId, raftTerm, keyId, proofs }
}

export type ChunkFields = { revision: Revision; groupId: string; index: number; count: number; data: Uint8Array }
export const readChunk = (r: WireReader): ChunkFields => {
  const chunk: ChunkFields = { revision: REVISION_ZERO, groupId: '', index: 0, count: 0, data: EMPTY }
  while (r.at < r.end) {
    const tag = r.tag()
    if (tag === 8) chunk.revision = revision(r)
    else if (tag === 18) chunk.groupId = text(r)
    else if (tag === 24) chunk.index = r.varint()
    else if (tag === 32) chunk.count = r.varint()
    else if (tag === 42) chunk.data = r.view()
    else r.skip(tag & 7)
  }
  if (chunk.count < 1 || chunk.index >= chunk.count || chunk.groupId === '') throw new WireError('a chunk has no place')
  return chunk
}

export const readSnapshotRecord = (r: WireReader): SnapshotRecord => {
  const { op: _, ...item } = readEvent(r)
  return item
}
