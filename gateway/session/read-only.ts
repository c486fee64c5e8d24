// `cloudevents.json` sockets: the watch stands in the query, the peer only reads.
// Owns: identifying the peer after the upgrade and the meaning of what little it sends (pongs; anything else is an error).
// Refuses: frames. A message from the peer closes the connection: nobody would read it.

import type { IncomingMessage } from 'node:http'
import { Close, type Code } from '#protocol/codes.ts'
import { InboundRate } from './inbound-rate.ts'
import type { Lease } from './admission.ts'
import { type Credentials, identify } from './credentials.ts'
import { type Endpoint, type Following, openFollowing } from './following.ts'
import { watchFromQuery } from './query.ts'
import type { SessionContext } from './sessions.ts'
import type { Inbound, WsTransport } from './transport.ts'

export function readOnlySocket(context: SessionContext, credentials: Credentials) {
  return (transport: WsTransport, message: IncomingMessage, address: string, lease: Lease): void => {
    const inbound = new ReadOnlyInbound(transport, context, lease)
    void inbound.open(message, address, credentials)
  }
}

class ReadOnlyInbound implements Inbound {
  readonly #transport: WsTransport
  readonly #context: SessionContext
  readonly #lease: Lease
  readonly #rate: InboundRate
  #following: Following | undefined
  #over = false

  constructor(transport: WsTransport, context: SessionContext, lease: Lease) {
    this.#transport = transport
    this.#context = context
    this.#lease = lease
    this.#rate = new InboundRate(context.inbound, context.monotonic())
    transport.inbound = this
  }

  async open(message: IncomingMessage, address: string, credentials: Credentials): Promise<void> {
    const query = new URL(message.url ?? '/', 'http://gateway').searchParams
    const outcome = await identify(credentials, message, query)
    if (this.#over) return
    if (!outcome.ok) return this.#refuse(outcome.close, outcome.reason)
    const { principal } = outcome
    const wanted = watchFromQuery(query, principal.clusters)
    if (!wanted.ok) return this.#refuse(Close.BadFrame, wanted.message)
    const endpoint: Endpoint = {
      wire: this.#transport,
      close: (code) => this.#transport.close(code.code, code.name),
      reset: () => this.#transport.reset(),
    }
    const opened = await openFollowing(
      { format: 'cloudevents', principal, endpoint: () => endpoint, lease: this.#lease, address },
      this.#context,
    )
    if (!opened.ok) return this.#refuse(opened.code, opened.message)
    if (this.#over) return opened.following.gone()
    this.#following = opened.following
    const refusal = opened.following.open(wanted)
    if (refusal !== undefined) this.#end(Close.BadFrame)
  }

  onText(): void {
    this.#end(Close.BadFrame)
  }

  onBinary(): void {
    this.#end(Close.BadFrame)
  }

  onPing(): void {
    if (this.#rate.take(this.#context.monotonic())) this.#following?.seen()
    else this.#end(Close.InboundRate)
  }

  onPong(payload: number | undefined): void {
    this.#following?.ponged(payload)
    if (payload === undefined && !this.#rate.take(this.#context.monotonic())) this.#end(Close.InboundRate)
  }

  onTooLarge(): void {
    this.#context.count(Close.FrameTooLarge)
    this.onClose()
  }

  onClose(): void {
    if (this.#following === undefined && !this.#over) this.#lease[Symbol.dispose]()
    this.#over = true
    this.#following?.gone()
  }

  /** Before there is a session to say goodbye with. */
  #refuse(code: Code, message: string): void {
    const frame = { type: 'error', code: `DW${code.code}`, message, temporary: code.code >= 4100 } as const
    const bytes = this.#context.delivery.encoder('cloudevents').frame(frame)
    if (bytes !== undefined) this.#transport.write(bytes)
    this.#end(code)
  }

  #end(code: Code): void {
    if (this.#over) return
    if (this.#following !== undefined) this.#following.close(code)
    else {
      this.#context.count(code)
      this.#transport.close(code.code, code.name)
      this.#lease[Symbol.dispose]()
    }
    this.#over = true
  }
}
