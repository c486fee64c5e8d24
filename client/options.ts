// What an application may say, and what is assumed when it does not.
// Owns: the options of the client and of one watch, their defaults and their checks. Errors name the field and what to
// write instead. Refuses: behaviour.

import type { DeliveryMode, Selector, ValuesMode } from '../protocol/frames.ts'
import { type BackoffOptions, DEFAULT_BACKOFF } from './core/backoff.ts'
import type { Context, TokenSource } from './context.ts'
import type { CursorStore } from './cursor-keeper.ts'
import { WatchError } from './errors.ts'
import { type ClientClock, platformClock, type SocketConstructor } from './ports.ts'
import type { WatchAsk } from './subscription.ts'

export type DeltaWatchOptions = {
  /** The gateway, e.g. `wss://watch.example.org/v1/watch`. `http(s)` and a missing path are understood. */
  readonly url: string | URL
  /** A token, or a hook that fetches a fresh one: called for each connection and before the last one expires. */
  readonly token?: TokenSource
  /** Name and version of your application, shown to the gateway's operators. At most 100 characters. */
  readonly app?: string
  /** Default: the platform's own. */
  readonly WebSocket?: SocketConstructor
  /** Keeps positions across restarts; used by watches that have a `name`. */
  readonly cursorStore?: CursorStore
  readonly backoff?: Partial<BackoffOptions>
  /** Aborting closes the client. */
  readonly signal?: AbortSignal
  /** Characters of frames one watch may have waiting for its consumer. Default 8 Mi. */
  readonly maxQueue?: number
  /** Characters of frames one snapshot may have. Default 256 Mi. */
  readonly maxSnapshot?: number
  /** Connections this client may open; more than one is needed only for equal watches. Default 8. */
  readonly maxConnections?: number
  /** Milliseconds for getting a token and an open socket. Default 15,000. */
  readonly dialTimeoutMs?: number
  /** Milliseconds from there to the gateway's welcome. Default 10,000. */
  readonly welcomeTimeoutMs?: number
  /** For tests. */
  readonly clock?: ClientClock
  /** For tests: numbers in [0, 1) for jitter. */
  readonly random?: () => number
}

export type StateRequest = Selector & {
  /** Names of clusters, or "*" (default) for all that this identity may see. */
  readonly clusters?: '*' | readonly string[]
  /** Only clusters of these regions. */
  readonly regions?: readonly string[]
  /** `base64` gives exact bytes always; `none` leaves values out. Default `auto`. */
  readonly values?: ValuesMode
  /** Aborting ends the watch. */
  readonly signal?: AbortSignal
}

export type WatchRequest = StateRequest & {
  /** `snapshot` (default): the state, then changes. `now`: changes only. Or a cursor, to resume. */
  readonly start?: 'snapshot' | 'now' | (string & {})
  /** How clusters begin that the cursor does not name. Default `snapshot`. */
  readonly default?: 'snapshot' | 'now'
  /** `log` (default): every revision. `state`: a slow reader gets the newest state of each key instead. */
  readonly mode?: DeliveryMode
  /** Under this name the position is kept in `cursorStore`, and notices speak of the watch. */
  readonly name?: string
}

const MI = 1024 * 1024
const CLIENT = 'deltawatch-ts/1'

const bad = (what: string): WatchError => new WatchError('client.bad-option', what)

/** Throws {@link WatchError} `client.bad-option`. */
export function settle(options: DeltaWatchOptions, notice: Context['notice']): Context {
  const found = options.WebSocket ?? (globalThis as { WebSocket?: SocketConstructor }).WebSocket
  if (found === undefined) throw bad('WebSocket: this platform has none; pass one')
  const { app, token } = options
  const context = {
    url: gatewayUrl(options.url),
    client: app === undefined ? CLIENT : `${app.slice(0, 100)} ${CLIENT}`,
    token,
    renewable: typeof token === 'function',
    WebSocket: found,
    backoff: { ...DEFAULT_BACKOFF, ...options.backoff },
    maxQueue: options.maxQueue ?? 8 * MI,
    maxSnapshot: options.maxSnapshot ?? 256 * MI,
    maxConnections: options.maxConnections ?? 8,
    dialMs: options.dialTimeoutMs ?? 15_000,
    welcomeMs: options.welcomeTimeoutMs ?? 10_000,
    clock: options.clock ?? platformClock(),
    random: options.random ?? Math.random,
    notice,
  }
  for (const [name, value] of Object.entries({ ...context, ...context.backoff })) {
    if (typeof value === 'number' && !(value > 0)) throw bad(`${name}: ${value} is not a positive number`)
  }
  return context
}

function gatewayUrl(given: string | URL): string {
  let url: URL
  try {
    url = new URL(given)
  } catch {
    throw bad(`url: "${String(given)}" is not a URL; write e.g. ws://host:7400/v1/watch`)
  }
  url.protocol = url.protocol.replace(/^http/, 'ws')
  if (!/^wss?:$/.test(url.protocol)) throw bad(`url: "${url.protocol}" is neither ws: nor wss:`)
  if (url.username + url.password !== '') throw bad('url: it holds credentials; use the token option')
  if (url.pathname === '/') url.pathname = '/v1/watch'
  return url.href
}

/** Throws {@link WatchError} `client.bad-option` for a slip of the pen; the gateway judges the rest in its own words. */
export function askOf(request: WatchRequest): WatchAsk {
  const { key, keyBase64, prefix, prefixBase64, from, fromBase64, to, toBase64, regions, mode, values } = request
  const starts = [key ?? keyBase64, prefix ?? prefixBase64, from ?? fromBase64].filter((given) => given !== undefined)
  if (starts.length !== 1) throw bad('watch: it needs exactly one of key, prefix, from')
  const clusters = request.clusters ?? '*'
  return { key, keyBase64, prefix, prefixBase64, from, fromBase64, to, toBase64, clusters, regions, mode, values }
}
