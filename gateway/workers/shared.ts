// What all workers share, kept by the primary: sessions per subject, and tickets.
// Owns: both ends of each: the primary's books, which forget a worker that died, and the worker's way to ask.
// Refuses: letting a silent primary let anybody in: an unanswered question is a refusal.

import type { Clock } from '#kit/clock.ts'
import type { Random } from '#kit/random.ts'
import { Close, ErrorCode } from '#protocol/codes.ts'
import type { AuthOutcome, Principal } from '../auth/principal.ts'
import { LocalTickets, type Tickets } from '../auth/tickets.ts'
import type { SubjectCounts } from '../session/admission.ts'
import type { Methods, ProcessLink } from './process-link.ts'

export class SharedBooks {
  readonly #totals = new Map<string, number>()
  readonly #byWorker = new Map<number, Map<string, number>>()
  readonly #tickets: LocalTickets

  constructor(clock: Clock, random: Random) {
    this.#tickets = new LocalTickets(clock, random)
  }

  /** What a worker may call. */
  methodsFor(worker: number): Methods {
    return {
      'subject.take': (subject: string, limit: number) => this.#take(worker, subject, limit),
      'subject.give': (subject: string) => this.#give(worker, subject),
      'ticket.mint': (principal: Principal, origin: string | null) =>
        this.#tickets.mint(principal, origin ?? undefined),
      'ticket.redeem': (ticket: string, origin: string | null) => this.#tickets.redeem(ticket, origin ?? undefined),
    }
  }

  /** A worker is gone, and its sessions with it. */
  forget(worker: number): void {
    for (const [subject, count] of this.#byWorker.get(worker) ?? []) this.#move(subject, -count)
    this.#byWorker.delete(worker)
  }

  #take(worker: number, subject: string, limit: number): boolean {
    if ((this.#totals.get(subject) ?? 0) >= limit) return false
    const own = this.#byWorker.get(worker) ?? new Map<string, number>()
    this.#byWorker.set(worker, own)
    own.set(subject, (own.get(subject) ?? 0) + 1)
    this.#move(subject, 1)
    return true
  }

  #give(worker: number, subject: string): void {
    const own = this.#byWorker.get(worker)
    const count = own?.get(subject)
    if (own === undefined || count === undefined) return
    if (count === 1) own.delete(subject)
    else own.set(subject, count - 1)
    this.#move(subject, -1)
  }

  #move(subject: string, by: number): void {
    const count = (this.#totals.get(subject) ?? 0) + by
    if (count > 0) this.#totals.set(subject, count)
    else this.#totals.delete(subject)
  }
}

export class RemoteSubjectCounts implements SubjectCounts {
  readonly #link: ProcessLink

  constructor(link: ProcessLink) {
    this.#link = link
  }

  async take(subject: string, limit: number): Promise<boolean> {
    // Refused here for want of an answer, counted there all the same: what comes too late is given back.
    const undo = (taken: unknown): void => {
      if (taken === true) this.give(subject)
    }
    return (await this.#link.ask('subject.take', [subject, limit], undo).catch(() => false)) === true
  }

  give(subject: string): void {
    this.#link.call('subject.give', subject).catch(() => undefined)
  }
}

export class RemoteTickets implements Tickets {
  readonly #link: ProcessLink

  constructor(link: ProcessLink) {
    this.#link = link
  }

  async mint(principal: Principal, origin: string | undefined): Promise<string | undefined> {
    const ticket = await this.#link.call('ticket.mint', principal, origin ?? null).catch(() => undefined)
    return typeof ticket === 'string' ? ticket : undefined
  }

  async redeem(ticket: string, origin: string | undefined): Promise<AuthOutcome> {
    try {
      return (await this.#link.call('ticket.redeem', ticket, origin ?? null)) as AuthOutcome
    } catch {
      const reason = 'tickets cannot be checked at the moment'
      return { ok: false, close: Close.AuthUnavailable, error: ErrorCode.Unauthorized, reason }
    }
  }
}
