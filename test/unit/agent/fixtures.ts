// What the agent's unit tests build over and over: raw watch responses, revisions, entries' evidence.
// Owns: believable defaults. Refuses: behaviour.

import type { Key } from '#protocol/bytes.ts'
import type { Revision } from '#protocol/revision.ts'
import type { Change, ChangedRevision } from '#agent/egress/change.ts'

export const rev = (n: number | string): Revision => String(n) as Revision
export const key = (text: string): Key => text as Key
export const bytes = (text: string): Uint8Array => new TextEncoder().encode(text)

export const header = (revision: number | string) => ({
  cluster_id: '14841639068965178418',
  member_id: '10276657743932975437',
  raft_term: '2',
  revision: String(revision),
})

type Raw = Readonly<Record<string, unknown>>
export const response = (more: Raw = {}): Raw => ({
  header: header(100),
  watch_id: '0',
  created: false,
  canceled: false,
  compact_revision: '0',
  cancel_reason: '',
  fragment: false,
  events: [],
  ...more,
})
export const created = (head = 100): Raw => response({ created: true, header: header(head) })

/** A put that creates its key, unless told otherwise. */
export const put = (name: string, mod: number, more: Raw = {}): Raw => ({
  type: 'Put',
  kv: {
    key: Buffer.from(name, 'latin1'),
    value: Buffer.from('v'),
    mod_revision: String(mod),
    create_revision: String(mod),
    version: '1',
    lease: '0',
    ...more,
  },
  prev_kv: null,
})
export const del = (name: string, mod: number): Raw => ({
  type: 'Delete',
  kv: {
    key: Buffer.from(name, 'latin1'),
    value: Buffer.alloc(0),
    mod_revision: String(mod),
    create_revision: '0',
    version: '0',
    lease: '0',
  },
  prev_kv: null,
})

export const change = (name: string, more: Partial<Change> = {}): Change => ({
  op: 'put',
  key: key(name),
  value: bytes('v'),
  createRevision: rev(1),
  version: '2',
  lease: '0',
  prevValue: undefined,
  ...more,
})
export const changed = (n: number, ...changes: Change[]): ChangedRevision => ({
  revision: rev(n),
  changes: changes.length === 0 ? [change(`/k${n}`)] : changes,
  bytes: 10,
  arrivedAt: 0,
})
