// What a connection to the hub is made with: servers, TLS, deadlines, and credentials.
// Owns: the translation into the client library's options, and credentials that are read again at every connect, so that
// rotated files take effect without a restart and a broken one never ends a connection for good.
// Does not own: reconnecting and state (nats.ts). Secrets are never logged; problems name the file.

import { readFileSync } from 'node:fs'
import {
  type Authenticator,
  credsAuthenticator,
  type NodeConnectionOptions,
  nkeyAuthenticator,
  tokenAuthenticator,
  usernamePasswordAuthenticator,
} from '@nats-io/transport-node'
import type { BackoffOptions } from './resilience.ts'

export interface NatsCredentials {
  readonly user?: string | undefined
  readonly password?: string | undefined
  readonly token?: string | undefined
  /** A `.creds` file (JWT and seed), as made by nsc. */
  readonly credsFile?: string | undefined
  /** A file holding an nkey seed. */
  readonly nkeySeedFile?: string | undefined
}

export interface NatsOptions extends NatsCredentials {
  /** `nats://host:port` or `tls://host:port`; tried in random order. */
  readonly servers: readonly string[]
  /** Shown in the server's connection list, e.g. `deltawatch-agent sz-edge-1`. */
  readonly name: string
  /** Replies arrive under this subject prefix and no other, so that permissions can fence them. */
  readonly inboxPrefix: string
  readonly tls?:
    | {
        readonly caFile?: string | undefined
        readonly certFile?: string | undefined
        readonly keyFile?: string | undefined
        readonly handshakeFirst?: boolean | undefined
      }
    | undefined
  /** A connection that leaves two pings unanswered is dead. Default 5,000. */
  readonly pingIntervalMs?: number
  /** For TCP, TLS and login together. Default 5,000. */
  readonly connectTimeoutMs?: number
  readonly backoff?: BackoffOptions
}

export interface ClientHooks {
  readonly reconnectDelay: () => number
  readonly onCredentialsProblem: (error: unknown) => void
}

export function clientOptions(options: NatsOptions, hooks: ClientHooks): NodeConnectionOptions {
  const secure = options.tls !== undefined || options.servers.some((s) => s.startsWith('tls://'))
  return {
    servers: [...options.servers],
    name: options.name,
    inboxPrefix: options.inboxPrefix,
    authenticator: natsAuthenticator(options, hooks.onCredentialsProblem),
    // Wrong credentials can become right ones (a file is replaced, a permission granted): they are a reason to wait.
    ignoreAuthErrorAbort: true,
    maxReconnectAttempts: -1,
    reconnectDelayHandler: hooks.reconnectDelay,
    pingInterval: options.pingIntervalMs ?? 5_000,
    maxPingOut: 2,
    timeout: options.connectTimeoutMs ?? 5_000,
    noAsyncTraces: true,
    ...(secure ? { tls: defined({ ...options.tls }) } : {}),
  }
}

/** The client tells `undefined` and absent apart; so do its types. */
function defined(tls: NonNullable<NatsOptions['tls']>): NonNullable<NodeConnectionOptions['tls']> {
  return Object.fromEntries(Object.entries(tls).filter(([, value]) => value !== undefined))
}

type Auth = ReturnType<Authenticator>

/** `onProblem` is told when a file could not be used; the last good answer is then given again. */
function natsAuthenticator(from: NatsCredentials, onProblem: (error: unknown) => void): Authenticator {
  let lastGood: Auth = undefined
  return (nonce) => {
    try {
      lastGood = answer(from)?.(nonce)
    } catch (e) {
      // The client closes for ever when an authenticator throws. Answering as before lets the server decide, and the
      // next attempt read a repaired file.
      onProblem(e)
    }
    return lastGood
  }
}

function answer(from: NatsCredentials): Authenticator | undefined {
  if (from.credsFile !== undefined) return credsAuthenticator(readFileSync(from.credsFile))
  if (from.nkeySeedFile !== undefined) {
    const seed = readFileSync(from.nkeySeedFile, 'utf8').trim()
    return nkeyAuthenticator(new TextEncoder().encode(seed))
  }
  if (from.token !== undefined) return tokenAuthenticator(from.token)
  if (from.user !== undefined) return usernamePasswordAuthenticator(from.user, from.password)
  return undefined
}

/** The server without scheme and user info, for logs. */
export function hostOf(server: string): string {
  return server.replace(/^[a-z+]+:\/\//i, '').replace(/^.*@/, '')
}
