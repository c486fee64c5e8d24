// One response of etcd's watch stream -> a checked message.
// Owns: the shape, types and per-event plausibility of what a server sends; every field is distrusted.
// Refuses: order between messages (state.ts). Nothing a server sends makes this throw: the answer is a named defect.

import { keyFromBytes } from '#protocol/bytes.ts'
import { compareRevisions, parseRevision, REVISION_ZERO, type Revision } from '#protocol/revision.ts'
import type { Change } from '../egress/change.ts'

export type Header = {
  readonly clusterId: string
  readonly memberId: string
  readonly raftTerm: string
  /** The store's head at the time: never evidence of anything delivered. */
  readonly revision: Revision
}

export type CancelCause =
  | { readonly kind: 'compacted'; readonly compactRevision: Revision }
  /** The token is stale or missing: worth one refresh. */
  | { readonly kind: 'auth'; readonly reason: string }
  | { readonly kind: 'denied'; readonly reason: string }
  | { readonly kind: 'no-leader'; readonly reason: string }
  | { readonly kind: 'unknown'; readonly reason: string }

/** An event no etcd can mean. It is left out, counted and logged; its key may be secret, so only its length travels. */
export type Impossible = { readonly revision: string; readonly reason: string; readonly keyLength: number }

export type DatedChange = { readonly revision: Revision; readonly change: Change; readonly bytes: number }

export type WatchMessage =
  | { readonly kind: 'created'; readonly header: Header }
  | { readonly kind: 'canceled'; readonly header: Header; readonly cause: CancelCause; readonly created: boolean }
  | { readonly kind: 'progress'; readonly header: Header; readonly manual: boolean }
  | {
      readonly kind: 'events'
      readonly header: Header
      readonly changes: readonly DatedChange[]
      /** More pieces of this response follow. */
      readonly fragment: boolean
      readonly impossible: readonly Impossible[]
    }

export type ReadMessage =
  | { readonly ok: true; readonly message: WatchMessage }
  | { readonly ok: false; readonly defect: string }

type Fields = Readonly<Record<string, unknown>>
const isFields = (value: unknown): value is Fields => typeof value === 'object' && value !== null
const EMPTY = new Uint8Array(0)
const DECIMAL = /^(?:0|[1-9][0-9]{0,19})$/
const isDecimal = (value: unknown): value is string => typeof value === 'string' && DECIMAL.test(value)
/** etcd's manual progress replies belong to no watcher. */
const ALL_WATCHERS = '-1'

/** `watchId` is the only watcher of the stream; before `created` it is unknown. */
export function readMessage(raw: unknown, watchId: string | undefined): ReadMessage {
  if (!isFields(raw)) return defect('a response is not a message')
  const header = readHeader(raw.header)
  if (header === undefined) return defect('a response has no valid header')
  const id = raw.watch_id
  if (typeof id !== 'string') return defect('a response has no watch id')
  const { events } = raw
  if (!Array.isArray(events)) return defect('a response has no event list')
  if (raw.canceled === true) {
    if (watchId !== undefined && id !== watchId && id !== ALL_WATCHERS) return defect('a cancel names another watcher')
    return ok({ kind: 'canceled', header, cause: readCause(raw), created: raw.created === true })
  }
  if (raw.created === true) return ok({ kind: 'created', header })
  if (id === ALL_WATCHERS) {
    return events.length === 0 ? ok({ kind: 'progress', header, manual: true }) : defect('events without a watcher')
  }
  if (watchId !== undefined && id !== watchId) return defect('a response names another watcher')
  const fragment = raw.fragment === true
  if (events.length === 0 && !fragment) return ok({ kind: 'progress', header, manual: false })
  return ok(readEvents(header, events, fragment))
}

const ok = (message: WatchMessage): ReadMessage => ({ ok: true, message })
const defect = (what: string): ReadMessage => ({ ok: false, defect: what })

/** The watch id a `created` response assigns. */
export function createdId(raw: unknown): string | undefined {
  return isFields(raw) && typeof raw.watch_id === 'string' ? raw.watch_id : undefined
}

export function readHeader(raw: unknown): Header | undefined {
  if (!isFields(raw)) return undefined
  const revision = parseRevision(raw.revision)
  const { cluster_id: clusterId, member_id: memberId, raft_term: raftTerm } = raw
  if (revision === undefined || !isDecimal(clusterId) || !isDecimal(memberId) || !isDecimal(raftTerm)) return undefined
  return { clusterId, memberId, raftTerm, revision }
}

const MAX_REASON = 200

function readCause(raw: Fields): CancelCause {
  const compactRevision = parseRevision(raw.compact_revision)
  // A compaction is told by its revision alone: etcd leaves the reason empty and the header's revision 0.
  if (compactRevision !== undefined && compactRevision !== REVISION_ZERO) return { kind: 'compacted', compactRevision }
  const reason = typeof raw.cancel_reason === 'string' ? raw.cancel_reason.slice(0, MAX_REASON) : ''
  return classifyRefusal(reason)
}

/** The same words come as cancel reasons and as errors of unary calls. */
export function classifyRefusal(reason: string): Exclude<CancelCause, { kind: 'compacted' }> {
  if (/invalid auth token|auth store is old|user name is empty|unauthenticated/i.test(reason)) {
    return { kind: 'auth', reason }
  }
  if (/permission denied/i.test(reason)) return { kind: 'denied', reason }
  if (/no leader/i.test(reason)) return { kind: 'no-leader', reason }
  return { kind: 'unknown', reason }
}

function readEvents(header: Header, events: readonly unknown[], fragment: boolean): WatchMessage {
  const changes: DatedChange[] = []
  const impossible: Impossible[] = []
  for (const event of events) {
    const read = readEvent(event, header)
    if (typeof read === 'string') impossible.push(describe(event, read))
    else changes.push(read)
  }
  return { kind: 'events', header, changes, fragment, impossible }
}

function readEvent(event: unknown, header: Header): DatedChange | string {
  if (!isFields(event) || !isFields(event.kv)) return 'no-key-value'
  const { kv } = event
  if (!(kv.key instanceof Uint8Array) || kv.key.length === 0) return 'no-key'
  const revision = parseRevision(kv.mod_revision)
  if (revision === undefined || revision === REVISION_ZERO) return 'bad-mod-revision'
  if (compareRevisions(revision, header.revision) > 0) return 'beyond-header'
  const prevValue =
    isFields(event.prev_kv) && event.prev_kv.value instanceof Uint8Array ? event.prev_kv.value : undefined
  const key = keyFromBytes(kv.key)
  if (event.type === 'Delete') {
    const change: Change = {
      op: 'delete',
      key,
      value: EMPTY,
      createRevision: REVISION_ZERO,
      version: '0',
      lease: '0',
      prevValue,
    }
    return { revision, change, bytes: key.length + (prevValue?.length ?? 0) }
  }
  if (event.type !== 'Put') return 'unknown-type'
  const value = kv.value instanceof Uint8Array ? kv.value : EMPTY
  const createRevision = parseRevision(kv.create_revision)
  const { version } = kv
  const lease = readLease(kv.lease)
  if (createRevision === undefined || createRevision === REVISION_ZERO) return 'bad-create-revision'
  if (parseRevision(version) === undefined || version === '0') return 'bad-version'
  if (lease === undefined) return 'bad-lease'
  if ((version === '1') !== (createRevision === revision)) return 'version-contradicts-create-revision'
  if (compareRevisions(createRevision, revision) > 0) return 'created-after-change'
  const change: Change = { op: 'put', key, value, createRevision, version: version as string, lease, prevValue }
  return { revision, change, bytes: key.length + value.length + (prevValue?.length ?? 0) }
}

/** Lease ids are int64 and may be negative on the wire; the log keeps them as unsigned decimals. */
export function readLease(raw: unknown): string | undefined {
  if (isDecimal(raw)) return raw
  if (typeof raw !== 'string' || !/^-[1-9][0-9]{0,18}$/.test(raw)) return undefined
  return BigInt.asUintN(64, BigInt(raw)).toString()
}

function describe(event: unknown, reason: string): Impossible {
  const kv = isFields(event) && isFields(event.kv) ? event.kv : {}
  const revision = typeof kv.mod_revision === 'string' ? kv.mod_revision.slice(0, 20) : ''
  return { revision, reason, keyLength: kv.key instanceof Uint8Array ? kv.key.length : 0 }
}
