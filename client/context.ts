// What all parts of one client share: its settled options, its platform and where notices go.
// Owns: the type. options.ts settles it once per client. Refuses: behaviour and anything of a single watch.

import type { BackoffOptions } from './core/backoff.ts'
import type { Notice } from './errors.ts'
import type { ClientClock, SocketConstructor } from './ports.ts'

/** A token, or a hook that fetches a fresh one whenever it is called. */
export type TokenSource = string | (() => string | Promise<string>)

export type Context = {
  readonly url: string
  /** Name and version of this client, for the gateway's listing. */
  readonly client: string
  readonly token: TokenSource | undefined
  /** True when a fresh token can be had, so that one refused token is no reason to give up. */
  readonly renewable: boolean
  readonly WebSocket: SocketConstructor
  readonly backoff: BackoffOptions
  readonly maxQueue: number
  readonly maxSnapshot: number
  readonly maxConnections: number
  readonly dialMs: number
  readonly welcomeMs: number
  readonly clock: ClientClock
  /** In [0, 1). For jitter. */
  readonly random: () => number
  readonly notice: (notice: Notice) => void
}
