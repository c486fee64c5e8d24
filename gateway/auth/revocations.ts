// Who was shut out before their token expired.
// Owns: the list, whether it can be trusted to be current, and telling when it changed.
// Refuses: where it comes from: revocation-file.ts and revocation-bucket.ts feed it.
//
// Fails closed: a list that could not be read for `graceMs`, or never could, lets no new session in; open ones stay until the list says so.

import type { Clock } from '#kit/clock.ts'
import type { Principal } from './principal.ts'

export type Revocation =
  | { readonly tokenId: string }
  /** Tokens of the subject issued at or before `before` (ms); undefined means all. */
  | { readonly subject: string; readonly before: number | undefined }

export const GRACE_MS = 60_000

export class Revocations {
  /** Why the source cannot be read; empty when it can. */
  problem = ''
  readonly #clock: Clock
  readonly #graceMs: number
  readonly #listeners = new Set<() => void>()
  #tokens = new Set<string>()
  #subjects = new Map<string, number>()
  #currentAt: number
  #everRead = false

  constructor(clock: Clock, graceMs = GRACE_MS) {
    this.#clock = clock
    this.#graceMs = graceMs
    this.#currentAt = clock.monotonic()
  }

  /** False when the list may be out of date for too long. */
  get available(): boolean {
    if (!this.#everRead) return false
    return this.problem === '' || this.#clock.monotonic() - this.#currentAt < this.#graceMs
  }

  get size(): number {
    return this.#tokens.size + this.#subjects.size
  }

  revoked(principal: Principal): boolean {
    if (principal.tokenId !== undefined && this.#tokens.has(principal.tokenId)) return true
    const before = this.#subjects.get(principal.subscriber.subject)
    if (before === undefined) return false
    // A token that does not say when it was issued counts as old.
    return principal.issuedAt === undefined || principal.issuedAt <= before
  }

  onChange(listener: () => void): Disposable {
    this.#listeners.add(listener)
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) }
  }

  /** The whole list, as read just now. */
  replace(list: Iterable<Revocation>): void {
    this.#tokens = new Set()
    this.#subjects = new Map()
    for (const one of list) this.#add(one)
    this.confirm()
    this.#tell()
  }

  add(one: Revocation): void {
    this.#add(one)
    this.#tell()
  }

  /** The source was reached and had nothing new. */
  confirm(): void {
    this.#everRead = true
    this.problem = ''
    this.#currentAt = this.#clock.monotonic()
  }

  /** The time runs from when the source was last reached, not from when that was noticed. */
  fail(problem: string): void {
    this.problem = problem
  }

  #add(one: Revocation): void {
    if ('tokenId' in one) this.#tokens.add(one.tokenId)
    else
      this.#subjects.set(
        one.subject,
        Math.max(this.#subjects.get(one.subject) ?? 0, one.before ?? Number.MAX_SAFE_INTEGER),
      )
  }

  #tell(): void {
    for (const listener of this.#listeners) listener()
  }
}

/** One JSON object; undefined when it is none. `{"tokenId":"…"}` or `{"subject":"…","before":"2026-11-22T08:00:00Z"}`. */
export function parseRevocation(text: string): Revocation | undefined {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    return undefined
  }
  if (typeof value !== 'object' || value === null) return undefined
  const { tokenId, subject, before } = value as { tokenId?: unknown; subject?: unknown; before?: unknown }
  if (typeof tokenId === 'string') return { tokenId }
  if (typeof subject !== 'string') return undefined
  if (before === undefined) return { subject, before: undefined }
  const at = typeof before === 'string' ? Date.parse(before) : typeof before === 'number' ? before : Number.NaN
  return Number.isNaN(at) ? undefined : { subject, before: at }
}
