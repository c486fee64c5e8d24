// The policy in force, as the relay sees it.
// Owns: the port a loader fulfils, and the hash by which two agents know that they write the same.
// Refuses: loading and compiling (policies/node), deciding (decide.ts).

import { createHash } from 'node:crypto'
import type { Key } from '#protocol/bytes.ts'
import type { Decision, EgressDecider, PolicyEvent } from '#policies/engine/types.ts'

export type PolicyInForce = {
  readonly decider: EgressDecider
  /** Of the bundle in force now. It moves on with a bundle that decides the same: the decider stays, entries and bookmarks say the new one. */
  readonly revision: string
  /** Told of every decision on a change. */
  readonly observe?: Observe
}

export type Observe = (event: PolicyEvent, decision: Decision, now: number) => void

/** What entries say of their writer, with the revision of the moment. */
export const identityOf = (
  { agentId, configHash }: { readonly agentId: string; readonly configHash: string },
  policy: PolicyInForce,
) => ({
  agentId,
  configHash,
  get policyRevision() {
    return policy.revision
  },
})

export interface PolicySource {
  current(): PolicyInForce
  /** After another bundle took effect. */
  onChange(fn: () => void): Disposable
}

export type Scope = { readonly from: Key; readonly to: Key | undefined; readonly prefixes: readonly Key[] }

/** Two agents with the same hash write the same entries for the same history. */
export function configHash(scope: Scope, policy: PolicyInForce, now: number): string {
  const parts = [scope.from, scope.to ?? null, [...scope.prefixes].sort(), policy.decider.configHash(now)]
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex').slice(0, 16)
}
