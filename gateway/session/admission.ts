// Who may connect at all: counts per process, per address, per subject, and a rate of new connections.
// Owns: the counters and their limits. Refuses: identity (it counts names it is given) and answering (upgrade.ts does).
// Every admitted connection holds a lease; disposing it returns all it took.

import { Close, type Code } from '#protocol/codes.ts'
import type { SessionLimits } from './limits.ts'

export interface Lease extends Disposable {
  /** The connection has said who it is; false when that subject has enough already, or the connection is gone. */
  identify(subject: string): Promise<boolean>
}

export type Admission =
  | { readonly ok: true; readonly lease: Lease }
  | { readonly ok: false; readonly status: 429 | 503; readonly code: Code }

/** Counts of one subject over all processes of this gateway; a single process keeps them by itself. */
export interface SubjectCounts {
  take(subject: string, limit: number): boolean | Promise<boolean>
  give(subject: string): void
}

export class LocalSubjectCounts implements SubjectCounts {
  readonly #counts = new Counts()

  take(subject: string, limit: number): boolean {
    return this.#counts.take(subject, limit)
  }
  give(subject: string): void {
    this.#counts.give(subject)
  }
}

export class Admissions {
  total = 0
  unauthenticated = 0
  readonly #limits: SessionLimits
  readonly #subjects: SubjectCounts
  readonly #byAddress = new Counts()
  readonly #strangers = new Counts()
  #tokens: number
  #at = 0

  constructor(limits: SessionLimits, subjects: SubjectCounts) {
    this.#limits = limits
    this.#subjects = subjects
    this.#tokens = limits.connectsPerSecond
  }

  admit(address: string, now: number): Admission {
    const limits = this.#limits
    if (this.total >= limits.maxConnections) return { ok: false, status: 503, code: Close.TooManyConnections }
    if (this.unauthenticated >= limits.maxUnauthenticated || !this.#paced(now)) {
      return { ok: false, status: 503, code: Close.Overloaded }
    }
    if (!this.#strangers.take(address, limits.maxUnauthenticatedPerAddress)) {
      return { ok: false, status: 429, code: Close.TooManyConnections }
    }
    if (!this.#byAddress.take(address, limits.maxPerAddress)) {
      this.#strangers.give(address)
      return { ok: false, status: 429, code: Close.TooManyConnections }
    }
    this.total++
    this.unauthenticated++
    return { ok: true, lease: new Held(this, address) }
  }

  // ---- for leases

  takeSubject(subject: string): boolean | Promise<boolean> {
    return this.#subjects.take(subject, this.#limits.maxPerSubject)
  }

  giveSubject(subject: string): void {
    this.#subjects.give(subject)
  }

  known(address: string): void {
    this.unauthenticated--
    this.#strangers.give(address)
  }

  gone(address: string): void {
    this.#byAddress.give(address)
    this.total--
  }

  #paced(now: number): boolean {
    const { connectsPerSecond } = this.#limits
    this.#tokens = Math.min(connectsPerSecond, this.#tokens + (Math.max(0, now - this.#at) / 1000) * connectsPerSecond)
    this.#at = now
    if (this.#tokens < 1) return false
    this.#tokens--
    return true
  }
}

/** An object and no closures: there is one per connection. */
class Held implements Lease {
  readonly #admissions: Admissions
  readonly #address: string
  #stranger = true
  #subject: string | undefined
  #over = false

  constructor(admissions: Admissions, address: string) {
    this.#admissions = admissions
    this.#address = address
  }

  async identify(subject: string): Promise<boolean> {
    if (!(await this.#admissions.takeSubject(subject))) return false
    if (this.#over) {
      this.#admissions.giveSubject(subject)
      return false
    }
    this.#subject = subject
    this.#known()
    return true
  }

  [Symbol.dispose](): void {
    if (this.#over) return
    this.#over = true
    this.#known()
    if (this.#subject !== undefined) this.#admissions.giveSubject(this.#subject)
    this.#admissions.gone(this.#address)
  }

  #known(): void {
    if (!this.#stranger) return
    this.#stranger = false
    this.#admissions.known(this.#address)
  }
}

/** Counters that exist only while they are above zero. */
class Counts {
  readonly #counts = new Map<string, number>()

  take(name: string, limit: number): boolean {
    const count = this.#counts.get(name) ?? 0
    if (count >= limit) return false
    this.#counts.set(name, count + 1)
    return true
  }

  give(name: string): void {
    const count = (this.#counts.get(name) ?? 1) - 1
    if (count === 0) this.#counts.delete(name)
    else this.#counts.set(name, count)
  }
}
