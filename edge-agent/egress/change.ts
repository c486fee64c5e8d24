// What the watch hands on: one complete revision of the watched range, decoded and checked.
// Owns: the shape every later stage reads. Refuses: etcd's wire types (watch/) and the log's (protocol/log/).
// Bytes are views into the message they arrived in: a stage that keeps a change longer than its append copies it.

import type { Key } from '#protocol/bytes.ts'
import type { Revision } from '#protocol/revision.ts'

export type Change = {
  readonly op: 'put' | 'delete'
  readonly key: Key
  /** Empty on a delete. */
  readonly value: Uint8Array
  /** "0" on a delete. */
  readonly createRevision: Revision
  readonly version: string
  readonly lease: string
  /** Previous bytes, when the watch asked for them and etcd still had them. */
  readonly prevValue: Uint8Array | undefined
}

export type ChangedRevision = {
  readonly revision: Revision
  /** In etcd's order; never empty. */
  readonly changes: readonly Change[]
  /** Keys, values and previous values together, for budgets. */
  readonly bytes: number
  /** When the first of its bytes arrived, on the agent's monotonic clock (ms). */
  readonly arrivedAt: number
}

/** One key as a range read returns it. */
export type HeldKey = {
  readonly key: Key
  readonly value: Uint8Array
  readonly modRevision: Revision
  readonly createRevision: Revision
  readonly version: string
  readonly lease: string
}
