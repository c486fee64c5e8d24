// One identity from whatever credential a request carries: Bearer, or a ticket in the query.
// Owns: which of the two counts, and that a ticket is tied to the Origin that sends it. Refuses: cookies.

import type { IncomingMessage } from 'node:http'
import { ErrorCode, Close } from '#protocol/codes.ts'
import type { Authenticator, AuthOutcome } from '../auth/principal.ts'
import type { Tickets } from '../auth/tickets.ts'

export type Credentials = {
  readonly authenticator: Authenticator
  readonly tickets: Tickets
}

export async function identify(
  credentials: Credentials,
  message: IncomingMessage,
  query: URLSearchParams,
): Promise<AuthOutcome> {
  const ticket = query.get('ticket')
  const bearer = bearerOf(message)
  if (ticket === null) return credentials.authenticator.authenticate(bearer)
  if (bearer !== undefined) {
    const reason = 'a ticket and an Authorization header exclude each other; send one of them'
    return { ok: false, close: Close.Unauthorized, error: ErrorCode.Unauthorized, reason }
  }
  return credentials.tickets.redeem(ticket, message.headers.origin)
}

export function bearerOf(message: IncomingMessage): string | undefined {
  return /^Bearer ([\w.~+/=:,-]{1,16384})$/i.exec(message.headers.authorization ?? '')?.[1]
}
