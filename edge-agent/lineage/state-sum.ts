// A keyed digest of the whole state of the range at one revision, from one read, in constant memory.
// Owns: the digest of a key's entry and their sum, which does not depend on the order of reading.
// Refuses: keeping keys. It proves quiet ranges, whose last events compaction has long removed.

import { createHmac } from 'node:crypto'
import type { LineageProof } from '#protocol/log/entry.ts'
import type { HeldKey } from '../egress/change.ts'
import { mix } from './digest.ts'

/** Longer than a revision's digest: that is how the two kinds of proof are told apart. */
export const STATE_BYTES = 32

export class StateSum {
  readonly #secret: Uint8Array
  readonly #sum = new Uint8Array(STATE_BYTES)
  #keys = 0

  constructor(secret: Uint8Array) {
    this.#secret = secret
  }

  get keys(): number {
    return this.#keys
  }

  add(held: HeldKey): void {
    const head = `${held.key.length};${held.modRevision};${held.createRevision};${held.version};${held.lease};${held.value.length};`
    const mac = createHmac('sha256', this.#secret).update(head + held.key, 'latin1')
    mix(this.#sum, mac.update(held.value).digest())
    this.#keys++
  }

  /** Equal for equal states only, the empty one included. */
  digest(): Uint8Array {
    return createHmac('sha256', this.#secret).update(`state of ${this.#keys} keys;`).update(this.#sum).digest()
  }
}

export const stateProof = (proofs: readonly LineageProof[]): LineageProof | undefined =>
  proofs.find((proof) => proof.digest.length === STATE_BYTES)
