// A JetStream stream in memory, as the agent's port sees it: compare-and-append, reads by sequence, losses on demand.
// Owns: what a real hub may do to an append: store it and say so, store it and lose the answer, refuse it, drop it.
// Refuses: judging entries. Like the real server it compares a position and nothing else, which is why the chain exists.

import type { Mark } from '#protocol/log/entry.ts'
import type { AppendResult, HubLog, StreamInfo } from '#agent/uplink/ports.ts'

export type Held = {
  readonly entry: Uint8Array
  readonly expectedSeq: number
  readonly settle: (result: AppendResult) => void
}

/** The stream several agents share. */
export class SimulatedStream {
  readonly messages = new Map<number, Uint8Array>()
  lastSeq = 0

  /** What the server does with an append that reached it. */
  store(entry: Uint8Array, expectedSeq: number): AppendResult {
    if (expectedSeq !== this.lastSeq) return { kind: 'refused' }
    this.lastSeq++
    this.messages.set(this.lastSeq, entry.slice())
    return { kind: 'stored', seq: this.lastSeq }
  }
}

/** One agent's connection to the stream. Appends wait until a test lets them arrive. */
export class SimulatedHub implements HubLog {
  readonly stream: SimulatedStream
  readonly maxPayload: number
  readonly marks: Mark[] = []
  generation = 0
  connected = true
  /** True: appends arrive at once. */
  immediate: boolean
  readonly inFlight: Held[] = []
  readonly #lost = new Set<() => void>()

  constructor(stream: SimulatedStream, options: { readonly maxPayload?: number; readonly immediate?: boolean } = {}) {
    this.stream = stream
    this.maxPayload = options.maxPayload ?? 1024 * 1024
    this.immediate = options.immediate ?? true
  }

  info(): Promise<StreamInfo> {
    const { lastSeq, messages } = this.stream
    let size = 0
    for (const message of messages.values()) size += message.length
    return Promise.resolve({
      created: 'then',
      firstSeq: 1,
      lastSeq,
      messages: messages.size,
      bytes: size,
      maxBytes: -1,
      maxMessageBytes: -1,
      replicas: 1,
      hubRegion: 'sz',
    })
  }

  message(seq: number): Promise<Uint8Array | undefined> {
    return Promise.resolve(this.stream.messages.get(seq))
  }

  append(entry: Uint8Array, expectedSeq: number): Promise<AppendResult> {
    if (!this.connected) return Promise.resolve({ kind: 'lost', reason: 'disconnected' })
    if (this.immediate) return Promise.resolve(this.stream.store(entry, expectedSeq))
    return new Promise((settle) => this.inFlight.push({ entry, expectedSeq, settle }))
  }

  /** The oldest append in flight reaches the server; without `answered` the acknowledgement is lost. */
  arrive(answered = true): AppendResult | undefined {
    const held = this.inFlight.shift()
    if (held === undefined) return undefined
    const result = this.stream.store(held.entry, held.expectedSeq)
    if (answered) held.settle(result)
    return result
  }

  /** The connection breaks. What is in flight may still reach the server later, unanswered. */
  cut(): void {
    this.connected = false
    this.generation++
    for (const fn of [...this.#lost]) fn()
  }
  reconnect(): void {
    this.connected = true
  }

  publishMark(mark: Mark): void {
    this.marks.push(mark)
  }
  ready(): Promise<void> {
    return Promise.resolve()
  }
  onLost(fn: () => void): Disposable {
    this.#lost.add(fn)
    return { [Symbol.dispose]: () => void this.#lost.delete(fn) }
  }
  onMark(): Disposable {
    return { [Symbol.dispose]: () => undefined }
  }
}
