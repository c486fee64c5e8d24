// Connections that come through a balancer: reads the PROXY header, remembers who the peer is, hands the socket on.
// Owns: the time a header may take and the address of each such socket. Refuses: connections without one.

import type { Socket } from 'node:net'
import { parseProxyHeader } from './proxy-header.ts'

export class ProxiedSockets {
  readonly #addresses = new WeakMap<Socket, string>()
  readonly #timeoutMs: number
  readonly #onRefused: () => void

  constructor(timeoutMs: number, onRefused: () => void) {
    this.#timeoutMs = timeoutMs
    this.#onRefused = onRefused
  }

  addressOf(socket: Socket): string | undefined {
    return this.#addresses.get(socket)
  }

  /** Calls `serve` with the socket as it stands behind the header. */
  readonly accept = (socket: Socket, serve: (socket: Socket) => void): void => {
    let held: Buffer = Buffer.alloc(0)
    const give = (): void => {
      this.#onRefused()
      socket.destroy()
    }
    const timer = setTimeout(give, this.#timeoutMs)
    const onData = (chunk: Buffer): void => {
      held = held.length === 0 ? chunk : Buffer.concat([held, chunk])
      const header = parseProxyHeader(held)
      if (header.kind === 'more') return
      end()
      if (header.kind === 'bad') return give()
      if (header.address !== undefined) this.#addresses.set(socket, header.address)
      socket.pause()
      const rest = held.subarray(header.length)
      if (rest.length > 0) socket.unshift(rest)
      serve(socket)
      socket.resume()
    }
    const end = (): void => {
      clearTimeout(timer)
      socket.off('data', onData)
      socket.off('close', end)
      socket.off('error', onError)
    }
    const onError = (): void => void socket.destroy()
    socket.on('data', onData)
    socket.on('close', end)
    socket.on('error', onError)
  }
}
