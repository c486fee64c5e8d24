// Whether anything listens at an address at all, asked of the network and not of the gateway.
// Owns: the one answer that makes waiting pointless: nobody there. Refuses: everything else a connection can suffer (the client waits).

import { once } from 'node:events'
import { connect } from 'node:net'
import { errorCode } from '#kit/errors.ts'

const TIMEOUT_MS = 2_000

/** `127.0.0.1:9` when connections there are refused or the name is unknown; undefined in every other case. */
export async function nobodyAt(url: string): Promise<string | undefined> {
  if (!URL.canParse(url)) return undefined
  const { hostname, port, protocol } = new URL(url)
  const host = hostname.replace(/^\[|\]$/g, '')
  const number = Number(port) || (/^(wss|https):$/.test(protocol) ? 443 : 80)
  const socket = connect({ host, port: number, signal: AbortSignal.timeout(TIMEOUT_MS) })
  try {
    await once(socket, 'connect')
    return undefined
  } catch (error) {
    return ['ECONNREFUSED', 'ENOTFOUND'].includes(errorCode(error)) ? `${hostname}:${number}` : undefined
  } finally {
    socket.destroy()
  }
}
