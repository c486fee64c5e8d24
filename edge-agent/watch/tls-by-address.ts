// TLS to an etcd that is named by its address.
// Owns: leaving the server name out where the endpoint is an IP address. RFC 6066 allows no address there and Node refuses
// one, but grpc-js always sends the host it was given, so that no such endpoint could be reached.
// Refuses: weakening anything. Without a server name Node checks the certificate against the host, that is the address.

import { isIP } from 'node:net'
import type { Etcd3 } from 'etcd3'
import { DeltawatchError } from '#kit/errors.ts'

type Connector = { readonly connectionOptions?: { servername?: string } }
type Credentials = { _createSecureConnector?: (...args: readonly unknown[]) => Connector }
/** What etcd3 builds: one set of credentials, shared by reads, watches and logins. */
type Internals = { readonly pool?: { readonly hosts?: readonly { readonly channelCredentials?: Credentials }[] } }

export function nameNoAddress(client: Etcd3, endpoint: string): void {
  const { protocol, hostname } = new URL(endpoint)
  if (protocol !== 'https:' || isIP(hostname.replace(/^\[|\]$/g, '')) === 0) return
  // The one place where grpc-js decides on the name; neither its options nor etcd3's reach it.
  const credentials = (client as unknown as Internals).pool?.hosts?.[0]?.channelCredentials
  const create = credentials?._createSecureConnector
  if (credentials === undefined || create === undefined) throw new DeltawatchError('DW_ETCD_TLS', unreachable(endpoint))
  credentials._createSecureConnector = (...args) => {
    const connector = create.apply(credentials, args as unknown[])
    const { connectionOptions: options } = connector
    if (options?.servername === undefined) throw new DeltawatchError('DW_ETCD_TLS', unreachable(endpoint))
    if (isIP(options.servername) !== 0) options.servername = ''
    return connector
  }
}

const unreachable = (endpoint: string): string =>
  `${endpoint}: this version of grpc-js connects by name only; give the endpoint a host name`
