// What this process shows to the hub: user, token, credentials file, seed, and the files its TLS reads.
// Owns: holding the ones in force, trying new ones out on a connection of their own, moving the shared connection over.
// Refuses: keeping a connection (kit/nats.ts), which asks for what is in force at every connect. Where the servers and the TLS
// files are is read at the start alone.

import { readFileSync } from 'node:fs'
import { connect } from '@nats-io/transport-node'
import { DeltawatchError, errorMessage } from '#kit/errors.ts'
import type { NatsLink } from '#kit/nats.ts'
import { clientOptions, type NatsCredentials, type NatsOptions } from '#kit/nats-options.ts'

type Tls = NonNullable<NatsOptions['tls']>
type Fields = NatsCredentials & { readonly tls?: Tls | undefined }

export class HubAccess {
  readonly #options: NatsOptions
  #current: NatsCredentials
  #print: string

  constructor(options: NatsOptions) {
    this.#options = options
    this.#current = credentialsOf(options)
    this.#print = printOf(options, 'lenient')
  }

  /** For {@link openNats}: what is in force when it is asked for. */
  get options(): NatsOptions {
    const current = (): NatsCredentials => this.#current
    const { user: _u, password: _p, token: _t, credsFile: _c, nkeySeedFile: _n, ...rest } = this.#options
    return {
      ...rest,
      get user() {
        return current().user
      },
      get password() {
        return current().password
      },
      get token() {
        return current().token
      },
      get credsFile() {
        return current().credsFile
      },
      get nkeySeedFile() {
        return current().nkeySeedFile
      },
    }
  }

  /**
   * While connected the new ones must serve before the connection is made anew with them; while not, the next attempt
   * uses them. Throws, with the old ones in force, when they cannot be read or do not serve.
   */
  async reload(fields: NatsCredentials, link: NatsLink): Promise<'same' | 'changed'> {
    const next = credentialsOf(fields)
    const { tls } = this.#options
    const print = printOf({ ...next, tls }, 'strict')
    if (print === this.#print) return 'same'
    const nc = link.state().kind === 'connected' ? link.connection() : undefined
    if (nc !== undefined) await tryOut({ ...this.#options, ...next })
    this.#current = next
    this.#print = print
    // What is in flight is abandoned, as at any loss: the tail of the log tells what was stored.
    await nc?.reconnect()
    return 'changed'
  }
}

async function tryOut(options: NatsOptions): Promise<void> {
  const hooks = { reconnectDelay: () => 0, onCredentialsProblem: () => undefined }
  const settings = clientOptions({ ...options, name: `${options.name} reload` }, hooks)
  const nc = await connect({ ...settings, reconnect: false })
  await nc.close()
}

const credentialsOf = ({ user, password, token, credsFile, nkeySeedFile }: NatsCredentials): NatsCredentials => ({
  user,
  password,
  token,
  credsFile,
  nkeySeedFile,
})

/** Differs when the hub would be shown something else. */
function printOf(fields: Fields, how: 'lenient' | 'strict'): string {
  const { user, password, token, credsFile, nkeySeedFile, tls } = fields
  const files = {
    credsFile,
    nkeySeedFile,
    'tls.caFile': tls?.caFile,
    'tls.certFile': tls?.certFile,
    'tls.keyFile': tls?.keyFile,
  }
  const held = Object.entries(files).map(([field, path]) => {
    if (path === undefined) return undefined
    try {
      return readFileSync(path, 'base64')
    } catch (cause) {
      if (how === 'lenient') return null
      throw new DeltawatchError('DW_CONFIG_NATS', `nats.${field}: ${errorMessage(cause)}`, { cause })
    }
  })
  return JSON.stringify([user, password, token, credsFile, nkeySeedFile, held])
}
