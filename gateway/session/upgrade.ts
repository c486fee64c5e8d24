// From an HTTP upgrade request to a session, or to a refusal with a status.
// Owns: path, subprotocol, Origin and Host, admission, and reading the credential of the upgrade.
// Refuses: the session itself. Refusals are plain HTTP, because a refused upgrade never becomes a WebSocket.

import type { IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'
import { Close, type Code } from '#protocol/codes.ts'
import { SUBPROTOCOL, SUBPROTOCOL_CLOUDEVENTS } from '#protocol/version.ts'
import type { Admissions } from './admission.ts'
import { bearerOf } from './credentials.ts'
import { judgeOrigin, type OriginRules } from './origin.ts'
import type { Sessions } from './sessions.ts'
import type { SessionMetrics } from './metrics.ts'
import type { WsAcceptor, WsTransport } from './transport.ts'
import type { Lease } from './admission.ts'

export interface UpgradeDeps {
  readonly acceptor: WsAcceptor
  readonly admissions: Admissions
  readonly sessions: Sessions
  readonly origin: OriginRules
  readonly metrics: SessionMetrics
  monotonic(): number
  draining(): boolean
  /** Address of the peer; behind a trusted balancer the one it names. */
  addressOf(message: IncomingMessage): string
  /** Takes over `cloudevents.json` connections. */
  readOnly(transport: WsTransport, message: IncomingMessage, address: string, lease: Lease): void
}

const WATCH_PATH = '/v1/watch'

export function upgradeHandler(deps: UpgradeDeps) {
  return (message: IncomingMessage, socket: Duplex, head: Buffer): void => {
    const refuse = (status: number, code: Code | undefined, text: string): void => {
      deps.metrics.refused.with({ code: code?.name ?? String(status) }).inc()
      answer(socket, status, code === undefined ? text : `${code.code} ${code.name}: ${text}`)
    }
    const path = (message.url ?? '/').split('?', 1)[0]
    if (path !== WATCH_PATH) return refuse(404, undefined, `nothing to upgrade at this path; connect to ${WATCH_PATH}`)
    const verdict = judgeOrigin(deps.origin, message.headers.origin, message.headers.host)
    if (verdict !== 'ok') return refuse(403, Close.Forbidden, `this ${verdict} is not allowed here`)
    const protocol = chooseSubprotocol(message.headers['sec-websocket-protocol'])
    if (protocol === undefined) {
      return refuse(400, undefined, `offer the subprotocol ${SUBPROTOCOL} or ${SUBPROTOCOL_CLOUDEVENTS}`)
    }
    if (deps.draining()) return refuse(503, Close.Draining, Close.Draining.text)
    const address = deps.addressOf(message)
    const admitted = deps.admissions.admit(address, deps.monotonic())
    if (!admitted.ok) return refuse(admitted.status, admitted.code, admitted.code.text)
    const { lease } = admitted
    // A peer that vanishes during the handshake must return what it took.
    const vanished = (): void => lease[Symbol.dispose]()
    socket.once('close', vanished)
    deps.acceptor.accept(message, socket, head, (transport) => {
      // Left in place it would keep the request, headers and all, for as long as the connection lives.
      socket.off('close', vanished)
      if (protocol === SUBPROTOCOL) deps.sessions.accept(transport, address, bearerOf(message), lease)
      else deps.readOnly(transport, message, address, lease)
    })
  }
}

function chooseSubprotocol(header: string | undefined): string | undefined {
  const offered = new Set((header ?? '').split(',').map((name) => name.trim()))
  return [SUBPROTOCOL, SUBPROTOCOL_CLOUDEVENTS].find((name) => offered.has(name))
}

const REASONS: Readonly<Record<number, string>> = {
  400: 'Bad Request',
  401: 'Unauthorized',
  403: 'Forbidden',
  404: 'Not Found',
  429: 'Too Many Requests',
  503: 'Service Unavailable',
}

function answer(socket: Duplex, status: number, text: string): void {
  const body = `${text}\n`
  const retry = status === 429 || status === 503 ? 'retry-after: 1\r\n' : ''
  socket.end(
    `HTTP/1.1 ${status} ${REASONS[status] ?? 'Error'}\r\nconnection: close\r\ncontent-type: text/plain; charset=utf-8\r\n` +
      `${retry}content-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
  )
  // A peer that keeps its end open must not keep ours.
  setTimeout(() => socket.destroy(), 1_000).unref()
}
