// What one message of a cluster's log says, as types.
// Owns: the in-memory shape of deltawatch.v1.LogEntry (log.proto) and of the bookmark that travels beside the log.
// Refuses: bytes (codec.ts) and the rules that relate one entry to the next (chain.ts).

import type { Key } from '../bytes.ts'
import type { Revision } from '../revision.ts'

declare const entryBrand: unique symbol
/** 16 random bytes, in lower-case hex. Names one entry; `prevEntryId` of its continuation repeats it. */
export type EntryId = string & { readonly [entryBrand]: true }
/** Id of one lineage of a cluster's history: 16 lower-case hex digits, random. */
export type Epoch = string & { readonly [entryBrand]: 'epoch' }
/** What the first entry of an empty log continues. */
export const GENESIS = '00000000000000000000000000000000' as EntryId

export const isEntryId = (text: unknown): text is EntryId => typeof text === 'string' && /^[0-9a-f]{32}$/.test(text)
export const isEpoch = (text: unknown): text is Epoch => typeof text === 'string' && /^[0-9a-f]{16}$/.test(text)

/** `leave`: the key left what policy lets out; it still exists in etcd. */
export type LogOp = 'put' | 'delete' | 'leave'

export type LogEvent = {
  readonly op: LogOp
  readonly key: Key
  /** Bytes of a put after transforms; empty for delete, leave and withheld puts. A view into the decoded message. */
  readonly value: Uint8Array
  readonly createRevision: Revision
  /** Writes since creation, etcd's `version`; decimal. "0" on delete. */
  readonly version: string
  /** Decimal lease id; "0" for none. */
  readonly lease: string
  /** Rule id when egress policy withheld the value. */
  readonly withheld?: string
  /** Transforms already applied at egress; deliver does not repeat them. */
  readonly transforms?: readonly string[]
}
/** All events of one etcd revision that leave the region, in etcd's order; never empty (hidden revisions are absent). */
export type RevisionRecord = { readonly revision: Revision; readonly events: readonly LogEvent[] }

export type SnapshotRecord = {
  readonly key: Key
  readonly value: Uint8Array
  readonly modRevision: Revision
  readonly createRevision: Revision
  readonly version: string
  readonly lease: string
  readonly withheld?: string
  readonly transforms?: readonly string[]
}

export type Pending = 'none' | 'epoch' | 'gap' | 'policy'
/** Why a checkpoint was started; `routine` ones change nothing and double as a consistency check. */
export type CheckpointReason = 'epoch' | 'gap' | 'policy' | 'routine'

export type LineageProof = { readonly revision: Revision; readonly digest: Uint8Array }
export type Lineage = {
  /** etcd's cluster id, decimal. */
  readonly clusterId: string
  readonly raftTerm: string
  /** Names the agents' digest key; never the key. Empty: no digests. */
  readonly keyId: string
  /** Keyed digests of recent event-bearing revisions, ascending, hidden ones included. */
  readonly proofs: readonly LineageProof[]
}

/** The newest entry its writer knew to be valid; stays true even if the entry naming it turns out void. */
export type Base = { readonly seq: number; readonly entryId: EntryId; readonly revision: Revision }

export type EntryHead = {
  readonly entryId: EntryId
  readonly prevEntryId: EntryId
  readonly epoch: Epoch
  readonly agentId: string
  readonly configHash: string
  readonly policyRevision: string
  /** Stream sequence of the BEGIN of the newest complete checkpoint; 0 when there is none. */
  readonly newestCompleteBeginSeq: number
  readonly pending: Pending
  readonly base: Base
  /** Microseconds between arrival of the oldest change at the agent and the append. */
  readonly residenceUs: number
  /** Agent wall clock at the append, Unix milliseconds; for display and lag only, never for order. */
  readonly atMs: number
  readonly lineage?: Lineage
}
export type EntryBody =
  | {
      readonly kind: 'events'
      /** Position before this entry: the last complete or proven revision of the log. */
      readonly prevRevision: Revision
      readonly revisions: readonly RevisionRecord[]
      /** Complete up to here: at least the last record's revision, more when hidden revisions follow it. */
      readonly throughRevision: Revision
    }
  | {
      /** One byte slice of the encoding of a RevisionRecord too large for one message. */
      readonly kind: 'chunk'
      readonly prevRevision: Revision
      readonly revision: Revision
      readonly groupId: string
      readonly index: number
      readonly count: number
      readonly data: Uint8Array
    }
  | { readonly kind: 'progress'; readonly prevRevision: Revision; readonly revision: Revision }
  | {
      readonly kind: 'snapshot-begin'
      readonly checkpointId: string
      /** The pinned revision S every item is read at. */
      readonly revision: Revision
      readonly reason: CheckpointReason
    }
  | {
      readonly kind: 'snapshot-items'
      readonly checkpointId: string
      readonly index: number
      readonly items: readonly SnapshotRecord[]
    }
  | {
      readonly kind: 'snapshot-end'
      readonly checkpointId: string
      readonly revision: Revision
      readonly itemCount: number
      /** SHA-256 over the items as encoded, in order. */
      readonly digest: Uint8Array
    }
export type LogEntry = EntryHead & EntryBody

export type AgentState =
  | 'live'
  | 'idle-proved'
  | 'lagging'
  | 'unreachable'
  | 'resyncing'
  | 'standby'
  | 'hub-too-small'
  | 'refused'

/** A bookmark on `dw.mark.<cluster>` (core NATS, JSON): proof up to `provenRevision`, naming the entry it covers. */
export type Mark = {
  readonly v: 1
  readonly agentId: string
  readonly epoch: Epoch
  readonly provenRevision: Revision
  readonly seq: number
  readonly entryId: EntryId
  readonly configHash: string
  /** Bundle the agent enforces; absent in bookmarks of older agents. */
  readonly policyRevision?: string
  readonly state: AgentState
  /** Revisions the agent knows of at etcd's head and has not yet appended. */
  readonly lag: number
  readonly atMs: number
  /**
   * For how long the agent has not looked behind `provenRevision`, ms: while a hook holds nothing is watched, and the
   * proof grows old however often it is told. Absent: it is as new as the bookmark.
   */
  readonly ageMs?: number
}
