// A reader of server-sent events that knows lines and nothing else.
// Owns: one request, its events with their ids, and waiting for one. Refuses: EventSource, which would reconnect by itself.

import { once } from 'node:events'
import { request as httpRequest } from 'node:http'
import type { ServerFrame } from '#protocol/frames.ts'

export type StreamEvent = { readonly id: string | undefined; readonly frame: ServerFrame }

export class EventStream implements Disposable {
  readonly events: StreamEvent[] = []
  readonly #abort = new AbortController()
  #wanted: (() => void) | undefined
  ended = false

  async open(port: number, path: string, headers: Readonly<Record<string, string>> = {}): Promise<number> {
    const request = httpRequest({ host: '127.0.0.1', port, path, headers, signal: this.#abort.signal, agent: false })
    request.on('error', () => undefined)
    request.end()
    const [response] = await once(request, 'response')
    let text = ''
    response.setEncoding('utf8')
    response.on('error', () => undefined)
    response.on('close', () => {
      this.ended = true
      this.#wanted?.()
    })
    response.on('data', (chunk: string) => {
      text += chunk
      for (let end = text.indexOf('\n\n'); end >= 0; end = text.indexOf('\n\n')) {
        this.#take(text.slice(0, end))
        text = text.slice(end + 2)
      }
    })
    return response.statusCode as number
  }

  async next<T extends ServerFrame['type']>(
    type: T,
  ): Promise<StreamEvent & { readonly frame: Extract<ServerFrame, { type: T }> }> {
    for (;;) {
      for (let event = this.events.shift(); event !== undefined; event = this.events.shift()) {
        if (event.frame.type === type) return event as never
      }
      if (this.ended) throw new Error(`ended while waiting for ${type}`)
      const { promise, resolve } = Promise.withResolvers<void>()
      this.#wanted = resolve
      await promise
    }
  }

  /** The next event of any kind. */
  async any(): Promise<StreamEvent> {
    for (;;) {
      const event = this.events.shift()
      if (event !== undefined) return event
      if (this.ended) throw new Error('ended while waiting for anything')
      const { promise, resolve } = Promise.withResolvers<void>()
      this.#wanted = resolve
      await promise
    }
  }

  [Symbol.dispose](): void {
    this.#abort.abort()
  }

  #take(block: string): void {
    let id: string | undefined
    let data: string | undefined
    for (const line of block.split('\n')) {
      if (line.startsWith('id: ')) id = line.slice(4)
      if (line.startsWith('data: ')) data = line.slice(6)
    }
    if (data === undefined) return
    this.events.push({ id, frame: JSON.parse(data) as ServerFrame })
    this.#wanted?.()
  }
}
