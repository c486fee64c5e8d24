// The evidence a run of the agent gathers: what its entries carry and what a reattachment must reproduce.
// Owns: the digest ring of covered revisions, the ids of the etcd behind it, the proof of the whole state where there is one.
// Refuses: judging (judge.ts, replay.ts).

import type { Lineage, LineageProof } from '#protocol/log/entry.ts'
import type { ChangedRevision } from '../egress/change.ts'
import { DigestRing, type DigestRevision } from './digest.ts'
import type { Reproduced } from './replay.ts'

export type TrailIds = { readonly clusterId: string; readonly raftTerm: string }

export class Trail {
  readonly #ring: DigestRing
  readonly #keyId: string
  #ids: TrailIds = { clusterId: '0', raftTerm: '0' }
  #stateProof: () => LineageProof | undefined = () => undefined

  constructor(keyId: string, digest: DigestRevision) {
    this.#keyId = keyId
    this.#ring = new DigestRing(digest)
  }

  /** Of the member attached to now. */
  identify(ids: TrailIds): void {
    this.#ids = ids
  }

  /** Where the proof of the whole state comes from; it is asked at every entry. */
  stateFrom(source: () => LineageProof | undefined): void {
    this.#stateProof = source
  }

  include(source: ChangedRevision): void {
    this.#ring.push(source)
  }

  /** Starts over from what a replay reproduced; empty after a checkpoint that skipped events. */
  reset(reproduced: readonly Reproduced[] = []): void {
    this.#ring.clear()
    for (const one of reproduced) this.#ring.pushDigest(one.revision, one.digest)
  }

  evidence(): Lineage {
    const state = this.#stateProof()
    const proofs = this.#ring.proofs()
    return { ...this.#ids, keyId: this.#keyId, proofs: state === undefined ? proofs : [...proofs, state] }
  }
}
