// One subscriber as an app would be: hello, a watch, a cursor folded from its frames, one reconnect with it.
// Owns: the socket, the fold and the ledger of one subscriber. Imports the very protocol files the gateway runs.
// Refuses: measuring with the script's clock: latency is the socket's own receive time-stamp minus the writer's.

import { type ErrorEvent, type MessageEvent, WebSocket } from 'k6/websockets'
import { decodeServerFrame } from '../../protocol/decode.ts'
import { CursorFold } from '../../protocol/fold.ts'
import type { ServerFrame, WireEvent } from '../../protocol/frames.ts'
import { SUBPROTOCOL, WIRE_VERSION } from '../../protocol/version.ts'
import { type Finding, Ledger } from './ledger.ts'

export type Heard = {
  readonly delivered: (cluster: string, latencyMs: number) => void
  readonly found: (finding: Finding) => void
  readonly outcome: (ok: boolean) => void
  readonly bookmark: () => void
  readonly failed: (what: string) => void
}
type Payload = { readonly n: number; readonly at: number }

export class Subscriber {
  readonly #url: string
  readonly #prefix: string
  readonly #heard: Heard
  readonly #ledger = new Ledger()
  #fold = new CursorFold('now')
  #socket: WebSocket | undefined
  #resuming = false
  #closing = false

  constructor(url: string, prefix: string, heard: Heard) {
    this.#url = url
    this.#prefix = prefix
    this.#heard = heard
  }

  get received(): number {
    return this.#ledger.received
  }

  open(start: string): void {
    // k6 reads the list of subprotocols; its published types say that it does not.
    const socket = new WebSocket(`${this.#url}/v1/watch`, [SUBPROTOCOL] as unknown as null)
    this.#socket = socket
    this.#fold = new CursorFold(start)
    socket.addEventListener('open', () => {
      socket.send(JSON.stringify({ type: 'hello', client: 'k6', versions: [WIRE_VERSION] }))
      socket.send(JSON.stringify({ type: 'watch', id: 'w', clusters: '*', prefix: this.#prefix, start }))
    })
    socket.addEventListener('message', (event) => {
      const { data, timestamp } = event as MessageEvent
      const frame = typeof data === 'string' ? decodeServerFrame(data) : undefined
      if (frame === undefined || socket !== this.#socket) return
      this.#fold.apply(frame)
      this.#take(frame, timestamp)
    })
    socket.addEventListener('error', (event) => {
      if (socket === this.#socket && !this.#closing) this.#heard.failed(`socket: ${(event as ErrorEvent).error}`)
    })
  }

  /** Drops the connection without a word and resumes from the folded cursor, as after a link loss. */
  reconnect(): void {
    const cursor = this.#fold.cursor()
    if (cursor === undefined) {
      this.#heard.failed('no bookmark arrived before the reconnect')
      return
    }
    const old = this.#socket
    this.#socket = undefined
    old?.close()
    this.#resuming = true
    this.open(cursor)
  }

  close(): void {
    this.#closing = true
    this.#socket?.close()
  }

  #take(frame: ServerFrame, receivedAt: number): void {
    switch (frame.type) {
      case 'watching': {
        const outcomes = Object.values(frame.clusters).map((cluster) => cluster.outcome)
        if (this.#resuming) this.#heard.outcome(outcomes.every((outcome) => outcome === 'resumed'))
        return
      }
      case 'events':
        this.#ledger.frame(frame.cluster, frame.epoch, frame.revision, this.#heard.found)
        for (const event of frame.events) this.#event(frame.cluster, event, receivedAt)
        return
      case 'bookmark':
        this.#heard.bookmark()
        return
      case 'resync':
        // Nothing in a smoke run may break continuity: count it as lost.
        this.#heard.found('gap')
        return
      case 'error':
        this.#heard.failed(`${frame.code} ${frame.message}`)
        return
      default:
        return
    }
  }

  #event(cluster: string, event: WireEvent, receivedAt: number): void {
    if (event.op !== 'put' || !('key' in event)) return
    const { n, at } = event.json as Payload
    this.#ledger.put(cluster, event.key, n, this.#heard.found)
    this.#heard.delivered(cluster, receivedAt - at)
  }
}
