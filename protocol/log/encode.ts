// LogEntry -> bytes, as log.proto says.
// Owns: the canonical encoding (fields in order, defaults left out), the size of which batches are cut by.
// Refuses: judging an entry's place in the log (chain.ts).

import { fromHex } from '../bytes.ts'
import type { Lineage, LogEntry, LogEvent, RevisionRecord, SnapshotRecord } from './entry.ts'
import { KINDS, OPS, PENDING, REASONS } from './tables.ts'
import { WireWriter } from './wire.ts'

const EMPTY = new Uint8Array(0)

const writeEvent = (w: WireWriter, e: LogEvent | SnapshotRecord): void => {
  w.uint(1, 'op' in e ? OPS.indexOf(e.op) : 1)
  w.byteString(2, e.key)
  w.blob(3, e.value)
  w.uint64(4, e.createRevision)
  w.uint64(5, e.version)
  w.uint64(6, e.lease)
  if (e.withheld !== undefined) w.text(7, e.withheld)
  if (e.transforms !== undefined) for (const name of e.transforms) w.element(8, name)
  if ('modRevision' in e) w.uint64(9, e.modRevision)
}

const writeRevision = (w: WireWriter, record: RevisionRecord): void => {
  w.uint64(1, record.revision)
  for (const event of record.events) w.message(2, () => writeEvent(w, event))
}

const writeLineage = (w: WireWriter, lineage: Lineage): void => {
  w.uint64(1, lineage.clusterId)
  w.uint64(2, lineage.raftTerm)
  w.text(3, lineage.keyId)
  for (const proof of lineage.proofs) {
    w.message(4, () => {
      w.uint64(1, proof.revision)
      w.blob(2, proof.digest)
    })
  }
}

const hexBytes = (text: string): Uint8Array => fromHex(text) ?? EMPTY

const writeBody = (w: WireWriter, entry: LogEntry): void => {
  switch (entry.kind) {
    case 'events':
      w.uint64(14, entry.prevRevision)
      w.uint64(15, entry.throughRevision)
      for (const record of entry.revisions) w.message(16, () => writeRevision(w, record))
      return
    case 'chunk':
      w.uint64(14, entry.prevRevision)
      w.message(17, () => {
        w.uint64(1, entry.revision)
        w.text(2, entry.groupId)
        w.uint(3, entry.index)
        w.uint(4, entry.count)
        w.blob(5, entry.data)
      })
      return
    case 'progress':
      w.uint64(14, entry.prevRevision)
      w.uint64(15, entry.revision)
      return
    case 'snapshot-begin':
      w.uint64(15, entry.revision)
      w.text(18, entry.checkpointId)
      w.uint(19, REASONS.indexOf(entry.reason))
      return
    case 'snapshot-items':
      w.text(18, entry.checkpointId)
      w.uint(20, entry.index)
      for (const item of entry.items) w.message(21, () => writeEvent(w, item))
      return
    case 'snapshot-end':
      w.uint64(15, entry.revision)
      w.text(18, entry.checkpointId)
      w.uint(22, entry.itemCount)
      w.blob(23, entry.digest)
      return
    default: {
      const never: never = entry
      return never
    }
  }
}

export function encodeEntry(entry: LogEntry, writer = new WireWriter()): Uint8Array {
  const w = writer
  w.reset()
  w.blob(1, hexBytes(entry.entryId))
  w.blob(2, hexBytes(entry.prevEntryId))
  w.uint(3, KINDS.indexOf(entry.kind))
  w.blob(4, hexBytes(entry.epoch))
  w.text(5, entry.agentId)
  w.text(6, entry.configHash)
  w.text(7, entry.policyRevision)
  w.uint(8, entry.newestCompleteBeginSeq)
  w.uint(9, PENDING.indexOf(entry.pending))
  w.message(10, () => {
    w.uint(1, entry.base.seq)
    w.blob(2, hexBytes(entry.base.entryId))
    w.uint64(3, entry.base.revision)
  })
  w.uint(11, entry.residenceUs)
  w.uint(12, entry.atMs)
  const { lineage } = entry
  if (lineage !== undefined) w.message(13, () => writeLineage(w, lineage))
  writeBody(w, entry)
  return w.take()
}

/** The encoding of one revision, as chunks slice it. */
export function encodeRevision(record: RevisionRecord, writer = new WireWriter()): Uint8Array {
  writer.reset()
  writeRevision(writer, record)
  return writer.take()
}
