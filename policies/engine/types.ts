// The public face of the policy engine: what agent, gateway and command line pass in and get back.
// Owns: the types. Refuses: I/O, a clock (every call takes `now`), randomness, Node (hashing is injected, see PolicyDeps).
// Semantics in one breath: default deny; deny beats allow; the order of rules never matters; no error ever yields allow.

import type { Key } from '#protocol/bytes.ts'
import type { CompiledBundle } from './compiled.ts'
import type { RegionPolicy } from './document.ts'
import type { DenyReason, WithholdReason } from './reasons.ts'
import type { PolicySuite } from './suite-document.ts'

export type Result<T, E> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly error: E }

export type Op = 'put' | 'delete'

/**
 * One change as the engine sees it. Treated as immutable from the first call on: parsed values are remembered per event object.
 * A delete has no value; rules that look at values decide it on `prevValue`.
 */
export type PolicyEvent = {
  readonly op: Op
  readonly key: Key
  /** Bytes of the put. Absent on a delete, and at the gateway when egress withheld them. */
  readonly value?: Uint8Array | undefined
  /** Gateway only: the rule by which egress withheld the value, as the log states it. */
  readonly withheld?: string | undefined
  /**
   * Gateway only: the transforms egress applied, as the log lists them for `value`, or on a delete for `prevValue`. Deliver does not
   * repeat them, and takes a condition that reads what they may have changed for one that throws.
   */
  readonly applied?: readonly string[] | undefined
  /** Previous bytes; absent when there were none, when they were withheld, or when they are not known. */
  readonly prevValue?: Uint8Array | undefined
  /** False when the previous value could not be had (etcd omits prev_kv after compaction). */
  readonly prevKnown: boolean
}

export type { DenyReason, WithholdReason } from './reasons.ts'

export type Decision =
  | {
      readonly effect: 'allow'
      /** After keyTransform. Selectors, ranges and state queries match this one. */
      readonly key: Key
      /** After transforms; the very same reference when untouched. Absent on a delete. */
      readonly value?: Uint8Array | undefined
      /** Descriptors of the transforms this decision vouches for; the log lists them. */
      readonly transforms: readonly string[]
      /** Ids of the allow rules that matched, sorted. */
      readonly rules: readonly string[]
    }
  | {
      /** Key and revision still go, the value does not. Only ever the answer to a put. */
      readonly effect: 'withhold'
      readonly key: Key
      readonly rule: string
      readonly reason: WithholdReason
      readonly transforms: readonly string[]
      readonly rules: readonly string[]
    }
  | { readonly effect: 'deny'; readonly rule?: string; readonly reason: DenyReason }

/** Whether a key is in view under a decision, without the cost of transforming the value. */
export type Visibility = 'visible' | 'hidden' | 'unknown'

export type Subscriber = {
  readonly subject: string
  readonly region: string
  readonly org?: string | undefined
  readonly audiences: readonly string[]
  readonly scopes: readonly string[]
  readonly anonymous: boolean
  readonly labels?: Readonly<Record<string, string>> | undefined
}

/** Projection of a subscriber onto what the bundle distinguishes. Equal ids (under one bundle) mean equal treatment. */
export type PolicyClass = {
  readonly id: string
  /** Revision of the bundle that made it; a class means nothing under another one. */
  readonly bundle: string
  /** The subscriber's region, or '' when no rule names it. */
  readonly region: string
  /** Sorted; only those the bundle names. */
  readonly audiences: readonly string[]
  /** One character per distinct whenSubscriber of the bundle: '1' true, '0' false, 'e' failed to evaluate. */
  readonly conditions: string
}

export type RateLimits = {
  /** Undefined means no limit. They pause a reader's cursor and never drop. */
  readonly eventsPerSecond?: number
  readonly bytesPerSecond?: number
}

export interface EgressDecider {
  /** True when some rule able to apply looks at values: ask etcd for prev_kv only then. */
  readonly needsPrevValue: boolean
  /**
   * Hash of the compiled egress rules, the hub's region, the fingerprints of the HMAC keys they name, and of which bases have lapsed at `now`.
   * Differs from the log tail's hash: pending = policy, checkpoint, then events. That also covers a basis that lapsed while no agent ran.
   */
  configHash(now: number): string
  decide(event: PolicyEvent, now: number): Decision
  visible(event: PolicyEvent, now: number): Visibility
  /** The next instant (ms since 1970) at which a basis lapses; it is a policy change. */
  nextExpiry(now: number): number | undefined
}

export interface DeliverDecider {
  readonly needsPrevValue: boolean
  decide(event: PolicyEvent, now: number): Decision
  visible(event: PolicyEvent, now: number): Visibility
  /** Hash of the compiled rules able to touch keys (as delivered) in [from, to) for this class: the policy part of a cursor's view tag. */
  tagFor(range: { readonly from: Key; readonly to: Key | undefined }, now: number): string
  /** Some rule renames keys for this class: selectors must be matched on keys as delivered. */
  readonly movesKeys: boolean
  /** No rule could ever show this class anything of the source: to it, the source's clusters do not exist. */
  readonly blind: boolean
  /** Bookmarks only up to the last visible revision, and no versions, for this class. */
  readonly hideActivity: boolean
  readonly limits: RateLimits
  nextExpiry(now: number): number | undefined
}

/** Hashing and keys, injected: policies/node implements it, tests may fake it. */
export interface PolicyDeps {
  sha256(bytes: Uint8Array): Uint8Array
  /** HMAC-SHA256 under a named key; undefined when there is no such key, which withholds (value) or denies (key). */
  hmac(keyId: string, bytes: Uint8Array): Uint8Array | undefined
  /** A stable, non-reversible name of the key's content, so that a rotation under one id is a policy change; undefined when missing. */
  keyFingerprint(keyId: string): string | undefined
}

export type PolicyIssueCode =
  | 'bad-yaml'
  | 'bad-document'
  | 'bad-glob'
  | 'bad-expression'
  | 'bad-schema'
  | 'bad-transform'
  | 'missing-schema'
  | 'missing-basis'
  | 'duplicate-id'
  | 'conflicting-regime'
  | 'blinded-by-key-transform'
  | 'too-large'
  | 'too-many'
  | 'bad-manifest'
  | 'bad-signature'
  | 'failing-test'
  // Warnings: the bundle loads, somebody should look.
  | 'missing-key'
  | 'basis-expiring'
  | 'basis-expired'
  | 'overlap'
  | 'blinded-by-transform'
  | 'weak-hash'
  | 'dead-rule'
  | 'lost-limits'

export type PolicyIssue = {
  readonly level: 'error' | 'warning'
  readonly code: PolicyIssueCode
  /** Path of the document inside the bundle. */
  readonly file: string
  /** Where in the document, e.g. `spec.rules[3].match.keys[0]`. */
  readonly at?: string
  readonly rule?: string
  readonly message: string
}

/** One file of a bundle, parsed. `digest` is the lower-case hex SHA-256 of the file's bytes. */
export type ParsedDocument =
  | { readonly kind: 'policy'; readonly path: string; readonly digest: string; readonly policy: RegionPolicy }
  | { readonly kind: 'schema'; readonly path: string; readonly digest: string; readonly schema: unknown }
  | { readonly kind: 'suite'; readonly path: string; readonly digest: string; readonly suite: PolicySuite }

/** Compiled and immutable. */
export type PolicyBundle = {
  /** SHA-256 (hex) of the manifest: travels in log entries, decisions, metrics and the console. */
  readonly revision: string
  /** Source regions the bundle speaks for. */
  readonly regions: readonly string[]
  readonly ruleCount: number
  readonly warnings: readonly PolicyIssue[]
  readonly suites: readonly { readonly path: string; readonly suite: PolicySuite }[]
  /** Present when some document says `mode: shadow`: the bundle as it would be with those documents enforced. */
  readonly shadow?: PolicyBundle
  readonly compiled: CompiledBundle
}
