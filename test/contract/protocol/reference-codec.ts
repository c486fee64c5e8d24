// The log through somebody else's eyes: protobufjs reading log.proto, nothing of protocol/log.
// Owns: translating between LogEntry and what an independent implementation calls a message.
// Refuses: importing the codec under test; the mapping below is written from log.proto alone.

import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import protobuf from 'protobufjs'
import { keyFromBytes, keyToBytes } from '#protocol/bytes.ts'
import type { LogEntry, LogEvent, SnapshotRecord } from '#protocol/log/entry.ts'

const source = readFileSync(fileURLToPath(new URL('../../../protocol/log/log.proto', import.meta.url)), 'utf8')
const root = protobuf.parse(source, { keepCase: true }).root
const LogEntryType = root.lookupType('deltawatch.v1.LogEntry')

const bytesOf = (hex: string): Uint8Array => new Uint8Array(Buffer.from(hex, 'hex'))
const hexOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')
const plain = (bytes: Uint8Array): Uint8Array => new Uint8Array(bytes)

const KIND: Record<LogEntry['kind'], string> = {
  events: 'EVENTS',
  chunk: 'CHUNK',
  progress: 'PROGRESS',
  'snapshot-begin': 'SNAPSHOT_BEGIN',
  'snapshot-items': 'SNAPSHOT_ITEMS',
  'snapshot-end': 'SNAPSHOT_END',
}
const REASON = { epoch: 'REASON_EPOCH', gap: 'REASON_GAP', policy: 'REASON_POLICY', routine: 'REASON_ROUTINE' } as const

type Message = Record<string, unknown>

const eventMessage = (e: LogEvent | SnapshotRecord): Message => ({
  op: 'op' in e ? e.op.toUpperCase() : 'PUT',
  key: keyToBytes(e.key),
  value: e.value,
  create_revision: e.createRevision,
  version: e.version,
  lease: e.lease,
  ...(e.withheld === undefined ? {} : { withheld: e.withheld }),
  ...(e.transforms === undefined ? {} : { transforms: e.transforms }),
  ...('modRevision' in e ? { mod_revision: e.modRevision } : {}),
})

const bodyMessage = (entry: LogEntry): Message => {
  switch (entry.kind) {
    case 'events':
      return {
        prev_revision: entry.prevRevision,
        revision: entry.throughRevision,
        revisions: entry.revisions.map((r) => ({ revision: r.revision, events: r.events.map(eventMessage) })),
      }
    case 'chunk': {
      const { revision, groupId: group_id, index, count, data } = entry
      return { prev_revision: entry.prevRevision, chunk: { revision, group_id, index, count, data } }
    }
    case 'progress':
      return { prev_revision: entry.prevRevision, revision: entry.revision }
    case 'snapshot-begin':
      return { checkpoint_id: entry.checkpointId, revision: entry.revision, reason: REASON[entry.reason] }
    case 'snapshot-items':
      return { checkpoint_id: entry.checkpointId, index: entry.index, items: entry.items.map(eventMessage) }
    case 'snapshot-end':
      return {
        checkpoint_id: entry.checkpointId,
        revision: entry.revision,
        item_count: entry.itemCount,
        digest: entry.digest,
      }
    default: {
      const never: never = entry
      return never
    }
  }
}

export function referenceEncode(entry: LogEntry, extra: Message = {}): Uint8Array {
  const message = {
    entry_id: bytesOf(entry.entryId),
    prev_entry_id: bytesOf(entry.prevEntryId),
    kind: KIND[entry.kind],
    epoch: bytesOf(entry.epoch),
    agent_id: entry.agentId,
    config_hash: entry.configHash,
    policy_revision: entry.policyRevision,
    newest_complete_begin_seq: entry.newestCompleteBeginSeq,
    pending: entry.pending.toUpperCase(),
    base: { seq: entry.base.seq, entry_id: bytesOf(entry.base.entryId), revision: entry.base.revision },
    residence_us: entry.residenceUs,
    at_ms: entry.atMs,
    ...(entry.lineage === undefined
      ? {}
      : {
          lineage: {
            cluster_id: entry.lineage.clusterId,
            raft_term: entry.lineage.raftTerm,
            key_id: entry.lineage.keyId,
            proofs: entry.lineage.proofs.map((p) => ({ revision: p.revision, digest: p.digest })),
          },
        }),
    ...bodyMessage(entry),
    ...extra,
  }
  return plain(LogEntryType.encode(LogEntryType.fromObject(message)).finish())
}

type Seen = {
  readonly op: string
  readonly key: Uint8Array
  readonly value: Uint8Array
  readonly create_revision: string
  readonly version: string
  readonly lease: string
  readonly withheld: string
  readonly transforms: string[]
  readonly mod_revision: string
}
const heldOf = (e: Seen) => ({
  key: keyFromBytes(e.key),
  value: plain(e.value),
  createRevision: e.create_revision,
  version: e.version,
  lease: e.lease,
  ...(e.withheld === '' ? {} : { withheld: e.withheld }),
  ...(e.transforms.length === 0 ? {} : { transforms: e.transforms }),
})

/** What toObject gives with defaults on: every field is present. */
type Decoded = Readonly<Record<string, unknown>>
const bodyOf = (m: Decoded): Message => {
  const through: { revision: unknown; prevRevision: unknown } = { revision: m.revision, prevRevision: m.prev_revision }
  const checkpoint = { checkpointId: m.checkpoint_id }
  switch (m.kind as string) {
    case 'EVENTS': {
      const revisions = (m.revisions as { revision: string; events: Seen[] }[]).map((r) => ({
        revision: r.revision,
        events: r.events.map((e) => ({ op: e.op.toLowerCase(), ...heldOf(e) })),
      }))
      return { kind: 'events', prevRevision: through.prevRevision, revisions, throughRevision: through.revision }
    }
    case 'CHUNK': {
      const c = m.chunk as { revision: string; group_id: string; index: number; count: number; data: Uint8Array }
      const { revision, group_id: groupId, index, count } = c
      return { kind: 'chunk', prevRevision: through.prevRevision, revision, groupId, index, count, data: plain(c.data) }
    }
    case 'PROGRESS':
      return { kind: 'progress', ...through }
    case 'SNAPSHOT_BEGIN': {
      const reason = Object.entries(REASON).find(([, name]) => name === m.reason)?.[0]
      return { kind: 'snapshot-begin', ...checkpoint, revision: m.revision, reason }
    }
    case 'SNAPSHOT_ITEMS': {
      const items = (m.items as Seen[]).map((e) => ({ ...heldOf(e), modRevision: e.mod_revision }))
      return { kind: 'snapshot-items', ...checkpoint, index: m.index, items }
    }
    case 'SNAPSHOT_END': {
      const itemCount = Number(m.item_count)
      return {
        kind: 'snapshot-end',
        ...checkpoint,
        revision: m.revision,
        itemCount,
        digest: plain(m.digest as Uint8Array),
      }
    }
    default:
      throw new Error(`the reference met kind ${String(m.kind)}`)
  }
}

/** Decodes with protobufjs; throws whatever protobufjs throws. */
export function referenceDecode(bytes: Uint8Array): unknown {
  const message = LogEntryType.toObject(LogEntryType.decode(bytes), {
    longs: String,
    enums: String,
    bytes: Uint8Array,
    defaults: true,
    arrays: true,
  }) as Decoded
  const base = message.base as { seq: string; entry_id: Uint8Array; revision: string }
  const lineage = message.lineage as
    | { cluster_id: string; raft_term: string; key_id: string; proofs: { revision: string; digest: Uint8Array }[] }
    | null
    | undefined
  return {
    entryId: hexOf(message.entry_id as Uint8Array),
    prevEntryId: hexOf(message.prev_entry_id as Uint8Array),
    epoch: hexOf(message.epoch as Uint8Array),
    agentId: message.agent_id,
    configHash: message.config_hash,
    policyRevision: message.policy_revision,
    newestCompleteBeginSeq: Number(message.newest_complete_begin_seq),
    pending: (message.pending as string).toLowerCase(),
    base: { seq: Number(base.seq), entryId: hexOf(base.entry_id), revision: base.revision },
    residenceUs: Number(message.residence_us),
    atMs: Number(message.at_ms),
    ...(lineage === null || lineage === undefined
      ? {}
      : {
          lineage: {
            clusterId: lineage.cluster_id,
            raftTerm: lineage.raft_term,
            keyId: lineage.key_id,
            proofs: lineage.proofs.map((p) => ({ revision: p.revision, digest: plain(p.digest) })),
          },
        }),
    ...bodyOf(message),
  }
}

/** Does protobufjs accept these bytes as a LogEntry at all? */
export function referenceAccepts(bytes: Uint8Array): boolean {
  try {
    LogEntryType.decode(bytes)
    return true
  } catch {
    return false
  }
}
