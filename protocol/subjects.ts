// Names at the hub: cluster ids, the log's stream and subjects.
// Owns: their spelling and validation; every NATS permission is derived from these.
// Refuses: keys in subjects (any byte may stand in a key; a subject is no place for it).

declare const clusterBrand: unique symbol
/** Id of one etcd cluster, the ordering domain: `[a-z0-9-]{1,32}`, e.g. `sz-edge-1`. */
export type ClusterId = string & { readonly [clusterBrand]: true }
/** A jurisdiction or site grouping clusters, the policy domain: `[a-z0-9-]{1,32}`, e.g. `sz`. */
export type Region = string & { readonly [clusterBrand]: 'region' }

const NAME = /^[a-z0-9-]{1,32}$/

export function parseClusterId(text: unknown): ClusterId | undefined {
  return typeof text === 'string' && NAME.test(text) ? (text as ClusterId) : undefined
}
export function parseRegion(text: unknown): Region | undefined {
  return typeof text === 'string' && NAME.test(text) ? (text as unknown as Region) : undefined
}

export const streamName = (cluster: ClusterId): string => `DW_${cluster}`
export const logSubject = (cluster: ClusterId): string => `dw.log.${cluster}`
export const markSubject = (cluster: ClusterId): string => `dw.mark.${cluster}`
/** Decision log of one region's enforcement point; never carries a value. */
export const decisionSubject = (cluster: ClusterId): string => `dw.decision.${cluster}`

/** All an agent's NATS user may publish; see protocol/SPEC.md, Permissions. */
export const agentPublishSubjects = (cluster: ClusterId): readonly string[] => [
  logSubject(cluster),
  markSubject(cluster),
  decisionSubject(cluster),
  `$JS.API.STREAM.INFO.${streamName(cluster)}`,
  `$JS.API.STREAM.MSG.GET.${streamName(cluster)}`,
]
