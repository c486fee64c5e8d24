// A gateway over real WebSockets whose every word a test controls.
// Owns: the server, one reference session per connection, and the ways a connection can go wrong: dropped after n frames,
// closed with a code, deaf, silent. Refuses: being right by itself; that is reference-session.ts.

import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { type WebSocket, WebSocketServer } from 'ws'
import { decodeClientFrame } from '#protocol/decode.ts'
import type { ClientFrame, ServerFrame } from '#protocol/frames.ts'
import { SUBPROTOCOL } from '#protocol/version.ts'
import type { ReferenceCluster } from './reference-cluster.ts'
import { ReferenceGateway, ReferenceSession } from './reference-session.ts'

/** What happens to one connection; later connections take later plans, then none. */
export type Plan = {
  /** Terminates the socket after this many frames. */
  readonly dropAfter?: number
  /** Answers hello with this close code. */
  readonly refuse?: { readonly code: number; readonly reason: string }
  /** Accepts the socket and says nothing at all. */
  readonly silent?: boolean
  /** Changes or adds frames on their way out; an empty list swallows one. */
  readonly rewrite?: (frame: ServerFrame) => readonly unknown[]
}

export class FakeGateway implements AsyncDisposable {
  readonly reference = new ReferenceGateway()
  /** Frames of clients, all connections in order. */
  readonly received: ClientFrame[] = []
  readonly plans: Plan[] = []
  connections = 0
  url = ''
  readonly #http = createServer()
  readonly #sockets = new Map<WebSocket, ReferenceSession>()
  readonly #waiters = new Set<() => void>()

  static async start(...clusters: readonly ReferenceCluster[]): Promise<FakeGateway> {
    const fake = new FakeGateway()
    for (const cluster of clusters) fake.reference.add(cluster)
    const server = new WebSocketServer({
      server: fake.#http,
      path: '/v1/watch',
      handleProtocols: (offered) => offered.has(SUBPROTOCOL) && SUBPROTOCOL,
    })
    server.on('connection', (socket) => fake.#accept(socket))
    await fake.listen(0)
    return fake
  }

  async listen(port: number): Promise<void> {
    this.#http.listen(port, '127.0.0.1')
    await once(this.#http, 'listening')
    this.url = `ws://127.0.0.1:${(this.#http.address() as AddressInfo).port}/v1/watch`
  }

  get open(): number {
    return this.#sockets.size
  }

  /** Sends everything that is due, on every connection. Call it after writing to a cluster. */
  pump(): void {
    for (const [socket, session] of this.#sockets) this.#flush(socket, session)
  }
  bookmark(): void {
    this.#each((session) => session.bookmark())
  }
  broken(cluster: ReferenceCluster, reason: 'epoch' | 'trimmed'): void {
    this.#each((session) => session.broken(cluster, reason))
  }
  toggle(key: string): void {
    const [first, ...rest] = this.#sockets.values()
    if (first === undefined) this.reference.toggle(key)
    else if (rest.length === 0) first.toggle(key)
    else throw new Error('toggle() with several connections is not supported')
    this.pump()
  }
  remove(cluster: ReferenceCluster): void {
    this.reference.clusters.delete(cluster.id)
    this.#each((session) => session.removed(cluster))
  }
  offer(cluster: ReferenceCluster): void {
    this.reference.add(cluster)
    this.#each((session) => session.offered(cluster))
  }

  /** A frame of the test's own making, on every connection. */
  say(frame: unknown): void {
    for (const socket of this.#sockets.keys()) socket.send(typeof frame === 'string' ? frame : JSON.stringify(frame))
  }

  /** Cuts every connection without a word. */
  drop(): void {
    for (const socket of this.#sockets.keys()) socket.terminate()
  }
  close(code: number, reason: string): void {
    for (const socket of this.#sockets.keys()) socket.close(code, reason)
  }

  /** Resolves once a client frame matches, counting those received already. */
  async heard(matches: (frame: ClientFrame) => boolean, count = 1): Promise<ClientFrame> {
    for (;;) {
      const found = this.received.filter(matches)[count - 1]
      if (found !== undefined) return found
      await new Promise<void>((resolve) => this.#waiters.add(resolve))
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.drop()
    this.#http.closeAllConnections()
    if (!this.#http.listening) return
    this.#http.close()
    await once(this.#http, 'close')
  }

  #accept(socket: WebSocket): void {
    const plan = this.plans.shift() ?? {}
    const session = new ReferenceSession(this.reference)
    this.connections += 1
    this.#sockets.set(socket, session)
    this.#plans.set(socket, { plan, sent: 0 })
    socket.on('close', () => this.#sockets.delete(socket))
    socket.on('error', () => undefined)
    socket.on('message', (data) => {
      const decoded = decodeClientFrame((data as Buffer).toString())
      if (!decoded.ok) throw new Error(`the client sent what no gateway takes: ${decoded.message}`)
      this.received.push(decoded.frame)
      for (const wake of this.#waiters) wake()
      this.#waiters.clear()
      if (plan.silent === true) return
      if (plan.refuse !== undefined) return socket.close(plan.refuse.code, plan.refuse.reason)
      session.receive(decoded.frame)
      this.#flush(socket, session)
    })
  }

  readonly #plans = new Map<WebSocket, { readonly plan: Plan; sent: number }>()

  #flush(socket: WebSocket, session: ReferenceSession): void {
    const state = this.#plans.get(socket)
    if (state === undefined || state.plan.silent === true) return
    for (let frame = session.next(); frame !== undefined; frame = session.next()) {
      if (socket.readyState !== socket.OPEN) return
      const out = state.plan.rewrite?.(frame) ?? [frame]
      for (const one of out) socket.send(JSON.stringify(one))
      state.sent += 1
      if (state.plan.dropAfter !== undefined && state.sent >= state.plan.dropAfter) {
        // After what was sent is on its way: the point of the drop is a frame's end.
        setImmediate(() => socket.terminate())
        return
      }
    }
  }

  #each(act: (session: ReferenceSession) => void): void {
    for (const session of this.#sockets.values()) act(session)
    this.pump()
  }
}
