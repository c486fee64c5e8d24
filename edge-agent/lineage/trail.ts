// The evidence a run of the agent gathers: what its entries carry and what a reattachment must reproduce.
// Owns: the digest ring of covered revisions, the ids of the etcd behind it, the proof of the whole state while it holds.
// Refuses: judging (judge.ts, replay.ts).

import type { Lineage, LineageProof } from '#protocol/log/entry.ts'
import { compareRevisions, REVISION_ZERO, type Revision } from '#protocol/revision.ts'
import type { Evidence } from '../uplink/ports.ts'
import { DigestRing, type DigestRevision } from './digest.ts'
import type { Reproduced } from './replay.ts'

export type TrailIds = { readonly clusterId: string; readonly raftTerm: string }

export class Trail {
  readonly #ring: DigestRing
  readonly #keyId: string
  #ids: TrailIds = { clusterId: '0', raftTerm: '0' }
  #newest: Revision = REVISION_ZERO
  #state: LineageProof | undefined

  constructor(keyId: string, digest: DigestRevision) {
    this.#keyId = keyId
    this.#ring = new DigestRing(digest)
  }

  /** Of the member whose history is proved, or starts a new epoch. */
  identify({ clusterId, raftTerm }: TrailIds): void {
    this.#ids = { clusterId, raftTerm }
  }

  /** The proof of the whole state, while no event has followed it. */
  get state(): LineageProof | undefined {
    return this.#state
  }

  /** The state at `revision` has this digest. Ignored when events beyond it are part of the evidence already. */
  stateAt(revision: Revision, digest: Uint8Array): void {
    if (compareRevisions(this.#newest, revision) <= 0) this.#state = { revision, digest }
  }

  include(evidence: Evidence): void {
    this.#ring.push(evidence)
    this.#newest = evidence.revision
    this.#state = undefined
  }

  /** Starts over from what a replay reproduced; empty after a checkpoint that skipped events. */
  reset(reproduced: readonly Reproduced[] = []): void {
    this.#ring.clear()
    this.#state = undefined
    this.#newest = reproduced.at(-1)?.revision ?? REVISION_ZERO
    for (const one of reproduced) this.#ring.push({ ...one, source: undefined })
  }

  evidence(): Lineage {
    const state = this.#state
    const proofs = this.#ring.proofs()
    return { ...this.#ids, keyId: this.#keyId, proofs: state === undefined ? proofs : [...proofs, state] }
  }
}
