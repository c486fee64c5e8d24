// The subscriber's door: watch key ranges of many clusters over one resumable stream.
// Owns: the client object that applications hold, and the list of what they may import.
// Refuses: dependencies and platforms. Web standards only: browsers, Node >= 22, Deno and Bun load this same file.
//
//   const dw = new DeltaWatch({ url: 'wss://watch.example.org/v1/watch', token: () => fetchToken() })
//   for await (const change of dw.watch({ prefix: '/config/' })) apply(change)

import type { Cursor } from '../protocol/cursor.ts'
import type { ClusterFrame, ClusterState, WelcomeFrame } from '../protocol/frames.ts'
import type { Context } from './context.ts'
import type { Ended } from './core/link-state.ts'
import type { Start } from './core/vector.ts'
import { closedFor, type Notice } from './errors.ts'
import { Lanes } from './lanes.ts'
import type { Link } from './link.ts'
import { Listeners } from './listeners.ts'
import { LiveState } from './live-state.ts'
import { askOf, type DeltaWatchOptions, settle, type StateRequest, type WatchRequest } from './options.ts'
import { onAbort } from './ports.ts'
import { type Sink, Subscription, type WatchAsk } from './subscription.ts'
import { Watch } from './watch.ts'

export type {
  Beginning,
  Bookmarked,
  Break,
  Change,
  Entry,
  Gone,
  Item,
  KeyEvent,
  Named,
  Place,
  Value,
} from './core/changes.ts'
export type { Difference, KeyChange } from './core/live-map.ts'
export type { CursorStore } from './cursor-keeper.ts'
export { type Notice, WatchError } from './errors.ts'
export type { Freshness, LiveState } from './live-state.ts'
export type { DeltaWatchOptions, StateRequest, WatchRequest } from './options.ts'
export type { ClientClock, SocketConstructor, SocketLike } from './ports.ts'
export type { TokenSource } from './context.ts'
export { valueBytes, valueJson, valueText } from './values.ts'
export type { Watch } from './watch.ts'

/** The connection, in the words an application can show. `lane` is 0 except for extra connections of equal watches. */
export type ConnectionState = { readonly lane: number } & (
  | { readonly phase: 'idle' }
  /** Getting a token, an open socket and the gateway's welcome. */
  | { readonly phase: 'dialing'; readonly attempt: number }
  /** `dev`: the gateway runs without authentication. */
  | { readonly phase: 'open'; readonly session: string; readonly dev: boolean }
  | { readonly phase: 'waiting'; readonly attempt: number; readonly retryInMs: number; readonly ended: Ended }
  /** `ended` is undefined when {@link DeltaWatch.close} was called. */
  | { readonly phase: 'closed'; readonly ended: Ended | undefined }
)

export type ClusterInfo = {
  readonly region: string | undefined
  readonly state: ClusterState
  readonly epoch?: string | undefined
  readonly revision?: string | undefined
  /** Milliseconds since the last proof that nothing is missing up to `revision`, when the gateway told. */
  readonly ageMs?: number | undefined
  /** RFC 3339, gateway clock; when the state was entered, as far as this connection was told. */
  readonly since?: string | undefined
}

type Events = {
  /** Every change of connection state. */
  readonly state: ConnectionState
  /** A cluster of the fleet changed, watched or not. */
  readonly cluster: { readonly cluster: string } & ClusterInfo
  /** Something was dealt with that is worth a log line. */
  readonly notice: Notice
}

export class DeltaWatch {
  readonly #options: DeltaWatchOptions
  readonly #context: Context
  readonly #lanes: Lanes
  readonly #clusters = new Map<string, ClusterInfo>()
  readonly #notices = new Listeners<Notice>()
  readonly #listeners: { readonly [K in keyof Events]: Listeners<Events[K]> }
  /** Watches that are being read. */
  readonly #watches = new Set<Watch>()
  readonly #unlisten: () => void
  #next = 1

  /** Connects with the first watch. Throws {@link WatchError} for an option that cannot work. */
  constructor(options: DeltaWatchOptions) {
    const context = settle(options, (notice) => this.#notices.emit(notice))
    this.#options = options
    this.#context = context
    this.#listeners = { state: new Listeners(context), cluster: new Listeners(context), notice: this.#notices }
    this.#lanes = new Lanes({
      context,
      changed: (link) => this.#listeners.state.emit(this.#stateOf(link)),
      fleet: (frame) => this.#fleet(frame),
    })
    this.#unlisten = onAbort(options.signal, () => void this.close())
  }

  /** The state of the first connection. */
  get connection(): ConnectionState {
    return this.#stateOf(this.#lanes.first)
  }

  /** Clusters this identity may see, as the gateway last told. `ageMs` is as of then. */
  get clusters(): ReadonlyMap<string, ClusterInfo> {
    return this.#clusters
  }

  /** Listens to the client. Returns a function that stops it. A listener that throws is reported and harms nobody. */
  on<K extends keyof Events>(event: K, listener: (event: Events[K]) => void): () => void {
    return (this.#listeners[event] as Listeners<Events[K]>).add(listener)
  }

  /** Connects without a watch; resolves when the gateway welcomed this client, rejects when it never will. */
  async connect(): Promise<void> {
    this.#lanes.first.start()
    for (let state = this.connection; state.phase !== 'open'; ) {
      if (state.phase === 'closed') throw closedFor(state.ended)
      state = await new Promise((resolve) => {
        const stop = this.on('state', (next) => {
          if (next.lane > 0) return
          stop()
          resolve(next)
        })
      })
    }
  }

  /**
   * A stream of changes, read once with `for await`. It reconnects and resumes by itself for as long as it is read.
   * Throws {@link WatchError} at once for a request that no gateway would take.
   */
  watch(request: WatchRequest): Watch {
    const ask = askOf(request)
    const name = request.name ?? `watch-${this.#next++}`
    const watch: Watch = new Watch({
      context: this.#context,
      name,
      start: request.start ?? 'snapshot',
      default: request.default,
      store: request.name === undefined ? undefined : this.#options.cursorStore,
      signal: request.signal,
      open: (start, cursor, sink) => this.#open(ask, start, cursor, name, sink),
      begun: () => this.#watches.add(watch),
      closed: (subscription) => {
        this.#watches.delete(watch)
        if (subscription !== undefined) this.#lanes.remove(subscription)
      },
    })
    return watch
  }

  /** A live map of the selected keys, per cluster, kept right across reconnects, resyncs and policy changes. */
  state(request: StateRequest): LiveState {
    const ask = askOf(request)
    const live: LiveState = new LiveState({
      context: this.#context,
      connected: () => this.connection.phase === 'open',
      stateOf: (cluster) => this.#clusters.get(cluster)?.state,
      close: () => {
        unlisten()
        subscription.end()
        this.#lanes.remove(subscription)
      },
    })
    const start = { start: 'snapshot', default: undefined }
    const subscription = this.#open(ask, start, undefined, `state-${this.#next++}`, live.sink())
    const unlisten = onAbort(request.signal, () => live.close())
    return live
  }

  /** Ends every watch, saves their cursors and closes the connections. Never rejects. */
  async close(): Promise<void> {
    this.#unlisten()
    const watches = [...this.#watches].map((watch) => watch.close())
    this.#lanes.close()
    await Promise.all(watches)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  #open(ask: WatchAsk, start: Start, cursor: Cursor | undefined, name: string, sink: Sink): Subscription {
    const options = {
      context: this.#context,
      ask,
      start,
      cursor,
      name,
      newId: () => `w${this.#next++}`,
      move: (moving: Subscription) => this.#lanes.move(moving),
    }
    const subscription = new Subscription(options, sink)
    this.#lanes.place(subscription)
    return subscription
  }

  #stateOf(link: Link): ConnectionState {
    return { lane: Math.max(0, this.#lanes.indexOf(link)), ...link.state }
  }

  #fleet(frame: WelcomeFrame | ClusterFrame): string | undefined {
    if (frame.type === 'welcome') {
      for (const [cluster, info] of this.#clusters) {
        if (!Object.hasOwn(frame.clusters, cluster)) this.#tell(cluster, { ...info, state: 'removed' })
      }
      for (const [cluster, status] of Object.entries(frame.clusters)) this.#tell(cluster, status)
      return undefined
    }
    const { cluster, state, since, lastRevision } = frame
    const known = this.#clusters.get(cluster)
    const region = frame.region ?? known?.region
    this.#tell(cluster, { ...known, region, state, since, revision: lastRevision ?? known?.revision })
    return region
  }

  #tell(cluster: string, info: ClusterInfo): void {
    if (info.state === 'removed') this.#clusters.delete(cluster)
    else this.#clusters.set(cluster, info)
    this.#listeners.cluster.emit({ cluster, ...info })
  }
}
