// The decision log: what a decision looks like as a record, and which decisions are recorded.
// Owns: the shape and the sampling (every denial, a share of the rest, the same share on every replica). Never a value, never a key:
// keys appear as a keyed hash, so that the log cannot be searched for a guessed key. Does not own: publishing.

import type { Key } from '#protocol/bytes.ts'
import type { Decision } from './types.ts'

export type DecisionRecord = {
  readonly id: string
  /** Ms since 1970. */
  readonly at: number
  /** Revision of the bundle that decided. */
  readonly bundle: string
  readonly cluster: string
  readonly stage: 'egress' | 'deliver'
  /** Region decided for: the hub's, or the class's. */
  readonly to: string
  readonly rule: string
  readonly effect: Decision['effect']
  readonly keyHash: string
  readonly transforms: readonly string[]
  readonly mode: 'enforce' | 'shadow' | 'canary'
  readonly reason: string
}

export type RecordContext = Pick<DecisionRecord, 'id' | 'at' | 'bundle' | 'cluster' | 'stage' | 'to' | 'mode'> & {
  /** Keyed hash of a key, by a secret that stays with the recorder. */
  readonly keyHash: (key: Key) => string
}

/** `key` is the key as the decider was asked about it. */
export function decisionRecord(decision: Decision, key: Key, context: RecordContext): DecisionRecord {
  const { keyHash, ...rest } = context
  const common = { ...rest, effect: decision.effect, keyHash: keyHash(key) }
  switch (decision.effect) {
    case 'allow':
      return { ...common, rule: decision.rules.join(' '), transforms: decision.transforms, reason: 'allowed' }
    case 'withhold':
      return { ...common, rule: decision.rule, transforms: decision.transforms, reason: decision.reason }
    case 'deny':
      return { ...common, rule: decision.rule ?? '', transforms: [], reason: decision.reason }
    default: {
      const unknown: never = decision
      return unknown
    }
  }
}

/** `share` in [0, 1] of what is not denied; `sample` in [0, 1) is drawn by the caller. */
export function shouldRecord(decision: Decision, share: number, sample: number): boolean {
  return decision.effect === 'deny' || sample < share
}
