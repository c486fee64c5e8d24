// What `hub apply` would do to one stream, decided from what stands there now.
// Owns: the four outcomes, the rule for each setting, and the sentence for every refusal. Pure: nothing is asked or changed.
// Refuses: changing what another may rely on in silence. Settings the log's guarantees need are repaired only when asked;
// those a server cannot change, and a smaller log that would drop entries, are the operator's to decide.

import { formatSize } from '#kit/config/fields.ts'
import { HUB_REGION_KEY, type LogStreamConfig, streamConfig, streamDifferences } from '#protocol/log/stream.ts'
import type { ClusterId } from '#protocol/subjects.ts'

/** The least that holds a checkpoint of one message beside the entries since the one before. */
const LEAST_MESSAGES = 4

export type Wanted = {
  readonly cluster: ClusterId
  /** Undefined: keep what stands, or the default for a new stream. The same for the next two. */
  readonly maxBytes?: number | undefined
  readonly maxMessageBytes?: number | undefined
  readonly replicas?: 1 | 3 | 5 | undefined
  readonly hubRegion?: string | undefined
  /** Put required settings right in a stream that stands. */
  readonly repair: boolean
  /** Allow a max_bytes that drops the oldest entries. */
  readonly shrink: boolean
}
export type Defaults = { readonly maxBytes: number; readonly maxMessageBytes: number }

type Settings = Readonly<Record<string, unknown>>
export type Standing = {
  readonly config: Settings
  /** Bytes the log holds now. */
  readonly bytes: number
}

export type Change = { readonly setting: string; readonly from: unknown; readonly to: unknown }

export type Step =
  | { readonly outcome: 'created'; readonly config: Settings }
  | { readonly outcome: 'unchanged' }
  | { readonly outcome: 'updated'; readonly config: Settings; readonly changes: readonly Change[] }
  | { readonly outcome: 'refused'; readonly reasons: readonly string[] }

/** nats-server refuses to change these, or they say that the stream is not a log of ours. */
const FIXED: ReadonlySet<string> = new Set(['subjects', 'storage', 'retention'])
/** The operator's own; everything else in a change is a setting the protocol needs. */
const FREE: ReadonlySet<string> = new Set(['max_bytes', 'max_msg_size', 'num_replicas', 'allow_direct', HUB_REGION_KEY])

export function planStream(wanted: Wanted, standing: Standing | undefined, defaults: Defaults): Step {
  const target = streamConfig({ cluster: wanted.cluster, ...sizes(wanted, standing, defaults) })
  const tooSmall = tooSmallReason(target)
  if (standing === undefined) {
    if (tooSmall !== undefined) return { outcome: 'refused', reasons: [tooSmall] }
    const metadata = wanted.hubRegion === undefined ? {} : { metadata: { [HUB_REGION_KEY]: wanted.hubRegion } }
    return { outcome: 'created', config: { ...target, ...metadata } }
  }
  const changes = changesOf(wanted, target, standing)
  const resized = changes.some(({ setting }) => setting === 'max_bytes' || setting === 'max_msg_size')
  const reasons = changes.flatMap((change) => refusal(change, wanted, standing))
  if (resized && tooSmall !== undefined) reasons.push(tooSmall)
  if (reasons.length > 0) return { outcome: 'refused', reasons }
  if (changes.length === 0) return { outcome: 'unchanged' }
  return { outcome: 'updated', config: updated(wanted, target, standing, changes), changes }
}

function sizes(wanted: Wanted, standing: Standing | undefined, defaults: Defaults) {
  const kept = (setting: string): number | undefined => {
    const value = standing?.config[setting]
    return typeof value === 'number' && value > 0 ? value : undefined
  }
  const replicas = wanted.replicas ?? kept('num_replicas') ?? 1
  return {
    maxBytes: wanted.maxBytes ?? kept('max_bytes') ?? defaults.maxBytes,
    maxMessageBytes: wanted.maxMessageBytes ?? kept('max_msg_size') ?? defaults.maxMessageBytes,
    replicas: replicas === 3 || replicas === 5 ? replicas : 1,
  } as const
}

function tooSmallReason({ max_bytes: bytes, max_msg_size: message }: LogStreamConfig): string | undefined {
  if (bytes >= LEAST_MESSAGES * message) return undefined
  const least = formatSize(LEAST_MESSAGES * message)
  const what = `max_bytes ${formatSize(bytes)} is less than ${LEAST_MESSAGES} messages of ${formatSize(message)}`
  return `${what}; give --max-bytes at least four times the size of the state, never below ${least}`
}

/** A size counts when it was asked for, or when the stream has none at all; replicas only when asked for. */
function changesOf(wanted: Wanted, target: LogStreamConfig, { config }: Standing): Change[] {
  const names: (keyof LogStreamConfig)[] = streamDifferences(target, config).filter((name) => isSetting(target, name))
  if (config['max_bytes'] !== target.max_bytes) names.push('max_bytes')
  if (config['max_msg_size'] !== target.max_msg_size) names.push('max_msg_size')
  if (wanted.replicas !== undefined && config['num_replicas'] !== target.num_replicas) names.push('num_replicas')
  if ((config['allow_direct'] ?? false) !== target.allow_direct) names.push('allow_direct')
  const changes: Change[] = names.map((setting) => ({ setting, from: config[setting], to: target[setting] }))
  const region = regionOf(config)
  if (wanted.hubRegion !== undefined && region !== wanted.hubRegion) {
    changes.push({ setting: HUB_REGION_KEY, from: region, to: wanted.hubRegion })
  }
  return changes
}

const isSetting = (target: LogStreamConfig, name: string): name is keyof LogStreamConfig => Object.hasOwn(target, name)

function refusal({ setting, from, to }: Change, { repair, shrink }: Wanted, { bytes }: Standing): string[] {
  const differs = `${setting} is ${show(from)} and must be ${show(to)}`
  if (FIXED.has(setting)) {
    return [`${differs}; it cannot be changed: remove or rename that stream once nothing needs it, then apply again`]
  }
  if (setting === HUB_REGION_KEY && from !== undefined && !repair) {
    const why = 'policy was decided for that region'
    return [`${setting} is ${show(from)}, not ${show(to)}; ${why}: check --hub-region, or apply again with --repair`]
  }
  if (setting === 'max_bytes' && typeof to === 'number' && to < bytes && !shrink) {
    const loss = `the log holds ${formatSize(bytes)}, so its oldest entries would be dropped`
    return [`max_bytes ${formatSize(to)}: ${loss}; give a larger --max-bytes, or --shrink if that is meant`]
  }
  return FREE.has(setting) || repair ? [] : [`${differs}; apply again with --repair to set it`]
}

/** Everything else stays as it stands: a setting left out of an update would fall back to the server's default. */
function updated(wanted: Wanted, target: LogStreamConfig, { config }: Standing, changes: readonly Change[]): Settings {
  const settings = changes.filter(({ setting }) => setting !== HUB_REGION_KEY)
  const region = wanted.hubRegion === undefined ? {} : { [HUB_REGION_KEY]: wanted.hubRegion }
  // The server's own notes are its to write.
  const kept = Object.entries(metadataOf(config)).filter(([key]) => !key.startsWith('_nats.'))
  const metadata = { ...Object.fromEntries(kept), ...region }
  return {
    ...config,
    ...Object.fromEntries(settings.map(({ setting, to }) => [setting, to])),
    name: target.name,
    ...(Object.keys(metadata).length === 0 ? {} : { metadata }),
  }
}

const metadataOf = ({ metadata }: Settings): Settings =>
  typeof metadata === 'object' && metadata !== null ? { ...metadata } : {}

/** The region the log was declared for; undefined when it was not. */
export function regionOf(config: Settings): string | undefined {
  const region = metadataOf(config)[HUB_REGION_KEY]
  return typeof region === 'string' ? region : undefined
}

export function show(value: unknown): string {
  if (value === undefined) return 'not set'
  return typeof value === 'string' ? value : JSON.stringify(value)
}
