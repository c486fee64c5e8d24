// A hub in memory behind the follower's port: as obedient or as broken as a test wants.
// Owns: stored messages, facts, readings, bookmarks. Refuses: time and networks.

import type {
  LogStream,
  ReadingEnd,
  ReadingResult,
  Sink,
  StoredMessage,
  StreamFacts,
} from '#gateway/upstream/log-stream.ts'

export class MemoryLog implements LogStream {
  created = 'first'
  exists = true
  up = true
  firstSeq = 1
  data: (Uint8Array | undefined)[] = []
  readonly calls = { facts: 0, get: 0, follow: 0, create: 0 }
  #readings = new Set<{ next: number; sink: Sink; end: (result: ReadingResult) => void }>()
  #marks = new Set<(data: Uint8Array) => void>()

  get lastSeq(): number {
    return this.data.length
  }

  append(data: Uint8Array): void {
    this.data.push(data)
    this.#pump()
  }
  endReadings(end: ReadingEnd): void {
    for (const reading of [...this.#readings]) reading.end({ end })
  }
  mark(mark: unknown): void {
    for (const listener of this.#marks) listener(new TextEncoder().encode(JSON.stringify(mark)))
  }

  async reachable(): Promise<void> {}
  async facts(): Promise<StreamFacts | undefined> {
    this.calls.facts++
    if (!this.up) throw new Error('no answer')
    if (!this.exists) return undefined
    return { created: this.created, firstSeq: this.firstSeq, lastSeq: this.lastSeq, bytes: 0, maxBytes: -1 }
  }
  async get(seq: number): Promise<Pick<StoredMessage, 'seq' | 'data'> | undefined> {
    this.calls.get++
    if (!this.up) throw new Error('no answer')
    const data = seq < this.firstSeq ? undefined : this.data[seq - 1]
    return data === undefined ? undefined : { seq, data }
  }
  async follow(fromSeq: number, sink: Sink, signal: AbortSignal): Promise<ReadingResult> {
    this.calls.follow++
    if (!this.up) throw new Error('no answer')
    const { promise, resolve } = Promise.withResolvers<ReadingResult>()
    const end = (result: ReadingResult): void => {
      this.#readings.delete(reading)
      resolve(result)
    }
    const reading = { next: Math.max(fromSeq, this.firstSeq), sink, end }
    this.#readings.add(reading)
    signal.addEventListener('abort', () => end({ end: 'stopped' }), { once: true })
    this.#pump()
    return promise
  }
  // Nothing to replay.
  async *batches(): AsyncGenerator<readonly StoredMessage[]> {}
  marks(listener: (data: Uint8Array) => void): Disposable {
    this.#marks.add(listener)
    return { [Symbol.dispose]: () => void this.#marks.delete(listener) }
  }
  async create(): Promise<boolean> {
    this.calls.create++
    return false
  }

  #pump(): void {
    for (const reading of [...this.#readings]) {
      while (this.#readings.has(reading) && reading.next <= this.lastSeq) {
        const seq = reading.next++
        const data = this.data[seq - 1]
        if (data === undefined) continue
        if (reading.sink({ seq, data, storedAtMs: 0, pending: this.lastSeq - seq })) reading.end({ end: 'stopped' })
      }
    }
  }
}
