// An L4 balancer as gateways stand behind: it asks each for /readyz and spreads new connections over those that say yes.
// Owns: one port, the turns, the health checks and what they saw. Refuses: the bytes of a connection; once made it stays.

import { connect, createServer, type Server, type Socket } from 'node:net'
import { once } from 'node:events'

const CHECK_MS = 100

type Backend = { readonly port: number; ready: boolean; readonly seen: number[] }

export class Balancer implements AsyncDisposable {
  readonly #server: Server
  readonly #sockets = new Set<Socket>()
  readonly #backends: readonly Backend[]
  readonly #checks: NodeJS.Timeout
  #turn = 0

  private constructor(server: Server, backends: readonly Backend[]) {
    this.#server = server
    this.#backends = backends
    server.on('connection', (client) => this.#serve(client))
    this.#checks = setInterval(() => void this.#check(), CHECK_MS)
  }

  static async before(...ports: readonly number[]): Promise<Balancer> {
    const server = createServer()
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    return new Balancer(
      server,
      ports.map((port) => ({ port, ready: true, seen: [] })),
    )
  }

  get url(): string {
    const address = this.#server.address()
    return `ws://127.0.0.1:${address !== null && typeof address === 'object' ? address.port : 0}/v1/watch`
  }

  /** Statuses of /readyz one after the other, repeats left out; 0 when nobody answers. */
  statuses(port: number): readonly number[] {
    return this.#backends.find((backend) => backend.port === port)?.seen ?? []
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#checks)
    for (const socket of this.#sockets) socket.destroy()
    this.#server.close()
    await once(this.#server, 'close')
  }

  #serve(client: Socket): void {
    const ready = this.#backends.filter((backend) => backend.ready)
    const backend = ready[this.#turn++ % Math.max(1, ready.length)]
    if (backend === undefined) return void client.resetAndDestroy()
    const target = connect(backend.port, '127.0.0.1')
    for (const [one, other] of [
      [client, target],
      [target, client],
    ] as const) {
      this.#sockets.add(one)
      one.setNoDelay(true)
      one.pipe(other)
      one.on('error', () => other.destroy())
      one.on('close', () => {
        this.#sockets.delete(one)
        other.destroy()
      })
    }
  }

  async #check(): Promise<void> {
    for (const backend of this.#backends) {
      const status = await statusOf(backend.port)
      backend.ready = status === 200
      if (backend.seen.at(-1) !== status) backend.seen.push(status)
    }
  }
}

async function statusOf(port: number): Promise<number> {
  try {
    const response = await fetch(`http://127.0.0.1:${port}/readyz`, { signal: AbortSignal.timeout(1_000) })
    await response.arrayBuffer()
    return response.status
  } catch {
    return 0
  }
}
