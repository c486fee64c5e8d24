// SIGHUP: what a running agent takes up anew, and what it says needs a restart.
// Owns: the order (policy, the hub's credentials, each log's etcd), trying new ones out before the old ones are given up,
// and the names of changed fields that are read at the start alone.
// Refuses: half a log. A part that is refused keeps what it had and does not stop the others; the first reason is thrown.

import { errorMessage } from '#kit/errors.ts'
import type { Logger } from '#kit/logger.ts'
import type { NatsLink } from '#kit/nats.ts'
import { type AgentConfig, logsOf } from './config.ts'
import type { BundleHolder } from './egress/bundle.ts'
import type { Relay } from './relay.ts'
import type { HubAccess } from './uplink/access.ts'
import type { EtcdAccess } from './watch/access.ts'
import type { Endpoints } from './watch/endpoints.ts'

export type ReloadParts = {
  readonly logger: Logger
  readonly policies: Pick<BundleHolder, 'reload'>
  readonly hub: HubAccess
  readonly link: NatsLink
  readonly logs: readonly {
    readonly cluster: string
    readonly access: EtcdAccess
    readonly endpoints: Endpoints
    readonly relay: Pick<Relay, 'renew'>
  }[]
}

/** Throws what was refused, after everything else has been taken up. */
export async function reloadAgent(before: AgentConfig, after: AgentConfig, parts: ReloadParts): Promise<void> {
  const { logger, policies, hub, link, logs } = parts
  for (const field of needRestart(before, after)) logger.warn(`reload: ${field} needs a restart`, { field })
  const refused: unknown[] = []
  const attempt = async (what: () => Promise<void>): Promise<void> => {
    try {
      await what()
    } catch (e) {
      refused.push(e)
    }
  }
  await attempt(() => policies.reload())
  await attempt(async () => {
    if ((await hub.reload(after.nats, link)) === 'changed') logger.info('nats credentials taken up')
  })
  for (const { cluster, access, endpoints, relay } of logs) {
    const next = logsOf(after).find((log) => log.cluster === cluster)
    if (next === undefined) continue
    await attempt(async () => {
      const { all } = endpoints
      const moved = all.join() !== next.etcd.endpoints.join()
      endpoints.replace(next.etcd.endpoints)
      try {
        const outcome = await access.reload(next.etcd, () => relay.renew())
        if (outcome === 'changed') logger.info('etcd credentials taken up', { cluster })
        else if (moved) await relay.renew()
        if (moved) logger.info('etcd endpoints taken up', { cluster, endpoints: next.etcd.endpoints })
      } catch (e) {
        endpoints.replace(all)
        throw e
      }
    })
  }
  if (refused.length === 1) throw refused[0]
  if (refused.length > 1) throw new AggregateError(refused, refused.map(errorMessage).join('; '))
}

/** Taken up while running; of the hub's TLS files and those of the policy what they hold is read anew, not where they are. */
const RENEWED = [
  /^(logs\.\d+\.)?etcd\.(endpoints|user|password|caFile|certFile|keyFile)$/,
  /^nats\.(user|password|token|credsFile|nkeySeedFile)$/,
]

/** Dotted names of the fields that differ and are read at the start alone, in order; never their values. */
export function needRestart(before: AgentConfig, after: AgentConfig): readonly string[] {
  const was = fieldsOf(before)
  const is = fieldsOf(after)
  return [...new Set([...was.keys(), ...is.keys()])]
    .filter((field) => was.get(field) !== is.get(field) && !RENEWED.some((one) => one.test(field)))
    .toSorted()
}

function fieldsOf(value: object, at = '', into = new Map<string, string>()): Map<string, string> {
  for (const [name, held] of Object.entries(value)) {
    const path = at === '' ? name : `${at}.${name}`
    const nested = typeof held === 'object' && held !== null && (!Array.isArray(held) || name === 'logs')
    if (nested) fieldsOf(held as object, path, into)
    else if (held !== undefined) into.set(path, JSON.stringify(held))
  }
  return into
}
