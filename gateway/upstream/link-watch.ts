// One look at the hub connection for all logs.
// Owns: telling at once that it went down, and that a new client object took over.
// Refuses: dialling (kit/nats.ts).

import type { NatsConnection } from '@nats-io/transport-node'
import { DeltawatchError } from '#kit/errors.ts'
import type { NatsLink } from '#kit/nats.ts'

export class HubDownError extends DeltawatchError {}

export class LinkWatch implements Disposable {
  readonly link: NatsLink
  readonly #over = new AbortController()
  readonly #down = new Set<() => void>()
  readonly #clients = new Set<(nc: NatsConnection) => void>()
  #client: NatsConnection | undefined

  constructor(link: NatsLink) {
    this.link = link
    void this.#run()
  }

  /** The connected client, or an error that says to wait. */
  connection(): NatsConnection {
    const nc = this.link.connection()
    if (nc === undefined || this.link.state().kind !== 'connected') throw down()
    return nc
  }

  /** Called each time the connection is lost. */
  onDown(listener: () => void): Disposable {
    return listen(this.#down, listener)
  }

  /** Called with each new client object, the present one included: subscriptions of the one before are gone. */
  onClient(listener: (nc: NatsConnection) => void): Disposable {
    if (this.#client !== undefined) listener(this.#client)
    return listen(this.#clients, listener)
  }

  /** The work's outcome, unless the connection is lost or the signal aborts first: the client would wait for a time-out. */
  async whileUp<T>(work: Promise<T>, signal?: AbortSignal): Promise<T> {
    const { promise, reject } = Promise.withResolvers<never>()
    const listening = this.onDown(() => reject(down()))
    const onAbort = (): void => reject(signal?.reason)
    signal?.addEventListener('abort', onAbort, { once: true })
    try {
      signal?.throwIfAborted()
      return await Promise.race([work, promise])
    } finally {
      listening[Symbol.dispose]()
      signal?.removeEventListener('abort', onAbort)
      // A late failure of abandoned work is nobody's matter any more.
      work.catch(() => undefined)
    }
  }

  [Symbol.dispose](): void {
    this.#over.abort()
  }

  async #run(): Promise<void> {
    for await (const state of this.link.status(this.#over.signal)) {
      if (state.kind !== 'connected') {
        for (const listener of Array.from(this.#down)) listener()
        continue
      }
      const nc = this.link.connection()
      if (nc === undefined || nc === this.#client) continue
      this.#client = nc
      for (const listener of Array.from(this.#clients)) listener(nc)
    }
  }
}

const down = (): HubDownError =>
  new HubDownError('DW_LOG_DISCONNECTED', 'the hub is not connected; reading goes on when it is')

const listen = <T>(set: Set<T>, listener: T): Disposable => {
  set.add(listener)
  return { [Symbol.dispose]: () => void set.delete(listener) }
}
