// Which endpoint next, when, and how.
// Owns: rotation, full-jitter backoff per attempt, the reset after a stable time, the shame of members that close at once.
// Refuses: connecting, clocks and randomness of its own (both are passed in).
// The loop cannot spin: only the first attempt after a stable time is immediate, every further one waits.

import { type BackoffOptions, fullJitter } from '#kit/resilience.ts'
import { Framing } from './framing.ts'

export type EndpointsOptions = BackoffOptions & {
  /** An attachment that lived this long clears the count of failures. */
  readonly stableMs: number
}

export type Attempt = { readonly endpoint: string; readonly waitMs: number }

export class Endpoints {
  /** How the next watch is asked for, by how the last one ended. */
  readonly framing = new Framing()
  #urls: readonly string[]
  readonly #options: EndpointsOptions
  #next = 0
  #failures = 0

  constructor(urls: readonly string[], options: EndpointsOptions) {
    if (urls.length === 0) throw new RangeError('endpoints: at least one etcd endpoint is needed')
    this.#urls = urls
    this.#options = options
  }

  get failures(): number {
    return this.#failures
  }
  get all(): readonly string[] {
    return this.#urls
  }

  /** After a reload: the next attempt is a first one, at once. */
  replace(urls: readonly string[]): void {
    if (urls.join() !== this.#urls.join()) this.#next = 0
    this.#urls = urls
    this.#failures = 0
  }

  /** The attempt to make now. The first failure moves on at once, later ones wait up to the cap. */
  next(random: () => number): Attempt {
    const endpoint = this.#urls[this.#next % this.#urls.length] as string
    if (this.#failures <= 1) return { endpoint, waitMs: 0 }
    return {
      endpoint,
      waitMs: this.#options.baseMs / 4 + fullJitter(this.#failures - 2, this.#options, { next: random }),
    }
  }

  /** An attachment ended after `livedMs`; `sameAgain` stays on this endpoint (a refreshed token, a newer certificate). */
  ended(livedMs: number, sameAgain = false): void {
    if (livedMs >= this.#options.stableMs) this.#failures = 0
    this.#failures++
    if (!sameAgain) this.#next = (this.#next + 1) % this.#urls.length
  }

  /** `endpoint` while it is one of these; else the one that comes next. */
  from(endpoint: string): string {
    return this.#urls.includes(endpoint) ? endpoint : (this.#urls[this.#next % this.#urls.length] as string)
  }

  /** Another endpoint than the one in use, to ask for a second opinion; the same one when there is no other. */
  other(endpoint: string): string {
    const at = this.#urls.indexOf(endpoint)
    return this.#urls[(at + 1) % this.#urls.length] as string
  }
}
