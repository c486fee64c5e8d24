// Keyed digests of recent event-bearing revisions: what a later agent must see again before it may continue.
// Owns: the digest of one revision, the ring of the last 64, and the few suffix proofs an entry carries.
// Refuses: storing anything that can be guessed from: digests are keyed, the key is the agents' secret.
// A proof at revision r covers every event-bearing revision from r to the newest: the XOR of their digests. Seven proofs
// (the last 1, 2, 4, ... 64 revisions) therefore say as much as 64, and whatever compaction left of the window is provable.

import { createHmac } from 'node:crypto'
import type { LineageProof } from '#protocol/log/entry.ts'
import type { Revision } from '#protocol/revision.ts'
import type { ChangedRevision } from '../egress/change.ts'
import type { Evidence } from '../uplink/ports.ts'

export const WINDOW = 64
/** Bytes of a revision's digest; half of a SHA-256 keeps entries small and is far beyond coincidence. */
export const DIGEST_BYTES = 16

export type DigestRevision = (revision: ChangedRevision) => Uint8Array

/** HMAC-SHA256 over revision, operations, keys, values, versions, create revisions and leases, each length-prefixed. */
export function keyedDigest(secret: Uint8Array): DigestRevision {
  return (revision) => {
    const mac = createHmac('sha256', secret)
    let text = `${revision.revision};${revision.changes.length};`
    for (const change of revision.changes) {
      const head = `${change.op};${change.key.length};${change.createRevision};${change.version};${change.lease};${change.value.length};`
      text += head + change.key
      if (change.value.length > 0) {
        mac.update(text, 'latin1').update(change.value)
        text = ''
      }
    }
    return mac.update(text, 'latin1').digest().subarray(0, DIGEST_BYTES)
  }
}

type Held = { readonly evidence: Evidence; through: Uint8Array | undefined }

/**
 * The last 64 event-bearing revisions. Digests are computed when a proof is asked for, so a flood costs 64 per entry.
 * Each held one remembers the XOR of everything up to itself: a suffix is then the difference of two of those.
 */
export class DigestRing {
  readonly #digest: DigestRevision
  readonly #held: Held[] = []
  /** Where the next one goes, once the ring is full. */
  #next = 0
  /** Held ones at the end that have not been added up. */
  #fresh = 0
  /** The XOR of everything before the oldest held one, as far as the sums of the held ones contain it. */
  #before: Uint8Array = new Uint8Array(DIGEST_BYTES)

  constructor(digest: DigestRevision) {
    this.#digest = digest
  }

  get size(): number {
    return this.#held.length
  }
  get newest(): Revision | undefined {
    return this.#back(1)?.evidence.revision
  }

  push(evidence: Evidence): void {
    const one: Held = { evidence, through: undefined }
    if (this.#fresh < WINDOW) this.#fresh++
    if (this.#held.length < WINDOW) {
      this.#held.push(one)
      return
    }
    // Without a sum nothing behind it has one either: they all start over from here.
    this.#before = this.#held[this.#next]?.through ?? this.#before
    this.#held[this.#next] = one
    this.#next = (this.#next + 1) % WINDOW
  }

  /** Ascending by revision; empty before the first event. */
  proofs(): readonly LineageProof[] {
    const newest = this.#addUp()
    const size = this.#held.length
    const proofs: LineageProof[] = []
    const prove = (back: number): void => {
      const one = this.#back(back)
      if (one === undefined) return
      const digest = newest.slice()
      mix(digest, this.#back(back + 1)?.through ?? this.#before)
      proofs.push({ revision: one.evidence.revision, digest })
    }
    // The oldest held one always carries a proof too, so that short histories are covered whole.
    if ((size & (size - 1)) !== 0) prove(size)
    for (let back = WINDOW; back >= 1; back >>= 1) if (back <= size) prove(back)
    return proofs
  }

  clear(): void {
    this.#held.length = 0
    this.#next = 0
    this.#fresh = 0
    this.#before = new Uint8Array(DIGEST_BYTES)
  }

  /** Gives those that have none their sum; answers the newest's. */
  #addUp(): Uint8Array {
    for (; this.#fresh > 0; this.#fresh--) {
      const one = this.#back(this.#fresh) as Held
      const sum = (this.#back(this.#fresh + 1)?.through ?? this.#before).slice()
      mix(sum, this.#digestOf(one.evidence))
      one.through = sum
    }
    return this.#back(1)?.through ?? this.#before
  }

  /** The one `back` places from the newest, 1 being the newest itself. */
  #back(back: number): Held | undefined {
    const { length } = this.#held
    if (back > length) return undefined
    return this.#held[length === WINDOW ? (this.#next - back + 2 * WINDOW) % WINDOW : length - back]
  }

  #digestOf(one: Evidence): Uint8Array {
    // Evidence has its source until it has its digest.
    one.digest ??= this.#digest(one.source as ChangedRevision)
    one.source = undefined
    return one.digest
  }
}

export function mix(sum: Uint8Array, digest: Uint8Array): void {
  for (let i = 0; i < sum.length; i++) sum[i] = (sum[i] as number) ^ (digest[i] ?? 0)
}
