// `GET /v1/events`: the watch of one cluster as server-sent events.
// Owns: the request's checks, `Last-Event-ID`, and a wire that writes past the response object's chunking.
// Refuses: several clusters in one stream: an event id names one position.

import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { HttpRequest } from '#kit/http/router.ts'
import { Close, type Code, ErrorCode } from '#protocol/codes.ts'
import type { Wire } from '../delivery/outlet.ts'
import type { Admissions } from './admission.ts'
import { type Credentials, identify } from './credentials.ts'
import type { Cross } from './cross-origin.ts'
import { type Endpoint, openFollowing } from './following.ts'
import { cursorFromEventId, watchFromQuery } from './query.ts'
import { problem } from './problem.ts'
import type { SessionContext } from './sessions.ts'

export interface EventStreamDeps {
  readonly context: SessionContext
  readonly credentials: Credentials
  readonly admissions: Admissions
  readonly cross: Cross
  readonly draining: () => boolean
  readonly addressOf: (message: IncomingMessage) => string
}

const RETRY_MS = 2_000

export function eventStream(deps: EventStreamDeps) {
  return async (request: HttpRequest, response: ServerResponse, message: IncomingMessage): Promise<void> => {
    const { context } = deps
    const refuse = (status: number, code: Code | undefined, text: string): void => {
      if (code !== undefined) context.countError(code)
      response.writeHead(status, {
        ...deps.cross.headers(message),
        'content-type': 'application/problem+json',
        'cache-control': 'no-store',
      })
      response.end(problem(status, code, text))
    }
    if (!deps.cross.allowed(message)) return refuse(403, undefined, 'this origin or host is not allowed here')
    if (deps.draining()) return refuse(503, undefined, 'the gateway drains')
    const cluster = request.query.get('cluster')
    if (cluster === null)
      return refuse(400, ErrorCode.BadFrame, 'cluster is missing: an event stream follows one cluster')
    const address = deps.addressOf(message)
    const admitted = deps.admissions.admit(address, context.monotonic())
    if (!admitted.ok) return refuse(admitted.status, admitted.code, admitted.code.text)
    const { lease } = admitted
    const give = (status: number, code: Code, text: string): void => {
      lease[Symbol.dispose]()
      refuse(status, code, text)
    }
    const outcome = await identify(deps.credentials, message, request.query)
    if (response.destroyed) return lease[Symbol.dispose]()
    if (!outcome.ok) return give(outcome.close.code === 4107 ? 503 : 401, outcome.close, outcome.reason)
    const { principal } = outcome
    const wanted = watchFromQuery(request.query, principal.clusters)
    if (!wanted.ok) return give(400, wanted.code, wanted.message)
    const last = message.headers['last-event-id'] ?? request.query.get('lastEventId') ?? undefined
    const cursor = last === undefined ? undefined : cursorFromEventId(String(last), cluster)
    if (last !== undefined && cursor === undefined) {
      return give(400, ErrorCode.BadCursor, 'Last-Event-ID is not an id this stream gave; leave it out to start anew')
    }
    const start = cursor ?? wanted.request.start
    let begun: StreamEndpoint | undefined
    const endpoint = (): StreamEndpoint => (begun = begin(response, deps.cross.headers(message)))
    const opened = await openFollowing({ format: 'event-stream', principal, endpoint, lease, address }, context)
    if (!opened.ok || begun === undefined) {
      const code = opened.ok ? Close.HelloTimeout : opened.code
      context.count(code)
      if (begun === undefined) refuse(code === Close.TooManyConnections ? 429 : 503, code, code.text)
      else begun.reset()
      return
    }
    const { following } = opened
    response.once('close', () => following.gone())
    begun.socket.on('drain', () => following.seen())
    begun.onFlushed = () => following.outlet.settle()
    const refusal = following.open({ ...wanted, request: { ...wanted.request, start } })
    if (refusal !== undefined) following.close(refusal.code)
  }
}

type StreamEndpoint = Endpoint & { readonly socket: Socket; onFlushed: () => void }

/** Headers out, then the bare socket: shared frames must not be wrapped in a chunk each. */
function begin(response: ServerResponse, headers: Readonly<Record<string, string>>): StreamEndpoint {
  response.useChunkedEncodingByDefault = false
  response.shouldKeepAlive = false
  response.writeHead(200, {
    ...headers,
    'content-type': 'text/event-stream; charset=utf-8',
    'cache-control': 'no-store',
    'x-accel-buffering': 'no',
    connection: 'close',
  })
  response.flushHeaders()
  const socket = response.socket as Socket
  socket.setTimeout(0)
  socket.write(`retry: ${RETRY_MS}\n\n`)
  const wire: Wire = {
    get open() {
      return !socket.destroyed && socket.writable
    },
    write: (bytes) => void socket.write(bytes, () => endpoint.onFlushed()),
    mark: undefined,
    get pending() {
      return socket.writableLength
    },
    cork: () => socket.cork(),
    uncork: () => socket.uncork(),
  }
  const endpoint: StreamEndpoint = {
    wire,
    socket,
    close: () => void socket.end(),
    reset: () => void socket.resetAndDestroy(),
    onFlushed: () => undefined,
  }
  return endpoint
}
