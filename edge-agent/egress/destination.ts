// Where the hub stands: the destination policy decides about.
// Owns: what the operator configured, what the hub's stream states, and what to do when they differ or neither says.
// Refuses: a guess. While the region is unknown nothing leaves, and a hub that says another region than configured is refused.

export type Standing =
  | { readonly kind: 'known'; readonly region: string }
  | { readonly kind: 'unknown' }
  | { readonly kind: 'mismatch'; readonly configured: string; readonly stated: string }

/** No region is ever called this (names are a-z, 0-9 and -), so no rule that names a region can match it. */
export const NOWHERE = '?'

export class Destination {
  readonly #configured: string | undefined
  #stated: string | undefined

  constructor(configured: string | undefined) {
    this.#configured = configured
  }

  /** The region to decide about; {@link NOWHERE} while it is unknown. */
  get region(): string {
    return this.#configured ?? this.#stated ?? NOWHERE
  }

  get standing(): Standing {
    const configured = this.#configured
    const stated = this.#stated
    if (configured !== undefined && stated !== undefined && configured !== stated) {
      return { kind: 'mismatch', configured, stated }
    }
    const region = configured ?? stated
    return region === undefined ? { kind: 'unknown' } : { kind: 'known', region }
  }

  /** Takes what the stream states now; a stream that no longer states a region takes nothing back. */
  learn(stated: string | undefined): void {
    this.#stated = stated ?? this.#stated
  }
}
