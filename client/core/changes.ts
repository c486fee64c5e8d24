// What a subscriber receives, as types: the wire's frames after staging, folding and naming of keys.
// Owns: the Change union and its parts. Refuses: behaviour; fold.ts makes changes, live-map.ts applies them.

import type { ClusterState, Outcome, ResyncReason, WireValue } from '../../protocol/frames.ts'

/**
 * A key as text. A key that is not UTF-8 has `binary: true`, and each character of `key` is then one byte (0-255).
 */
export type Named = { readonly key: string; readonly binary?: true }

/** At most one of json, text, base64, withheld, oversize; none of them with `values: "none"`. See values.ts. */
export type Value = WireValue

type Versioned = {
  /** Revision that created the key, decimal. */
  readonly createRevision?: string
  /** Number of writes since then, decimal. */
  readonly version?: string
  /** Lease id, decimal, when the key is bound to one. */
  readonly lease?: string
}

/** One key that exists, as of `revision`. */
export type Entry = Named & Versioned & Value & { readonly revision: string }
/** `leave`: the key left what policy lets this subscriber see; it still exists. */
export type Gone = Named & { readonly gone: 'delete' | 'leave' }
export type Item = Entry | Gone

export type KeyEvent = Named &
  (({ readonly op: 'put' } & Versioned & Value) | { readonly op: 'delete' } | { readonly op: 'leave' })

/** Place in one cluster's history. A revision means nothing without its epoch. */
export type Place = { readonly epoch: string; readonly revision: string }

/** `violation`: the gateway broke the protocol and this client asked again, from a snapshot. */
export type Break = ResyncReason | 'violation'

export type Bookmarked = Place & { readonly state: ClusterState; readonly ageMs: number }

export type Change =
  /**
   * State of the selected keys at one revision, complete and atomic. `full`: every key of this cluster that is not
   * listed is gone. `diff`: only the listed keys changed.
   */
  | (Place & {
      readonly kind: 'snapshot'
      readonly cluster: string
      readonly base: 'full' | 'diff'
      readonly items: readonly Item[]
    })
  /** All visible events of one revision, in etcd's order: a transaction arrives whole. */
  | (Place & { readonly kind: 'events'; readonly cluster: string; readonly events: readonly KeyEvent[] })
  /** `mode: "state"`: the difference from one revision to a later one, newest state per key. */
  | (Place & {
      readonly kind: 'state'
      readonly cluster: string
      readonly fromRevision: string
      readonly items: readonly Item[]
    })
  /** Proof that everything up to these revisions was delivered. */
  | { readonly kind: 'bookmark'; readonly clusters: Readonly<Record<string, Bookmarked>> }
  /** Continuity was broken. A snapshot follows, except on watches that start at "now": they go on from `to`. */
  | {
      readonly kind: 'resync'
      readonly cluster: string
      readonly reason: Break
      readonly from: Place | undefined
      readonly to: Place | undefined
    }
  /** A policy or token change took these keys out of view. They are not deleted. */
  | { readonly kind: 'scope'; readonly cluster: string; readonly left: readonly Named[] }
  /** A followed cluster changed state. `removed` and `denied`: drop everything held of it. */
  | {
      readonly kind: 'cluster'
      readonly cluster: string
      readonly state: ClusterState | 'denied'
      readonly region: string | undefined
      /** RFC 3339, gateway clock. undefined when this client noticed by itself. */
      readonly since: string | undefined
      readonly lastRevision: string | undefined
    }

/** How one cluster of a watch begins on this connection. */
export type Beginning = { readonly outcome: Outcome; readonly epoch?: string; readonly revision?: string }
