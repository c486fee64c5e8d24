// The subscriber's wire, `deltawatch.v1.json`: one union per direction.
// Owns: the shape of every frame, as plain types. SPEC.md gives their meaning, decode.ts checks untrusted ones.
// Refuses: behaviour. Gateways write data frames as bytes (gateway/delivery), so these types are also their contract.

import type { Revision } from './revision.ts'

export type ValuesMode = 'auto' | 'base64' | 'none'
export type DeliveryMode = 'log' | 'state'

/** State of one cluster as a subscriber sees it. Silence is never one of them. */
export type ClusterState = 'live' | 'idle-proved' | 'lagging' | 'unreachable' | 'resyncing' | 'removed'

export type Selector = {
  readonly key?: string
  readonly keyBase64?: string
  readonly prefix?: string
  readonly prefixBase64?: string
  readonly from?: string
  readonly fromBase64?: string
  /** Exclusive, bytewise. Absent with `from` means to the end of the key space. */
  readonly to?: string
  readonly toBase64?: string
}

// ---- client -> gateway

export type HelloFrame = {
  readonly type: 'hello'
  readonly token?: string
  readonly client: string
  readonly versions: readonly number[]
}
export type WatchFrame = Selector & {
  readonly type: 'watch'
  readonly id: string
  readonly clusters?: '*' | readonly string[]
  readonly regions?: readonly string[]
  /** "snapshot", "now" or a cursor (`dw1.…`). */
  readonly start: string
  /** How clusters that a cursor does not name begin. */
  readonly default?: 'snapshot' | 'now'
  readonly mode?: DeliveryMode
  readonly values?: ValuesMode
}
export type UnwatchFrame = { readonly type: 'unwatch'; readonly id: string }
export type AuthFrame = { readonly type: 'auth'; readonly token: string }
export type PingFrame = { readonly type: 'ping' }
export type ClientFrame = HelloFrame | WatchFrame | UnwatchFrame | AuthFrame | PingFrame

// ---- gateway -> client

export type ClusterStatus = {
  readonly region: string
  readonly state: ClusterState
  readonly epoch?: string
  readonly revision?: Revision
  /** Milliseconds since the last proof that nothing is missing up to `revision`. */
  readonly ageMs?: number
}
export type Limits = {
  readonly maxInboundBytes: number
  readonly maxFrameBytes: number
  readonly maxWatches: number
  readonly maxClusters: number
}
export type WelcomeFrame = {
  readonly type: 'welcome'
  readonly version: number
  readonly session: string
  readonly heartbeatMs: number
  readonly limits: Limits
  readonly clusters: Readonly<Record<string, ClusterStatus>>
  /** Present and true when the gateway runs without authentication. */
  readonly dev?: true
}

export type Outcome = 'resumed' | 'snapshot' | 'live' | 'waiting' | 'resync' | 'denied'
export type ResyncReason = 'compacted' | 'epoch' | 'trimmed' | 'policy' | 'selector' | 'ahead' | 'removed'

export type WatchingFrame = {
  readonly type: 'watching'
  readonly id: string
  readonly ch: number
  readonly clusters: Readonly<
    Record<string, { readonly outcome: Outcome; readonly epoch?: string; readonly revision?: Revision }>
  >
}

/** At most one of json, text, base64, withheld, oversize; none of them with `values: "none"`. */
export type WireValue = {
  readonly json?: unknown
  readonly text?: string
  readonly base64?: string
  readonly withheld?: string
  /** Size in bytes of a value above the configured maximum. */
  readonly oversize?: number
}
export type WireKey = { readonly key: string } | { readonly keyBase64: string }
export type WireEvent = WireKey &
  (
    | ({
        readonly op: 'put'
        readonly createRevision?: Revision
        readonly version?: string
        readonly lease?: string
      } & WireValue)
    | { readonly op: 'delete' }
    | { readonly op: 'leave' }
  )
export type EventsFrame = {
  readonly type: 'events'
  readonly ch: number
  readonly cluster: string
  readonly epoch: string
  readonly revision: Revision
  readonly events: readonly WireEvent[]
}

export type SnapshotItem = WireKey &
  (
    | ({
        readonly revision: Revision
        readonly createRevision?: Revision
        readonly version?: string
        readonly lease?: string
      } & WireValue)
    | { readonly gone: 'delete' | 'leave' }
  )
export type SnapshotFrame = { readonly type: 'snapshot'; readonly ch: number; readonly cluster: string } & (
  | { readonly phase: 'begin'; readonly base: 'full' | 'diff'; readonly epoch: string; readonly revision: Revision }
  | { readonly phase: 'items'; readonly items: readonly SnapshotItem[] }
  | { readonly phase: 'end'; readonly revision: Revision }
)

export type BookmarkFrame = {
  readonly type: 'bookmark'
  readonly ch: number
  readonly cursor: string
  readonly clusters: Readonly<
    Record<
      string,
      { readonly epoch: string; readonly revision: Revision; readonly state: ClusterState; readonly ageMs: number }
    >
  >
}
export type ClusterFrame = {
  readonly type: 'cluster'
  readonly cluster: string
  readonly region?: string
  readonly state: ClusterState
  /** RFC 3339, gateway clock. */
  readonly since: string
  readonly lastRevision?: Revision
}
export type ResyncFrame = {
  readonly type: 'resync'
  readonly ch: number
  readonly cluster: string
  readonly reason: ResyncReason
  readonly from?: { readonly epoch: string; readonly revision: Revision }
  readonly to?: { readonly epoch: string; readonly revision: Revision }
}
export type ScopeFrame = {
  readonly type: 'scope'
  readonly ch: number
  readonly cluster: string
  readonly left: readonly string[]
  readonly leftBase64?: readonly string[]
}
/** `mode: "state"`: one atomic difference, staged by the client until `last`. */
export type StateFrame = {
  readonly type: 'state'
  readonly ch: number
  readonly cluster: string
  readonly epoch: string
  readonly fromRevision: Revision
  readonly revision: Revision
  readonly items: readonly SnapshotItem[]
  readonly last: boolean
}
export type ErrorFrame = {
  readonly type: 'error'
  readonly id?: string
  readonly code: string
  readonly message: string
  readonly temporary: boolean
}
export type GoodbyeFrame = {
  readonly type: 'goodbye'
  readonly code: number
  readonly reason: string
  readonly retryAfterMs?: number
}
export type ServerFrame =
  | WelcomeFrame
  | WatchingFrame
  | SnapshotFrame
  | EventsFrame
  | StateFrame
  | BookmarkFrame
  | ClusterFrame
  | ResyncFrame
  | ScopeFrame
  | ErrorFrame
  | GoodbyeFrame
  | { readonly type: 'heartbeat' }
  | { readonly type: 'pong' }
  | { readonly type: 'authed'; readonly expiresAt?: string }
  | { readonly type: 'unwatched'; readonly id: string; readonly ch: number }
