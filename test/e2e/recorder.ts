// A subscriber whose every frame is written down: the product's SDK on sockets that keep what they carried.
// Owns: the recording socket, waiting for positions and events without sleeping, and handing a transcript to the judge.
// Refuses: judging. The SDK decides when to reconnect and with which cursor; the record shows whether it was right.

import type { Change, DeltaWatchOptions, WatchRequest } from '#client/deltawatch.ts'
import { DeltaWatch } from '#client/deltawatch.ts'
import type { SocketConstructor } from '#client/ports.ts'
import type { Connection } from '../judge/seen.ts'

type Open = { readonly id: string; readonly start: string; readonly frames: string[] }

/** Frames of one watch, connection by connection. */
export class Transcript {
  readonly connections: Open[] = []
  /** Every text message of every connection, also those before the watch was asked for. */
  readonly texts: string[] = []
  sockets = 0

  /** A connection was asked for a watch; its frames follow. */
  begin(id: string, start: string): Open {
    const open = { id, start, frames: [] }
    this.connections.push(open)
    return open
  }
}

/** A WebSocket constructor whose sockets write into the transcript. */
function recording(transcript: Transcript): SocketConstructor {
  return class RecordingSocket extends WebSocket {
    #open: Open | undefined

    constructor(url: string, protocols: string[]) {
      super(url, protocols)
      transcript.sockets += 1
      this.addEventListener('message', ({ data }) => {
        if (typeof data !== 'string') return
        transcript.texts.push(data)
        this.#open?.frames.push(data)
      })
    }

    override send(data: string): void {
      const frame = JSON.parse(data) as { readonly type?: string; readonly id?: string; readonly start?: string }
      if (frame.type === 'watch') this.#open = transcript.begin(frame.id ?? '', frame.start ?? '')
      super.send(data)
    }
  }
}

export class Recorder implements AsyncDisposable {
  readonly transcript = new Transcript()
  readonly client: DeltaWatch
  /** The newest changes, all of them unless a limit was given. */
  readonly changes: Change[] = []
  readonly #keep: number
  readonly notices: string[] = []
  readonly #reading: Promise<void>
  readonly #waiting = new Set<() => void>()
  readonly #positions = new Map<string, { readonly epoch: string; readonly revision: number }>()
  #ended: unknown

  constructor(
    url: string,
    request: WatchRequest,
    options: Partial<DeltaWatchOptions> & { readonly keep?: number } = {},
  ) {
    const { keep = Number.POSITIVE_INFINITY, ...rest } = options
    this.#keep = keep
    const backoff = { baseMs: 50, maxMs: 500 }
    this.client = new DeltaWatch({ url, WebSocket: recording(this.transcript), backoff, ...rest })
    this.client.on('notice', (notice) => this.notices.push(JSON.stringify(notice)))
    this.#reading = this.#read(request)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.client.close()
    await this.#reading
  }

  get connections(): readonly Connection[] {
    return this.transcript.connections
  }

  /** The revision this cluster stands at; 0 before the first. */
  position(cluster: string): number {
    return this.#positions.get(cluster)?.revision ?? 0
  }
  epoch(cluster: string): string | undefined {
    return this.#positions.get(cluster)?.epoch
  }

  /** Resolves when everything of `cluster` up to `revision` was delivered or proved, in another epoch than `left`. */
  async reached(cluster: string, revision: number, timeoutMs = 30_000, left?: string): Promise<void> {
    await this.until(
      () => this.position(cluster) >= revision && (left === undefined || this.epoch(cluster) !== left),
      () => `${cluster} stands at ${this.position(cluster)}, not at ${revision}`,
      timeoutMs,
    )
  }

  /** The first change that matches, past or future. */
  async change<T extends Change>(matches: (change: Change) => change is T, timeoutMs?: number): Promise<T>
  async change(matches: (change: Change) => boolean, timeoutMs?: number): Promise<Change>
  async change(matches: (change: Change) => boolean, timeoutMs = 30_000): Promise<Change> {
    let found: Change | undefined
    await this.until(
      () => (found = this.changes.find(matches)) !== undefined,
      () =>
        `no matching change among ${this.changes.length}; the last: ${JSON.stringify(this.changes.slice(-3)).slice(0, 600)}`,
      timeoutMs,
    )
    return found as Change
  }

  /** Looks again after every change. */
  until(met: () => boolean, why: () => string, timeoutMs: number): Promise<void> {
    return new Promise((resolve, reject) => {
      const finish = (act: () => void): void => {
        clearTimeout(timer)
        this.#waiting.delete(look)
        act()
      }
      const look = (): void => {
        if (met()) finish(resolve)
        else if (this.#ended !== undefined) {
          finish(() => reject(new Error(`the watch ended: ${why()}`, { cause: this.#ended })))
        }
      }
      const timer = setTimeout(() => {
        finish(() =>
          reject(new Error(`${timeoutMs} ms passed: ${why()}; notices: ${this.notices.slice(-5).join(' ')}`)),
        )
      }, timeoutMs)
      this.#waiting.add(look)
      look()
    })
  }

  async #read(request: WatchRequest): Promise<void> {
    try {
      for await (const change of this.client.watch(request)) this.#take(change)
      this.#ended = new Error('closed')
    } catch (error) {
      this.#ended = error
    }
    for (const look of this.#waiting) look()
  }

  #stand(cluster: string, at: { readonly epoch: string; readonly revision: string }): void {
    this.#positions.set(cluster, { epoch: at.epoch, revision: Number(at.revision) })
  }

  #take(change: Change): void {
    this.changes.push(change)
    if (this.changes.length > this.#keep) this.changes.shift()
    if (change.kind === 'bookmark') {
      for (const [cluster, at] of Object.entries(change.clusters)) this.#stand(cluster, at)
    } else if ('revision' in change) this.#stand(change.cluster, change)
    for (const look of this.#waiting) look()
  }
}
