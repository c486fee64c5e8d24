// `POST /v1/ticket`: a Bearer token for a ticket that may stand in a query string.
// Owns: the request's checks. Refuses: dev mode's loose identities no more than any other: they get tickets too.

import type { Handler } from '#kit/http/router.ts'
import { Close } from '#protocol/codes.ts'
import { TICKET_MS } from '../auth/tickets.ts'
import type { Credentials } from './credentials.ts'
import type { Cross } from './cross-origin.ts'
import { problem } from './problem.ts'
import type { SessionContext } from './sessions.ts'

export type TicketDeps = {
  readonly credentials: Credentials
  readonly cross: Cross
  readonly context: Pick<SessionContext, 'countError'>
}

export function ticketEndpoint(deps: TicketDeps): Handler {
  const { credentials, cross } = deps
  return async (request) => {
    const reply = (status: number, body: string, type = 'application/problem+json') => ({
      status,
      headers: { ...cross.headers(request), 'content-type': type },
      body,
    })
    if (!cross.allowed(request))
      return reply(403, problem(403, Close.Forbidden, 'this origin or host is not allowed here'))
    const bearer = /^Bearer ([\w.~+/=:,-]{1,16384})$/i.exec(request.headers.authorization ?? '')?.[1]
    const outcome = await credentials.authenticator.authenticate(bearer)
    if (!outcome.ok) return reply(401, problem(401, outcome.close, outcome.reason))
    const ticket = await credentials.tickets.mint(outcome.principal, request.headers.origin)
    if (ticket === undefined) {
      deps.context.countError(Close.Overloaded)
      return reply(503, problem(503, Close.Overloaded, 'too many tickets are open; try later'))
    }
    return reply(200, `${JSON.stringify({ ticket, expiresInMs: TICKET_MS })}\n`, 'application/json')
  }
}
