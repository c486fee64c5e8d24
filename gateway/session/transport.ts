// The one file that knows the `ws` library.
// Owns: the upgrade of a vetted request, inbound messages, closing and resetting; outbound bytes go past `ws` straight to
// the socket, because they arrive here as finished frames that many connections share.
// Refuses: meaning. Compression is never negotiated: it costs 9 to 20 times the CPU of a delivery and fragments memory.

import type { IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { type ServerOptions, WebSocket, WebSocketServer } from 'ws'
import type { Wire } from '../delivery/outlet.ts'

export type TransportLimits = {
  readonly maxInboundBytes: number
  readonly maxFragments: number
  readonly closeTimeoutMs: number
}

/** What a connection tells its session. */
export interface Inbound {
  onText(text: string): void
  /** A binary message, which no subprotocol of ours has. */
  onBinary(): void
  onPing(): void
  /** The payload of a pong as a number; undefined when it is none of ours. */
  onPong(payload: number | undefined): void
  /** The connection is gone. `tooLarge`: the peer broke a size limit. */
  onClose(code: number): void
  onTooLarge(): void
}

const OWNER = Symbol('owner')
type Owned = WebSocket & { [OWNER]: WsTransport }

export class WsTransport implements Wire {
  inbound: Inbound | undefined
  readonly #ws: WebSocket
  readonly #socket: Socket

  constructor(ws: WebSocket, socket: Socket) {
    this.#ws = ws
    this.#socket = socket
    ;(ws as Owned)[OWNER] = this
    // Shared functions instead of closures: an idle connection should cost bytes, not kilobytes.
    ws.on('message', onMessage)
    ws.on('ping', onPing)
    ws.on('pong', onPong)
    ws.on('close', onClose)
    ws.on('error', onError)
  }

  get open(): boolean {
    return this.#ws.readyState === WebSocket.OPEN
  }

  get pending(): number {
    return this.#socket.writableLength
  }

  write(bytes: Buffer): void {
    this.#socket.write(bytes)
  }

  mark(payload: number): void {
    const frame = Buffer.allocUnsafe(6)
    frame[0] = 0x89
    frame[1] = 4
    frame.writeUInt32BE(payload, 2)
    this.#socket.write(frame)
  }

  cork(): void {
    this.#socket.cork()
  }

  uncork(): void {
    this.#socket.uncork()
  }

  close(code: number, reason: string): void {
    // The reason must fit 123 bytes.
    this.#ws.close(code, reason.slice(0, 120))
  }

  /** Drops the connection and what is queued for it: a closed socket would still deliver megabytes. */
  reset(): void {
    this.#socket.resetAndDestroy()
  }
}

function onMessage(this: WebSocket, data: WebSocket.RawData, isBinary: boolean): void {
  const { inbound } = (this as Owned)[OWNER]
  if (isBinary) inbound?.onBinary()
  else inbound?.onText((data as Buffer).toString('utf8'))
}
function onPing(this: WebSocket): void {
  ;(this as Owned)[OWNER].inbound?.onPing()
}
function onPong(this: WebSocket, data: Buffer): void {
  ;(this as Owned)[OWNER].inbound?.onPong(data.length === 4 ? data.readUInt32BE(0) : undefined)
}
function onClose(this: WebSocket, code: number): void {
  ;(this as Owned)[OWNER].inbound?.onClose(code)
}
function onError(this: WebSocket, error: Error & { readonly code?: string }): void {
  const tooLarge =
    error.code === 'WS_ERR_UNSUPPORTED_MESSAGE_LENGTH' ||
    error.code === 'WS_ERR_TOO_MANY_BUFFERED_PARTS' ||
    error.code === 'WS_ERR_UNSUPPORTED_DATA_PAYLOAD_LENGTH'
  // `ws` closes by itself after every protocol error; the close event follows.
  if (tooLarge) (this as Owned)[OWNER].inbound?.onTooLarge()
}

/** Options of the library that its type package does not list yet. */
type UntypedOptions = {
  readonly maxFragments: number
  readonly maxBufferedChunks: number
  readonly closeTimeout: number
}

export class WsAcceptor {
  readonly #server: WebSocketServer

  constructor(limits: TransportLimits, subprotocols: readonly string[]) {
    const options: ServerOptions & UntypedOptions = {
      noServer: true,
      clientTracking: false,
      perMessageDeflate: false,
      maxPayload: limits.maxInboundBytes,
      maxFragments: limits.maxFragments,
      // Chunks of one unfinished message: one-byte fragments must not cost a buffer each without end.
      maxBufferedChunks: limits.maxFragments * 16,
      closeTimeout: limits.closeTimeoutMs,
      // Refused before this point when none fits; without the hook `ws` would accept whatever came first.
      handleProtocols: (offered) => subprotocols.find((name) => offered.has(name)) ?? false,
    }
    this.#server = new WebSocketServer(options)
  }

  accept(message: IncomingMessage, socket: Duplex, head: Buffer, ready: (transport: WsTransport) => void): void {
    this.#server.handleUpgrade(message, socket, head, (ws) => ready(new WsTransport(ws, socket as Socket)))
  }
}
