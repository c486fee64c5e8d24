// Tickets: a credential for clients that can send neither header nor hello (event sources, read-only sockets in browsers).
// Owns: minting and redeeming: single use, 30 s, bound to the Origin that asked for it.
// Refuses: tokens (the caller verified one before minting). The only credential that may stand in a query string.
// Overflow rule: above `max` open tickets no new one is given.

import { createHash } from 'node:crypto'
import type { Clock } from '#kit/clock.ts'
import type { Random } from '#kit/random.ts'
import { Close, ErrorCode } from '#protocol/codes.ts'
import type { AuthOutcome, Principal } from './principal.ts'

export const TICKET_MS = 30_000
const MAX_OPEN = 10_000

type Open = { readonly principal: Principal; readonly origin: string | undefined; readonly until: number }

export interface Tickets {
  /** Undefined when too many are open. */
  mint(principal: Principal, origin: string | undefined): Promise<string | undefined>
  redeem(ticket: string, origin: string | undefined): Promise<AuthOutcome>
}

export class LocalTickets implements Tickets {
  readonly #clock: Clock
  readonly #random: Random
  /** By hash: a memory dump gives no usable ticket away. Ordered by time, all live equally long. */
  readonly #open = new Map<string, Open>()

  constructor(clock: Clock, random: Random) {
    this.#clock = clock
    this.#random = random
  }

  get open(): number {
    return this.#open.size
  }

  async mint(principal: Principal, origin: string | undefined): Promise<string | undefined> {
    this.#expire()
    if (this.#open.size >= MAX_OPEN) return undefined
    const ticket = Buffer.from(this.#random.bytes(24)).toString('base64url')
    this.#open.set(hashOf(ticket), { principal, origin, until: this.#clock.monotonic() + TICKET_MS })
    return ticket
  }

  async redeem(ticket: string, origin: string | undefined): Promise<AuthOutcome> {
    this.#expire()
    const name = hashOf(ticket)
    const open = this.#open.get(name)
    // Used up by the attempt, whatever its outcome.
    this.#open.delete(name)
    if (open === undefined) return refuse('the ticket is unknown, used or older than 30 s; get a new one')
    if (open.origin !== origin) return refuse('the ticket was given to another origin')
    return { ok: true, principal: open.principal }
  }

  #expire(): void {
    const now = this.#clock.monotonic()
    for (const [name, { until }] of this.#open) {
      if (until > now) return
      this.#open.delete(name)
    }
  }
}

const hashOf = (ticket: string): string => createHash('sha256').update(ticket).digest('base64url')
const refuse = (reason: string): AuthOutcome => ({
  ok: false,
  close: Close.Unauthorized,
  error: ErrorCode.Unauthorized,
  reason,
})
