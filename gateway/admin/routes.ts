// The admin API: who is connected, how far they are, and how to end it. Token-protected, audited, on a listener of its own.
// Owns: paths, the token check, the audit line of every action. Refuses: being reachable by subscribers.
//
//   GET    /admin/sessions?subject=&limit=    GET /admin/sessions/:id    POST /admin/sessions/:id/disconnect
//   POST   /admin/disconnect?subject=         POST /admin/revoke {tokenId} or {subject, before?}
//   GET    /admin/clusters                    GET /admin/trace?subject=&seconds=   (JSON lines)

import { createHash, timingSafeEqual } from 'node:crypto'
import type { Handler, HttpReply, HttpRequest, RawHandler, Router } from '#kit/http/router.ts'
import type { Logger } from '#kit/logger.ts'
import { parseRevocation } from '../auth/revocations.ts'
import type { AdminTarget, TraceLine } from './target.ts'

export type AdminApiDeps = {
  readonly target: AdminTarget
  readonly token: string
  readonly logger: Logger
}

const MAX_LISTED = 1_000
const MAX_TRACE_SECONDS = 600
/** Bytes of trace waiting for a slow reader; beyond it lines are dropped and counted. */
const MAX_TRACE_PENDING = 1024 * 1024

export function mountAdminApi(router: Router, deps: AdminApiDeps): void {
  const { target, logger } = deps
  const allowed = guard(deps.token)
  const audit = (request: HttpRequest, action: string, facts: object): void =>
    logger.info('admin', { action, from: request.remoteAddress, ...facts })
  const admitted = (request: HttpRequest): boolean => {
    if (allowed(request)) return true
    logger.warn('admin refused', { from: request.remoteAddress, path: request.path })
    return false
  }
  const guarded =
    (handler: Handler): Handler =>
    (request) =>
      admitted(request) ? handler(request) : refusal
  router
    .on(
      'GET',
      '/admin/sessions',
      guarded(async ({ query }) => {
        const subject = query.get('subject')
        const limit = Math.min(MAX_LISTED, Math.max(1, Number(query.get('limit') ?? 100) || 100))
        return json({ sessions: await target.sessions(subject === null ? { limit } : { subject, limit }) })
      }),
    )
    .on(
      'GET',
      '/admin/sessions/:id',
      guarded(async ({ params }) => {
        const [one] = await target.sessions({ id: params['id'] ?? '', limit: 1 })
        return one === undefined ? json({ error: 'no session has this id' }, 404) : json(one)
      }),
    )
    .on(
      'POST',
      '/admin/sessions/:id/disconnect',
      guarded(async (request) => {
        const id = request.params['id'] ?? ''
        const ended = await target.disconnect({ id })
        audit(request, 'disconnect', { session: id, ended })
        return json({ ended }, ended === 0 ? 404 : 200)
      }),
    )
    .on(
      'POST',
      '/admin/disconnect',
      guarded(async (request) => {
        const subject = request.query.get('subject')
        if (subject === null) return json({ error: 'subject is missing' }, 400)
        const ended = await target.disconnect({ subject })
        audit(request, 'disconnect', { subject, ended })
        return json({ ended })
      }),
    )
    .on(
      'POST',
      '/admin/revoke',
      guarded(async (request) => {
        const revocation = parseRevocation(Buffer.from(await request.body()).toString('utf8'))
        if (revocation === undefined)
          return json({ error: 'write {"tokenId":"…"} or {"subject":"…","before":"2026-11-22T08:00:00Z"}' }, 400)
        const ended = await target.revoke(revocation)
        audit(request, 'revoke', { ...revocation, ended })
        return json({ ended })
      }),
    )
    .on(
      'GET',
      '/admin/clusters',
      guarded(async () => json({ clusters: await target.clusters() })),
    )
    .raw('GET', '/admin/trace', trace(deps, admitted, audit))
}

function trace(
  { target }: AdminApiDeps,
  admitted: (request: HttpRequest) => boolean,
  audit: (request: HttpRequest, action: string, facts: object) => void,
): RawHandler {
  return async (request, response) => {
    if (!admitted(request)) {
      response.writeHead(refusal.status, refusal.headers).end(refusal.body)
      return
    }
    const subject = request.query.get('subject')
    if (subject === null) {
      response.writeHead(400).end('subject is missing\n')
      return
    }
    const seconds = Math.min(MAX_TRACE_SECONDS, Math.max(1, Number(request.query.get('seconds') ?? 60) || 60))
    audit(request, 'trace', { subject, seconds })
    response.writeHead(200, { 'content-type': 'application/x-ndjson', 'cache-control': 'no-store' })
    response.flushHeaders()
    let dropped = 0
    const write = (line: TraceLine): void => {
      if (response.writableLength > MAX_TRACE_PENDING) dropped++
      else response.write(`${JSON.stringify(dropped === 0 ? line : { ...line, dropped })}\n`)
    }
    await target.trace(subject, write, AbortSignal.any([request.signal, AbortSignal.timeout(seconds * 1000)]))
    response.end()
  }
}

/** Constant time in the token, and no token at all never fits. */
function guard(token: string): (request: HttpRequest) => boolean {
  const digest = (text: string): Buffer => createHash('sha256').update(text).digest()
  const expected = digest(token)
  return (request) => {
    const given = /^Bearer (.+)$/i.exec(request.headers.authorization ?? '')?.[1]
    return given !== undefined && timingSafeEqual(digest(given), expected)
  }
}

const refusal = {
  status: 401,
  headers: { 'www-authenticate': 'Bearer' },
  body: 'a bearer token is needed\n',
} as const satisfies HttpReply

const json = (value: unknown, status = 200): HttpReply => ({
  status,
  headers: { 'content-type': 'application/json' },
  body: `${JSON.stringify(value)}\n`,
})
