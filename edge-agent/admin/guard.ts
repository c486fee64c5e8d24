// Who may use /debug: whoever shows the configured token; where none is configured, anyone on loopback who is no web page.
// Owns: that check. Refuses: what stands behind it.

import { createHash, timingSafeEqual } from 'node:crypto'
import { isLocalOrigin } from '#kit/http/local-origin.ts'
import type { Handler, HttpReply, HttpRequest, RawHandler } from '#kit/http/router.ts'

export type GuardRule = { readonly token: string | undefined; readonly loopback: boolean }

const REFUSAL: HttpReply = {
  status: 403,
  body: 'give the admin token as a bearer token; where none is configured, ask a loopback listener by a loopback name\n',
}

export function guarded(rule: GuardRule, handler: Handler): Handler {
  return (request) => (mayUse(rule, request) ? handler(request) : REFUSAL)
}

export function guardedRaw(rule: GuardRule, handler: RawHandler): RawHandler {
  return (request, response, message) => {
    if (mayUse(rule, request)) return handler(request, response, message)
    response.writeHead(REFUSAL.status).end(REFUSAL.body)
    return undefined
  }
}

function mayUse({ token, loopback }: GuardRule, request: HttpRequest): boolean {
  if (token === undefined) return loopback && isLocalOrigin(request)
  const given = /^Bearer (.+)$/.exec(request.headers.authorization ?? '')?.[1] ?? ''
  const digest = (text: string): Buffer => createHash('sha256').update(text).digest()
  return timingSafeEqual(digest(given), digest(token))
}
