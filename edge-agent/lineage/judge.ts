// Is the etcd that answers the one the log was written from? The cheap half of the answer, before any replay.
// Owns: the verdict over what one status and one linearizable read say, and where a replay should start.
// Refuses: I/O. Cluster ids repeat after a wipe or a restore, so equality here only ever means "replay and see".

import type { Lineage, LineageProof } from '#protocol/log/entry.ts'
import { compareRevisions, type Revision } from '#protocol/revision.ts'
import { DIGEST_BYTES } from './digest.ts'
import { stateProof } from './state-sum.ts'

export type Known = {
  readonly lineage: Lineage | undefined
  /** The log's position in its epoch. */
  readonly position: Revision
}

/** From a member that has just answered a linearizable read. */
export type Facts = { readonly clusterId: string; readonly raftTerm: string; readonly head: Revision }

export type NewEpochReason = 'cluster-id' | 'head-behind' | 'term-decreased' | 'no-evidence' | 'diverged' | 'empty-log'

export type Judgement =
  | { readonly kind: 'new-epoch'; readonly reason: NewEpochReason }
  /** Continue once these are reproduced: by a watch, or by reading the whole state where no watch can start any more. */
  | { readonly kind: 'replay'; readonly proofs: readonly LineageProof[]; readonly state: LineageProof | undefined }

export function judgeLineage(known: Known, facts: Facts, heldKeyIds: ReadonlySet<string>): Judgement {
  const { lineage, position } = known
  if (lineage === undefined) return { kind: 'new-epoch', reason: 'no-evidence' }
  if (lineage.clusterId !== facts.clusterId) return { kind: 'new-epoch', reason: 'cluster-id' }
  if (compareRevisions(facts.head, position) < 0) return { kind: 'new-epoch', reason: 'head-behind' }
  if (compareDecimals(facts.raftTerm, lineage.raftTerm) < 0) return { kind: 'new-epoch', reason: 'term-decreased' }
  if (!heldKeyIds.has(lineage.keyId)) return { kind: 'new-epoch', reason: 'no-evidence' }
  return { kind: 'replay', proofs: replayProofs(lineage.proofs), state: stateProof(lineage.proofs) }
}

/** The proofs a watch can reproduce; state proofs (longer digests) are for range reads. */
export const replayProofs = (proofs: readonly LineageProof[]): readonly LineageProof[] =>
  proofs.filter((proof) => proof.digest.length === DIGEST_BYTES)

/** What compaction left: proofs at revisions a watch can still start from. */
export const provable = (proofs: readonly LineageProof[], compactRevision: Revision): readonly LineageProof[] =>
  proofs.filter((proof) => compareRevisions(proof.revision, compactRevision) >= 0)

const compareDecimals = (a: string, b: string): number =>
  a.length !== b.length ? a.length - b.length : a < b ? -1 : a > b ? 1 : 0
