// A JWKS from a file or a URL, kept fresh.
// Owns: caching, refetching when a key is missing (rate-limited: strangers choose key ids), the bounds of a fetch.
// Refuses: forgetting: when a refresh fails the last good keys stay, and the failure is shown.

import type { Clock } from '#kit/clock.ts'
import { errorMessage } from '#kit/errors.ts'
import type { JWTHeaderParameters } from 'jose'
import { choose, KeyError, type KeySource, readJwks, type SigningKey } from './keys.ts'

export type JwksOptions = {
  /** Fresh for this long. */
  readonly maxAgeMs: number
  /** Between two fetches, whatever asks for them. */
  readonly cooldownMs: number
}
export const JWKS_DEFAULTS: JwksOptions = { maxAgeMs: 10 * 60_000, cooldownMs: 30_000 }
const MAX_BYTES = 1024 * 1024
const FETCH_MS = 5_000

export class Jwks implements KeySource {
  /** Why the newest refresh failed; empty when it did not. */
  problem = ''
  readonly #load: () => Promise<string>
  readonly #options: JwksOptions
  readonly #clock: Clock
  #keys: readonly SigningKey[] | undefined
  #loadedAt = Number.NEGATIVE_INFINITY
  #triedAt = Number.NEGATIVE_INFINITY
  #loading: Promise<void> | undefined

  constructor(load: () => Promise<string>, clock: Clock, options: JwksOptions = JWKS_DEFAULTS) {
    this.#load = load
    this.#clock = clock
    this.#options = options
  }

  async keyFor(header: JWTHeaderParameters): Promise<SigningKey> {
    if (this.#clock.monotonic() - this.#loadedAt > this.#options.maxAgeMs) await this.refresh()
    try {
      return this.#choose(header)
    } catch (e) {
      // Perhaps it is new. Only a miss is worth a fetch: a wrong algorithm stays wrong.
      if (!(e instanceof KeyError) || e.code !== 'unknown-key' || !(await this.refresh())) throw e
      return this.#choose(header)
    }
  }

  /** True when keys were read anew; false within the cooldown or when reading failed. */
  async refresh(): Promise<boolean> {
    const now = this.#clock.monotonic()
    if (this.#loading === undefined) {
      if (now - this.#triedAt < this.#options.cooldownMs) return false
      this.#triedAt = now
      this.#loading = this.#read().finally(() => {
        this.#loading = undefined
      })
    }
    await this.#loading
    return this.problem === ''
  }

  #choose(header: JWTHeaderParameters): SigningKey {
    if (this.#keys === undefined) throw new KeyError('keys-unavailable', `no keys are known: ${this.problem}`)
    return choose(this.#keys, header)
  }

  async #read(): Promise<void> {
    try {
      this.#keys = await readJwks(await this.#load())
      this.#loadedAt = this.#clock.monotonic()
      this.problem = ''
    } catch (e) {
      this.problem = errorMessage(e)
    }
  }
}

/** Fetches with a deadline and a size limit; redirects are followed only by the platform's own rules for GET. */
export async function fetchText(url: string): Promise<string> {
  const response = await fetch(url, { signal: AbortSignal.timeout(FETCH_MS), headers: { accept: 'application/json' } })
  if (!response.ok) throw new KeyError('keys-unavailable', `the JWKS URL answered ${response.status}`)
  const chunks: Uint8Array[] = []
  let size = 0
  for await (const chunk of response.body ?? []) {
    size += chunk.length
    if (size > MAX_BYTES) throw new KeyError('keys-unavailable', `the JWKS is larger than ${MAX_BYTES} bytes`)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString('utf8')
}
