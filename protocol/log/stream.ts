// The JetStream stream that holds one cluster's log, as plain data.
// Owns: every setting the protocol relies on, and what an existing stream must not differ in.
// Refuses: talking to a server. `deltawatch hub apply` and the gateway's dev mode both create streams from this.

import { type ClusterId, logSubject, streamName } from '../subjects.ts'

/** Metadata key under which a stream states the region its hub stands in; agents without --hub-region read it. */
export const HUB_REGION_KEY = 'deltawatch.hub-region'

export type LogStreamOptions = {
  readonly cluster: ClusterId
  /** Bytes the log may hold, at least four times the newest checkpoint; the oldest entries go first. */
  readonly maxBytes: number
  /** Largest message; an entry never exceeds the server's max_payload - 64 KiB. */
  readonly maxMessageBytes: number
  readonly replicas: 1 | 3 | 5
  /** Region the hub stands in; absent leaves it unstated. */
  readonly hubRegion?: string
}

export const DEFAULT_LOG_BYTES = 1024 * 1024 * 1024
export const DEFAULT_MAX_MESSAGE_BYTES = 1024 * 1024

/** The fields of JetStream's stream configuration that are set; names and values as on its API. */
export type LogStreamConfig = {
  readonly name: string
  readonly subjects: readonly string[]
  readonly storage: 'file'
  readonly retention: 'limits'
  readonly discard: 'old'
  readonly max_age: 0
  readonly max_msgs: -1
  readonly max_bytes: number
  readonly max_msg_size: number
  readonly max_msgs_per_subject: -1
  readonly num_replicas: number
  readonly deny_delete: true
  readonly allow_rollup_hdrs: false
  readonly allow_direct: false
  readonly metadata?: Readonly<Record<string, string>>
}

export function streamConfig(options: LogStreamOptions): LogStreamConfig {
  return {
    name: streamName(options.cluster),
    subjects: [logSubject(options.cluster)],
    storage: 'file',
    retention: 'limits',
    discard: 'old',
    max_age: 0,
    max_msgs: -1,
    max_bytes: options.maxBytes,
    max_msg_size: options.maxMessageBytes,
    max_msgs_per_subject: -1,
    num_replicas: options.replicas,
    deny_delete: true,
    allow_rollup_hdrs: false,
    // A direct get may be answered by a replica that lags; nobody may come to rely on it.
    allow_direct: false,
    ...(options.hubRegion === undefined ? {} : { metadata: { [HUB_REGION_KEY]: options.hubRegion } }),
  }
}

/** Whether a server of this version keeps metadata of streams (2.10 and newer). An unreadable version does not. */
export function keepsMetadata(version: string): boolean {
  const [, major, minor] = /^v?(\d+)\.(\d+)/.exec(version) ?? []
  if (major === undefined || minor === undefined) return false
  return Number(major) > 2 || (Number(major) === 2 && Number(minor) >= 10)
}

/** What that server can be asked for: an older one refuses metadata or drops it, so the log states no region there. */
export function configFor(version: string, config: LogStreamConfig): LogStreamConfig {
  if (config.metadata === undefined || keepsMetadata(version)) return config
  const { metadata: _metadata, ...rest } = config
  return rest
}

/** One sentence for whoever has the log made; `version` is the server's. */
export const withoutMetadata = (version: string): string =>
  `nats-server ${version} keeps no metadata of streams, so no log states its hub's region: give every agent --hub-region, and update to 2.10 or newer for production`

/** Settings an existing stream must share, or the log's guarantees do not hold; sizes and replicas are the operator's. */
export const REQUIRED_STREAM_SETTINGS = [
  'subjects',
  'storage',
  'retention',
  'discard',
  'max_age',
  'max_msgs',
  'max_msgs_per_subject',
  'deny_delete',
  'allow_rollup_hdrs',
] as const satisfies readonly (keyof LogStreamConfig)[]

/** Names of the required settings in which `actual` differs; empty when the stream will do. */
export function streamDifferences(wanted: LogStreamConfig, actual: Readonly<Record<string, unknown>>): string[] {
  return REQUIRED_STREAM_SETTINGS.filter((name) => {
    const have = actual[name] ?? (typeof wanted[name] === 'boolean' ? false : wanted[name])
    return JSON.stringify(have) !== JSON.stringify(wanted[name])
  })
}
