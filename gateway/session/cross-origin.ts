// Cross-origin rules of the HTTP endpoints: the same judgement as for sockets, and the headers a browser asks for.
// Owns: Access-Control headers and preflight answers. Refuses: credentials mode: cookies mean nothing here.

import type { IncomingMessage } from 'node:http'
import type { HttpReply } from '#kit/http/router.ts'
import { judgeOrigin, type OriginRules } from './origin.ts'

export interface Cross {
  allowed(message: Pick<IncomingMessage, 'headers'>): boolean
  headers(message: Pick<IncomingMessage, 'headers'>): Readonly<Record<string, string>>
  preflight(message: Pick<IncomingMessage, 'headers'>): HttpReply
}

export function crossOrigin(rules: OriginRules): Cross {
  const allowed = ({ headers }: Pick<IncomingMessage, 'headers'>): boolean =>
    judgeOrigin(rules, headers.origin, headers.host) === 'ok'
  const headers = (message: Pick<IncomingMessage, 'headers'>): Readonly<Record<string, string>> => {
    const { origin } = message.headers
    if (origin === undefined || !allowed(message)) return { vary: 'origin' }
    return {
      vary: 'origin',
      'access-control-allow-origin': origin,
      'access-control-expose-headers': 'etag, deltawatch-cursor',
    }
  }
  return {
    allowed,
    headers,
    preflight: (message) =>
      allowed(message)
        ? {
            status: 204,
            headers: {
              ...headers(message),
              'access-control-allow-methods': 'GET, POST',
              'access-control-allow-headers': 'authorization, last-event-id, if-none-match',
              'access-control-max-age': '600',
            },
          }
        : { status: 403, body: 'this origin or host is not allowed here\n' },
  }
}
