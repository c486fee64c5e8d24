// What one log shows to etcd: user, password, certificate, and whom it trusts.
// Owns: reading them from where the configuration points, holding the ones in force, refusing what cannot work.
// Refuses: connecting. A connection keeps what it was opened with; whoever opens one asks for what is in force then.

import { readFileSync } from 'node:fs'
import { createSecureContext } from 'node:tls'
import { DeltawatchError, errorMessage } from '#kit/errors.ts'
import type { EtcdCredentials } from './etcd.ts'

export type AccessFields = {
  readonly user?: string | undefined
  readonly password?: string | undefined
  readonly caFile?: string | undefined
  readonly certFile?: string | undefined
  readonly keyFile?: string | undefined
}

export class EtcdAccess {
  #current: EtcdCredentials

  constructor(fields: AccessFields) {
    this.#current = readAccess(fields)
  }

  get current(): EtcdCredentials {
    return this.#current
  }

  /**
   * Reads anew; what differs is in force for every connection from here on, and `moveOver` is to see that it serves.
   * Throws, with the old ones in force again, when it cannot be read or `moveOver` fails.
   */
  async reload(fields: AccessFields, moveOver: () => Promise<void>): Promise<'same' | 'changed'> {
    const before = this.#current
    const next = readAccess(fields)
    if (same(before, next)) return 'same'
    this.#current = next
    try {
      await moveOver()
    } catch (e) {
      this.#current = before
      throw e
    }
    return 'changed'
  }
}

function readAccess(fields: AccessFields): EtcdCredentials {
  const root = pem('caFile', fields.caFile)
  const cert = pem('certFile', fields.certFile)
  const key = pem('keyFile', fields.keyFile)
  try {
    // Says now that a key does not belong to its certificate, and not at the next connection.
    createSecureContext({ ca: root, cert, key })
  } catch (cause) {
    throw new DeltawatchError(
      'DW_CONFIG_ETCD_TLS',
      `etcd: certificate and key cannot be used: ${errorMessage(cause)}`,
      {
        cause,
      },
    )
  }
  return {
    ...(fields.user === undefined ? {} : { user: { username: fields.user, password: fields.password ?? '' } }),
    tls: {
      ...(root === undefined ? {} : { root }),
      ...(cert === undefined ? {} : { cert }),
      ...(key === undefined ? {} : { key }),
    },
  }
}

function pem(field: string, path: string | undefined): Buffer | undefined {
  if (path === undefined) return undefined
  try {
    return readFileSync(path)
  } catch (cause) {
    throw new DeltawatchError('DW_CONFIG_ETCD_TLS', `etcd.${field}: ${errorMessage(cause)}`, { cause })
  }
}

function same(a: EtcdCredentials, b: EtcdCredentials): boolean {
  const bytes = (one: Uint8Array | undefined): string => Buffer.from(one ?? []).toString('base64')
  return (
    a.user?.username === b.user?.username &&
    a.user?.password === b.user?.password &&
    bytes(a.tls?.root) === bytes(b.tls?.root) &&
    bytes(a.tls?.cert) === bytes(b.tls?.cert) &&
    bytes(a.tls?.key) === bytes(b.tls?.key)
  )
}
