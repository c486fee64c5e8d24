// A WebSocket client that says whatever it is told to.
// Owns: one connection, everything received on it, and waiting for a frame or for the end.
// Refuses: the SDK and the protocol's decoder: bad input must be written by hand.

import { WebSocket } from 'ws'

export type RawFrame = Readonly<Record<string, unknown>> & { readonly type: string }

export class RawSession implements AsyncDisposable {
  readonly frames: RawFrame[] = []
  /** Monotonic ms at which each of {@link frames} arrived. */
  readonly arrivals: number[] = []
  readonly closed: Promise<{ readonly code: number; readonly reason: string }>
  readonly #socket: WebSocket
  readonly #waiting = new Set<() => void>()
  #over = false

  private constructor(socket: WebSocket) {
    this.#socket = socket
    this.closed = new Promise((resolve) => {
      socket.on('close', (code, reason) => {
        this.#over = true
        resolve({ code, reason: reason.toString() })
        for (const look of this.#waiting) look()
      })
    })
    socket.on('error', () => {})
    socket.on('message', (data: Buffer) => {
      this.arrivals.push(performance.now())
      this.frames.push(JSON.parse(data.toString('utf8')) as RawFrame)
      for (const look of this.#waiting) look()
    })
  }

  /** Resolves to a session, or to the HTTP status of a refused upgrade. */
  static open(
    url: string,
    protocols: string[],
    headers: Readonly<Record<string, string>> = {},
  ): Promise<RawSession | number> {
    return new Promise((resolve, reject) => {
      const socket = new WebSocket(url, protocols, { headers, perMessageDeflate: false, handshakeTimeout: 5_000 })
      const session = new RawSession(socket)
      socket.on('open', () => resolve(session))
      socket.on('unexpected-response', (_request, response) => {
        resolve(response.statusCode ?? 0)
        response.destroy()
      })
      socket.on('error', reject)
    })
  }

  /** Connected and welcomed. */
  static async welcomed(url: string, token?: string): Promise<RawSession> {
    const session = await RawSession.open(url, ['deltawatch.v1.json'])
    if (typeof session === 'number') throw new Error(`the upgrade was answered with ${session}`)
    session.send({ type: 'hello', client: 'raw', versions: [1], ...(token === undefined ? {} : { token }) })
    await session.frame((f) => f.type === 'welcome')
    return session
  }

  send(frame: unknown): void {
    this.#socket.send(typeof frame === 'string' || Buffer.isBuffer(frame) ? frame : JSON.stringify(frame))
  }

  /** The first frame that matches, past or future. */
  frame(matches: (frame: RawFrame) => boolean, timeoutMs = 15_000): Promise<RawFrame> {
    return new Promise((resolve, reject) => {
      const finish = (act: () => void): void => {
        clearTimeout(timer)
        this.#waiting.delete(look)
        act()
      }
      const fail = (why: string): void =>
        finish(() => reject(new Error(`${why}; received: ${JSON.stringify(this.frames.slice(-5)).slice(0, 800)}`)))
      const look = (): void => {
        const found = this.frames.find(matches)
        if (found !== undefined) finish(() => resolve(found))
        else if (this.#over) fail('the connection ended')
      }
      const timer = setTimeout(() => fail(`${timeoutMs} ms passed`), timeoutMs)
      this.#waiting.add(look)
      look()
    })
  }

  /** Sends and waits for the error frame that answers. */
  async refused(frame: unknown): Promise<RawFrame> {
    const before = this.frames.length
    this.send(frame)
    return await this.frame((f) => f.type === 'error' && this.frames.indexOf(f) >= before)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#socket.terminate()
    await this.closed
  }
}
