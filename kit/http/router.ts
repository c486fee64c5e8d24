// A small router: method and path pattern to handler.
// Owns: matching (`/v1/clusters/:id`), 404 and 405, and the shape of a request and a reply.
// Does not own: sockets and limits (server.ts). Streams and upgrades bypass the reply shape through `raw`.

import type { IncomingMessage, ServerResponse } from 'node:http'

export interface HttpRequest {
  readonly method: string
  readonly path: string
  readonly query: URLSearchParams
  readonly params: Readonly<Record<string, string>>
  readonly headers: IncomingMessage['headers']
  readonly remoteAddress: string
  /** Aborts when the client goes away or the server stops. */
  readonly signal: AbortSignal
  /** The whole body; rejects with DW_BODY_TOO_LARGE above the server's limit. */
  body(): Promise<Uint8Array>
}

export interface HttpReply {
  readonly status: number
  readonly headers?: Readonly<Record<string, string>>
  /** Strings are sent as UTF-8; text/plain unless a content-type is given. */
  readonly body?: string | Uint8Array
}

export type Handler = (request: HttpRequest) => HttpReply | Promise<HttpReply>
/** Owns the response until it ends; for event streams and large bodies. */
export type RawHandler = (
  request: HttpRequest,
  response: ServerResponse,
  message: IncomingMessage,
) => void | Promise<void>

export type Method = 'GET' | 'POST' | 'PUT' | 'DELETE' | 'OPTIONS'

export interface Router {
  on(method: Method, pattern: string, handler: Handler): Router
  raw(method: Method, pattern: string, handler: RawHandler): Router
  match(method: string, path: string): Match
}

export type Match =
  | { readonly kind: 'handler'; readonly handler: Handler; readonly params: Readonly<Record<string, string>> }
  | { readonly kind: 'raw'; readonly handler: RawHandler; readonly params: Readonly<Record<string, string>> }
  | { readonly kind: 'wrong-method'; readonly allow: string }
  | { readonly kind: 'not-found' }

interface Route {
  readonly method: Method
  readonly segments: readonly string[]
  readonly target:
    | { readonly kind: 'handler'; readonly handler: Handler }
    | { readonly kind: 'raw'; readonly handler: RawHandler }
}

export function createRouter(): Router {
  const routes: Route[] = []
  const router: Router = {
    on(method, pattern, handler) {
      routes.push({ method, segments: split(pattern), target: { kind: 'handler', handler } })
      return router
    },
    raw(method, pattern, handler) {
      routes.push({ method, segments: split(pattern), target: { kind: 'raw', handler } })
      return router
    },
    match(method, path) {
      const segments = split(path)
      const allow = new Set<string>()
      for (const route of routes) {
        const params = fit(route.segments, segments)
        if (params === undefined) continue
        // HEAD is GET without a body; node:http drops the body by itself.
        if (route.method === method || (route.method === 'GET' && method === 'HEAD')) return { ...route.target, params }
        allow.add(route.method)
      }
      return allow.size > 0 ? { kind: 'wrong-method', allow: [...allow].join(', ') } : { kind: 'not-found' }
    },
  }
  return router
}

/** A `*` as last segment takes the rest of the path, under the name `rest`. */
function fit(pattern: readonly string[], path: readonly string[]): Record<string, string> | undefined {
  const params: Record<string, string> = {}
  for (const [i, segment] of pattern.entries()) {
    if (segment === '*') {
      const rest = decode(path.slice(i).join('/'))
      return rest === undefined ? undefined : { ...params, rest }
    }
    const actual = path[i]
    if (actual === undefined) return undefined
    if (!segment.startsWith(':')) {
      if (segment !== actual) return undefined
      continue
    }
    const value = decode(actual)
    if (value === undefined || value === '') return undefined
    params[segment.slice(1)] = value
  }
  return pattern.length === path.length ? params : undefined
}

function split(path: string): string[] {
  return path.replace(/^\//, '').split('/')
}

function decode(text: string): string | undefined {
  try {
    return decodeURIComponent(text)
  } catch {
    return undefined
  }
}
