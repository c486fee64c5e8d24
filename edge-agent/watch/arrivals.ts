// Bytes that arrive on the connections somebody opens, before they make up a message.
// Owns: finding those connections, and counting. A large response on a slow line is life, long before it can be read.
// Refuses: everything else about connections. etcd3 and grpc-js show no byte of theirs, so the sockets are noticed where
// Node announces them, and told apart from everybody else's by the asynchronous context they were opened in.

import { AsyncLocalStorage } from 'node:async_hooks'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { Socket } from 'node:net'

const CHANNEL = 'net.client.socket'

export class Arrivals implements Disposable {
  readonly #context = new AsyncLocalStorage<true>()
  /** At most the connections of one client: those that have closed make room for the next. */
  readonly #sockets = new Set<Socket>()
  #closed = 0

  constructor() {
    subscribe(CHANNEL, this.#notice)
  }

  /** Runs `open`; the connections it opens, then or later, are counted. */
  during<T>(open: () => T): T {
    return this.#context.run(true, open)
  }

  /** Bytes since the start; never falls. */
  get bytes(): number {
    let sum = this.#closed
    for (const socket of this.#sockets) sum += socket.bytesRead
    return sum
  }

  [Symbol.dispose](): void {
    unsubscribe(CHANNEL, this.#notice)
    this.#sockets.clear()
  }

  readonly #notice = (message: unknown): void => {
    if (this.#context.getStore() !== true) return
    const socket = (message as { readonly socket?: unknown }).socket
    if (!(socket instanceof Socket)) return
    this.#sockets.add(socket)
    socket.once('close', () => {
      if (this.#sockets.delete(socket)) this.#closed += socket.bytesRead
    })
  }
}
