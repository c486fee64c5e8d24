// What an operator can ask of the subscriber side, whichever process it runs in.
// Owns: the shapes, plain data that can cross a process boundary. Refuses: values and tokens: an operator sees who, where
// and how far, never what.

import type { ClusterState } from '#protocol/frames.ts'
import type { Revocation } from '../auth/revocations.ts'

export type WatchInfo = {
  readonly id: string
  readonly ch: number
  readonly format: string
  readonly mode: string
  readonly cursor: string | undefined
  readonly clusters: readonly {
    readonly cluster: string
    readonly state: string
    readonly epoch: string | undefined
    readonly revision: string | undefined
    /** Revisions between the cluster's head and this reader; undefined without a position. */
    readonly lag: number | undefined
  }[]
}

export type SessionInfo = {
  readonly id: string
  readonly worker: number
  readonly kind: 'session' | 'follower'
  readonly subject: string
  readonly region: string
  readonly class: string
  readonly address: string
  readonly client: string
  readonly ageMs: number
  readonly expiresInMs: number | undefined
  readonly written: number
  readonly inFlight: number
  readonly watches: readonly WatchInfo[]
}

export type SessionFilter = { readonly subject?: string; readonly id?: string; readonly limit: number }

export type ClusterInfo = {
  readonly worker: number
  readonly cluster: string
  readonly region: string
  readonly state: ClusterState
  readonly epoch: string | undefined
  readonly revision: string
  readonly ageMs: number | undefined
  readonly channels: number
  readonly readers: number
}

/** One frame of a traced subject, without what it carries. */
export type TraceLine = {
  readonly at: string
  readonly session: string
  readonly direction: 'in' | 'out'
  readonly type: string
  readonly ch?: number
  readonly cluster?: string
  readonly revision?: string
  readonly bytes: number
}

export interface AdminTarget {
  sessions(filter: SessionFilter): Promise<readonly SessionInfo[]>
  clusters(): Promise<readonly ClusterInfo[]>
  /** How many connections were ended. */
  disconnect(filter: { readonly id?: string; readonly subject?: string }): Promise<number>
  revoke(revocation: Revocation): Promise<number>
  /** Lines until the signal aborts; slow readers of the trace lose lines, the gateway loses nothing. */
  trace(subject: string, onLine: (line: TraceLine) => void, signal: AbortSignal): Promise<void>
}
