// Calls between the primary and a worker, over the channel Node gives them.
// Owns: pairing answers with questions, time-outs, answers that come later than that, and notifications without an answer.
// Refuses: meaning: methods are registered by name; arguments and results are plain data.

import { DeltawatchError, errorCode, errorMessage } from '#kit/errors.ts'

/** What is used of `process` (in a worker) or of a `Worker` (in the primary). */
export interface Channel {
  send(message: unknown): boolean
  on(event: 'message', listener: (message: unknown) => void): unknown
}

export type Methods = Readonly<Record<string, (...args: never[]) => unknown>>

type Message =
  | { readonly dw: 'call'; readonly id: number; readonly method: string; readonly args: readonly unknown[] }
  | {
      readonly dw: 'answer'
      readonly id: number
      readonly ok: boolean
      readonly value?: unknown
      readonly code?: string
    }
  | { readonly dw: 'note'; readonly name: string; readonly value: unknown }

/** Takes the answer of a question that was given up, so that what it did can be undone. */
type Late = (value: unknown) => void

type Waiting = {
  readonly resolve: (value: unknown) => void
  readonly reject: (e: Error) => void
  readonly timer: NodeJS.Timeout
}

/** The primary stops, and so should the worker. */
export const STOP_NOTE = 'stop'

export const TIMEOUT_MS = 5_000
/** Questions given up whose answers are still waited for; beyond, the oldest is forgotten. */
const MAX_LATE = 100_000

export class LinkError extends DeltawatchError {}

export class ProcessLink {
  readonly #channel: Channel
  readonly #methods: Methods
  readonly #waiting = new Map<number, Waiting>()
  readonly #late = new Map<number, Late>()
  readonly #notes = new Map<string, (value: unknown) => void>()
  #next = 1
  #closed = false

  constructor(channel: Channel, methods: Methods) {
    this.#channel = channel
    this.#methods = methods
    channel.on('message', (message) => this.#receive(message))
  }

  /** Rejects with what the other side threw, with `timeout`, or with `closed`. */
  call(method: string, ...args: readonly unknown[]): Promise<unknown> {
    return this.ask(method, args)
  }

  /** As {@link call}; `late` is told what is answered after the time-out. */
  ask(method: string, args: readonly unknown[], late?: Late): Promise<unknown> {
    if (this.#closed) return Promise.reject(new LinkError('closed', 'the other process is gone'))
    const id = this.#next++
    const { promise, resolve, reject } = Promise.withResolvers<unknown>()
    const timer = setTimeout(() => {
      this.#waiting.delete(id)
      if (late !== undefined) this.#expectLate(id, late)
      reject(new LinkError('timeout', `${method}: no answer within ${TIMEOUT_MS} ms`))
    }, TIMEOUT_MS)
    this.#waiting.set(id, { resolve, reject, timer })
    this.#send({ dw: 'call', id, method, args })
    return promise
  }

  note(name: string, value: unknown): void {
    if (!this.#closed) this.#send({ dw: 'note', name, value })
  }

  onNote(name: string, listener: (value: unknown) => void): Disposable {
    this.#notes.set(name, listener)
    return { [Symbol.dispose]: () => void this.#notes.delete(name) }
  }

  close(): void {
    this.#closed = true
    for (const { reject, timer } of this.#waiting.values()) {
      clearTimeout(timer)
      reject(new LinkError('closed', 'the other process is gone'))
    }
    this.#waiting.clear()
    this.#late.clear()
  }

  #expectLate(id: number, late: Late): void {
    this.#late.set(id, late)
    const [oldest] = this.#late.keys()
    if (oldest !== undefined && this.#late.size > MAX_LATE) this.#late.delete(oldest)
  }

  #send(message: Message): void {
    try {
      this.#channel.send(message)
    } catch {
      // The channel closes on its own schedule; whoever waits is told by close() or the time-out.
    }
  }

  #receive(raw: unknown): void {
    if (typeof raw !== 'object' || raw === null || !('dw' in raw)) return
    const message = raw as Message
    switch (message.dw) {
      case 'call':
        void this.#serve(message)
        return
      case 'note':
        this.#notes.get(message.name)?.(message.value)
        return
      case 'answer': {
        const waiting = this.#waiting.get(message.id)
        if (waiting === undefined) {
          const late = this.#late.get(message.id)
          this.#late.delete(message.id)
          if (message.ok) late?.(message.value)
          return
        }
        this.#waiting.delete(message.id)
        clearTimeout(waiting.timer)
        if (message.ok) waiting.resolve(message.value)
        else waiting.reject(new LinkError(message.code ?? 'failed', String(message.value)))
        return
      }
      default:
    }
  }

  async #serve({ id, method, args }: Extract<Message, { dw: 'call' }>): Promise<void> {
    try {
      const fn = this.#methods[method]
      if (fn === undefined) throw new LinkError('unknown-method', `there is no method ${method}`)
      const value = await fn(...(args as never[]))
      this.#send({ dw: 'answer', id, ok: true, value })
    } catch (e) {
      this.#send({ dw: 'answer', id, ok: false, code: errorCode(e), value: errorMessage(e) })
    }
  }
}
