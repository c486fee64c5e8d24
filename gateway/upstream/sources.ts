// All clusters this gateway follows; they come and go while it runs.
// Owns: one view, one log and one follower per cluster, made and ended together, and their metrics.
// Refuses: letting one wait for another: adding starts at once and returns, whatever the hub's state.

import type { Clock } from '#kit/clock.ts'
import { errorCode } from '#kit/errors.ts'
import type { Logger } from '#kit/logger.ts'
import type { Metrics } from '#kit/metrics.ts'
import type { NatsLink } from '#kit/nats.ts'
import type { Random } from '#kit/random.ts'
import { DEFAULT_LOG_BYTES, DEFAULT_MAX_MESSAGE_BYTES, streamConfig, withoutMetadata } from '#protocol/log/stream.ts'
import type { ClusterId, Region } from '#protocol/subjects.ts'
import type { EventTraces } from '../delivery/event-traces.ts'
import type { ClusterSource, Sources } from '../delivery/ports.ts'
import { ClusterView } from '../view/cluster-view.ts'
import type { StatusLimits } from '../view/status.ts'
import type { ViewBounds } from '../view/contract.ts'
import { DEFAULT_FOLLOWER_TIMES, Follower, type FollowerTimes } from './follower.ts'
import { jetStreamLog } from './jetstream-log.ts'
import { LinkWatch } from './link-watch.ts'
import type { LogStream } from './log-stream.ts'
import { type ClusterMeters, declareUpstreamMeters } from './metrics.ts'
import type { PullBounds } from './pull-reading.ts'
import { LogReplay } from './replay.ts'
import { ReplaySlots } from './replay-slots.ts'
import { LogSegments } from './segments.ts'
import { SeqIndex } from './seq-index.ts'

const MIB = 1024 * 1024
export const DEFAULT_VIEW_BOUNDS: ViewBounds = {
  ringBytes: 64 * MIB,
  ringRevisions: 65_536,
  stagingBytes: 64 * MIB,
  holdBytes: 32 * MIB,
  stateBytes: 2048 * MIB,
}
/** Readers that catch up from one log at once; they share its consumers, each holds one encoded chunk. */
export const DEFAULT_REPLAYS = 256
/** With those that stalled and lost their slot to others, per slot: each holds its chunk and one entry of the log. */
const OPEN_PER_WORKING = 4
/** A reader that pulls nothing for so long stalls: longer than a distant one takes to read what is in flight. */
const REST_MS = 1_000

export type SourcesOptions = {
  readonly link: NatsLink
  readonly inboxPrefix: string
  readonly clock: Clock
  readonly random: Random
  readonly logger: Logger
  readonly metrics: Metrics
  readonly bounds?: ViewBounds
  readonly limits?: StatusLimits
  readonly times?: FollowerTimes
  readonly pull?: PullBounds
  readonly maxReplays?: number
  /** Undefined: nothing is traced. */
  readonly traces?: EventTraces | undefined
  /** Dev mode: create missing streams with this many bytes. Undefined: never create one. */
  readonly createStreams?:
    | { readonly maxBytes?: number; readonly maxMessageBytes?: number; readonly hubRegion?: string }
    | undefined
}

type Followed = {
  readonly view: ClusterView
  readonly follower: Follower
  readonly gauges: Disposable
  readonly segments: LogSegments
}

export class LogSources implements Sources, AsyncDisposable {
  readonly #options: SourcesOptions
  readonly #meters: ReturnType<typeof declareUpstreamMeters>
  readonly #watch: LinkWatch
  readonly #clusters = new Map<ClusterId, Followed>()
  readonly #listeners = new Set<(source: ClusterSource) => void>()
  #warned = false

  constructor(options: SourcesOptions) {
    this.#options = options
    this.#watch = new LinkWatch(options.link)
    this.#meters = declareUpstreamMeters(options.metrics)
  }

  list(): readonly ClusterSource[] {
    return [...this.#clusters.values()].map((followed) => followed.view)
  }

  get(cluster: ClusterId): ClusterSource | undefined {
    return this.#clusters.get(cluster)?.view
  }

  /** Once: it is about the server, not about one log. */
  #warnOfOldServer(version: string): void {
    if (!this.#warned) this.#options.logger.warn(withoutMetadata(version))
    this.#warned = true
  }

  onAdded(listener: (source: ClusterSource) => void): Disposable {
    const entry = (source: ClusterSource): void => listener(source)
    this.#listeners.add(entry)
    return { [Symbol.dispose]: () => void this.#listeners.delete(entry) }
  }

  /** Starts following a cluster; does nothing when it is followed already. */
  add(cluster: ClusterId, region: Region): ClusterSource {
    const known = this.#clusters.get(cluster)
    if (known !== undefined) return known.view
    const { inboxPrefix, clock, createStreams, pull } = this.#options
    const watch = this.#watch
    const create =
      createStreams === undefined
        ? undefined
        : streamConfig({
            cluster,
            maxBytes: createStreams.maxBytes ?? DEFAULT_LOG_BYTES,
            maxMessageBytes: createStreams.maxMessageBytes ?? DEFAULT_MAX_MESSAGE_BYTES,
            replicas: 1,
            ...(createStreams.hubRegion === undefined ? {} : { hubRegion: createStreams.hubRegion }),
          })
    const log = jetStreamLog({
      watch,
      inboxPrefix,
      cluster,
      clock,
      create,
      onOldServer: (version) => this.#warnOfOldServer(version),
      traced: this.#options.traces !== undefined,
      ...(pull === undefined ? {} : { bounds: pull }),
    })
    const followed = followCluster(cluster, region, log, this.#meters.forCluster(cluster), this.#options)
    this.#clusters.set(cluster, followed)
    for (const listener of Array.from(this.#listeners)) listener(followed.view)
    return followed.view
  }

  /** Ends following: readers are told `removed`. Resolves when its task has ended. */
  async remove(cluster: ClusterId): Promise<void> {
    const followed = this.#clusters.get(cluster)
    if (followed === undefined) return
    this.#clusters.delete(cluster)
    followed.view.remove()
    await close(followed)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const all = [...this.#clusters.values()]
    this.#clusters.clear()
    await Promise.all(all.map(close))
    this.#watch[Symbol.dispose]()
  }
}

const close = async (followed: Followed): Promise<void> => {
  followed.gauges[Symbol.dispose]()
  followed.segments[Symbol.dispose]()
  await followed.follower[Symbol.asyncDispose]()
}

export type FollowOptions = Pick<
  SourcesOptions,
  'clock' | 'random' | 'logger' | 'bounds' | 'limits' | 'times' | 'maxReplays' | 'traces'
>

/** View and follower of one cluster on any log. */
export function followCluster(
  cluster: ClusterId,
  region: Region,
  log: LogStream,
  meters: ClusterMeters,
  options: FollowOptions,
): Followed {
  const { clock, random, limits } = options
  const logger = options.logger.child({ cluster })
  const index = new SeqIndex()
  const view = new ClusterView({
    cluster,
    region,
    clock,
    bounds: options.bounds ?? DEFAULT_VIEW_BOUNDS,
    ...(limits === undefined ? {} : { limits }),
    onCheckpoint: (outcome, differences) => {
      meters.count('checkpoint', outcome)
      if (outcome !== 'mismatch') return logger.info('checkpoint read', { outcome, differences })
      meters.differences.inc(differences)
      logger.error('a routine checkpoint contradicts the view', { differences })
    },
    onListenerError: (error) => {
      meters.listenerErrors.inc()
      logger.error('a reader of the view failed', { code: errorCode(error), err: error })
    },
  })
  const times = options.times ?? DEFAULT_FOLLOWER_TIMES
  const { traces } = options
  const follower = new Follower({ log, view, index, clock, random, logger, meters, times, traces })
  const segments = new LogSegments(log, clock)
  const maxWorking = options.maxReplays ?? DEFAULT_REPLAYS
  const slots = new ReplaySlots(clock, { maxWorking, maxOpen: OPEN_PER_WORKING * maxWorking, restMs: REST_MS })
  const replay = new LogReplay({
    log,
    segments,
    index,
    facts: () => follower.facts,
    slots,
    onReplay: (outcome, revisions) => {
      meters.count('replay', outcome)
      meters.replayed.inc(revisions)
    },
  })
  view.attach(replay)
  const { core } = view
  const gauges = meters.watch({
    state: () => view.status.state,
    ageSeconds: () => {
      const { provenAt } = view.status
      return provenAt === undefined ? -1 : Math.max(0, clock.monotonic() - provenAt) / 1000
    },
    ringBytes: () => core.ring.bytes,
    ringRevisions: () => core.ring.nextIndex - core.ring.firstIndex,
    stateBytes: () => core.index.bytes,
    stateKeys: () => core.index.size,
    slabBytes: () => core.index.slabBytes,
    stagingBytes: () => core.stagingBytes,
    revision: () => Number(core.revision),
    replays: () => slots.working,
    replayBytes: () => segments.bytes,
    replayReaders: () => segments.streams,
  })
  return { view, follower, gauges, segments }
}
