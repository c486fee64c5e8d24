// Reproducing the digests of a tail: the proof that this etcd is the one the log was written from.
// Owns: the verdict over the revisions a watch replays, from the oldest provable one to the newest proved one.
// Refuses: I/O, and any verdict without evidence: until `proved`, nothing new is relayed.

import type { LineageProof } from '#protocol/log/entry.ts'
import { compareRevisions, type Revision } from '#protocol/revision.ts'
import type { ChangedRevision } from '../egress/change.ts'
import { DIGEST_BYTES, type DigestRevision, mix } from './digest.ts'

export type ReplayVerdict = 'open' | 'proved' | 'diverged'

export type Reproduced = { readonly revision: Revision; readonly digest: Uint8Array }

export type ReplayOptions = {
  /** Ascending, at least one. The watch starts at the first of them. */
  readonly proofs: readonly LineageProof[]
  /** The log's position: no event may lie between the newest proof and it. */
  readonly position: Revision
  /** Under the key the proofs were made with. */
  readonly digest: DigestRevision
  /** Under the key in use: what the reproduced revisions are remembered by. */
  readonly seed: DigestRevision
}

export class LineageReplay {
  readonly #proofs: readonly LineageProof[]
  readonly #position: Revision
  readonly #digest: DigestRevision
  readonly #seed: DigestRevision
  readonly #newest: Revision
  readonly #seen: Reproduced[] = []
  /** The same revisions under the key in use; the very same list when it is the same key. */
  readonly #seeds: Reproduced[]
  #verdict: ReplayVerdict = 'open'

  constructor(options: ReplayOptions) {
    const newest = options.proofs.at(-1)
    if (newest === undefined) throw new RangeError('a replay needs at least one proof')
    this.#proofs = options.proofs
    this.#position = options.position
    this.#digest = options.digest
    this.#seed = options.seed
    this.#newest = newest.revision
    this.#seeds = options.seed === options.digest ? this.#seen : []
  }

  get verdict(): ReplayVerdict {
    return this.#verdict
  }
  /** The revisions reproduced so far, oldest first: they refill the digest ring. */
  get reproduced(): readonly Reproduced[] {
    return this.#seeds
  }

  /** Every complete revision of the watch, in order. */
  revision(source: ChangedRevision): ReplayVerdict {
    const order = compareRevisions(source.revision, this.#newest)
    // After the verdict: an event inside the proven part of history that was not there before is a broken lineage.
    if (this.#verdict === 'proved') {
      if (order <= 0 || compareRevisions(source.revision, this.#position) <= 0) this.#verdict = 'diverged'
      return this.#verdict
    }
    if (this.#verdict === 'diverged') return 'diverged'
    if (order > 0) return this.#settle('diverged')
    const { revision } = source
    this.#seen.push({ revision, digest: this.#digest(source) })
    if (this.#seeds !== this.#seen) this.#seeds.push({ revision, digest: this.#seed(source) })
    return order < 0 ? 'open' : this.#settle(this.#compare())
  }

  /** The watch is proved to have put out everything up to `revision`. */
  provedUpTo(revision: Revision): ReplayVerdict {
    if (this.#verdict === 'open' && compareRevisions(revision, this.#newest) >= 0) return this.#settle('diverged')
    return this.#verdict
  }

  #settle(verdict: ReplayVerdict): ReplayVerdict {
    this.#verdict = verdict
    return verdict
  }

  #compare(): ReplayVerdict {
    const sum = new Uint8Array(DIGEST_BYTES)
    let at = this.#seen.length - 1
    for (let i = this.#proofs.length - 1; i >= 0; i--) {
      const proof = this.#proofs[i] as LineageProof
      for (; at >= 0; at--) {
        const seen = this.#seen[at] as Reproduced
        if (compareRevisions(seen.revision, proof.revision) < 0) break
        mix(sum, seen.digest)
      }
      const oldest = this.#seen[at + 1]
      if (oldest?.revision !== proof.revision || !equal(sum, proof.digest)) return 'diverged'
    }
    // Nothing may precede the first proof: the watch started there.
    return at < 0 ? 'proved' : 'diverged'
  }
}

const equal = (a: Uint8Array, b: Uint8Array): boolean => a.length === b.length && a.every((byte, i) => byte === b[i])
