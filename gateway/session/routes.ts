// The HTTP side of the subscriber's port: event streams, state pages, tickets.
// Owns: which path is what. Refuses: everything behind a path.

import type { Router } from '#kit/http/router.ts'
import { VERSION } from '#kit/version.ts'
import { asyncApi } from '#protocol/schema/asyncapi.ts'
import { type EventStreamDeps, eventStream } from './event-stream.ts'
import { InboundRate } from './inbound-rate.ts'
import { type StateDeps, stateEndpoint } from './state-endpoint.ts'
import { ticketEndpoint } from './ticket-endpoint.ts'

/** For whoever opens the address in a browser. */
const ENTRANCE = `deltawatch-gateway ${VERSION}: /v1/watch (WebSocket), /v1/events (event stream), /v1/state (current state), /readyz\n`

export type RouteDeps = EventStreamDeps &
  Omit<StateDeps, 'admit'> & { readonly statePerSecond: number; readonly host: string }

export function mountSubscriberRoutes(router: Router, deps: RouteDeps): void {
  const { cross, context, statePerSecond } = deps
  const document = JSON.stringify(asyncApi({ host: deps.host, secure: false, productVersion: VERSION }))
  const rate = new InboundRate({ framesPerSecond: statePerSecond, burst: statePerSecond }, context.monotonic())
  router
    .on('GET', '/', () => ({ status: 200, body: ENTRANCE }))
    .raw('GET', '/v1/events', eventStream(deps))
    .raw('GET', '/v1/state', stateEndpoint({ ...deps, admit: () => rate.take(context.monotonic()) }))
    .on('POST', '/v1/ticket', ticketEndpoint(deps))
    .on('GET', '/v1/asyncapi.json', (request) => ({
      status: 200,
      headers: { ...cross.headers(request), 'content-type': 'application/json' },
      body: document,
    }))
  for (const path of ['/v1/events', '/v1/state', '/v1/ticket'])
    router.on('OPTIONS', path, (request) => cross.preflight(request))
}
